#!/usr/bin/env python3
"""Holds the folders of src/ to their order: a file may include its own folder and the folders listed for it.

Prints every include that goes up or sideways, and exits with 1 if there is one.
"""
import pathlib
import re
import sys

# Direct permissions; what a folder may use, those it may use may use is not implied.
ALLOWED = {
    "base": set(),
    "quant": {"base"},
    "gguf": {"base", "quant"},
    "placement": {"base", "quant", "gguf"},
    "kernels": {"base", "quant"},
    "calibration": {"base", "quant", "kernels", "placement", "vulkan"},
    "vulkan": {"base", "quant"},
    "cache": {"base", "quant"},
    "runtime": {"base", "quant", "gguf", "cache", "vulkan"},
    "model": {"base", "quant", "gguf", "kernels", "cache", "runtime", "vulkan"},
    "text": {"base", "gguf"},
    "chat": {"base"},
    "sampling": {"base"},
    "grammar": {"base", "sampling", "text"},
    "engine": {"base", "quant", "gguf", "kernels", "model", "cache", "text", "sampling"},
    "api": {"base", "engine", "chat", "text", "sampling", "grammar"},
    "server": {"base", "api"},
    "cli": {"base", "quant", "gguf", "kernels", "cache", "model", "text", "chat", "sampling", "engine", "api",
            "server", "placement", "calibration", "vulkan", "runtime"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
BOOST = re.compile(r"^\s*#\s*include\s+<boost/")


def problems(source_dir: pathlib.Path):
    for path in sorted(source_dir.rglob("*")):
        if path.suffix not in {".h", ".cpp"}:
            continue
        relative = path.relative_to(source_dir)
        folder = relative.parts[0]
        if folder not in ALLOWED:
            yield f"{relative}: folder {folder}/ has no row in scripts/check_includes.py"
            continue
        is_test = path.stem.endswith("_test")  # x_test.cpp and x_for_test.h
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            where = f"src/{relative}:{number}"
            if BOOST.match(line) and folder != "server":
                yield f"{where}: only server/ may include Boost"
            match = INCLUDE.match(line)
            if not match:
                continue
            target = match.group(1)
            top = target.split("/")[0]
            if not (source_dir / target).exists():
                if not (is_test and target.startswith("tests/")) and not (path.parent / target).exists():
                    yield f'{where}: "{target}" is not a path from src/'
                continue
            # A test may look at what its own part is built for, not at what is built on it.
            if top != folder and top not in ALLOWED[folder] and not is_test:
                yield f"{where}: {folder}/ may not include {top}/ (\"{target}\")"


def main() -> int:
    found = list(problems(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "src")))
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
