#!/usr/bin/env bash
# Installs the Debian 12 packages that are missing, as root or through sudo. Does nothing when all are there.
#   scripts/setup.sh          what the build, the demo and the tests need
#   scripts/setup.sh fuzz     and clang 19 with its sanitizer run-time for the fuzz targets
#   scripts/setup.sh emulated and the header library that computes AVX-512 by AVX2
set -euo pipefail

packages=(
  # build
  g++ cmake ninja-build ccache mold pkg-config
  # libraries
  libboost1.81-dev libcli11-dev libedit-dev libexpected-dev libfmt-dev libicu-dev libpcre2-dev libspdlog-dev
  libssl-dev nlohmann-json3-dev
  # graphics devices: headers, loader at run time, shader compiler
  glslc libvulkan1 libvulkan-dev libvulkan-volk-dev
  # run time: chat templates are rendered by Jinja2 itself
  python3 python3-jinja2
  # tests and benchmarks
  libbenchmark-dev libgmock-dev libgtest-dev openssl python3-numpy
  # lavapipe, a Vulkan device on the processor, and the layer that checks its use
  mesa-vulkan-drivers vulkan-validationlayers
)
# Clients from npm are part of the tests. Node.js need not come from Debian.
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
case "${1:-}" in
  fuzz) packages+=(clang-19 libclang-rt-19-dev) ;;
  emulated) packages+=(libsimde-dev) ;;
esac

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "packmule: installing missing Debian packages: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "packmule: not root and no sudo here; as root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
