"""A kernel of our own: Debian's source package, configured by our fragments, compiled, made a bundle.

Nothing is installed: the source is downloaded and unpacked below the store, in `.build`, which is gone afterwards.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from hypercontainer.errors import AlreadyExists, Exhausted, HyperError, reason
from hypercontainer.kernel import apt, config, toolchain
from hypercontainer.kernel.bundle import BUILD, BUILD_LOCK, Bundle, KernelStore
from hypercontainer.kernel.config import Option
from hypercontainer.kernel.toolchain import Make, Say
from hypercontainer.lib import proc
from hypercontainer.lib.proc import CommandFailed
from hypercontainer.model.ids import MAX_LABEL, check_name

SOURCE = "linux-source-6.1"  # the one that the fragments are written for
LOCALVERSION = "-hyper"  # uname -r ends so
ROOM = 3 << 30  # bytes: the source takes 1.5 GB, what is compiled 0.4 GB
CONFIGURE_S, COMPILE_S = 300.0, 3 * 3600.0  # ten minutes on two idle cores; busy ones take longer
UNPACK_S = 900.0
LOG = ".build.log"  # of the last build, beside the bundles
BUNDLE = "bundle"  # in the folder of a build: what becomes the bundle
GPU = "*/drivers/gpu/drm/amd/include"  # 300 MB of register names


async def build(store: KernelStore, say: Say, *, name: str = "", jobs: int = 0) -> Bundle:
    """Build the kernel that the fragments ask for; one that was built of the same things already is kept.

    `name` "" is invented from the version. `jobs` 0 is one a CPU. `say` is told each step. Two at once do the work
    once. Raises Unavailable when tools are missing or nothing can be downloaded, InvalidInput when an option cannot
    be had, Exhausted, TimedOut, and HyperError with the log's tail when make fails. Cancelled, nothing is left.
    """
    if name:
        check_name("kernel", name, MAX_LABEL)
    options = config.fragments()
    toolchain.check_tools()
    version, size = await apt.HOST.candidate(SOURCE)
    key = source_key(version, options, await toolchain.compiler_version())
    async with store.claimed(BUILD_LOCK):
        if bundle := existing(store, name, key):
            return bundle
        check_room(store.path)
        async with _folder(store) as work:
            say(f"downloading {SOURCE} {version} ({size / 1e6:.0f} MB)")
            tree = await _unpack(await apt.HOST.download(SOURCE, version, work), work, say)
            make = Make(tree, work / "obj", store.path / LOG, jobs=jobs or os.cpu_count() or 1, say=say)
            make.log.unlink(missing_ok=True)
            release = await _compile(make, options, work / BUNDLE)
            async with store.claimed():
                named = name or f"hyper-{release.removesuffix(LOCALVERSION)}-{key[:8]}"
                return await asyncio.to_thread(
                    store.install, work / BUNDLE, name=named, release=release, package_version=version, source=key
                )


def source_key(version: str, options: Sequence[Option], compiler: str) -> str:
    """What the kernel depends on, as one word."""
    return hashlib.sha256(f"1\n{version}\n{compiler}\n{config.merged(options)}".encode()).hexdigest()


def existing(store: KernelStore, name: str, key: str) -> Bundle | None:
    """The bundle that this build would make. AlreadyExists when another has its name."""
    bundles = store.list()
    if name and any(bundle.name == name and bundle.source != key for bundle in bundles):
        raise AlreadyExists(f"cannot build kernel {name}: there is another one of that name", "kernel", name)
    return next((b for b in bundles if b.source == key and name in ("", b.name)), None)


def check_room(path: Path) -> None:
    free = shutil.disk_usage(path).free
    if free < ROOM:
        raise Exhausted(f"cannot build a kernel in {path}: it takes {ROOM / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")


async def _unpack(deb: Path, work: Path, say: Say) -> Path:
    """The source tree inside the package."""
    say(f"unpacking {deb.name}")
    leash = toolchain.leash()
    try:
        await proc.run([*leash, "dpkg-deb", "-x", deb, work / "package"], timeout_s=UNPACK_S)
        deb.unlink()
        archive = work / "package/usr/src" / f"{SOURCE}.tar.xz"
        await proc.run([*leash, "tar", "-xJf", archive, "-C", work, f"--exclude={GPU}"], timeout_s=UNPACK_S)
    except CommandFailed as e:
        raise HyperError(f"cannot unpack the kernel's source: {reason(e)}") from e
    await asyncio.to_thread(shutil.rmtree, work / "package")
    return work / SOURCE


async def _compile(make: Make, options: Sequence[Option], bundle: Path) -> str:
    """Fill the folder `bundle`; return the kernel's release."""
    make.say(f"configuring {len(options)} options")
    make.output.mkdir()
    wanted = make.output / "all.config"
    wanted.write_text(config.merged(options))
    await make.run("allnoconfig", timeout_s=CONFIGURE_S, env={"KCONFIG_ALLCONFIG": str(wanted)})
    config.check(options, config.parse((make.output / ".config").read_text()))
    make.say(f"compiling, {make.jobs} at a time")
    local = f"LOCALVERSION={LOCALVERSION}"
    await make.run(local, "vmlinux", timeout_s=COMPILE_S, step="compiling")
    modules = bundle / "modules"
    modules.mkdir(parents=True)
    shutil.copy(make.output / "modules.builtin", modules)
    for index in ("dep", "alias", "softdep"):  # as depmod leaves them when there is no module
        (modules / f"modules.{index}").touch()
    await proc.run(
        ["strip", "--strip-all", "-o", bundle / "vmlinux", make.output / "vmlinux"],
        timeout_s=120,
        env=toolchain.environment(),
    )
    return (make.output / "include/config/kernel.release").read_text().strip()


@asynccontextmanager
async def _folder(store: KernelStore) -> AsyncIterator[Path]:
    """The folder of the build under way, private, gone afterwards; the caller holds the build's lock."""
    path = store.path / BUILD
    await asyncio.to_thread(_remove, path)
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        # killed compilers may write on for a moment: gone from its name first, so that nobody finds half of it
        for _ in range(20):
            await asyncio.to_thread(_remove, path)
            if not path.exists():
                break
            await asyncio.sleep(0.1)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
