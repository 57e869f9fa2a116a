#!/usr/bin/env python3
"""The real program on a tiny model, seen from a client: every endpoint of `packmule serve`, over real sockets.

Usage: serve_test.py PACKMULE MODEL.gguf [unittest arguments]. Only the standard library is used, only the
loopback address is spoken to, and the port is one the system chose. The model's weights are random: what it
says is noise, but the same noise for the same seed.
"""
import concurrent.futures
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PACKMULE = MODEL = None
# Machines that build several things at once are slow; nothing here waits this long unless it hangs.
PATIENCE = 60
# A context that an answer which never ends by itself does not fill while a test looks away, however long that is.
ENDLESS = "200000"

TEMPLATE = """{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}[{% for k, v in c.function.arguments|items %}{{ k }}={{ v }};{% endfor %}]{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if tools %}tools:{{ tools | tojson }}
{% endif %}{% if messages[0].content == 'bad' %}{{ raise_exception('this conversation is bad') }}{% endif %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking %}<think>
{% endif %}{% endif %}"""


class Server:
    running = []

    def __init__(self, *flags, env=None, wait=True, tls=None):
        """`tls`: the context to speak to it with; none for plain HTTP."""
        Server.running.append(self)
        self.tls = tls
        self.log_file = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [PACKMULE, "serve", "-m", MODEL, "--port", "0", *flags],
            stdout=subprocess.PIPE, stderr=self.log_file, text=True, env={**os.environ, **(env or {})})
        line = self.process.stdout.readline()
        match = re.fullmatch(r"listening on https?://127\.0\.0\.1:(\d+)\n", line)
        if match is None:
            self.process.wait(PATIENCE)
            raise AssertionError(f"unexpected first line {line!r}; log: {self.log()}")
        self.port = int(match.group(1))
        if wait:
            end = time.monotonic() + PATIENCE
            while self.get("/health")[0] != 200:
                assert time.monotonic() < end, "the model did not load"
                time.sleep(0.02)

    def log(self):
        self.log_file.seek(0)
        return self.log_file.read().decode()

    def request(self, method, path, body=None, headers=None):
        """(status, headers, body text)"""
        if self.tls:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=self.tls)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()
        finally:
            connection.close()

    def get(self, path, headers=None):
        status, _, text = self.request("GET", path, headers=headers)
        return status, json.loads(text)

    def post(self, path, body, headers=None):
        status, _, text = self.request("POST", path, body, headers)
        return status, json.loads(text)

    def chat(self, content="hello", **fields):
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 12, "seed": 1, **fields}
        return self.post("/v1/chat/completions", body)

    def stream(self, content="hello", **fields):
        """The events of a streamed answer, [DONE] checked and left out."""
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 12, "seed": 1, "stream": True, **fields}
        status, headers, text = self.request("POST", "/v1/chat/completions", body)
        assert status == 200, text
        assert headers["Content-Type"] == "text/event-stream", headers
        events = text.split("\n\n")
        assert events.pop() == "" and events.pop() == "data: [DONE]", text[-200:]
        for event in events:
            assert event.startswith("data: ") and "\n" not in event, event
        return [json.loads(event[6:]) for event in events]

    def open_stream(self, **fields):
        """A socket on which a long answer has begun to arrive."""
        body = json.dumps({"messages": [{"role": "user", "content": "hello"}], "stream": True, "ignore_eos": True,
                           **fields}).encode()
        s = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        if self.tls:
            s = self.tls.wrap_socket(s, server_hostname="127.0.0.1")
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        got = b""
        while b"data: " not in got:
            part = s.recv(4096)
            assert part, got
            got += part
        return s

    def stop(self, number=signal.SIGTERM):
        """The exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.end()

    def end(self):
        """Leaves no process behind, whatever the test found."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        if self in Server.running:
            Server.running.remove(self)


class ServeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.template = tempfile.NamedTemporaryFile("w", suffix=".jinja")
        cls.template.write(TEMPLATE)
        cls.template.flush()
        # As a user of llama-server would type it.
        cls.server = Server("--host", "127.0.0.1", "-c", "512", "-t", "2", "-b", "256", "-ub", "64", "-ctk", "f16",
                            "-ctv", "f16", "--temp", "0.9", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.01",
                            "--repeat-penalty", "1.05", "--presence-penalty", "0.1", "-s", "7", "--jinja",
                            "--flash-attn", "on", "--no-webui", "-np", "4", "-cb", "-cram", "100", "--alias", "tiny",
                            "--chat-template-file", cls.template.name)

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        log = cls.server.log()
        cls.template.close()
        cls.server.log_file.close()
        assert code == 0, f"exit code {code}: {log}"
        assert "hello" not in log, "the log holds text of a prompt"

    def assert_error(self, answer, status, param=None, contains=""):
        self.assertEqual(answer[0], status, answer[1])
        error = answer[1]["error"]
        self.assertIsInstance(error["message"], str)
        self.assertIsInstance(error["type"], str)
        self.assertIn("code", error)
        if param is not None:
            self.assertEqual(error["param"], param)
        self.assertIn(contains, error["message"])

    def test_health_and_models(self):
        self.assertEqual(self.server.get("/health"), (200, {"status": "ok"}))
        status, models = self.server.get("/v1/models")
        self.assertEqual((status, models["object"]), (200, "list"))
        model = models["data"][0]
        self.assertEqual((model["id"], model["object"], model["owned_by"]), ("tiny", "model", "packmule"))
        self.assertLess(abs(model["created"] - time.time()), 3600)
        self.assertEqual(model["meta"]["n_vocab"], 512)
        self.assertEqual(model["meta"]["n_ctx"], 512)
        self.assertGreater(model["meta"]["n_params"], 1_000_000)
        self.assertGreater(model["meta"]["size"], 1_000_000)

    def test_tokenizer_there_and_back(self):
        for text in ["", "hello world", "Gr\u00fc\u00dfe, \u4f60\u597d \U0001f600\n\ttab", "a\x00b", "<|im_end|>"]:
            status, answer = self.server.post("/tokenize", {"content": text})
            self.assertEqual(status, 200)
            self.assertEqual(self.server.post("/detokenize", answer), (200, {"content": text}))
        whole = self.server.post("/tokenize", {"content": "<|im_end|>"})[1]["tokens"]
        plain = self.server.post("/tokenize", {"content": "<|im_end|>", "parse_special": False})[1]["tokens"]
        self.assertEqual(len(whole), 1)
        self.assertGreater(len(plain), 1)
        pieces = self.server.post("/tokenize", {"content": "hello \U0001f600", "with_pieces": True})[1]["tokens"]
        joined = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in pieces)
        self.assertEqual(joined.decode(), "hello \U0001f600")

    def test_typed_control_tokens_are_plain_text(self):
        def prompt_tokens(content):
            status, answer = self.server.chat(content, max_tokens=1)
            self.assertEqual(status, 200, answer)
            return answer["usage"]["prompt_tokens"]

        plain = self.server.post("/tokenize", {"content": "<|im_end|>", "parse_special": False})[1]["tokens"]
        # Between characters that merge with nothing, so that the counts add up.
        self.assertEqual(prompt_tokens("\x01<|im_end|>\x01") - prompt_tokens("\x01\x01"), len(plain))

    def test_template(self):
        messages = [{"role": "developer", "content": "be brief"},
                    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                    {"role": "assistant", "content": None, "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
                    {"role": "tool", "tool_call_id": "1", "content": "c"}]
        expected = ("<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n"
                    "<|im_start|>assistant\n[x=1;]<|im_end|>\n<|im_start|>tool\nc<|im_end|>\n")
        status, answer = self.server.post("/apply-template", {"messages": messages})
        self.assertEqual((status, answer["prompt"]), (200, expected + "<|im_start|>assistant\n"))
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": []}}}]
        answer = self.server.post("/apply-template", {"messages": messages, "tools": tools,
                                                      "add_generation_prompt": False})[1]
        self.assertEqual(answer["prompt"], expected + "tools:" + json.dumps(tools) + "\n")
        bad = {"messages": [{"role": "user", "content": "bad"}]}
        self.assert_error(self.server.post("/apply-template", bad), 400, contains="this conversation is bad")
        self.assert_error(self.server.post("/v1/chat/completions", bad), 400, contains="this conversation is bad")

    def test_answer(self):
        status, answer = self.server.chat(ignore_eos=True)
        self.assertEqual(status, 200, answer)
        self.assertTrue(answer["id"].startswith("chatcmpl-"))
        self.assertEqual((answer["object"], answer["model"]), ("chat.completion", "tiny"))
        choice = answer["choices"][0]
        self.assertEqual((choice["index"], choice["finish_reason"], choice["message"]["role"]), (0, "length", "assistant"))
        self.assertIsInstance(choice["message"]["content"], str)
        prompt = self.server.post("/apply-template", {"messages": [{"role": "user", "content": "hello"}]})[1]["prompt"]
        n_prompt = len(self.server.post("/tokenize", {"content": prompt})[1]["tokens"])
        usage = answer["usage"]
        self.assertEqual((usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]),
                         (n_prompt, 12, n_prompt + 12))
        timings = answer["timings"]
        self.assertEqual(timings["cache_n"] + timings["prompt_n"], n_prompt)
        self.assertEqual(timings["cache_n"], usage["prompt_tokens_details"]["cached_tokens"])
        self.assertEqual(timings["predicted_n"], 12)
        self.assertGreater(timings["predicted_per_second"], 0)

    def test_streamed_is_the_same(self):
        for fields in [{}, {"seed": 3}, {"temperature": 0}, {"chat_template_kwargs": {"enable_thinking": True}},
                       {"stop": ["e", "\u00e4"], "max_tokens": 40}, {"stream_options": {"include_usage": True}}]:
            whole = self.server.chat(**{k: v for k, v in fields.items() if k != "stream_options"})[1]
            events = self.server.stream(**fields)
            message = {"content": "", "reasoning_content": ""}
            for i, event in enumerate(events):
                self.assertEqual(event["object"], "chat.completion.chunk")
                self.assertEqual(event["id"], events[0]["id"])
                if not event["choices"]:
                    self.assertEqual(i, len(events) - 1)
                    continue
                delta = event["choices"][0]["delta"]
                self.assertEqual("role" in delta, i == 0)
                for key in message:
                    message[key] += delta.get(key) or ""
            reasons = [e["choices"][0]["finish_reason"] for e in events if e["choices"]]
            self.assertEqual(reasons[:-1], [None] * (len(reasons) - 1))
            self.assertEqual(reasons[-1], whole["choices"][0]["finish_reason"])
            expected = whole["choices"][0]["message"]
            self.assertEqual(message["content"], expected["content"])
            self.assertEqual(message["reasoning_content"], expected.get("reasoning_content", ""))
            self.assertEqual(events[-1]["timings"]["predicted_n"], whole["usage"]["completion_tokens"])
            if "stream_options" in fields:
                self.assertEqual(events[-1]["usage"]["total_tokens"], whole["usage"]["total_tokens"])
            if "stop" in fields:
                self.assertNotIn("e", expected["content"])

    def test_seeds_and_sampling(self):
        text = lambda **fields: self.server.chat(max_tokens=24, ignore_eos=True, **fields)[1]["choices"][0]["message"]["content"]
        self.assertEqual(text(seed=5), text(seed=5))
        self.assertNotEqual(text(seed=5), text(seed=6))
        self.assertEqual(text(temperature=0, seed=5), text(temperature=0, seed=6))
        self.assertEqual(text(top_k=1, seed=5), text(top_k=1, seed=6))
        # A token that is made certain is all there is.
        token = self.server.post("/tokenize", {"content": "a"})[1]["tokens"]
        self.assertEqual(len(token), 1)
        self.assertEqual(text(logit_bias={str(token[0]): 1000}, repeat_penalty=1.0), "a" * 24)

    def test_completions(self):
        tokens = self.server.post("/tokenize", {"content": "hello"})[1]["tokens"]
        texts = []
        for prompt in ("hello", tokens, [tokens], ["hello"]):
            status, answer = self.server.post("/v1/completions", {"prompt": prompt, "seed": 3, "ignore_eos": True})
            self.assertEqual(status, 200, answer)
            self.assertEqual(answer["usage"]["completion_tokens"], 16)
            texts.append(answer["choices"][0]["text"])
        body = {"prompt": "hello", "seed": 3, "ignore_eos": True, "n_predict": 16, "return_tokens": True, "n_probs": 2}
        status, answer = self.server.post("/completion", body)
        self.assertEqual(status, 200, answer)
        texts.append(answer["content"])
        self.assertEqual(len(set(texts)), 1, texts)
        self.assertEqual((len(answer["tokens"]), answer["stop_type"]), (16, "limit"))
        self.assertEqual([p["id"] for p in answer["completion_probabilities"]], answer["tokens"])

    def test_log_probabilities(self):
        fields = {"logprobs": True, "top_logprobs": 20, "ignore_eos": True}
        greedy = self.server.chat(temperature=0, repeat_penalty=1, presence_penalty=0, **fields)[1]
        warm = self.server.chat(temperature=2.0, seed=4, **fields)[1]
        first = [answer["choices"][0]["logprobs"]["content"][0] for answer in (greedy, warm)]
        # The model's own distribution: the same whatever the samplers do with it.
        self.assertEqual(first[0]["top_logprobs"], first[1]["top_logprobs"])
        for token in greedy["choices"][0]["logprobs"]["content"]:
            self.assertEqual(token["id"], token["top_logprobs"][0]["id"])
            values = [t["logprob"] for t in token["top_logprobs"]]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertLess(sum(2.718281828 ** value for value in values), 1.0001)

    def test_several_answers(self):
        status, answer = self.server.chat(n=3, seed=5, ignore_eos=True)
        self.assertEqual(status, 200, answer)
        alone = [self.server.chat(seed=5 + i, ignore_eos=True)[1]["choices"][0]["message"] for i in range(3)]
        self.assertEqual([choice["message"] for choice in answer["choices"]], alone)
        self.assertEqual(answer["usage"]["completion_tokens"], 36)

    def test_what_is_going_on(self):
        def metrics():
            text = self.server.request("GET", "/metrics")[2]
            return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")}

        before = metrics()
        self.server.chat(ignore_eos=True)
        after = metrics()
        self.assertEqual(after["llamacpp:tokens_predicted_total"] - before["llamacpp:tokens_predicted_total"], 12)
        self.assertEqual(after["packmule:time_to_first_token_seconds_count"]
                         - before["packmule:time_to_first_token_seconds_count"], 1)
        props = self.server.get("/props")[1]
        self.assertEqual(props["default_generation_settings"]["n_ctx"], 512)
        self.assertAlmostEqual(props["default_generation_settings"]["params"]["temperature"], 0.9, 5)
        self.assertEqual((props["chat_template"], props["model_path"]), (TEMPLATE, MODEL))

    def test_constrained_answers(self):
        schema = {"type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 22]}},
                  "required": ["ok", "n"], "additionalProperties": False}
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        for seed in range(3):
            # This template knows thoughts, and the model begins them at random.
            status, answer = self.server.chat(response_format=wanted, max_tokens=240, seed=seed, temperature=2,
                                              logit_bias={"<think>": False, "<": False, "\n": False, " ": False})
            self.assertEqual(status, 200, answer)
            choice = answer["choices"][0]
            self.assertEqual(choice["finish_reason"], "stop", answer)
            answer = json.loads(choice["message"]["content"])
            self.assertIsInstance(answer["ok"], bool)
            self.assertIn(answer["n"], [1, 22])
        events = self.server.stream(grammar='root ::= "ab" [cd]{3}', ignore_eos=True, max_tokens=50,
                                    logit_bias={"<think>": False, "<": False})
        streamed = "".join(e["choices"][0]["delta"].get("content", "") for e in events)
        self.assertRegex(streamed, r"^ab[cd]{3}$")

    def test_wrong_requests(self):
        chat = "/v1/chat/completions"
        hello = [{"role": "user", "content": "hello"}]
        self.assert_error(self.server.post(chat, b"{"), 400, contains="not valid JSON")
        self.assert_error(self.server.post(chat, b"[" * 100_000), 400, contains="nested")
        self.assert_error(self.server.post(chat, b'"\xff"'), 400)
        self.assert_error(self.server.post(chat, {}), 400, "messages")
        self.assert_error(self.server.post(chat, {"messages": []}), 400, "messages")
        self.assert_error(self.server.post(chat, {"messages": hello, "temperature": "hot"}), 400, "temperature")
        self.assert_error(self.server.post(chat, {"messages": hello, "n": 0}), 400, "n")
        self.assert_error(self.server.post(chat, {"messages": hello, "response_format": {"type": "xml"}}), 400,
                          "response_format")
        self.assert_error(self.server.post(chat, {"messages": hello, "json_schema": {"multipleOf": 2}}), 400,
                          "json_schema", contains="'multipleOf' is not supported")
        self.assert_error(self.server.post(chat, {"messages": hello, "grammar": "root ::= x"}), 400, "grammar",
                          contains="line 1, column 10")
        self.assert_error(self.server.post(chat, {"messages": hello, "logit_bias": {"512": 1}}), 400, "logit_bias")
        image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
        self.assert_error(self.server.post(chat, {"messages": image}), 400, "messages[0].content[0].type")
        self.assert_error(self.server.chat("word " * 2000), 400, "messages", contains="context")
        self.assert_error(self.server.chat("word " * 2000, stream=True), 400, "messages", contains="context")
        self.assert_error(self.server.post("/tokenize", {}), 400, "content")
        self.assert_error(self.server.post("/detokenize", {"tokens": [99999]}), 400, "tokens")
        self.assert_error(self.server.get("/nothing"), 404)
        self.assert_error(self.server.get(chat), 405)
        self.assert_error(self.server.post(chat, b"x", {"Content-Type": "multipart/form-data"}), 415)
        self.assertEqual(self.server.chat()[0], 200)

    def test_beside_each_other(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda seed: self.server.chat(seed=seed, ignore_eos=True), range(8)))
        for seed, (status, answer) in enumerate(answers):
            self.assertEqual(status, 200)
            alone = self.server.chat(seed=seed, ignore_eos=True)[1]
            self.assertEqual(answer["choices"], alone["choices"])

    def test_a_client_that_leaves_makes_room(self):
        alone = self.server.chat()[1]["choices"]
        streams = [self.server.open_stream() for _ in range(4)]
        # While they are answered, the next one waits, and what needs no generation does not.
        waiting = []
        thread = threading.Thread(target=lambda: waiting.append(self.server.chat()))
        thread.start()
        self.assertEqual(self.server.get("/health")[0], 200)
        self.assertEqual(self.server.post("/tokenize", {"content": "a"})[0], 200)
        streams[0].close()
        thread.join(PATIENCE)
        self.assertEqual(waiting[0][1]["choices"], alone)
        for stream in streams[1:]:
            stream.close()

    def test_a_turn_reads_what_is_new(self):
        messages = [{"role": "system", "content": "a long system prompt " * 12}]
        known = 0
        for turn in range(4):
            messages.append({"role": "user", "content": f"question {turn}"})
            status, answer = self.server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 8, "seed": turn})
            self.assertEqual(status, 200, answer)
            self.assertGreaterEqual(answer["timings"]["cache_n"], known)
            known = answer["usage"]["prompt_tokens"]
            messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})
        # Another conversation with the same system prompt.
        other = [messages[0], {"role": "user", "content": "something else"}]
        answer = self.server.post("/v1/chat/completions", {"messages": other, "max_tokens": 1})[1]
        self.assertGreater(answer["timings"]["cache_n"], 100)
        self.assertLess(answer["timings"]["prompt_n"], 40)

    def test_pipelined_and_kept_connections(self):
        body = json.dumps({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "stream": True}).encode()
        request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        with socket.create_connection(("127.0.0.1", self.server.port), PATIENCE) as s:
            s.sendall(request + b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            got = b""
            while part := s.recv(65536):
                got += part
        self.assertLess(got.index(b"[DONE]"), got.index(b'{"status":"ok"}'))

    def test_head_and_options(self):
        status, headers, text = self.server.request("HEAD", "/health")
        self.assertEqual((status, text), (200, ""))
        status, headers, text = self.server.request("OPTIONS", "/v1/chat/completions")
        self.assertEqual((status, headers["Allow"]), (204, "POST, OPTIONS"))
        self.assertFalse([h for h in headers if h.lower().startswith("access-control")])


class KeptTest(unittest.TestCase):
    """What outlives a server. Counted in tokens."""

    MESSAGES = [{"role": "system", "content": "a long system prompt " * 12}, {"role": "user", "content": "a question"}]

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()

    def tearDown(self):
        for server in list(Server.running):
            server.end()
        self.folder.cleanup()

    def start(self, *flags):
        return Server("-c", "1024", "-t", "2", "-np", "2", "-cram", "100", *flags)

    def ask(self, server, messages=None, **fields):
        status, answer = server.post("/v1/chat/completions", {"messages": messages or self.MESSAGES, "max_tokens": 8,
                                                              "seed": 1, "ignore_eos": True, **fields})
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]["message"], answer["timings"]

    def test_slots_saved_and_restored(self):
        flags = ["--slot-save-path", self.folder.name]
        server = self.start(*flags)
        first, timings = self.ask(server)
        self.assertEqual(timings["cache_n"], 0)
        status, saved = server.post("/slots/0?action=save", {"filename": "a slot.bin"})
        self.assertEqual(status, 200, saved)
        path = os.path.join(self.folder.name, "a slot.bin")
        self.assertEqual((saved["id_slot"], saved["filename"], saved["n_written"]), (0, "a slot.bin", os.path.getsize(path)))
        self.assertGreaterEqual(saved["n_saved"], timings["prompt_n"])
        self.assertIn("save_ms", saved["timings"])
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertEqual(server.stop(), 0)

        server = self.start(*flags)
        status, restored = server.post("/slots/1?action=restore", {"filename": "a slot.bin"})
        self.assertEqual(status, 200, restored)
        self.assertEqual((restored["id_slot"], restored["n_restored"], restored["n_read"]),
                         (1, saved["n_saved"], saved["n_written"]))
        self.assertIn("restore_ms", restored["timings"])
        again, timings = self.ask(server)
        self.assertLessEqual(timings["prompt_n"], 1)
        self.assertEqual(again, first)
        status, erased = server.post("/slots/1?action=erase", None)
        self.assertEqual((status, erased["id_slot"]), (200, 1))
        self.assertGreater(erased["n_erased"], 0)

        for target, body in (("/slots/0?action=save", {"filename": "../x"}), ("/slots/9?action=erase", {}),
                             ("/slots/0?action=copy", {}), ("/slots/1?action=save", {"filename": "empty"}),
                             ("/slots/0?action=restore", {"filename": "missing"})):
            status, answer = server.post(target, body)
            self.assertEqual(status, 400, target)
            self.assertNotIn(self.folder.name, answer["error"]["message"])
        with open(path, "r+b") as file:
            file.truncate(1000)
        status, answer = server.post("/slots/0?action=restore", {"filename": "a slot.bin"})
        self.assertEqual(status, 400)
        self.assertIn("damaged", answer["error"]["message"])
        self.assertEqual(os.listdir(self.folder.name), ["a slot.bin"])
        self.assertEqual(server.stop(), 0)

    def test_without_a_folder_for_slots(self):
        server = self.start()
        status, answer = server.post("/slots/0?action=erase", {})
        self.assertEqual(status, 501)
        self.assertIn("--slot-save-path", answer["error"]["message"])
        self.assertEqual(server.stop(), 0)
        run = subprocess.run([PACKMULE, "serve", "-m", MODEL, "--port", "0", "--slot-save-path", "/nonexistent"],
                             capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(run.returncode, 1)
        self.assertIn("--slot-save-path", run.stderr)

    def test_the_cache_is_there_after_a_restart(self):
        disk = os.path.join(self.folder.name, "disk")
        flags = ["--cache-disk", disk, "--cache-disk-size", "100"]
        server = self.start(*flags)
        first, timings = self.ask(server)
        n_prompt = timings["prompt_n"]
        # One that is being answered when the signal comes is kept too.
        stream = server.open_stream(messages=self.MESSAGES[:1] + [{"role": "user", "content": "another"}])
        server.process.send_signal(signal.SIGTERM)
        stream.close()
        self.assertEqual(server.process.wait(PATIENCE), 0, server.log())
        files = [f for f in os.listdir(disk) if f.endswith(".kv")]
        self.assertGreaterEqual(len(files), 3, server.log())
        for file in files:
            self.assertEqual(os.stat(os.path.join(disk, file)).st_mode & 0o777, 0o600)
        self.assertEqual(os.stat(disk).st_mode & 0o777, 0o700)

        server = self.start(*flags)
        again, timings = self.ask(server)
        self.assertLessEqual(timings["prompt_n"], 1)
        self.assertEqual(again, first)
        other = self.MESSAGES[:1] + [{"role": "user", "content": "one more"}]
        self.assertLess(self.ask(server, other)[1]["prompt_n"], 40, "the system prompt was read again")
        metrics = server.request("GET", "/metrics")[2]
        hits = float(re.search(r"^packmule:disk_cache_hit_tokens_total (\S+)$", metrics, re.M).group(1))
        self.assertGreaterEqual(hits, n_prompt)
        second = self.start("--cache-disk", disk)
        self.assertEqual(self.ask(second)[0], first)
        self.assertIn("in use by another process", second.log())
        self.assertEqual(second.stop(), 0)
        self.assertEqual(server.stop(), 0)
        self.assertNotIn("question", server.log())

        # Damaged files cost time, no more.
        for file in os.listdir(disk):
            path = os.path.join(disk, file)
            if file.endswith(".kv"):
                os.truncate(path, os.path.getsize(path) - 1)
        server = self.start(*flags)
        again, timings = self.ask(server)
        self.assertEqual((again, timings["prompt_n"]), (first, n_prompt))
        self.assertIn("damaged", server.log())
        self.assertEqual(server.stop(), 0)

    def test_progress_and_timings_in_streams(self):
        server = self.start("-ub", "64")
        body = {"messages": self.MESSAGES, "max_tokens": 4, "ignore_eos": True, "stream": True, "return_progress": True,
                "timings_per_token": True}
        for cached in (False, True):
            text = server.request("POST", "/v1/chat/completions", body)[2]
            events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
            progress = [e["prompt_progress"] for e in events if "prompt_progress" in e]
            processed = [p["processed"] for p in progress]
            self.assertEqual(processed, sorted(processed))
            self.assertEqual(processed[-1], progress[-1]["total"])
            self.assertEqual(len(progress) > 1, not cached, progress)
            self.assertEqual(progress[0]["cache"], progress[0]["total"] if cached else 0)
            timings = [e["timings"] for e in events if "timings" in e]
            self.assertEqual(timings[-1]["predicted_n"], 4)
            self.assertGreater(len(timings), 1)
        self.assertEqual(server.stop(), 0)

    def test_identical_prompts_at_once_are_read_once(self):
        server = self.start()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: self.ask(server), range(4)))
        n_prompt = answers[0][1]["prompt_n"] + answers[0][1]["cache_n"]
        self.assertEqual(sum(timings["prompt_n"] for _, timings in answers), n_prompt)
        self.assertEqual(len({message["content"] for message, _ in answers}), 1)
        self.assertEqual(server.stop(), 0)


