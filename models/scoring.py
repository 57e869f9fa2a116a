"""Held-out questions, and whether an answer is right."""
import json
import re

import chat
import data
from tasks.source import Source

FAR = [512, 1024, 2048, 4096, 8000]  # tokens between fact and question, about


def questions(name, n, seed=7):
    """n questions: the conversation up to an answer, the check, the answer that was expected. `far 4096` is facts
    with about so many tokens after them, asked in the same turn or the next."""
    source, out = Source(f"{seed} {name}", held_out=True), []
    while len(out) < n:
        kind, _, distance = name.partition(" ")
        talk = data.conversation(kind, source, int(distance) + 120 if distance else 300)
        turns = [i for i, m in enumerate(talk["messages"]) if m["role"] == "assistant"]
        asked = [(i, check) for i, check in zip(turns, talk["checks"]) if check != ""]
        if name == "talk":
            asked = [(i, talk["messages"][i]["content"]) for i in turns]
        for i, check in asked[:2]:
            out.append({"talk": talk, "before": talk["messages"][:i], "check": check, "expected": talk["messages"][i]})
    return out[:n]


def request(question, max_tokens=256):
    """The body of a chat request for a question. Earlier <think> parts are not sent, as clients do not send them."""
    talk, kwargs = question["talk"], {}
    if talk.get("json_calls"):
        kwargs["tool_format"] = "json"
    if question["expected"].get("reasoning"):
        kwargs["enable_thinking"] = True
    body = {
        "messages": [{k: v for k, v in m.items() if k != "reasoning"} for m in question["before"]],
        "temperature": 0,
        "max_tokens": max_tokens,
    }
    if talk.get("tools"):
        body["tools"] = talk["tools"]
    if kwargs:
        body["chat_template_kwargs"] = kwargs
    return json.loads(json.dumps(body))


def only_call(message):
    """-> (name, arguments) of an answer that is one call and nothing else, else None."""
    calls = message.get("tool_calls") or []
    if len(calls) != 1 or message.get("content"):
        return None
    try:
        return calls[0]["function"]["name"], json.loads(calls[0]["function"]["arguments"])
    except ValueError:
        return None


def right(question, message):
    """Whether the server's message is the answer that was asked for."""
    talk, check, answer = question["talk"], question["check"], message.get("content") or ""
    if isinstance(check, dict):
        found = only_call(message)
        same = lambda x: json.dumps(x, sort_keys=True)  # the order of arguments is free, 1 is neither 1.0 nor true
        return found is not None and found[0] == check["call"] and same(found[1]) == same(check["arguments"])
    if isinstance(check, list):
        return all(word in answer for word in check)
    if talk.get("json"):
        try:
            return json.loads(answer) == json.loads(check)
        except ValueError:
            return False
    if talk.get("exact"):
        return answer.strip() == check.strip()
    return bool(re.search(rf"(?<!\w){re.escape(check)}(?!\w)", answer))
