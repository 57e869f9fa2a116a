#!/usr/bin/env python3
"""Several requests at a time, and one after the other."""
import concurrent.futures
import json
import socket
import threading

from serving import PATIENCE, ServerTest, main


class TogetherTest(ServerTest):
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


if __name__ == "__main__":
    main()