class LifeTest(unittest.TestCase):
    def tearDown(self):
        for server in list(Server.running):
            server.end()

    def test_a_template_argument_chooses_the_form_of_calls(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as file:
            file.write("""{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}<tool_call>
{% if form == 'json' %}{"name": "{{ c.function.name }}"}{% else %}<function={{ c.function.name }}>{% endif %}
</tool_call>{% endfor %}{% endfor %}""")
            file.flush()
            server = Server("--chat-template-file", file.name)
            request = {"messages": [{"role": "user", "content": "hello"}], "tool_choice": "required", "logprobs": True,
                       "tools": [{"type": "function", "function": {"name": "f"}}]}
            for form, beginning in (("json", b"<tool_call>\n{"), ("xml", b"<tool_call>\n<function=f>")):
                choice = server.post("/v1/chat/completions", {**request, "chat_template_kwargs": {"form": form},
                                                              "parallel_tool_calls": False})[1]["choices"][0]
                self.assertEqual([c["function"]["name"] for c in choice["message"]["tool_calls"]], ["f"])
                written = b"".join(bytes(token["bytes"]) for token in choice["logprobs"]["content"])
                self.assertTrue(written.startswith(beginning), written)
            self.assertEqual(server.stop(), 0)

    def test_slots_say_who_is_answered(self):
        server = Server("-c", ENDLESS)
        self.assertFalse(any(slot["is_processing"] for slot in server.get("/slots")[1]))
        stream = server.open_stream()
        self.assertTrue(any(slot["is_processing"] for slot in server.get("/slots")[1]))
        stream.close()
        self.assertEqual(server.stop(), 0)

    def test_stops_in_the_middle_of_an_answer(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            server = Server("-c", ENDLESS)
            stream = server.open_stream()
            server.process.send_signal(number)
            time.sleep(0.3)  # two signals at the same moment are one
            server.process.send_signal(number)  # at once
            with stream:
                got = b""
                while part := stream.recv(65536):
                    got += part
            self.assertEqual(server.process.wait(PATIENCE), 0, server.log())
            self.assertIn(b"cancelled", got)

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
            file.write("one\n\nother\r\n")
            file.flush()
            server = Server("--api-key-file", file.name, "--cors", "*", wait=False)
            for key, allowed in (("one", True), ("other", True), ("", False), ("on", False)):
                status, headers, _ = server.request("GET", "/v1/models", headers={"x-api-key": key})
                self.assertEqual(status != 401, allowed, key)
                self.assertEqual(headers["Access-Control-Allow-Origin"], "*")
            self.assertEqual(server.stop(), 0)
        with tempfile.NamedTemporaryFile("w") as empty:
            run = subprocess.run([PACKMULE, "serve", "-m", MODEL, "--port", "0", "--api-key-file", empty.name],
                                 capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(run.returncode, 1)
        self.assertIn("holds no key", run.stderr)

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
                run = subprocess.run([PACKMULE, "serve", "-m", MODEL, "--port", "0", *flags], capture_output=True,
                                     text=True, timeout=PATIENCE)
                self.assertEqual(run.returncode, 1)
                self.assertIn("--ssl-", run.stderr)

    def test_a_port_in_use_and_a_missing_model(self):
        server = Server(wait=False)
        second = subprocess.run([PACKMULE, "serve", "-m", MODEL, "--port", str(server.port)], capture_output=True,
                                text=True, timeout=PATIENCE)
        self.assertEqual(second.returncode, 1)
        self.assertIn("in use", second.stderr)
        self.assertEqual(server.stop(), 0)
        missing = subprocess.run([PACKMULE, "serve", "-m", "/nonexistent.gguf", "--port", "0"], capture_output=True,
                                 text=True, timeout=PATIENCE)
        self.assertEqual(missing.returncode, 1)
        self.assertRegex(missing.stderr, r"packmule: error: .*/nonexistent\.gguf")

    def test_commands_of_llama_server(self):
        """Two commands as people publish them, with packmule's name in front."""
        both = ["--ctx-size", "2048", "--jinja", "--flash-attn", "1", "-ngl", "99", "-ctk", "q4_1", "-ctv", "q4_1",
                "-ot", r"\.([0-1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.=CPU",
                "-b", "16384", "-ub", "1024", "--no-webui", "-np", "1"]
        for sampling in (["--temp", "1.0", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.01",
                          "--repeat-penalty", "1.0"],
                         ["--temp", "0.7", "--top-k", "20", "--top-p", "0.8", "--min-p", "0.0"]):
            server = Server(*both, *sampling)
            status, answer = server.chat(max_tokens=5)
            self.assertEqual(status, 200, answer)
            self.assertEqual(server.stop(), 0)
            self.assertIn("-ngl has no effect", server.log())

    def test_commands_of_llama_server_on_a_device(self):
        """The same, on the processor posing as a graphics device where there is one."""
        devices = subprocess.run([PACKMULE, "--list-devices"], capture_output=True, text=True, timeout=PATIENCE).stdout
        if "Vulkan0: llvmpipe" not in devices:
            self.skipTest("no lavapipe here: " + devices)
        both = ["--ctx-size", "2048", "--jinja", "--flash-attn", "1", "-ngl", "99", "-ctk", "q4_1", "-ctv", "q4_1",
                "-ot", r"\.([0-1][2-9]|[2-9][0-9]|[0-9][0-9][0-9])\.ffn_(up|down|gate)_exps.=CPU",
                "-b", "16384", "-ub", "1024", "--no-webui", "-np", "1", "--device", "Vulkan0"]
        for sampling in (["--temp", "1.0", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.01",
                          "--repeat-penalty", "1.0"],
                         ["--temp", "0.7", "--top-k", "20", "--top-p", "0.8", "--min-p", "0.0"]):
            server = Server(*both, *sampling)
            status, answer = server.chat(max_tokens=5)
            self.assertEqual(status, 200, answer)
            again, second = server.chat(max_tokens=5)
            self.assertEqual(again, 200, second)
            self.assertEqual(server.stop(), 0)
            self.assertRegex(server.log(), r"Vulkan0: llvmpipe.*; there: [0-9.]+ MB of weights")
            self.assertNotIn("no effect", server.log())
        # A rule that matches in a model of four layers, so that both sides compute; and one without room.
        server = Server("--device", "Vulkan0", "-ngl", "99", "-c", "512", "-np", "2", "-ub", "64",
                        "-ot", r"\.ffn_(up|down)_exps.=CPU")
        self.assertEqual(server.chat(max_tokens=5)[0], 200)
        self.assertEqual(server.stop(), 0)
        refused = subprocess.run([PACKMULE, "serve", "-m", MODEL, "--port", "0", "--device", "Vulkan0", "-ngl", "99",
                                  "--device-memory", "1M"], capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(refused.returncode, 1, refused.stderr)
        self.assertRegex(refused.stderr, r"error: .*does not fit, nothing was loaded: GPU0 needs")

    def test_wrong_flags(self):
        for flags in (["--port", "65536"], ["--temp", "warm"], ["--frob"], ["-ot", "exps=CUDA0"]):
            run = subprocess.run([PACKMULE, "serve", "-m", MODEL, *flags], capture_output=True, text=True,
                                 timeout=PATIENCE)
            self.assertEqual(run.returncode, 2, run.stderr)


if __name__ == "__main__":
    PACKMULE, MODEL = sys.argv[1:3]
    unittest.main(argv=[sys.argv[0]] + sys.argv[3:], verbosity=1)
