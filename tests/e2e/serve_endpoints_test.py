#!/usr/bin/env python3
"""The endpoints around the answers, and what they refuse."""
import json
import time

import serving
from serving import TEMPLATE, ServerTest


class EndpointsTest(ServerTest):
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
        self.assertEqual((props["chat_template"], props["model_path"]), (TEMPLATE, serving.MODEL))

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

    def test_head_and_options(self):
        status, headers, text = self.server.request("HEAD", "/health")
        self.assertEqual((status, text), (200, ""))
        status, headers, text = self.server.request("OPTIONS", "/v1/chat/completions")
        self.assertEqual((status, headers["Allow"]), (204, "POST, OPTIONS"))
        self.assertFalse([h for h in headers if h.lower().startswith("access-control")])


if __name__ == "__main__":
    serving.main()
