"""Debian's kernel as a bundle: its package is downloaded and unpacked, never installed."""

import asyncio
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from hypercontainer.errors import Unavailable, reason
from hypercontainer.kernel import vmlinuz
from hypercontainer.kernel.bundle import Bundle, KernelStore
from hypercontainer.lib import proc
from hypercontainer.lib.proc import CommandFailed

META = "linux-image-amd64"  # depends on the newest generic kernel; the cloud flavour lacks 9p
IMAGE = re.compile(r"Depends: (linux-image-[a-z0-9.+~-]+-amd64)$", re.MULTILINE)
VERSION = re.compile(r"^Version: (\S+)$", re.MULTILINE)
SIZE = re.compile(r"^Size: (\d+)$", re.MULTILINE)

HINT = "run `apt-get update`; docs/howto/kernel.md says how to use a kernel from elsewhere"

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


async def fetch(store: KernelStore, say: Say) -> Bundle:
    """Download the newest generic kernel that this Debian offers and make it a bundle; one that is there is kept.

    `say` is told each step. Two fetches at once do the work once. Raises Unavailable when there is no apt here, it
    knows no kernel, or the download fails.
    """
    package, version, size = await _newest()
    name = (
        f"{package.removeprefix('linux-image-')}-{version}".replace("+", "_").replace("~", "_").replace(":", "_")[:63]
    )
    async with store.claimed():
        if (store.path / name / "bundle.json").exists():
            return store.get(name)
        with store.workspace() as work:
            say(f"downloading {package} {version} ({size / 1e6:.0f} MB)")
            deb = await download(package, version, work)
            say(f"unpacking {deb.name}")
            await proc.run(["dpkg-deb", "-x", deb, work / "package"], timeout_s=300)
            deb.unlink()
            release = package.removeprefix("linux-image-")
            say(f"extracting the kernel {release}")
            await asyncio.to_thread(_arrange, work, release)
            await proc.run(["depmod", "-b", work / "tree", release], timeout_s=60)
            os.rename(work / "tree/lib/modules" / release, work / "modules")
            shutil.rmtree(work / "tree")
            return await asyncio.to_thread(store.install, work, name=name, release=release, package_version=version)


async def _newest() -> tuple[str, str, int]:
    """Package name, version and size in bytes of the newest generic kernel."""
    try:
        found = IMAGE.search((await proc.run(["apt-cache", "depends", META], timeout_s=60)).stdout.decode())
    except CommandFailed as e:
        raise Unavailable(f"cannot find a kernel to fetch: {reason(e)}: {HINT}") from e
    if not found:
        raise Unavailable(f"cannot find a kernel to fetch: apt knows no {META}: {HINT}")
    return found[1], *await candidate(found[1])


async def candidate(package: str) -> tuple[str, int]:
    """Version and size in bytes of `package` as apt would install it."""
    try:
        shown = (await proc.run(["apt-cache", "show", "--no-all-versions", package], timeout_s=60)).stdout.decode()
    except CommandFailed as e:
        raise Unavailable(f"cannot find {package}: {reason(e)}: {HINT}") from e
    version, size = VERSION.search(shown), SIZE.search(shown)
    if not version or not size:
        raise Unavailable(f"cannot find {package}: apt says nothing of it: {HINT}")
    return version[1], int(size[1])


async def download(package: str, version: str, work: Path) -> Path:
    """apt checks what it downloads against the signed index; as root it needs no lock and installs nothing.

    Its sandbox user could not write into our private folder, so apt would warn and do without: say so instead."""
    argv = ["apt-get", "download", "-o", "APT::Sandbox::User=root", f"{package}={version}"]
    try:
        await proc.run(argv, timeout_s=1800, cwd=work)
    except CommandFailed as e:
        raise Unavailable(f"cannot download {package} {version}: {e.stderr.strip()[-300:]}") from e
    return next(work.glob("*.deb"))


def _arrange(work: Path, release: str) -> None:
    """From the unpacked `work`/package make `work`/vmlinux and `work`/tree, which depmod understands."""
    package = work / "package"
    elf = vmlinuz.extract((package / "boot" / f"vmlinuz-{release}").read_bytes())
    (work / "vmlinux").write_bytes(elf)
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
