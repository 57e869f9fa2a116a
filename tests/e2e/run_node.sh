#!/usr/bin/env bash
# Installs the npm packages of FOLDER/package.json into WORK, unless they are there, and runs FOLDER/*.test.mjs.
#   run_node.sh FOLDER WORK SCRIPTED_SERVER PACKMULE MODEL.gguf [node's arguments]
set -euo pipefail
folder=$(cd "${1:?usage: run_node.sh FOLDER WORK SCRIPTED_SERVER PACKMULE MODEL.gguf}" && pwd)
work=$2
export SCRIPTED_SERVER=$3 PACKMULE=$4 MODEL=$5 SCRIPT=$folder/script.json
shift 5

mkdir -p "$work"
if ! cmp -s "$folder/package.json" "$work/installed.json"; then
  cp "$folder/package.json" "$work/package.json"
  npm install --prefix "$work" --no-audit --no-fund --no-package-lock --loglevel error
  cp "$folder/package.json" "$work/installed.json"
fi
# Modules are looked for beside the files that import them.
cp "$(dirname "$folder")/servers.mjs" "$folder"/*.mjs "$work/"
cd "$work"
exec node --test "$@" ./*.test.mjs
