#!/usr/bin/env bash
# Builds every fuzz target (clang 19, ASan, UBSan) and runs each for SECONDS, starting from a copy of its corpus in
# the build folder. Fails on the first finding, which is left in build/fuzz/findings.
#   scripts/fuzz.sh SECONDS [TARGET...]       TARGET: gguf, ...; all of them by default
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: scripts/fuzz.sh SECONDS [TARGET...]}
shift
case $seconds in *[!0-9]* | '') echo "fuzz.sh: SECONDS must be a whole number, found '$seconds'" >&2; exit 2 ;; esac

build=build/fuzz
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target fuzzers
if [ $# -eq 0 ]; then
  for fuzzer in "$build"/bin/*_fuzzer; do
    name=$(basename "$fuzzer" _fuzzer)
    set -- "$@" "$name"
  done
fi

mkdir -p "$build/findings"
for name in "$@"; do
  [ -x "$build/bin/${name}_fuzzer" ] || { echo "fuzz.sh: there is no target '$name'" >&2; exit 2; }
  corpus=$build/corpus/$name
  mkdir -p "$corpus"
  if [ -d "tests/fuzz/corpus/$name" ]; then cp -n "tests/fuzz/corpus/$name"/* "$corpus"/; fi
  options=(-max_total_time="$seconds" -timeout=10 -max_len=65536 -print_final_stats=1
           -artifact_prefix="$build/findings/$name-")
  if [ -f "tests/fuzz/$name.dict" ]; then options+=(-dict="tests/fuzz/$name.dict"); fi
  log=$build/findings/$name.log
  if ! "$build/bin/${name}_fuzzer" "${options[@]}" "$corpus" >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    echo "fuzz.sh: $name found something; the input is in $build/findings" >&2
    exit 1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  echo "fuzz.sh: $name: $runs inputs in $seconds s, nothing found"
done
