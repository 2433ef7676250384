#!/bin/bash
# Makes this checkout ready: Debian packages, a virtual environment, the C programs, a kernel for the guests.
#
#     tools/setup.sh [test|interop|bench]    "test" adds what only the tests need, the others peers to compare with
#
# Each step says what it does, and is skipped when nothing it depends on has changed. Outside the checkout it
# installs the packages of debian-packages.txt (with "test" of debian-packages-kernel.txt too, with "interop" or "bench"
# of the list of that name besides) and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

for_tests=${1:-}
peers=
case $for_tests in interop | bench) peers=debian-packages-$for_tests.txt for_tests=test ;; esac
stamps=.cache/setup
debian=[$(dpkg --print-architecture)]
python=.venv/bin/python
steps=5
[ -z "$peers" ] || steps=6
step=0
mkdir -p "$stamps"

# One line a step: its number, its name, what there was to do.
say() { printf '[%d/%d] %s\n' "$step" "$steps" "$*"; }
note() { printf '      %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
begin() { step=$((step + 1)); }

# current NAME FILE...: has step NAME been done with these very files, in this folder?
digest_of() { { printf '%s\n' "$PWD"; cat -- "$@"; } | sha256sum | cut -d' ' -f1; }
current() { local name=$1; shift; [ "$(cat "$stamps/$name" 2>/dev/null)" = "$(digest_of "$@")" ]; }
done_with() { local name=$1; shift; digest_of "$@" >"$stamps/$name"; }

wanted_packages() {
    local lists=(debian-packages.txt)
    [ -z "$for_tests" ] || lists+=(debian-packages-kernel.txt)  # tests of the build run its tools
    sed 's/#.*//' "${lists[@]}" | sort -u | while read -r name only; do
        case $only in "" | "$for_tests" | "$debian") [ -z "$name" ] || echo "$name" ;; esac
    done
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing_packages() {
    local name
    for name in $(wanted_packages); do
        installed "$name" || echo "$name"
    done
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq "$@"; }

# Peers that come with a daemon (docker-registry) must not open ports behind the user's back.
without_services() {
    local policy=/usr/sbin/policy-rc.d status=0
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && trap "rm -f $policy" EXIT; }
    "$@" || status=$?
    return $status
}

install_packages() {
    local missing=("$@")
    [ "$(id -u)" = 0 ] || die "these packages are missing; as root: apt-get install ${missing[*]}"
    if ! apt install --simulate --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
        note "apt-get update (its lists do not know them yet)"
        apt update
    fi
    note "apt-get install ${missing[*]}"
    note "$(LC_ALL=C apt-get install --assume-no --no-install-recommends "${missing[@]}" 2>/dev/null |
        grep -E '^Need to get' || true) With what they need: a minute or two."
    if ! without_services apt install --yes --no-install-recommends "${missing[@]}" >"$stamps/apt.log" 2>&1; then
        note "again, after apt-get update (its lists may be old)"
        apt update
        without_services apt install --yes --no-install-recommends "${missing[@]}" >"$stamps/apt.log" 2>&1 ||
            { tail -n 20 "$stamps/apt.log" >&2; die "cannot install the Debian packages: see $stamps/apt.log"; }
    fi
}

