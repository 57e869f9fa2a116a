"""Copying: word lists, strings nobody can guess, sentences; and looking up in a list."""
from chat import assistant, user
from tasks import words

ASKS = [
    "Repeat exactly: {x}",
    "Copy this text: {x}",
    "Say this back to me:\n{x}",
    "Repeat after me: {x}",
    "Write the following again.\n\n{x}",
    "Echo: {x}",
    "{x}\n\nRepeat the text above.",
]


def _random_string(source):
    letters = source.choice(
        [
            "abcdefghijklmnopqrstuvwxyz",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "0123456789",
            "abcdefABCDEF0123456789",
            "xyz-_.:/#",
        ]
    )
    return "".join(source.choice(letters) for _ in range(source.randint(3, 12)))


def _text(source, size):
    n = source.randint(2, max(3, min(60, size // 3)))
    kind = source.randint(0, 4)
    if kind == 0:
        return " ".join(source.choice(words.ALL) for _ in range(n))
    if kind == 1:
        return ", ".join(source.choice(words.ALL + words.NAMES + words.CITIES) for _ in range(n))
    if kind == 2:
        return " ".join(_random_string(source) for _ in range(max(1, n // 5)))
    if kind == 3:
        return "\n".join(f"{source.choice(words.NAMES)}: {source.code()}" for _ in range(max(1, n // 5)))
    from tasks.facts import make_facts

    return " ".join(f[0] for f in make_facts(source, max(1, n // 8)))


def copy(source, size):
    text = source.draw(lambda: (_text(source, size),))[0]
    messages, checks = [user(source.choice(ASKS).replace("{x}", text)), assistant(text)], [text]
    if source.chance(0.2):
        messages += [user(source.choice(["Again, please.", "Once more.", "And again."])), assistant(text)]
        checks.append(text)
    return {"messages": messages, "checks": checks, "exact": True}


def look_up(source, size):
    """A table and several questions: many look-ups a token, which is what teaches looking up."""
    n = source.randint(3, max(4, min(24, size // 14)))
    left = source.choice([words.NAMES, words.THINGS, words.CITIES, words.ANIMALS, words.NOUNS])
    keys = source.sample(left, min(n, len(left)))
    values = source.choice([words.COLOURS, words.FOODS, words.JOBS, words.PLACES, None, None])
    rows = [source.draw(lambda: (k, source.choice(values) if values else source.code())) for k in keys]
    sign = source.choice([": ", " = ", " -> ", " | ", "\t"])
    between = source.choice(["\n", "\n", "; ", ", "])
    messages, checks = [
        user("Remember this table.\n" + between.join(k + sign + v for k, v in rows)),
        assistant("Noted."),
    ], [""]
    if source.chance(0.3):
        messages, checks = [{"role": "system", "content": messages[0]["content"]}], []
    ask = source.choice(["What stands beside {k}?", "{k}?", "Look up {k}.", "Which value has {k}?"])
    for k, v in source.sample(rows, min(len(rows), source.randint(2, 10))):
        messages += [user(ask.replace("{k}", k)), assistant(v)]
        checks.append(v)
    return {"messages": messages, "checks": checks, "exact": True}
