"""Answers in a given form: JSON with given keys; and small talk."""
import json

from chat import assistant, user
from tasks import words

FIELDS = {
    "name": words.NAMES,
    "city": words.CITIES,
    "job": words.JOBS,
    "pet": words.ANIMALS,
    "colour": words.COLOURS,
    "food": words.FOODS,
    "hobby": words.HOBBIES,
    "drink": words.DRINKS,
    "age": range(5, 99),
    "children": range(0, 7),
    "height": range(120, 205),
}
STATED = {
    "city": "{n} lives in {v}",
    "job": "{n} is a {v}",
    "pet": "{n} has a {v}",
    "colour": "{n} likes {v}",
    "food": "{n} eats {v}",
    "hobby": "{n} enjoys {v}",
    "drink": "{n} drinks {v}",
    "age": "{n} is {v} years old",
    "children": "{n} has {v} children",
    "height": "{n} is {v} cm tall",
}


def as_json(source, size):
    name = source.choice(words.NAMES)
    kinds = source.sample(list(STATED), source.randint(1, 5))
    values = {}
    for kind in kinds:
        values[kind] = source.draw(lambda: (name, source.choice(FIELDS[kind])))[1]
    stated = ". ".join(STATED[k].replace("{n}", name).replace("{v}", str(v)) for k, v in values.items()) + "."
    keys = ["name"] * source.chance(0.8) + source.sample(kinds, source.randint(1, len(kinds)))
    result = json.dumps({k: name if k == "name" else values[k] for k in keys})
    ask = source.choice(
        [
            "Answer in JSON with the keys {k}.",
            "Write this as JSON with the keys {k}.",
            "Give me a JSON object with {k}.",
            "JSON, keys {k}:",
        ]
    )
    ask = ask.replace("{k}", ", ".join(keys))
    text = f"{stated} {ask}" if source.chance(0.5) else f"{ask}\n\n{stated}"
    return {"messages": [user(text), assistant(result)], "checks": [result], "json": True}


def sort_or_pick(source, size):
    """Small transformations of a list."""
    items = list(source.draw(lambda: tuple(source.sample(words.ALL, source.randint(2, 7)))))
    kind = source.randint(0, 4)
    text = ", ".join(items)
    if kind == 0:
        ask, result = f"Which is the first word: {text}?", items[0]
    elif kind == 1:
        ask, result = f"Which is the last word: {text}?", items[-1]
    elif kind == 2:
        ask, result = f"Reverse this list: {text}", ", ".join(reversed(items))
    elif kind == 3:
        ask, result = f"Write in capitals: {text}", text.upper()
    else:
        ask, result = f"Write as a list with dashes: {text}", "\n".join("- " + x for x in items)
    return {"messages": [user(ask), assistant(result)], "checks": [result], "exact": True}


TALK = [
    (["Hello!", "Hi.", "Good morning.", "Hey there!", "Hello, how are you?"], ["Hello! How can I help you?"]),
    (
        ["Who are you?", "What are you?", "What is your name?", "Introduce yourself."],
        [
            "I am Mulelet, a very small language model. I can answer questions about what you tell me, copy, count, and call tools."
        ],
    ),
    (["Thank you!", "Thanks.", "Thanks a lot."], ["You are welcome."]),
    (["Goodbye.", "Bye!"], ["Goodbye!"]),
    (
        ["What can you do?", "How can you help me?"],
        ["I can remember facts you tell me, copy text, count, add small numbers, tell short stories and call tools."],
    ),
    (["Why does a mule carry more than a horse?"], ["A mule is strong and patient, and it places its feet with care."]),
]


def talk(source, size):
    messages, checks = [], []
    for _ in range(source.randint(1, 3)):
        asks, answers = source.choice(TALK)
        messages += [user(source.choice(asks)), assistant(source.choice(answers))]
        checks.append("")
    return {"messages": messages, "checks": checks}


def unknown(source, size):
    """A question that the facts do not answer."""
    from tasks.facts import ABOUT_PEOPLE, make_facts

    facts = make_facts(source, source.randint(1, 4))
    stranger = source.choice([n for n in words.NAMES if not any(n in f[0] for f in facts)])
    question = source.choice(ABOUT_PEOPLE[source.choice(list(ABOUT_PEOPLE))][2]).replace("{s}", stranger)
    return {
        "messages": [user(" ".join(f[0] for f in facts) + " " + question), assistant("I do not know.")],
        "checks": ["I do not know"],
    }
