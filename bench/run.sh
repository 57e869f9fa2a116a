#!/usr/bin/env bash
# Speed on a file of the true widths: makes it if it is not there (8 layers, 8.6 GB, under build/), then measures how
# long it takes to open and how fast it prefills and decodes. Arguments go to `packmule bench`.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=build/release/bin
model=build/synthetic-8-layers.gguf

if [ ! -f "$model" ]; then
  free_kib=$(df -k --output=avail build | tail -1)
  if [ "$free_kib" -lt $((9 * 1024 * 1024)) ]; then
    echo "bench/run.sh: $model needs 9 GB of disk, $((free_kib / 1024 / 1024)) GB are free" >&2
    exit 1
  fi
  "$bin/packmule_make_synthetic" "$model"
fi
cat "$model" >/dev/null  # into the page cache: the disk is not what is measured

echo "opening the file and answering with one token:"
TIMEFORMAT='%R s'
time "$bin/packmule" run -m "$model" --no-chat -p "a" -n 1 >/dev/null 2>&1
"$bin/packmule" bench -m "$model" -p 512,2048 -n 32 -r 3 "$@"
