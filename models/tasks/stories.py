"""Short stories in plain English: to be told with given characters, or read and asked about."""
from chat import assistant, user
from tasks import words


def _a(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


OPENINGS = [
    "One {adj} morning {hero}, {a_job}, went to the {place} to look for {a_thing}.",
    "There was once {a_job} called {hero} who lived beside the {place} and wanted {a_thing} more than anything.",
    "{hero} was {a_job}. Every day {hero} walked to the {place}, but on {day} something was different: the {thing} was gone.",
    "In {city} lived {hero}, {a_job}, who was always {adj}. On {day} {hero} lost {a_thing} in the {place}.",
    "Long ago, near a {place} far from {city}, {hero} the {job} found {a_thing} that shone in the dark.",
]
MIDDLES = [
    "On the way {hero} met {a_animal}. The {animal} was {adj2} and asked for some {food}.",
    'A {adj2} {animal} sat in front of the door. "Give me {food}," said the {animal}, "and I will help you."',
    "Then it began to rain, and {hero} hid under a tree with {a_animal}. They shared some {food}.",
    "{friend}, an old friend, came along with {a_animal} and a basket of {food}.",
]
TURNS = [
    "{hero} gave away all the {food} and kept nothing.",
    '"Take it," said {hero}, "I am not hungry."',
    "At first {hero} was afraid, but the {animal} had kind eyes.",
    "{hero} thought about it for a while and then agreed.",
    "They talked until the sun went down.",
    "The {animal} ate everything and laughed.",
]
ENDINGS = [
    "In the end the {animal} showed {hero} where the {thing} was: under the stones of the {place}. {hero} went home happy.",
    "The next day the {animal} brought back the {thing}. Since then {hero} and the {animal} have been friends.",
    "So {hero} got the {thing} at last, and {friend} told the story to everybody in {city}.",
    "{hero} never found the {thing}, but now there was a friend in the house, and that was better.",
    "Together they carried the {thing} home, and {hero} cooked {food} for all of them.",
]


def _make(source):
    animal, thing, place = source.draw(
        lambda: (source.choice(words.ANIMALS), source.choice(words.THINGS), source.choice(words.PLACES))
    )
    hero, friend = source.sample(words.NAMES, 2)
    job, adj, adj2 = source.choice(words.JOBS), source.choice(words.ADJECTIVES), source.choice(words.ADJECTIVES)
    parts = {
        "hero": hero,
        "friend": friend,
        "job": job,
        "a_job": _a(job),
        "animal": animal,
        "a_animal": _a(animal),
        "thing": thing,
        "a_thing": _a(thing),
        "place": place,
        "city": source.choice(words.CITIES),
        "adj": adj,
        "adj2": adj2,
        "day": source.choice(words.WEEKDAYS),
        "food": source.choice(words.FOODS),
    }
    lines = [
        source.choice(OPENINGS),
        source.choice(MIDDLES),
        *source.sample(TURNS, source.randint(0, 2)),
        source.choice(ENDINGS),
    ]
    return " ".join(line.format(**parts) for line in lines), parts


QUESTIONS = [
    (["What was {hero}'s job?", "What did {hero} do for a living?"], "{hero} was {a_job}.", "job"),
    (["Which animal is in the story?", "What animal did {hero} meet?"], "It was {a_animal}.", "animal"),
    (
        ["What is the {job}'s name?", "Who is the story about?", "What is the hero called?"],
        "The name is {hero}.",
        "hero",
    ),
    (["Which food is in the story?", "What was there to eat?"], "There was {food}.", "food"),
    (["Where did it happen?", "Which place is in the story?"], "It happened near the {place}.", "place"),
    (["What was lost or found?", "Which thing is the story about?"], "It is about the {thing}.", "thing"),
]


def ask(source, size):
    text, parts = _make(source)
    questions = source.sample(QUESTIONS, source.randint(1, 4))
    messages, checks = [], []
    for i, (asks, answer, key) in enumerate(questions):
        question = source.choice(asks).format(**parts)
        messages += [user(f"{text}\n\n{question}" if i == 0 else question), assistant(answer.format(**parts))]
        checks.append(parts[key])
    return {"messages": messages, "checks": checks}


def tell(source, size):
    text, parts = _make(source)
    want = source.choice(
        [
            "Tell me a story about {hero} and {a_animal}.",
            "Write a short story with {a_animal} and {a_thing}. The hero is {hero}.",
            "A story, please: {hero}, {a_job}, {a_animal}.",
            "Tell a story about {a_job} called {hero} and {a_animal}.",
        ]
    )
    needed = [parts["hero"], parts["animal"]]
    return {"messages": [user(want.format(**parts)), assistant(text)], "checks": [needed]}
