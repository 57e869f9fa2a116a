#!/usr/bin/env bash
# Everything from nothing: packages, text, tokenizer (kept in the repository), training. Goes on from the last
# checkpoint. Arguments are those of train.py.
set -euo pipefail
cd "$(dirname "$0")/.."
models/setup.sh
[ -f models/tokenizer.json ] || models/tokenizer.py
exec models/train.py "$@"
