#!/bin/bash
# Makes a minimal Debian 12 with more packages in a new folder, from where this machine has its own packages.
#
#     tools/debian-root.sh FOLDER PACKAGE[,PACKAGE]... [ARCHITECTURE]
#
# As root, on a Debian with apt; mmdebstrap is installed where it is missing, and for an architecture other than this
# machine's QEMU's emulation of its programs, which the kernel is told of. Whoever calls removes the folder.
set -euo pipefail

apt() { DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq "$@"; }

# Where packages come from here, and how they are reached.
sources() { find /etc/apt -name '*.list' -o -name '*.sources' | sort; }
options() { apt-config dump | grep -E '^Acquire::' | grep -vE '^Acquire::(IndexTargets|GzipIndexes|Languages)' || true; }

# need PROGRAM PACKAGE...
need() {
    [ ! -x "$(command -v "$1")" ] || return 0
    apt install --yes --no-install-recommends "${@:2}" >/dev/null ||
        { apt update && apt install --yes --no-install-recommends "${@:2}" >/dev/null; }
}

# The kernel starts QEMU for another architecture's programs.
emulate() {
    local kinds=/proc/sys/fs/binfmt_misc
    [ -e $kinds/register ] || mount -t binfmt_misc binfmt_misc $kinds
    need update-binfmts binfmt-support
    need qemu-aarch64-static qemu-user-static
    need arch-test arch-test
    update-binfmts --import
    update-binfmts --enable
    arch-test "$1" >/dev/null || { echo "debian-root: this kernel runs no programs of $1, by QEMU either" >&2; exit 1; }
}

arch=${3:-$(dpkg --print-architecture)}
need mmdebstrap mmdebstrap
[ "$arch" = "$(dpkg --print-architecture)" ] || emulate "$arch"
mapfile -t from < <(sources)
conf=$(mktemp)
trap 'rm -f "$conf"' EXIT
options >"$conf"
mmdebstrap --quiet --variant=minbase --architectures="$arch" --include="${2:?there is no PACKAGE}" --aptopt="$conf" \
    bookworm "${1:?there is no FOLDER}" "${from[@]}"
