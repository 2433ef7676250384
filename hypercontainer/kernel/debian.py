"""Debian's kernel as a bundle: its package is downloaded and unpacked, never installed."""

import asyncio
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from hypercontainer.kernel import vmlinuz
from hypercontainer.kernel.apt import HOST, Apt, foreign
from hypercontainer.kernel.bundle import Bundle, KernelStore
from hypercontainer.kernel.ports import Port, port_of
from hypercontainer.lib import proc
from hypercontainer.model.arch import host_name

LISTS = ".apt"  # beside the bundles: apt's lists of other architectures

# Of the package's 400 MB, what a guest of ours can ever meet. The rest drives hardware that it does not have.
KEEP = (
    "arch",  # crc32c, sha, aes by instruction
    "block",
    "crypto",
    "drivers/block",
    "drivers/char/hw_random",
    "drivers/char/virtio_console.ko",
    "drivers/md",  # device mapper, for those who want it in the guest
    "drivers/net/dummy.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/tun.ko",
    "drivers/net/veth.ko",
    "drivers/net/virtio_net.ko",
    "drivers/net/xen-netfront.ko",
    "drivers/scsi/scsi_common.ko",
    "drivers/scsi/scsi_mod.ko",
    "drivers/scsi/sd_mod.ko",
    "drivers/scsi/virtio_scsi.ko",
    "drivers/virtio",
    "fs",
    "lib",
    "net",  # nftables, ip_vs, vsock, 9p
)

Say = Callable[[str], None]


async def fetch(store: KernelStore, say: Say, arch: str = "") -> Bundle:
    """Download the newest generic kernel that this Debian offers for an architecture ("": this host's) and make it a
    bundle; one that is there is kept.

    `say` is told each step. Two fetches at once do the work once. Raises Unavailable when there is no apt here, it
    knows no kernel, or the download fails.
    """
    port = port_of(arch or host_name())
    async with store.claimed():
        apt = HOST
        if port.arch != host_name():
            say(f"listing packages of {port.debian}")
            apt = await foreign(port, store.path / LISTS / port.debian)
        package, version, size = await _newest(apt, port)
        release = package.removeprefix("linux-image-")
        name = f"{release}-{version}".replace("+", "_").replace("~", "_").replace(":", "_")[:63]
        if (store.path / name / "bundle.json").exists():
            return store.get(name)
        with store.workspace() as work:
            say(f"downloading {package} {version} ({size / 1e6:.0f} MB)")
            deb = await apt.download(package, version, work)
            say(f"unpacking {deb.name}")
            await proc.run(["dpkg-deb", "-x", deb, work / "package"], timeout_s=300)
            deb.unlink()
            say(f"extracting the kernel {release}")
            await asyncio.to_thread(_arrange, work, release)
            await proc.run(["depmod", "-b", work / "tree", release], timeout_s=60)
            os.rename(work / "tree/lib/modules" / release, work / "modules")
            shutil.rmtree(work / "tree")
            return await asyncio.to_thread(store.install, work, name=name, release=release, package_version=version)


async def _newest(apt: Apt, port: Port) -> tuple[str, str, int]:
    """Package name, version and size in bytes of the newest generic kernel; the cloud flavour lacks 9p."""
    image = re.compile(rf"Depends: (linux-image-[a-z0-9.+~-]+-{port.flavour})$", re.MULTILINE)
    package = await apt.depends(port.package, image)
    return package, *await apt.candidate(package)


def _arrange(work: Path, release: str) -> None:
    """From the unpacked `work`/package make `work`/vmlinux, `work`/vmlinuz where that is packed, and `work`/tree, which
    depmod understands."""
    package = work / "package"
    found = package / "boot" / f"vmlinuz-{release}"
    packed = (found if found.exists() else found.with_name(f"vmlinux-{release}")).read_bytes()
    image = vmlinuz.extract(packed)
    (work / "vmlinux").write_bytes(image)
    if packed != image:
        (work / "vmlinuz").write_bytes(packed)
    source = next(d for d in (package / "lib/modules" / release, package / "usr/lib/modules" / release) if d.is_dir())
    target = work / "tree/lib/modules" / release
    target.mkdir(parents=True)
    for index in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        os.rename(source / index, target / index)
    for part in KEEP:
        if (source / "kernel" / part).exists():
            (target / "kernel" / part).parent.mkdir(parents=True, exist_ok=True)
            os.rename(source / "kernel" / part, target / "kernel" / part)
    shutil.rmtree(package)
