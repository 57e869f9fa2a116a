"""Choosing a tool, calling it with typed arguments, and using what it answers.

Half of the tools are made up from a verb and a noun; a pair belongs to training or to the held-out part, so
held-out calls are of tools never seen.
"""
import json

from chat import assistant, calling, user
from tasks import words

# parameter -> (JSON type, value, how a request says it, description)
PARAMETERS = {
    "city": ("string", lambda s: s.choice(words.CITIES), ["in {v}", "for {v}"], "City"),
    "person": ("string", lambda s: s.choice(words.NAMES), ["for {v}", "to {v}"], "Name of a person"),
    "colour": ("string", lambda s: s.choice(words.COLOURS), ["in {v}", "with the colour {v}"], "Colour"),
    "day": ("string", lambda s: s.choice(words.WEEKDAYS), ["on {v}", "for {v}"], "Day of the week"),
    "month": ("string", lambda s: s.choice(words.MONTHS), ["in {v}", "for {v}"], "Month"),
    "title": (
        "string",
        lambda s: " ".join(s.sample(words.ALL, s.randint(1, 3))),
        ["called '{v}'", "with the title '{v}'"],
        "Title",
    ),
    "text": (
        "string",
        lambda s: " ".join(s.sample(words.ALL, s.randint(2, 6))),
        ["with the text '{v}'", "saying '{v}'"],
        "Text",
    ),
    "path": (
        "string",
        lambda s: f"{s.choice(words.NOUNS)}/{s.choice(words.THINGS)}.{s.choice(['txt', 'py', 'md', 'json'])}",
        ["at {v}", "under {v}"],
        "Path of a file",
    ),
    "code": ("string", lambda s: s.code(), ["with the code {v}", "with code {v}"], "Code"),
    "count": ("integer", lambda s: s.randint(1, 60), ["{v} times", "with a count of {v}"], "How many"),
    "minutes": ("integer", lambda s: s.randint(1, 120), ["for {v} minutes", "of {v} minutes"], "Minutes"),
    "days": ("integer", lambda s: s.randint(1, 14), ["for {v} days", "over {v} days"], "Days"),
    "room": ("integer", lambda s: s.randint(1, 400), ["in room {v}", "for room {v}"], "Number of the room"),
    "price": ("number", lambda s: s.randint(2, 199) / 2, ["for {v} euros", "at a price of {v}"], "Price in euros"),
    "speed": ("number", lambda s: s.randint(1, 99) / 10, ["at speed {v}", "with speed {v}"], "Speed"),
    "urgent": (
        "boolean",
        lambda s: s.chance(0.5),
        {True: ["and mark it as urgent", "urgently"], False: ["and it is not urgent", "without hurry"]},
        "Whether it is urgent",
    ),
    "public": (
        "boolean",
        lambda s: s.chance(0.5),
        {True: ["so that everybody sees it", "in public"], False: ["but keep it private", "in private"]},
        "Whether everybody sees it",
    ),
    "tags": ("array", lambda s: s.sample(words.ALL, s.randint(1, 3)), ["with the tags {v}", "tagged {v}"], "Tags"),
    "unit": ("string", lambda s: s.choice(["celsius", "fahrenheit"]), ["in degrees {v}", "in {v}"], "Unit"),
}

# Well-known tools: name, description, parameters, requests, and what they answer with.
KNOWN = [
    (
        "get_weather",
        "Get the weather of a city",
        ["city"],
        ["What is the weather {city}?", "How is the weather {city} today?", "Tell me the weather {city}."],
        "weather",
    ),
    (
        "get_weather",
        "Get the weather forecast of a city",
        ["city", "days"],
        ["What will the weather be {city} {days}?", "Give me the forecast {city} {days}."],
        "weather",
    ),
    (
        "get_temperature",
        "Get the temperature in a city",
        ["city", "unit"],
        ["How warm is it {city}? Answer {unit}.", "What is the temperature {city} {unit}?"],
        "weather",
    ),
    (
        "read_file",
        "Read a file",
        ["path"],
        ["What is in the file {path}?", "Read the file {path}.", "Show me the file {path}."],
        "file",
    ),
    ("set_timer", "Set a timer", ["minutes"], ["Set a timer {minutes}.", "Wake me with a timer {minutes}."], "done"),
    (
        "send_message",
        "Send a message to somebody",
        ["person", "text"],
        ["Send a message {person} {text}.", "Write {person} a message {text}."],
        "done",
    ),
    (
        "find_person",
        "Find out where a person lives",
        ["person"],
        ["Look up the address {person}.", "Find the address {person}."],
        "address",
    ),
    (
        "get_price",
        "Get the price of a product",
        ["title"],
        ["What does the product {title} cost?", "Find the price of the product {title}."],
        "price",
    ),
]


def _schema(name, description, parameters):
    properties = {}
    for p in parameters:
        kind, _, _, about = PARAMETERS[p]
        properties[p] = {
            "type": kind,
            "description": about,
            **({"items": {"type": "string"}} if kind == "array" else {}),
            **({"enum": ["celsius", "fahrenheit"]} if p == "unit" else {}),
        }
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {"type": "object", "properties": properties, "required": list(parameters)},
        },
    }


