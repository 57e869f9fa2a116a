#!/usr/bin/env bash
# Runs a test program under an emulated processor with AVX-512, for machines that have none.
#
#   scripts/emulate_avx512.sh PROGRAM [ARGUMENT ...]
#
# Boots Debian's own kernel in Bochs (a full emulator of the instruction set, AVX-512 and VNNI included) with an initial
# RAM disk that holds the program and the libraries it needs, prints what the program prints, and exits as it does.
# Files the program reads at run time are added by EMULATE_FILES="dir/a dir/b" (paths kept). Emulation runs at some
# 50 million instructions a second: choose small tests. EMULATE_CPU and EMULATE_MEGS change the machine.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 PROGRAM [ARGUMENT ...]" >&2; exit 2; }

packages=(bochs bochsbios vgabios bochs-term linux-image-amd64 isolinux syslinux-common genisoimage busybox-static cpio)
for package in "${packages[@]}"; do
  dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
    { echo "emulate_avx512: missing Debian package, as root: apt-get install --no-install-recommends ${packages[*]}" >&2; exit 2; }
done

program=$(realpath "$1"); shift
kernel=$(ls /boot/vmlinuz-* | sort -V | tail -1)
work=$(mktemp -d)
emulator=
trap '[ -z "$emulator" ] || kill "$emulator" 2>/dev/null || true; rm -rf "$work"' EXIT

root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,tmp,lib,lib64} "$root$(dirname "$program")"
cp /bin/busybox "$root/bin/"
cp "$program" "$root$program"
for file in $(ldd "$program" | grep -oE '/[^ ]+') ${EMULATE_FILES:-}; do
  mkdir -p "$root$(dirname "$(realpath -s "$file")")"
  cp -rL "$file" "$root$(realpath -s "$file")"
done
{
  echo '#!/bin/busybox sh'
  echo '/bin/busybox mount -t proc proc /proc; /bin/busybox mount -t devtmpfs dev /dev; /bin/busybox mount -t sysfs sys /sys'
  printf 'exec >/dev/ttyS0 2>&1\nexport HOME=/tmp TERM=dumb\ncd %q\n' "$PWD"
  echo 'if ! /bin/busybox grep -q avx512vl /proc/cpuinfo; then echo "the emulated kernel offers no AVX-512"'
  echo '  echo "EMULATION-ENDS 3"; /bin/busybox poweroff -f; fi'
  printf 'echo EMULATION-STARTS; %q' "$program"; printf ' %q' "$@"; echo
  echo 'echo "EMULATION-ENDS $?"; /bin/busybox poweroff -f'
} > "$root/init"
mkdir -p "$root$PWD"
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) > "$work/initrd"

mkdir -p "$work/iso/isolinux"
cp "$kernel" "$work/iso/vmlinuz"; cp "$work/initrd" "$work/iso/initrd"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/iso/isolinux/"
# Bochs tells the size of the compacted XSAVE area wrong. The kernel notices and forbids XSAVE, and AVX with it, unless
# it is told not to use the compacted form.
cat > "$work/iso/isolinux/isolinux.cfg" <<CFG
default test
prompt 0
label test
  kernel /vmlinuz
  append initrd=/initrd console=ttyS0 earlyprintk=serial panic=1 mitigations=off nokaslr random.trust_cpu=on clearcpuid=xsavec
CFG
genisoimage -quiet -o "$work/boot.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 \
  -boot-info-table "$work/iso" 2>/dev/null
cat > "$work/bochsrc" <<CFG
cpu: model=${EMULATE_CPU:-corei7_skylake_x}, count=1, ips=200000000, reset_on_triple_fault=0
megs: ${EMULATE_MEGS:-1024}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
display_library: term
ata0-master: type=cdrom, path=$work/boot.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial
clock: sync=none
log: $work/log
panic: action=fatal
sound: driver=dummy
speaker: enabled=0
CFG
touch "$work/serial"
echo c > "$work/debugger"  # Debian builds Bochs with its debugger, which waits to be told to continue
# The text display wants a terminal; `script` lends one whose output nobody reads.
TERM=xterm script -qec "stty rows 30 cols 100; exec bochs -q -f $work/bochsrc -rc $work/debugger" /dev/null </dev/null >/dev/null 2>&1 &
emulator=$!
tail -n +1 -f --pid=$emulator "$work/serial" | tr -d '\r' | tee "$work/output" | sed -n '/^EMULATION-STARTS/,/^EMULATION-ENDS/{/^EMULATION-/!p}' &
while kill -0 $emulator 2>/dev/null && ! grep -q '^EMULATION-ENDS' "$work/output" 2>/dev/null; do sleep 1; done
sleep 1
status=$(sed -n 's/^EMULATION-ENDS \([0-9]*\).*/\1/p' "$work/output")
if [ -z "$status" ]; then
  echo "emulate_avx512: the emulated machine did not finish; its last words:" >&2
  tail -20 "$work/output" >&2; tail -5 "$work/log" >&2
  exit 2
fi
exit "$status"
