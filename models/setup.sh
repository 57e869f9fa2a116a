#!/usr/bin/env bash
# Installs what training and evaluation need beyond scripts/setup.sh: PyTorch, the texts, plotting.
set -euo pipefail

packages=(
  python3-torch python3-numpy python3-regex python3-jinja2 python3-matplotlib gcc npm
  libopenblas0-pthread  # without it PyTorch multiplies matrices at a thirtieth of the speed
  python3.11-doc        # text: the documentation
)
missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] && continue
  [ "$package" = npm ] && command -v npm >/dev/null && continue
  missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "packmule models: installing missing Debian packages: ${missing[*]}"
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