def _say(source, parameter, value):
    ways = PARAMETERS[parameter][2]
    if isinstance(value, bool):
        return source.choice(ways[value])
    shown = ", ".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)
    return source.choice(ways).replace("{v}", shown)


def _number(value):
    return int(value) if isinstance(value, float) and value == int(value) else value


def _made_up(source):
    verb, noun = source.draw(lambda: (source.choice(words.VERBS), source.choice(words.NOUNS)))
    parameters = source.sample(list(PARAMETERS), source.choice([0, 1, 1, 2, 2, 2, 3, 3, 4]))
    requests = [
        f"{start}{verb} the {noun}{{said}}{end}"
        for start, end in (("Please ", "."), ("Can you ", "?"), ("I want to ", "."), ("", "."), ("You should ", "."))
    ]
    return (
        f"{verb}_{noun}",
        source.choice(
            [f"{verb.capitalize()} a {noun}", f"{verb.capitalize()} the {noun}", f"Use this to {verb} the {noun}"]
        ),
        parameters,
        requests,
        "done",
    )


def _tool(source):
    return source.choice(KNOWN) if source.chance(0.4) else _made_up(source)


def _request(source, tool):
    """-> (what the user says, arguments)"""
    name, _, parameters, requests, _ = tool
    arguments, said = {}, {}
    for p in parameters:
        value = (
            source.draw(lambda: (name, p, PARAMETERS[p][1](source)))[2]
            if PARAMETERS[p][0] == "string"
            else PARAMETERS[p][1](source)
        )
        arguments[p], said[p] = _number(value), _say(source, p, _number(value))
    request = source.choice(requests)
    if "{said}" in request:
        order = list(parameters)
        source.shuffle(order)
        text = request.replace("{said}", "".join(" " + said[p] for p in order))
    else:
        text = request
        for p in parameters:
            text = text.replace("{" + p + "}", said[p])
    return text[0].upper() + text[1:], arguments


def _answer(source, kind, arguments):
    """What the tool gives back, and what the assistant says then, with the word that must occur."""
    if kind == "weather":
        degrees, sky = source.randint(-20, 40), source.choice(["sunny", "cloudy", "rainy", "windy", "foggy", "snowy"])
        city = arguments["city"]
        unit = arguments.get("unit")
        if unit:
            return (
                json.dumps({"temperature": degrees, "unit": unit}),
                f"It is {degrees} degrees {unit} in {city}.",
                str(degrees),
            )
        result = source.choice(
            [json.dumps({"city": city, "temperature": degrees, "sky": sky}), f"{sky}, {degrees} degrees"]
        )
        return result, f"The weather in {city} is {sky} with {degrees} degrees.", sky
    if kind == "file":
        from tasks.copying import _text

        text = _text(source, 30)
        return text, f"The file says:\n{text}", text
    if kind == "address":
        street, city = source.choice(words.THINGS).capitalize() + " Street " + str(
            source.randint(1, 99)
        ), source.choice(words.CITIES)
        return (
            json.dumps({"street": street, "city": city}),
            f"{arguments['person']} lives at {street} in {city}.",
            street,
        )
    if kind == "price":
        price = source.randint(1, 999)
        return json.dumps({"price": price, "currency": "euro"}), f"It costs {price} euros.", f"{price} euros"
    if source.chance(0.3):
        code = source.code()
        return json.dumps({"status": "ok", "id": code}), f"Done. The id is {code}.", code
    if source.chance(0.25):
        reason = source.choice(["not found", "no permission", "timed out", "not connected", "the disk is full"])
        return json.dumps({"error": reason}), f"That did not work: {reason}.", reason
    return source.choice(['{"status": "ok"}', "ok", "done", '{"ok": true}']), "Done.", "Done"


def call(source, size):
    """One to four tools, one of them is right; then its answer is used, and perhaps another call follows."""
    wanted = _tool(source)
    offered = {wanted[0]: wanted}
    for _ in range(min(source.randint(0, 3), max(0, size // 110 - 2))):
        other = _tool(source)
        offered.setdefault(other[0], other)
    tools = list(offered.values())
    source.shuffle(tools)
    messages = [{"role": "system", "content": "You are a helpful assistant."}] if source.chance(0.3) else []
    checks = []
    for turn in range(source.choice([1, 1, 2])):
        tool = wanted if turn == 0 else source.choice(tools)
        text, arguments = _request(source, tool)
        messages += [user(text), calling((tool[0], arguments))]
        checks.append({"call": tool[0], "arguments": arguments})
        result, said, word = _answer(source, tool[4], arguments)
        messages += [{"role": "tool", "content": result}, assistant(said)]
        checks.append(word)
    if source.chance(0.15):
        messages += [user("Thank you!"), assistant("You are welcome.")]
        checks.append("")
    return {
        "messages": messages,
        "tools": [_schema(*t[:3]) for t in tools],
        "json_calls": source.chance(0.4),
        "checks": checks,
    }


def no_call(source, size):
    """Tools are there, but the question wants none."""
    from tasks import facts, formats, numbers

    tools = {t[0]: _schema(*t[:3]) for t in (_tool(source) for _ in range(source.randint(1, 2)))}
    inner = source.choice([facts.near, numbers.add, formats.talk])(source, 90)
    if inner["messages"][0]["role"] == "system":
        return no_call(source, size)
    return {**inner, "tools": list(tools.values()), "json_calls": source.chance(0.4)}
