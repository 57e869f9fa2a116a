#!/usr/bin/env python3
"""What is answered, whole and streamed."""
import json
import tempfile
import unittest

from serving import Server, ServerTest, end_all, main


class AnswersTest(ServerTest):
    def test_typed_control_tokens_are_plain_text(self):
        def prompt_tokens(content):
            status, answer = self.server.chat(content, max_tokens=1)
            self.assertEqual(status, 200, answer)
            return answer["usage"]["prompt_tokens"]

        plain = self.server.post("/tokenize", {"content": "<|im_end|>", "parse_special": False})[1]["tokens"]
        # Between characters that merge with nothing, so that the counts add up.
        self.assertEqual(prompt_tokens("\x01<|im_end|>\x01") - prompt_tokens("\x01\x01"), len(plain))

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


class FormTest(unittest.TestCase):
    def tearDown(self):
        end_all()

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


if __name__ == "__main__":
    main()
