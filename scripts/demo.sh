#!/usr/bin/env bash
# The main job in miniature: open a GGUF file, fill in the chat template, generate, stream.
set -euo pipefail
cd "$(dirname "$0")/.."
model=tests/data/golden/tinyC-Q4_K_M.gguf
packmule=build/release/bin/packmule

cat <<TEXT

This model ($model) has the architecture of Qwen3-Next, but only 4 layers and
random weights: what it writes means nothing. It shows that everything between the file and the
text works, and how fast this machine does it. To talk to the real model, see "The real model" in README.md.

\$ packmule run -m $model -p "Why does a mule carry more than a horse?" -n 64 --seed 7
TEXT
exec "$packmule" run -m "$model" -p "Why does a mule carry more than a horse?" -n 64 --seed 7
