#!/bin/bash
# Installs for real, from this checkout: a virtual environment in PREFIX, its commands in BINDIR, and where systemd runs
# the units hyperd.socket and hyperd.service, or frakti.service where that is enabled. Run as root; run it again after an
# update.
#
#     tools/install.sh [PREFIX [BINDIR [DOCKER_SOCK]]]    "1": docker's clients find hyperd, see tools/docker-sock.sh
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${1:-/opt/hypercontainer}
bindir=${2:-/usr/local/bin}
docker_sock=${3:-}
[ -z "$docker_sock" ] || tools/docker-sock.sh check
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT

echo "install: building the wheel"
.venv/bin/python -m pip --disable-pip-version-check wheel -q --no-deps --no-build-isolation -w "$wheels" .
echo "install: into $prefix"
[ -x "$prefix/bin/python3" ] || /usr/bin/python3 -m venv "$prefix"
"$prefix/bin/python3" -m pip --disable-pip-version-check install -q --force-reinstall --no-deps "$wheels"/*.whl
"$prefix/bin/python3" -m pip --disable-pip-version-check install -q "$wheels"/*.whl
mkdir -p "$bindir"
commands=(hyperctl hyperd runv containerd-shim-hyper-v2 frakti)
ln -sf "${commands[@]/#/$prefix/bin/}" "$bindir/"
echo "install: links into it are in $bindir: ${commands[*]}"

if [ -d /run/systemd/system ] && [ "$bindir" = /usr/local/bin ]; then
    install -m 644 packaging/hyperd.service packaging/hyperd.socket packaging/frakti.service /etc/systemd/system/
    systemctl daemon-reload
    if systemctl is-enabled -q frakti.service; then
        systemctl restart frakti.service # an update: pods run on
        echo "install: frakti.service runs, a hyperd that hears a kubelet"
    else
        systemctl enable --now hyperd.socket hyperd.service
        systemctl try-restart hyperd.service # an update: virtual machines run on
        echo "install: hyperd.service is enabled and runs, hyperd.socket holds its socket"
    fi
else
    echo "install: no systemd here: hyperctl starts a hyperd when none listens"
fi
if [ -n "$docker_sock" ]; then tools/docker-sock.sh link; else tools/docker-sock.sh offer; fi
if ! ls /var/lib/hyper/kernels/*/bundle.json >/dev/null 2>&1; then
    echo "install: next, a kernel for the virtual machines: hyperctl kernel fetch"
fi
