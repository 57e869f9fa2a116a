#!/usr/bin/python3
"""chat.py against chat_template.jinja, on generated conversations: whole, and up to an answer. models/test_chat.py"""
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment

import chat
import data
from tasks.source import Source

environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
environment.filters["tojson"] = chat.to_json
template = environment.from_string((Path(__file__).resolve().parent / "chat_template.jinja").read_text().rstrip("\n"))


def rendered(talk, messages, ask):
    last = talk["messages"][len(messages)] if ask else {}
    return template.render(
        messages=messages,
        tools=talk.get("tools"),
        add_generation_prompt=ask,
        enable_thinking="reasoning" in last,
        **({"tool_format": "json"} if talk.get("json_calls") else {}),
    )


n = 0
for name in [*data.TASKS, "far"]:
    source = Source(5)
    for _ in range(40):
        talk = data.conversation(name, source, 300)
        messages = talk["messages"]
        shown = [{k: v for k, v in m.items() if k != "reasoning"} for m in messages]
        pieces = chat.render({**talk, "messages": shown})
        assert "".join(text for text, _ in pieces) == rendered({**talk, "messages": shown}, shown, False), talk
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                cut = chat.render({**talk, "messages": messages[: i + 1]})
                before = "".join(text for text, _ in cut[:-2])
                assert before == rendered(talk, shown[:i], True), (before, rendered(talk, shown[:i], True))
                assert (
                    cut[-2][1] and cut[-2][0] == chat.answer_text(message, talk.get("json_calls", False)) + "<|im_end|>"
                )
                n += 1
print(f"{n} answers: the same text")
