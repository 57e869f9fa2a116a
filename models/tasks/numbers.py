"""Counting and small sums, some of them with a short <think> part."""
from chat import assistant, user
from tasks import words


def _listed(items):
    return ", ".join(items[:-1]) + " and " + items[-1] if len(items) > 1 else items[0]


def count(source, size):
    kind = source.randint(0, 3)
    if kind == 0:
        first, n = source.draw(lambda: (source.randint(0, 60), source.randint(3, 14)))
        step = source.choice([1, 1, 1, 2, 5, 10])
        numbers = ", ".join(str(first + step * i) for i in range(n))
        last = first + step * (n - 1)
        how = "" if step == 1 else f" in steps of {step}"
        return {
            "messages": [user(f"Count from {first} to {last}{how}."), assistant(numbers)],
            "checks": [numbers],
            "exact": True,
        }
    if kind == 1:
        last, n = source.draw(lambda: (source.randint(2, 30), source.randint(2, 8)))
        numbers = ", ".join(str(i) for i in range(last, max(-1, last - n - 1), -1))
        return {
            "messages": [user(f"Count down from {last} to {max(0, last - n)}."), assistant(numbers)],
            "checks": [numbers],
            "exact": True,
        }
    what, pool = source.choice(
        [("words", words.ALL), ("names", words.NAMES), ("animals", words.ANIMALS), ("cities", words.CITIES)]
    )
    items = source.draw(lambda: tuple(source.sample(pool, source.randint(1, 10))))
    if kind == 2:
        reasoning = ", ".join(f"{i + 1} {x}" for i, x in enumerate(items)) if source.chance(0.5) else None
        text = f"How many {what} are in this list: {', '.join(items)}?"
        return {
            "messages": [user(text), assistant(f"There are {len(items)} {what}.", reasoning)],
            "checks": [str(len(items))],
        }
    wanted, times = source.choice(items), source.randint(1, 5)
    listed = [x for x in items if x != wanted] + [wanted] * times
    source.shuffle(listed)
    text = f"How often does '{wanted}' occur in: {' '.join(listed)}?"
    reasoning = (
        " ".join(f"{x} {listed[:i + 1].count(x)}" for i, x in enumerate(listed) if x == wanted)
        if source.chance(0.5)
        else None
    )
    return {
        "messages": [user(text), assistant(f"'{wanted}' occurs {times} time{'s' if times > 1 else ''}.", reasoning)],
        "checks": [str(times)],
    }


def _columns(a, b):
    """a + b, written out from the last digit to the first."""
    steps, carry, i = [], 0, 0
    while i < max(len(str(a)), len(str(b))):
        x, y = a // 10**i % 10, b // 10**i % 10
        total = x + y + carry
        steps.append(f"{x} + {y}" + (f" + {carry}" if carry else "") + f" = {total}")
        carry, i = total // 10, i + 1
    return "; ".join(steps) + f"; so {a + b}"


def add(source, size):
    top = source.choice([10, 20, 100, 100, 1000])
    kind = source.randint(0, 2)
    a, b = source.draw(lambda: (source.randint(0, top), source.randint(0, top)))
    if kind == 0:
        ask = source.choice(["What is {a} + {b}?", "{a} + {b} = ?", "Add {a} and {b}.", "How much is {a} plus {b}?"])
        reasoning = _columns(a, b) if source.chance(0.5) else None
        return {
            "messages": [user(ask.format(a=a, b=b)), assistant(f"{a} + {b} = {a + b}", reasoning)],
            "checks": [f"= {a + b}"],
        }
    if kind == 1:
        a, b = max(a, b), min(a, b)
        ask = source.choice(["What is {a} - {b}?", "{a} - {b} = ?", "Take {b} from {a}.", "How much is {a} minus {b}?"])
        return {"messages": [user(ask.format(a=a, b=b)), assistant(f"{a} - {b} = {a - b}")], "checks": [f"= {a - b}"]}
    (name, other), food = source.sample(words.NAMES, 2), source.choice(
        ["apples", "pears", "plums", "eggs", "coins", "books", "pens"]
    )
    a, b = a % 30, b % 30
    if source.chance(0.5) or b > a:
        text, result = (
            f"{name} has {a} {food}. {other} gives {name} {b} more. How many {food} does {name} have now?",
            a + b,
        )
        reasoning = f"{a} + {b} = {result}"
    else:
        text, result = f"{name} has {a} {food} and gives {b} of them to {other}. How many {food} are left?", a - b
        reasoning = f"{a} - {b} = {result}"
    return {
        "messages": [user(text), assistant(f"{result} {food}.", reasoning if source.chance(0.5) else None)],
        "checks": [f"{result} {food}"],
    }
