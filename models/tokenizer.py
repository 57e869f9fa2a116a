#!/usr/bin/python3
"""Byte-level BPE with the qwen2 pre-tokenizer. models/tokenizer.py trains tokenizer.json anew.

Special tokens are those of Qwen3, in its order and with its GGUF types. A merge is counted once per distinct
split of the text, weighed by how often the split occurs, and only the splits that hold it are touched.
"""
import json
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

import regex

HERE = Path(__file__).resolve().parent
SPLIT = regex.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>"
).split()
CALLS = ["<tool_call>", "</tool_call>"]
CODE = "<|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>".split()
THOUGHT = ["<tool_response>", "</tool_response>", "<think>", "</think>"]
SPECIAL = CONTROL + CALLS + CODE + THOUGHT
NORMAL_TYPE, CONTROL_TYPE, USER_TYPE = 1, 3, 4
VOCABULARY = 4096


def byte_letters():
    """Each byte as one printable character, as GPT-2 writes them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


LETTERS = byte_letters()
BYTES = {letter: b for b, letter in LETTERS.items()}


class Tokenizer:
    def __init__(self, path=HERE / "tokenizer.json"):
        data = json.loads(Path(path).read_text())
        self.tokens = data["tokens"]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.ranks = {tuple(merge.split(" ")): i for i, merge in enumerate(data["merges"])}
        self.special = {token: self.ids[token] for token in SPECIAL}
        self.end_of_text, self.end_of_turn = self.ids["<|endoftext|>"], self.ids["<|im_end|>"]
        self._at_special = regex.compile("(" + "|".join(map(regex.escape, SPECIAL)) + ")")
        self._split = lru_cache(200_000)(self._merge)

    def _merge(self, text):
        parts = [LETTERS[b] for b in text.encode()]
        while len(parts) > 1:
            rank, at = min((self.ranks.get(pair, 1 << 30), i) for i, pair in enumerate(zip(parts, parts[1:])))
            if rank == 1 << 30:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return tuple(self.ids[p] for p in parts)

    def encode_plain(self, text):
        """Nothing in the text is taken for a special token."""
        return [i for piece in SPLIT.findall(text) for i in self._split(piece)]

    def encode(self, text):
        out = []
        for i, part in enumerate(self._at_special.split(text)):
            out.extend([self.special[part]] if i % 2 else self.encode_plain(part))
        return out

    def decode(self, ids):
        out = b""
        for i in ids:
            token = self.tokens[i]
            out += token.encode() if token in self.special else bytes(BYTES[c] for c in token)
        return out.decode(errors="replace")


def learn(counts, n_merges):
    """counts: how often each split occurs. Ties go to the pair that sorts first, so that a rerun gives the same."""
    words = [[LETTERS[b] for b in text.encode()] for text in counts]
    weights = list(counts.values())
    pairs, where = Counter(), defaultdict(set)
    for w, parts in enumerate(words):
        for pair in zip(parts, parts[1:]):
            pairs[pair] += weights[w]
            where[pair].add(w)
    merges = []
    while len(merges) < n_merges:
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        for w in where.pop(best):
            parts, weight = words[w], weights[w]
            for pair in zip(parts, parts[1:]):
                pairs[pair] -= weight
            i = 0
            while i + 1 < len(parts):
                if (parts[i], parts[i + 1]) == best:
                    parts[i : i + 2] = [parts[i] + parts[i + 1]]
                i += 1
            for pair in zip(parts, parts[1:]):
                pairs[pair] += weight
                where[pair].add(w)
        pairs.pop(best, None)
    return merges


def main():
    import data

    counts = Counter()
    for text in data.texts_for_tokenizer():
        counts.update(SPLIT.findall(text))
    counts = {text: n for text, n in counts.items() if n > 2}
    merges = learn(counts, VOCABULARY - 256 - len(SPECIAL))
    tokens = [LETTERS[b] for b in sorted(LETTERS)] + [a + b for a, b in merges] + SPECIAL
    types = [NORMAL_TYPE] * (len(tokens) - len(SPECIAL)) + [
        USER_TYPE if t in CALLS + THOUGHT else CONTROL_TYPE for t in SPECIAL
    ]
    result = {"tokens": tokens, "types": types, "merges": [f"{a} {b}" for a, b in merges]}
    (HERE / "tokenizer.json").write_text(json.dumps(result, ensure_ascii=False, indent=0) + "\n")
    print(f"{len(tokens)} tokens from {len(counts)} distinct splits")


if __name__ == "__main__":
    main()
