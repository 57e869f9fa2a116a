#!/usr/bin/env python3
"""Keys, TLS, the log, and time."""
import json
import os
import socket
import ssl
import subprocess
import tempfile
import unittest

from serving import ENDLESS, PATIENCE, Server, end_all, main, refused


class SafetyTest(unittest.TestCase):
    def tearDown(self):
        end_all()

    def test_key(self):
        for server in (Server("--api-key", "secret", wait=False), Server(env={"PACKMULE_API_KEY": "secret"}, wait=False)):
            try:
                self.assertIn(server.get("/health")[0], (200, 503))
                self.assertEqual(server.get("/v1/models")[0], 401)
                self.assertEqual(server.get("/v1/models", {"Authorization": "Bearer secres"})[0], 401)
                self.assertIn(server.get("/v1/models", {"Authorization": "Bearer secret"})[0], (200, 503))
            finally:
                self.assertEqual(server.stop(), 0)

    def test_key_file(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("# two keys\none\n\nother\r\n")
            file.flush()
            server = Server("--api-key-file", file.name, "--api-key", "third,fourth", "--cors", "*", wait=False)
            for key, allowed in (("one", True), ("other", True), ("third", True), ("fourth", True), ("", False),
                                 ("on", False), ("# two keys", False), ("third,fourth", False)):
                status, headers, _ = server.request("GET", "/v1/models", headers={"x-api-key": key})
                self.assertEqual(status != 401, allowed, key)
                self.assertEqual(headers["Access-Control-Allow-Origin"], "*")
            self.assertEqual(server.stop(), 0)
        with tempfile.NamedTemporaryFile("w") as empty:
            empty.write("# none\n")
            empty.flush()
            code, words = refused("--api-key-file", empty.name)
        self.assertEqual(code, 1)
        self.assertIn("holds no key", words)

    def test_log_as_json(self):
        server = Server("--log-format", "json", "--alias", 'a "b"')
        server.chat()
        server.get("/nothing?secret")
        self.assertEqual(server.stop(), 0)
        lines = [json.loads(line) for line in server.log().splitlines()]
        for line in lines:
            self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertIn(line["level"], ("info", "warning"))
        self.assertTrue(any('a "b" is ready' in line.get("message", "") for line in lines), lines)
        self.assertTrue(any(line.get("path") == "/nothing" and line["status"] == 404 for line in lines), lines)

    def test_the_log_holds_text_only_for_who_asks(self):
        # Whatever is in it, a line of the log stays a line.
        prompt = "secret\nsecond \u2028 third \x85 fourth \x1b[2J \u202e"
        for flags in ([], ["--log-format", "json"], ["--log-prompts"], ["--log-prompts", "--log-format", "json"]):
            server = Server(*flags)
            answer = server.chat(prompt, ignore_eos=True)[1]
            server.stream(prompt)
            server.post("/v1/chat/completions", {"messages": [{"role": "secret", "content": "secret"}]})
            self.assertEqual(server.stop(), 0)
            lines = server.log().splitlines()  # at every line break that Unicode knows
            if "--log-prompts" not in flags:
                self.assertNotIn("secret", server.log())
                self.assertNotIn(answer["choices"][0]["message"]["content"], server.log())
            elif "json" in flags:
                lines = [json.loads(line) for line in lines]
                prompts = [line for line in lines if "prompt" in line]
                self.assertEqual(len(prompts), 2)
                self.assertIn(prompt, prompts[0]["prompt"])
                self.assertEqual(prompts[0]["id"], answer["id"])
                answers = [line for line in lines if "answer" in line]
                self.assertIn(answer["choices"][0]["message"]["content"].strip(), answers[0]["answer"])
            else:
                prompts = [line for line in lines if " prompt: " in line]
                self.assertEqual(len(prompts), 2)
                self.assertIn("secret\\nsecond \\u2028 third \\x85 fourth \\x1b[2J \\u202e", prompts[0])
                self.assertIn(answer["id"], prompts[0])
                self.assertEqual(len([line for line in lines if " answer: " in line]), 2)

    def test_a_request_ends_when_its_time_is_up(self):
        # Nothing else ends these.
        server = Server("-c", ENDLESS, "--request-timeout", "0.3")
        endless = {"messages": [{"role": "user", "content": "hello"}], "ignore_eos": True}
        status, answer = server.post("/v1/chat/completions", endless)
        # A machine that is busy enough generates nothing in that time.
        if status == 504:
            self.assertEqual(answer["error"]["code"], "request_timeout")
        else:
            self.assertEqual((status, answer["choices"][0]["finish_reason"]), (200, "length"))
        text = server.request("POST", "/v1/chat/completions", {**endless, "stream": True})[2]
        self.assertTrue('"finish_reason":"length"' in text and "[DONE]" in text or "timeout_error" in text, text[-500:])
        metrics = server.request("GET", "/metrics")[2]
        self.assertIn("\npackmule:requests_timed_out_total 2\n", metrics)
        self.assertEqual(server.stop(), 0)

    def test_tls(self):
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                 "2", "-subj", "/CN=packmule", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                check=True, capture_output=True)
            trusting = ssl.create_default_context(cafile=certificate)
            server = Server("-c", "4096", "--ssl-cert-file", certificate, "--ssl-key-file", key, tls=trusting)
            whole = server.chat(ignore_eos=True)[1]["choices"][0]["message"]["content"]
            events = server.stream(ignore_eos=True)
            self.assertEqual("".join(e["choices"][0]["delta"].get("content", "") for e in events), whole)
            big = server.post("/tokenize", {"content": "word " * 100_000})
            self.assertEqual(big[0], 200)
            # A client that leaves makes room, over TLS too.
            server.open_stream().close()
            self.assertEqual(server.chat(ignore_eos=True)[1]["choices"][0]["message"]["content"], whole)
            # Neither plain HTTP, nor noise, nor a client that says nothing disturbs it.
            silent = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
            for noise in (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", bytes(range(256)) * 300):
                with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as s:
                    s.sendall(noise)
                    try:
                        while s.recv(4096):
                            pass
                    except ConnectionError:
                        pass
            self.assertEqual(server.get("/health")[0], 200)
            self.assertEqual(server.stop(), 0)
            silent.close()
            for flags in (["--ssl-cert-file", certificate], ["--ssl-cert-file", key, "--ssl-key-file", key],
                          ["--ssl-cert-file", certificate, "--ssl-key-file", certificate]):
                code, words = refused(*flags)
                self.assertEqual(code, 1)
                self.assertIn("--ssl-", words)


if __name__ == "__main__":
    main()
