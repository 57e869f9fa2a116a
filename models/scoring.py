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


def parse_call(text, schema, json_calls):
    """-> (name, arguments) of an answer that is one call and nothing else, else None."""
    inside = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call>", text.strip(), re.S)
    if not inside:
        return None
    if json_calls:
        try:
            call = json.loads(inside[1])
            return call["name"], call["arguments"]
        except (ValueError, KeyError, TypeError):
            return None
    function = re.fullmatch(r"<function=([^>\n]+)>\n(.*)</function>", inside[1], re.S)
    if not function:
        return None
    body, arguments = function[2], {}
    if re.sub(r"<parameter=[^>\n]+>\n.*?\n</parameter>\n", "", body, flags=re.S):
        return None
    for key, value in re.findall(r"<parameter=([^>\n]+)>\n(.*?)\n</parameter>\n", body, re.S):
        kind = schema.get(function[1], {}).get(key, {}).get("type", "string")
        try:
            arguments[key] = value if kind == "string" else json.loads(value)
        except ValueError:
            arguments[key] = value
    return function[1], arguments


def right(question, answer):
    talk, check = question["talk"], question["check"]
    if isinstance(check, dict):
        schema = {t["function"]["name"]: t["function"]["parameters"]["properties"] for t in talk["tools"]}
        found = parse_call(answer, schema, talk.get("json_calls", False))
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
