#!/bin/bash
# Makes a minimal Debian 12 with more packages in a new folder, from where this machine has its own packages.
#
#     tools/debian-root.sh FOLDER PACKAGE[,PACKAGE]...
#
# As root, on a Debian with apt; mmdebstrap is installed where it is missing. Whoever calls removes the folder.
set -euo pipefail

apt() { DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq "$@"; }

# Where packages come from here, and how they are reached.
sources() { find /etc/apt -name '*.list' -o -name '*.sources' | sort; }
options() { apt-config dump | grep -E '^Acquire::' | grep -vE '^Acquire::(IndexTargets|GzipIndexes|Languages)' || true; }

[ -x "$(command -v mmdebstrap)" ] || apt install --yes --no-install-recommends mmdebstrap >/dev/null ||
    { apt update && apt install --yes --no-install-recommends mmdebstrap >/dev/null; }
mapfile -t from < <(sources)
conf=$(mktemp)
trap 'rm -f "$conf"' EXIT
options >"$conf"
mmdebstrap --quiet --variant=minbase --include="${2:?there is no PACKAGE}" --aptopt="$conf" \
    bookworm "${1:?there is no FOLDER}" "${from[@]}"