debian_packages() {
    local missing
    begin
    mapfile -t missing < <(missing_packages)
    if [ ${#missing[@]} = 0 ]; then
        say "Debian packages: all $(wanted_packages | wc -l) are here"
        return
    fi
    say "Debian packages: ${#missing[@]} of $(wanted_packages | wc -l) are missing (debian-packages*.txt)"
    install_packages "${missing[@]}"
}

# The peers are nice to have: one that cannot be installed is left out of the comparison.
install_peers() {
    local name there=0 all
    begin
    mapfile -t all < <(sed -e 's/ *#.*//' -e '/^$/d' "$peers")
    for name in "${all[@]}"; do
        if installed "$name" || (install_packages "$name"); then
            there=$((there + 1))
        else
            note "$name cannot be had here: what needs it is left out"
        fi
    done
    say "peers to compare with: $there of ${#all[@]} are here ($peers)"
}

virtual_environment() {
    begin
    if [ -x $python ] && $python -m pip --version >/dev/null 2>&1; then
        say "virtual environment: .venv is here"
        return
    fi
    say "virtual environment: making .venv"
    /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "/usr/bin/python3 is too old: Python 3.11 or later is needed"
    /usr/bin/python3 -m venv --clear .venv
}

# requirements [test]: of the build, of the distribution, and for tests its "dev" extra, as pyproject.toml names them.
requirements() {
    $python - "${1:-}" <<'END'
import sys, tomllib
with open("pyproject.toml", "rb") as f:
    doc = tomllib.load(f)
print("\n".join(doc["build-system"]["requires"] + doc["project"]["dependencies"] + ["editables"]))
if sys.argv[1] == "test":
    print("\n".join(doc["project"]["optional-dependencies"]["dev"]))
END
}

python_packages() {
    local wanted=$stamps/requirements$for_tests.txt
    begin
    requirements >"$stamps/requirements.txt"
    requirements test >"$stamps/requirementstest.txt"
    if current "python$for_tests" "$wanted" .venv/pyvenv.cfg ||
        current pythontest "$stamps/requirementstest.txt" .venv/pyvenv.cfg; then
        say "Python packages: all $(wc -l <"$wanted") are here"
        return
    fi
    say "Python packages: $(wc -l <"$wanted") and what they need, from PyPI into .venv (zig is 90 MB)"
    $python -m pip --disable-pip-version-check install --progress-bar off -r "$wanted" |
        sed -un -E 's/^ *Downloading ([^ ]+)-(py[23]\.?\S*|cp3\S*)\.whl \((.* MB)\)$/      \1 (\3)/p'
    done_with "python$for_tests" "$wanted" .venv/pyvenv.cfg
}

# What the extra `libvirt` names, which is built against Debian's library.
libvirt_python() {
    local wanted=$stamps/requirementslibvirt.txt
    $python -c 'import tomllib; f = open("pyproject.toml", "rb")
print("\n".join(tomllib.load(f)["project"]["optional-dependencies"]["libvirt"]))' >"$wanted"
    if ! installed libvirt-dev; then
        note "libvirt-dev is not here: libvirt-python, and what needs it, is left out"
    elif ! current pythonlibvirt "$wanted" .venv/pyvenv.cfg; then
        note "libvirt-python, built against libvirt-dev: ten seconds"
        if $python -m pip --disable-pip-version-check install -q -r "$wanted"; then
            done_with pythonlibvirt "$wanted" .venv/pyvenv.cfg
        else
            note "libvirt-python cannot be had here: what needs it is left out"
        fi
    fi
}

programs() {
    begin
    say "programs: hyperstart, hyper-jail, hyper-tsc, hyper-memory.so, hyperctl and hyperd, from guest/ and host/"
    $python hatch_build.py | sed -u 's/^/      /'
    if ! current editable pyproject.toml hatch_build.py .venv/pyvenv.cfg || [ ! -e .venv/bin/hyperctl ]; then
        note "into .venv, editable"
        $python -m pip --disable-pip-version-check install -q --no-deps --no-build-isolation -e .
        done_with editable pyproject.toml hatch_build.py .venv/pyvenv.cfg
    fi
}

# As `hyperctl kernel fetch`, into the checkout instead of /var/lib/hyper.
fetch_kernel() {
    $python - <<'END'
import asyncio, sys
from pathlib import Path

from hypercontainer.errors import HyperError
from hypercontainer.kernel.bundle import KernelStore
from hypercontainer.kernel.debian import fetch

try:
    asyncio.run(fetch(KernelStore(Path(".cache/hyper")), lambda line: print("      " + line, flush=True)))
except HyperError as e:
    sys.exit(f"      {e}")
END
}

guest_kernel() {
    local bundle
    begin
    bundle=$(grep -ls "\"arch\": \"$(uname -m)\"" .cache/hyper/kernels/*/bundle.json | xargs -r ls -t | head -n 1 || true)
    if [ -n "$bundle" ]; then
        say "guest kernel: $(basename "$(dirname "$bundle")") is here"
        return
    fi
    say "guest kernel: Debian's package, unpacked into .cache/hyper/kernels (it is not installed)"
    if ! fetch_kernel 2>"$stamps/kernel.log"; then
        note "apt-get update (its lists are empty or old)"
        apt update
        fetch_kernel || die "cannot fetch a kernel for the guests"
    fi
}

debian_packages
[ -z "$peers" ] || install_peers
virtual_environment
python_packages
[ "${1:-}" != interop ] || libvirt_python
programs
guest_kernel
