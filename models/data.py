"""What a training step reads: generated conversations and real text, by a plan of phases.

A step's examples depend only on the seed and the number of the step, so a resumed run reads what an
uninterrupted one would. Examples are never joined in one row: a row is one conversation from its first token,
as the model will meet it, and rows of about the same length share a batch.
"""
import random
from dataclasses import dataclass

import torch

import chat
import corpus
from tasks import copying, facts, formats, numbers, stories, tools
from tasks.source import NothingLeft, Source

# Shares of tokens are close to these shares of examples, as all of a phase have about one size.
TASKS = {
    "near": facts.near,
    "copy": copying.copy,
    "look_up": copying.look_up,
    "count": numbers.count,
    "add": numbers.add,
    "story": stories.ask,
    "tell": stories.tell,
    "json": formats.as_json,
    "list": formats.sort_or_pick,
    "talk": formats.talk,
    "unknown": formats.unknown,
    "call": tools.call,
    "no_call": tools.no_call,
}


TEXT_WEIGHT = 0.4  # of a token of text in the loss, beside 1 for a token of an answer: all of a text is learned, of a task only the answers


@dataclass
class Phase:
    steps: int
    size: int  # longest example in tokens
    far: int  # the same of "far" (facts with filler) and of one text in ten
    weights: dict  # of tasks; "text" is real text


EVERYTHING = {
    "copy": 2.5,
    "look_up": 2,
    "near": 2,
    "far": 2,
    "count": 1,
    "add": 1.5,
    "story": 0.7,
    "tell": 0.7,
    "json": 1,
    "list": 1,
    "talk": 0.2,
    "unknown": 0.3,
    "call": 3.5,
    "no_call": 0.5,
    "text": 5,
}
PHASES = [
    Phase(450, 192, 192, {"copy": 4, "look_up": 5, "near": 3, "list": 1, "count": 0.5, "json": 0.5, "text": 1.5}),
    Phase(400, 384, 384, {**EVERYTHING, "far": 1, "text": 4}),
    Phase(300, 512, 1024, EVERYTHING),
    Phase(250, 512, 4096, {**EVERYTHING, "far": 1}),
    Phase(625, 512, 8192, {**EVERYTHING, "copy": 4, "near": 3, "far": 1.5, "count": 0.5, "add": 0.7, "text": 4}),
    Phase(
        10**9,
        512,
        8192,
        {
            **EVERYTHING,
            "copy": 5,
            "look_up": 1.5,
            "near": 4,
            "far": 1.5,
            "count": 0.5,
            "add": 0.7,
            "story": 0.4,
            "tell": 0.4,
            "json": 0.7,
            "list": 0.7,
            "call": 5,
            "text": 4,
        },
    ),
]


def filler(source):
    """About n tokens of text: real documents, or unrelated generated sentences."""

    def make(n):
        if n <= 0:
            return ""
        if source.chance(0.5):
            words = int(n * 0.7)
            document = source.choice(
                corpus.documents(source.choice(["novel", "speeches", "speeches", "documentation"]), source.held_out)
            ).split(" ")
            while len(document) < words:
                document += source.choice(corpus.documents("speeches", source.held_out)).split(" ")
            start = source.randint(0, max(0, len(document) - words))
            return " ".join(document[start : start + words])
        out, length = [], 0
        while length < n:
            text = stories._make(source)[0] if source.chance(0.7) else source.choice(facts.make_facts(source, 1))[0]
            out.append(text)
            length += len(text) // 4
        return " ".join(out)

    return make


def conversation(name, source, size):
    while True:
        try:
            return facts.far(source, size, filler(source)) if name == "far" else TASKS[name](source, size)
        except NothingLeft:
            pass


def text_piece(source, tokenizer, size):
    kind = source.choice(
        ["novel", "novel", "speeches", "speeches", "speeches", "documentation", "documentation", "code"]
    )
    document = source.choice(corpus.documents(kind, source.held_out))
    start = source.randint(0, max(0, len(document) - size * 3)) if source.chance(0.8) else 0
    ids = tokenizer.encode_plain(document[start : start + size * 6])[:size]
    return ids, [TEXT_WEIGHT] * len(ids)


def encode(tokenizer, talk):
    """-> ids, and for each whether it is the model's to write."""
    ids, weights = [], []
    for text, learned in chat.render(talk):
        part = tokenizer.encode(text)
        ids += part
        weights += [1.0 if learned else 0.0] * len(part)
    return ids, weights


def example(name, source, tokenizer, size):
    while True:
        if name == "text":
            return text_piece(source, tokenizer, size)
        ids, weights = encode(tokenizer, conversation(name, source, size))
        if len(ids) <= size:
            return ids, weights


def phase_of(step):
    for phase in PHASES:
        if step < phase.steps:
            return phase
        step -= phase.steps
    raise ValueError(step)


def batches(step, tokenizer, step_tokens, batch_tokens, seed=1, held_out=False, phase=None):
    """The micro-batches of a step: (ids [b, t], weights [b, t]), padded with weight 0."""
    phase = phase or phase_of(step)
    source = Source(f"{seed} {step}", held_out)
    names, shares = zip(*phase.weights.items())
    examples, total = [], 0
    while total < step_tokens:
        name = source.random.choices(names, shares)[0]
        size = phase.size if name == "text" else source.randint(phase.size // 3, phase.size)
        if name == "far" or name == "text" and source.chance(0.1):
            size = int(
                phase.size / 3 * (3 * phase.far / phase.size) ** source.random.random()
            )  # as many short as long ones
        examples.append(example(name, source, tokenizer, size))
        total += len(examples[-1][0])
    examples.sort(key=lambda e: len(e[0]))
    out, group = [], []
    for e in examples:
        n = len(e[0])
        full = (len(group) + 1) * n > batch_tokens
        uneven = group and n > 1.25 * len(group[0][0]) + 8 and len(group) * n > batch_tokens // 3
        if group and (full or uneven):
            out.append(_padded(group, tokenizer.end_of_text))
            group = []
        group.append(e)
    out.append(_padded(group, tokenizer.end_of_text))
    return out


def _padded(group, padding):
    width = max(len(ids) for ids, _ in group)
    tokens = torch.tensor([ids + [padding] * (width - len(ids)) for ids, _ in group])
    weights = torch.tensor([w + [0.0] * (width - len(w)) for _, w in group])
    return tokens, weights


def texts_for_tokenizer(n_conversations=6000, n_documents=400):
    source = Source("tokenizer")
    for i in range(n_conversations):
        for text, _ in chat.render(conversation(source.choice([*TASKS, "tell", "call", "call", "near"]), source, 300)):
            yield from (part for part in text.split("<|im_end|>") if part)
    for kind in ("novel", "speeches", "documentation", "code"):
        documents = corpus.documents(kind, False)
        yield from random.Random(1).sample(
            documents, min(n_documents if kind != "code" else n_documents // 3, len(documents))
        )
