#!/bin/bash
# Makes this checkout ready for guests of other architectures, after tools/setup.sh: QEMU for them, hyperstart, and of
# Debian a kernel and busybox of each, below .cache. This host's apt is asked, and its lists stay as they are.
#
#     tools/arch.sh [ARCHITECTURE...]
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
[ $# -gt 0 ] || set -- $($python -c '
from hypercontainer.hypervisor.qemu.machines import MACHINES
from hypercontainer.model.arch import host_name
print(*(arch for arch in MACHINES if arch != host_name()))')

tools/packages.sh debian-packages-arch.txt

for arch in "$@"; do
    $python hatch_build.py --arch "$arch"
    $python - "$arch" <<'END'
import asyncio, subprocess, sys, tempfile
from pathlib import Path

from hypercontainer.errors import HyperError
from hypercontainer.kernel.apt import foreign
from hypercontainer.kernel.bundle import KernelStore
from hypercontainer.kernel.debian import LISTS, fetch
from hypercontainer.kernel.ports import port_of

arch, package = sys.argv[1], "busybox-static"
store, target = KernelStore(Path(".cache/hyper")), Path(".cache/arch", sys.argv[1])


async def main() -> None:
    if not any(bundle.arch == arch for bundle in store.list()):
        await fetch(store, lambda line: print(line, flush=True), arch)
    if not (target / "bin/busybox").exists():
        async with store.claimed():
            apt = await foreign(port_of(arch), store.path / LISTS / port_of(arch).debian)
            target.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory() as work:
                deb = await apt.download(package, (await apt.candidate(package))[0], Path(work))
                subprocess.run(["dpkg-deb", "-x", deb, target], check=True)
    print(f"{arch}: hyperstart, a kernel and busybox are here")


try:
    asyncio.run(main())
except HyperError as e:
    sys.exit(f"arch: {e}")
END
done
