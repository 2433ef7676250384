#!/bin/bash
# Builds a guest kernel of our own into .cache/hyper/kernels, as `hyperctl kernel build` does into /var/lib/hyper.
# Installs the packages of debian-packages-kernel.txt that are missing, and nothing else.
#
#     tools/kernel.sh [JOBS]    how many compilers at once; one a CPU when left out
set -euo pipefail
cd "$(dirname "$0")/.."

tools/packages.sh debian-packages-kernel.txt
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
