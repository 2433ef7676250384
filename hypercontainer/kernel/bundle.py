"""Kernel bundles: folders of {vmlinux, vmlinuz, modules/, bundle.json} below ROOT/kernels. See docs/state.md.

A bundle is complete when it has its name: it is put together elsewhere and renamed. It never changes afterwards,
so readers take no lock.
"""

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from hypercontainer.errors import AlreadyExists, HyperError, InvalidInput, NotFound
from hypercontainer.kernel import initramfs
from hypercontainer.kernel.modules import NETWORK, ModuleTree, boot
from hypercontainer.kernel.ports import port_of
from hypercontainer.kernel.vmlinuz import arch_of
from hypercontainer.lib import document, files
from hypercontainer.model import upgrade
from hypercontainer.model.arch import ARCHES, host_name
from hypercontainer.model.ids import MAX_LABEL, check_name

KEEP = 4  # initramfs files in the cache: this hyperstart's, and those a boot under way may be about to open
BUILD = ".build"  # folder of the one build under way …
BUILD_LOCK = ".build.lock"  # … which holds this for as long
FETCH = "fetch one with `hyperctl kernel fetch`"
USED = ".used"  # what `use` chose of this host's architecture; of another one its name is behind this


Words = list[str]  # named here: inside the class `list` is a method


class BundleFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """bundle.json"""

    version: int = document.version(upgrade.KERNEL)
    name: str
    arch: str
    release: str  # uname -r of the guest
    package_version: str
    digest: str  # sha256 of the kernel and its modules
    source: str = ""  # of what it was built here, see build.py; "" when it was not


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel that guests can boot."""

    name: str
    arch: str
    release: str
    package_version: str
    digest: str
    path: Path
    source: str = ""

    @property
    def kernel(self) -> Path:
        return self.path / "vmlinux"


class KernelStore:
    """The bundles below `root`/kernels. Several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.path = root / "kernels"

    def list(self) -> list[Bundle]:
        """Every bundle that can be read, the newest first; `unread` tells of the others."""
        return [bundle for bundle in self._found() if isinstance(bundle, Bundle)]

    def unread(self) -> Words:
        """Why there are bundles that cannot be read: damaged, or made by a newer program. They stay as they are."""
        return [why for why in self._found() if isinstance(why, str)]

    def _found(self) -> Iterator[Bundle | str]:
        """Each bundle, or why it cannot be read."""
        try:
            folders = [p for p in self.path.iterdir() if not p.name.startswith(".") and (p / "bundle.json").exists()]
        except FileNotFoundError:
            return
        for folder in sorted(folders, key=lambda p: p.stat().st_mtime_ns, reverse=True):
            try:
                yield _read(folder)
            except OSError as e:
                yield f"cannot read {folder / 'bundle.json'}: {e.strerror}"
            except HyperError as e:
                yield str(e)

    def of(self, arch: str, name: str = "") -> Bundle:
        """The bundle that guests of that architecture boot: `name`, which has to be of it; "" is the one chosen by
        `use`, else the newest. NotFound says how to get one.

        One that was built here is booted when it was chosen, or is the only one: the distribution's gets updates."""
        if name := name or self.used(arch):
            bundle = self.get(name)
            if bundle.arch != arch:
                raise NotFound("kernel", name, f"it is of {bundle.arch}, and the virtual machine of {arch}")
            return bundle
        if bundles := [bundle for bundle in self.list() if bundle.arch == arch]:
            return next((bundle for bundle in bundles if not bundle.source), bundles[0])
        if arch == host_name():
            raise NotFound("kernel", "none is installed", FETCH)
        word = ARCHES[arch].docker if arch in ARCHES else arch
        hint = f"fetch {port_of(arch).package} of Debian with `hyperctl kernel fetch --arch {word}`"
        raise NotFound("kernel", f"none of {arch} is installed", hint)

    def get(self, name: str = "") -> Bundle:
        """The bundle `name`; "" is the one of this host's architecture, as `of` has it. NotFound."""
        if not name:
            return self.of(host_name())
        folder = self.path / check_name("kernel", name, MAX_LABEL)
        if not (folder / "bundle.json").exists():
            raise NotFound("kernel", name, FETCH)
        return _read(folder)

    def used(self, arch: str = "") -> str:
        """Name of the bundle chosen by `use` for an architecture ("": this host's), or "" """
        try:
            return self._choice(arch).read_text().strip()
        except FileNotFoundError:
            return ""

    def _choice(self, arch: str) -> Path:
        return self.path / (USED if arch in ("", host_name()) else f"{USED}-{arch}")

    def use(self, name: str) -> None:
        """Make `name` the bundle that new guests of its architecture boot."""
        bundle = self.get(name)
        with files.locked(self.path / ".used.lock"):  # not the writers' lock: a fetch may hold that for minutes
            files.replace(self._choice(bundle.arch), f"{bundle.name}\n".encode())

    def add(self, source: Path, name: str) -> Bundle:
        """Add a user's own kernel: a folder of vmlinux, the same packed as vmlinuz if there is one, and modules/ (as
        `depmod` leaves lib/modules/RELEASE).

        Without modules/ it is taken to have all that a guest needs built in."""
        check_name("kernel", name, MAX_LABEL)
        with self.locked(), self.workspace() as work:
            for kernel in [source / "vmlinux", *source.glob("vmlinuz")]:
                shutil.copy(kernel, work)
            if (source / "modules").exists():
                shutil.copytree(source / "modules", work / "modules", ignore=shutil.ignore_patterns("build", "source"))
            return self.install(work, name=name, release=name, package_version="")

    def install(self, work: Path, *, name: str, release: str, package_version: str, source: str = "") -> Bundle:
        """Turn `work` {vmlinux, modules/} into the bundle `name`. The caller holds the lock.

        A `vmlinuz` there is the same kernel, packed, for VMMs that start no ELF file."""
        if (self.path / name).exists():
            raise AlreadyExists(f"cannot add kernel {name}: there is one of that name", "kernel", name)
        for kernel in work.glob("vmlinu[xz]"):
            os.chmod(kernel, 0o644)  # the unprivileged VMM opens it
        arch = arch_of((work / "vmlinux").read_bytes())
        ModuleTree(work / "modules").pick(boot(arch))
        description = BundleFile(
            name=name,
            arch=arch,
            release=release,
            package_version=package_version,
            digest=_digest(work),
            source=source,
        )
        files.replace(work / "bundle.json", msgspec.json.format(msgspec.json.encode(description)), mode=0o644)
        os.sync()  # a folder of hundreds of files, once in a kernel's life
        os.chmod(work, 0o755)  # noqa: S103  mkdtemp made it private; a kernel is no secret
        os.rename(work, self.path / name)
        files.fsync(self.path)
        return self.get(name)

    def boot_files(self, bundle: Bundle, hyperstart: Path, further: Sequence[str] = ()) -> tuple[Path, Path]:
        """Return what to boot: the kernel and an initramfs of `bundle`'s modules with `hyperstart`, of its
        architecture, as /init. `further`: modules that its hypervisor's guests need besides.

        The initramfs is made on first use and kept; both files may be read by anyone.
        """
        init = hyperstart.read_bytes()
        wanted = (*boot(bundle.arch), *further)
        names = " ".join((*wanted, "", *NETWORK))
        key = hashlib.sha256(f"{initramfs.LAYOUT} {bundle.digest} {names} ".encode() + init).hexdigest()
        initrd = bundle.path / f"initrd-{key[:32]}.cpio"
        if not initrd.exists():
            with files.locked(bundle.path / ".lock"):
                tree = ModuleTree(bundle.path / "modules")
                modules = tree.pick(wanted)
                data = initramfs.build(init, modules, tree.further(NETWORK, modules))
                files.replace(initrd, data, mode=0o644, durable=False)
                _prune(bundle.path)
        return bundle.kernel, initrd

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The lock of every writer. Blocks: short work only, or a thread."""
        self.path.mkdir(parents=True, exist_ok=True)
        with files.locked(self.path / ".lock"):
            yield

    @asynccontextmanager
    async def claimed(self, name: str = ".lock") -> AsyncIterator[None]:
        """A lock, waited for without holding up the event loop: its holder may be downloading, or building."""
        self.path.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                if files.taken(fd):
                    break
                await asyncio.sleep(0.2)
            yield
        finally:
            os.close(fd)

    def sweep(self) -> None:
        """Remove what a build that was killed left behind: up to 2 GB, which take some seconds."""
        try:
            fd = os.open(self.path / BUILD_LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if files.taken(fd):
                shutil.rmtree(self.path / BUILD, ignore_errors=True)
        finally:
            os.close(fd)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A private folder beside the bundles, gone afterwards unless it became one; the caller holds the lock.

        What a killed process left there goes first."""
        for old in self.path.glob(".work-*"):
            shutil.rmtree(old)
        work = Path(tempfile.mkdtemp(prefix=".work-", dir=self.path))
        try:
            yield work
        finally:
            if work.exists():
                shutil.rmtree(work)


def _read(folder: Path) -> Bundle:
    known = document.read_versioned(folder / "bundle.json", BundleFile, upgrade.KERNEL, error=InvalidInput)
    return Bundle(
        name=folder.name,
        arch=known.arch,
        release=known.release,
        package_version=known.package_version,
        digest=known.digest,
        path=folder,
        source=known.source,
    )


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        with open(path, "rb") as f:
            total.update(hashlib.file_digest(f, "sha256").digest())
    return total.hexdigest()


def _prune(folder: Path) -> None:
    caches = sorted(folder.glob("initrd-*.cpio"), key=lambda p: p.stat().st_mtime_ns, reverse=True)
    for old in caches[KEEP:]:
        old.unlink(missing_ok=True)
