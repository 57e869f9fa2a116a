#!/usr/bin/env bash
# The main job in miniature: open a GGUF file, fill in the chat template, generate, stream.
# demo.sh [MODEL.gguf]: with the small trained model of this repository unless another is named.
set -euo pipefail
cd "$(dirname "$0")/.."
packmule=build/release/bin/packmule
model=${1:-models/mulelet.gguf}

cat <<TEXT

This model ($model) has the architecture of Qwen3-Next and 16 million parameters, a
five-thousandth of the real one. It was trained from nothing by the scripts in models/ to remember what it is
told, to copy, and to call tools; models/README.md says how well it does. To talk to the real model, see
"The real model" in README.md.
TEXT

fact="Anna lives in Oslo. The code of the red box is 4821. Paul has a mule. What is the code of the red box?"
echo
echo "\$ packmule run -m $model --temp 0 -n 64 -p '$fact'"
"$packmule" run -m "$model" --temp 0 -n 64 -p "$fact"

tools='{"tools": [{"type": "function", "function": {"name": "get_weather", "description": "Get the weather forecast of a city", "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "City"}, "days": {"type": "integer", "description": "Days"}}, "required": ["city", "days"]}}}]}'
question="Give me the forecast for Lisbon for 3 days."
echo
echo "\$ packmule run -m $model --temp 0 -n 96 --chat-template-kwargs '$tools' -p '$question'"
"$packmule" run -m "$model" --temp 0 -n 96 --chat-template-kwargs "$tools" -p "$question"
