#!/usr/bin/python3
"""tokenizer.py against packmule's own tokenizer, through packmule serve. models/test_tokenizer.py MODEL.gguf

Text is generated conversations, held-out documents, and the strings of tests/data/tokenizer if they are there.
"""
import http.client
import json
import sys
import unicodedata
from importlib.machinery import SourceFileLoader
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import chat
import corpus
import data
from tasks.source import Source
from tokenizer import Tokenizer

evaluate = SourceFileLoader("evaluate", str(HERE / "evaluate")).load_module()


def strings():
    source = Source("test of the tokenizer")
    for name in data.TASKS:
        for _ in range(10):
            yield "".join(text for text, _ in chat.render(data.conversation(name, source, 300)))
    for kind in corpus.SOURCES:
        yield from (document[:3000] for document in corpus.documents(kind, True)[:8])
    cases = HERE.parent / "tests" / "data" / "tokenizer" / "cases.jsonl"
    if cases.exists():
        yield from (json.loads(line)["text"] for line in cases.open())


def main():
    tokenizer, n = Tokenizer(), 0
    with evaluate.Server(evaluate.BUILD / "release" / "bin" / "packmule", sys.argv[1], "f16") as server:
        for text in strings():
            # packmule brings text to NFC first, as the Qwen tokenizer does; the generators write nothing else.
            if unicodedata.normalize("NFC", text) != text or len(text) > 5000:
                continue
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request(
                "POST",
                "/tokenize",
                json.dumps({"content": text, "parse_special": True}),
                {"Content-Type": "application/json"},
            )
            found = json.loads(connection.getresponse().read())["tokens"]
            assert found == tokenizer.encode(text), text
            assert tokenizer.decode(found) == text
            n += 1
    print(f"{n} strings: the same ids")


if __name__ == "__main__":
    main()
