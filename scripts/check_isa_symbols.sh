#!/bin/sh
# check_isa_symbols.sh NM OBJECT...: fails when an object compiled for an instruction set defines a weak or
# unique symbol.
#
# The linker keeps one copy of such a symbol (an inline function, a template of external linkage), perhaps this
# one, and baseline code would then run instructions that the processor may lack. DW.ref.* are no code: g++ keeps
# pointers to the exception handler there in unoptimised builds.
set -eu
nm=$1
shift
[ $# -gt 0 ] || { echo "check_isa_symbols.sh: no objects given" >&2; exit 2; }
symbols=$("$nm" --demangle --defined-only --print-file-name "$@")
found=$(echo "$symbols" | grep -E '^[^:]*: *[0-9a-fA-F]* [WVu] ' | grep -v ' V DW\.ref\.' || true)
if [ -n "$found" ]; then
  echo "weak or unique symbols in ISA objects (expected none): put the code into an anonymous namespace" >&2
  echo "$found" >&2
  exit 1
fi
echo "$# objects, no weak or unique symbols"
