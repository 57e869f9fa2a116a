"""Facts that are stated and asked for later, near or with other text between."""
from chat import assistant, user
from tasks import words

# kind -> (values, ways to state it, ways to ask, the answer). {s} is the subject, {v} the value.
ABOUT_PEOPLE = {
    "colour": (
        words.COLOURS,
        [
            "{s}'s favourite colour is {v}.",
            "{s} likes {v} best of all colours.",
            "The colour that {s} loves most is {v}.",
        ],
        ["What is {s}'s favourite colour?", "Which colour does {s} like best?"],
        "{s}'s favourite colour is {v}.",
    ),
    "pet": (
        words.ANIMALS,
        ["{s} has a {v}.", "{s} keeps a {v} at home.", "{s}'s pet is a {v}."],
        ["What pet does {s} have?", "Which animal does {s} keep?"],
        "{s} has a {v}.",
    ),
    "food": (
        words.FOODS,
        ["{s} loves to eat {v}.", "{s}'s favourite food is {v}.", "Nothing tastes better to {s} than {v}."],
        ["What does {s} love to eat?", "What is {s}'s favourite food?"],
        "{s} loves {v}.",
    ),
    "city": (
        words.CITIES,
        ["{s} lives in {v}.", "{s}'s home is in {v}.", "{s} moved to {v} years ago and stayed."],
        ["Where does {s} live?", "In which city does {s} live?"],
        "{s} lives in {v}.",
    ),
    "job": (
        words.JOBS,
        ["{s} works as a {v}.", "{s} is a {v}.", "{s} earns a living as a {v}."],
        ["What does {s} do for a living?", "What is {s}'s job?"],
        "{s} is a {v}.",
    ),
    "hobby": (
        words.HOBBIES,
        ["{s}'s hobby is {v}.", "{s} spends every weekend {v}.", "In the evening {s} enjoys {v}."],
        ["What is {s}'s hobby?", "What does {s} enjoy?"],
        "{s} enjoys {v}.",
    ),
    "age": (
        [str(n) for n in range(5, 99)],
        ["{s} is {v} years old.", "{s} turned {v} this year."],
        ["How old is {s}?", "What is {s}'s age?"],
        "{s} is {v} years old.",
    ),
    "drink": (
        words.DRINKS,
        ["{s} always drinks {v}.", "{s} asks for {v} in the morning."],
        ["What does {s} drink?"],
        "{s} drinks {v}.",
    ),
}
ABOUT_THINGS = {
    "place": (
        words.PLACES,
        ["The {s} is in the {v}.", "Somebody left the {s} in the {v}.", "You will find the {s} in the {v}."],
        ["Where is the {s}?", "In which place is the {s}?"],
        "The {s} is in the {v}.",
    ),
    "code": (
        None,
        ["The code of the {s} is {v}.", "The {s} has the code {v}.", "Remember {v}: it is the code of the {s}."],
        ["What is the code of the {s}?", "Which code does the {s} have?"],
        "The code of the {s} is {v}.",
    ),
    "owner": (
        words.NAMES,
        ["The {s} belongs to {v}.", "{v} owns the {s}.", "The owner of the {s} is {v}."],
        ["Who owns the {s}?", "To whom does the {s} belong?"],
        "The {s} belongs to {v}.",
    ),
}


def make_facts(source, n):
    """n facts about different (subject, kind) pairs: (statement, question, answer, value)."""
    out, taken = [], set()
    subjects = source.sample(words.NAMES, min(n, len(words.NAMES)))
    while len(out) < n:
        if source.chance(0.65):
            kind, subject = source.choice(list(ABOUT_PEOPLE)), source.choice(subjects)
            values, states, asks, answer = ABOUT_PEOPLE[kind]
        else:
            kind = source.choice(list(ABOUT_THINGS))
            subject = source.choice(words.COLOURS) + " " + source.choice(words.THINGS)
            values, states, asks, answer = ABOUT_THINGS[kind]
        if (subject, kind) in taken:
            continue
        taken.add((subject, kind))
        _, value = source.draw(lambda: (subject, source.choice(values) if values else source.code()))
        fill = lambda text: text.replace("{s}", subject).replace("{v}", value)
        out.append((fill(source.choice(states)), fill(source.choice(asks)), fill(answer), value))
    return out


OPENINGS = ["", "", "", "Remember this: ", "Here are some facts. ", "Please note: ", "Read this. "]
ACCEPTED = ["I will remember that.", "Noted.", "Thank you, I have noted that."]


def near(source, size):
    """A few facts and then questions about them, several turns."""
    n = max(1, min(size // 30, source.randint(1, 12)))
    facts = make_facts(source, n)
    text = source.choice(OPENINGS) + " ".join(f[0] for f in facts)
    asked = source.sample(facts, min(n, source.randint(1, 5)))
    messages, checks = [], []
    if source.chance(0.5):
        messages, checks = [user(f"{text} {asked[0][1]}"), assistant(asked[0][2])], [asked[0][3]]
        asked = asked[1:]
    elif source.chance(0.5):
        messages, checks = [user(text), assistant(source.choice(ACCEPTED))], [""]
    else:
        messages = [{"role": "system", "content": text}]
    for _, question, answer, value in asked:
        messages += [user(question), assistant(answer)]
        checks.append(value)
    if len(messages) == 1:
        return near(source, size)
    return {"messages": messages, "checks": checks}


def far(source, size, filler):
    """Facts, much other text, then the questions. filler(n) gives about n tokens of text."""
    facts = make_facts(source, source.randint(1, 4))
    rest = max(40, size - 40 * len(facts) - 60)
    asked = source.sample(facts, source.randint(1, len(facts)))
    stated = " ".join(f[0] for f in facts)
    if source.chance(0.5):
        before = 0 if source.chance(0.7) else source.randint(0, rest // 2)
        text = (
            (filler(before) + "\n\n" if before else "") + stated + "\n\n" + filler(rest - before) + "\n\n" + asked[0][1]
        )
        messages, checks = [user(text), assistant(asked[0][2])], [asked[0][3]]
        asked = asked[1:]
    else:
        messages = [
            user("Remember this: " + stated),
            assistant("I will remember that."),
            user("Now read this.\n\n" + filler(rest)),
            assistant("I have read it."),
        ]
        checks = ["", ""]
    for _, question, answer, value in asked:
        messages += [user(question), assistant(answer)]
        checks.append(value)
    return {"messages": messages, "checks": checks}
