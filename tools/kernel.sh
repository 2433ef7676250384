#!/bin/bash
# Builds a guest kernel of our own into .cache/hyper/kernels, as `hyperctl kernel build` does into /var/lib/hyper.
# Installs the packages of debian-packages-kernel.txt that are missing, and nothing else.
#
#     tools/kernel.sh [JOBS]    how many compilers at once; one a CPU when left out
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for name in $(sed 's/#.*//' debian-packages-kernel.txt); do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
done
if [ ${#missing[@]} != 0 ]; then
    echo "kernel: apt-get install ${missing[*]}"
    [ "$(id -u)" = 0 ] || { echo "kernel: run that as root first" >&2; exit 1; }
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq install --yes --no-install-recommends \
        "${missing[@]}" >/dev/null
fi
exec .venv/bin/python - "${1:-0}" <<'END'
import asyncio, sys
from pathlib import Path

from hypercontainer.errors import HyperError
from hypercontainer.kernel.build import build
from hypercontainer.kernel.bundle import KernelStore

try:
    store = KernelStore(Path(".cache/hyper").resolve())
    bundle = asyncio.run(build(store, lambda line: print("kernel: " + line, flush=True), jobs=int(sys.argv[1])))
    print(f"kernel: {bundle.name} is in {bundle.path}")
except HyperError as e:
    sys.exit(f"kernel: {e}")
except KeyboardInterrupt:
    sys.exit(130)
END
