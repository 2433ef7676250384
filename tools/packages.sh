#!/bin/bash
# Installs the packages of a list that are missing, and nothing else.
#
#     tools/packages.sh FILE    one of debian-packages-*.txt
set -euo pipefail

missing=()
for name in $(sed 's/#.*//' "$1"); do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
done
[ ${#missing[@]} != 0 ] || exit 0
echo "apt-get install ${missing[*]}"
[ "$(id -u)" = 0 ] || { echo "packages: run that as root first" >&2; exit 1; }

apt() { DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq "$@"; }
wanted() { apt install --yes --no-install-recommends "${missing[@]}" >/dev/null; }
wanted || { apt update && wanted; }  # its lists may be old
