"""Conversations as text, the way chat_template.jinja renders them, in pieces that are learned or not.

A conversation is a dict: messages, tools (or None), json_calls, thinking. test_chat.py holds this file to the
template.
"""
import json


def to_json(value):
    return json.dumps(value, ensure_ascii=False)


def call_text(call, json_calls):
    name, arguments = call["name"], call["arguments"]
    if json_calls:
        return f'<tool_call>\n{{"name": "{name}", "arguments": {to_json(arguments)}}}\n</tool_call>'
    text = "".join(
        f"<parameter={k}>\n{v if isinstance(v, str) else to_json(v)}\n</parameter>\n" for k, v in arguments.items()
    )
    return f"<tool_call>\n<function={name}>\n{text}</function>\n</tool_call>"


def _system(messages, tools, json_calls):
    text = messages[0]["content"] if messages[0]["role"] == "system" else ""
    if not tools:
        return f"<|im_start|>system\n{text}<|im_end|>\n" if text else ""
    form = (
        '{"name": NAME, "arguments": {KEY: VALUE}}'
        if json_calls
        else "<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>"
    )
    listed = "".join("\n" + to_json(tool) for tool in tools)
    return (
        "<|im_start|>system\n"
        + (text + "\n\n" if text else "")
        + "# Tools\n\n<tools>"
        + listed
        + f"\n</tools>\n\nTo call a tool, answer:\n<tool_call>\n{form}\n</tool_call><|im_end|>\n"
    )


def answer_text(message, json_calls):
    """What the model itself writes for a turn, up to <|im_end|>."""
    parts = [message["content"]] if message.get("content") else []
    parts += [call_text(c["function"], json_calls) for c in message.get("tool_calls", [])]
    thought = f"{message['reasoning']}\n</think>\n\n" if message.get("reasoning") else ""
    return thought + "\n".join(parts)


def render(conversation):
    """-> [(text, learned)]. A <think> part is shown only in the last turn, as the template forgets earlier ones."""
    messages, tools, json_calls = (
        conversation["messages"],
        conversation.get("tools"),
        conversation.get("json_calls", False),
    )
    out = [(_system(messages, tools, json_calls), False)]
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    for i, message in enumerate(turns):
        role = message["role"]
        if role == "assistant":
            opened = "<think>\n" if message.get("reasoning") else ""
            out.append(("<|im_start|>assistant\n" + opened, False))
            out.append((answer_text(message, json_calls) + "<|im_end|>", True))
            out.append(("\n", False))
        elif role == "tool":
            first = i == 0 or turns[i - 1]["role"] != "tool"
            last = i + 1 == len(turns) or turns[i + 1]["role"] != "tool"
            out.append(
                (
                    ("<|im_start|>user" if first else "")
                    + f"\n<tool_response>\n{message['content']}\n</tool_response>"
                    + ("<|im_end|>\n" if last else ""),
                    False,
                )
            )
        else:
            out.append((f"<|im_start|>{role}\n{message['content']}<|im_end|>\n", False))
    return [(text, learned) for text, learned in out if text]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, reasoning=None):
    return {"role": "assistant", "content": text, **({"reasoning": reasoning} if reasoning else {})}


def calling(*calls):
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in calls],
    }
