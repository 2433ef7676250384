"""The store of kernels: whole or not there, by several processes at once."""

import multiprocessing
import os
import struct
from pathlib import Path

import pytest

from hypercontainer.errors import AlreadyExists, InvalidInput, NotFound
from hypercontainer.kernel.bundle import KEEP, KernelStore
from hypercontainer.kernel.modules import boot

KERNEL = b"\x7fELF" + struct.pack("<III4sQ", 4, 8, 18, b"Xen\0", 0x1000000)


def a_kernel(folder: Path, kernel: bytes = KERNEL, arch: str = "x86_64") -> Path:
    modules = folder / "modules/kernel"
    modules.mkdir(parents=True)
    (folder / "vmlinux").write_bytes(kernel)
    for name in boot(arch):
        (modules / f"{name}.ko").write_bytes(name.encode())
    (folder / "modules/modules.dep").write_text("".join(f"kernel/{name}.ko:\n" for name in boot(arch)))
    for name in ("softdep", "alias", "builtin"):
        (folder / f"modules/modules.{name}").write_text("")
    return folder


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of x86_64, as most of these kernels are."""
    monkeypatch.setattr("hypercontainer.kernel.bundle.host_name", lambda: "x86_64")


@pytest.fixture
def store(tmp_path: Path) -> KernelStore:
    return KernelStore(tmp_path / "root")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return a_kernel(tmp_path / "source")


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    return a_kernel(tmp_path / "arm", bytes(56) + b"ARM\x64" + bytes(64), "aarch64")


def test_without_a_kernel_one_is_told_how_to_get_one(store: KernelStore) -> None:
    assert store.list() == []
    with pytest.raises(NotFound, match="hyperctl kernel fetch"):
        store.get()
    with pytest.raises(NotFound, match="no such kernel: mine"):
        store.get("mine")


@pytest.mark.parametrize("name", ["../up", "", ".hidden", "a/b", "x" * 64])
def test_a_name_that_is_a_path_is_refused(store: KernelStore, source: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="invalid kernel name"):
        store.add(source, name)
    if name:
        with pytest.raises(InvalidInput):
            store.get(name)


def test_the_newest_is_taken_until_one_is_chosen(store: KernelStore, source: Path) -> None:
    for name, age in (("old", 100), ("new", 200), ("middle", 150)):
        os.utime(store.add(source, name).path, (age, age))
    assert [bundle.name for bundle in store.list()] == ["new", "middle", "old"]
    assert store.get().name == "new"
    store.use("old")
    assert store.get().name == "old"
    assert store.get("middle").name == "middle"
    with pytest.raises(NotFound):
        store.use("none")
    assert store.get().name == "old"


def test_each_architecture_has_its_own(store: KernelStore, source: Path, arm: Path) -> None:
    here = store.add(source, "here")
    words = (
        r"none of aarch64 is installed \(fetch linux-image-arm64 of Debian with `hyperctl kernel fetch --arch arm64`"
    )
    with pytest.raises(NotFound, match=words):
        store.of("aarch64")
    there, newer = store.add(arm, "there"), store.add(arm, "newer")
    assert (here.arch, there.arch) == ("x86_64", "aarch64")
    for n, bundle in enumerate((here, there, newer)):
        os.utime(bundle.path, (n, n))
    assert (store.get().name, store.of("x86_64").name, store.of("aarch64").name) == ("here", "here", "newer")
    store.use("there")
    assert (store.used(), store.used("aarch64")) == ("", "there")
    assert (store.get().name, store.of("aarch64").name) == ("here", "there")
    with pytest.raises(NotFound, match=r"kernel: there \(it is of aarch64, and the virtual machine of x86_64\)"):
        store.of("x86_64", "there")


def test_a_kernel_is_added_once(store: KernelStore, source: Path) -> None:
    bundle = store.add(source, "mine")
    assert bundle.kernel.read_bytes() == KERNEL
    assert bundle.kernel.stat().st_mode & 0o777 == 0o644
    with pytest.raises(AlreadyExists, match="mine"):
        store.add(source, "mine")
    assert store.get("mine") == bundle


def test_the_same_kernel_has_the_same_digest(store: KernelStore, source: Path, tmp_path: Path) -> None:
    first, second = store.add(source, "one"), store.add(source, "two")
    (source / "modules/kernel/ext4.ko").write_bytes(b"another")
    assert first.digest == second.digest != store.add(source, "three").digest


def test_a_kernel_that_qemu_cannot_boot_leaves_nothing(store: KernelStore, tmp_path: Path) -> None:
    for name, kernel, why in (("a", b"\x7fELF", "CONFIG_PVH"), ("b", KERNEL, "no module ext4")):
        source = a_kernel(tmp_path / name, kernel)
        if name == "b":
            dep = source / "modules/modules.dep"
            dep.write_text(dep.read_text().replace("kernel/ext4.ko:\n", ""))
        with pytest.raises(InvalidInput, match=why):
            store.add(source, name)
    assert [p.name for p in store.path.iterdir()] == [".lock"]


def test_what_a_killed_process_left_is_not_seen_and_goes(store: KernelStore, source: Path) -> None:
    half = store.path / ".work-half"
    a_kernel(half)
    assert store.list() == []
    store.add(source, "mine")
    assert not half.exists()
    assert [bundle.name for bundle in store.list()] == ["mine"]


def test_an_unknown_bundle_json_is_named(store: KernelStore, source: Path) -> None:
    bundle = store.add(source, "mine")
    (bundle.path / "bundle.json").write_text('{"version": 1}')
    with pytest.raises(InvalidInput, match=r"mine/bundle.json"):
        store.get("mine")


# What is booted


def test_an_initramfs_is_made_once_for_each_hyperstart(store: KernelStore, source: Path, tmp_path: Path) -> None:
    bundle, init = store.add(source, "mine"), tmp_path / "hyperstart"
    init.write_bytes(b"one")
    kernel, initrd = store.boot_files(bundle, init)
    assert kernel == bundle.kernel
    assert b"one" in initrd.read_bytes()
    made = initrd.stat()
    assert made.st_mode & 0o777 == 0o644
    assert store.boot_files(bundle, init) == (kernel, initrd)
    assert initrd.stat().st_mtime_ns == made.st_mtime_ns
    init.write_bytes(b"two")
    assert store.boot_files(bundle, init)[1] != initrd


def test_a_hypervisors_modules_are_in_its_initramfs_alone(store: KernelStore, source: Path, tmp_path: Path) -> None:
    (source / "modules/kernel/virtio_blk.ko").write_bytes(b"disks")
    with open(source / "modules/modules.dep", "a") as dep:
        dep.write("kernel/virtio_blk.ko:\n")
    bundle, init = store.add(source, "mine"), tmp_path / "hyperstart"
    init.write_bytes(b"one")
    _, usual = store.boot_files(bundle, init)
    _, other = store.boot_files(bundle, init, ("virtio_blk",))
    assert b"virtio_blk.ko" in other.read_bytes()
    assert b"virtio_blk.ko" not in usual.read_bytes()
    with pytest.raises(
        InvalidInput, match=r"cannot use kernel modules in \S+mine/modules: there is no module virtio_mmio"
    ):
        store.boot_files(bundle, init, ("virtio_mmio",))


def test_a_packed_kernel_is_kept_beside_the_other(store: KernelStore, source: Path) -> None:
    (source / "vmlinuz").write_bytes(b"packed")
    packed = store.add(source, "mine").path / "vmlinuz"
    assert packed.read_bytes() == b"packed"
    assert packed.stat().st_mode & 0o777 == 0o644


def test_old_initramfs_files_go(store: KernelStore, source: Path, tmp_path: Path) -> None:
    bundle, init = store.add(source, "mine"), tmp_path / "hyperstart"
    for n in range(KEEP + 3):
        init.write_bytes(b"%d" % n)
        _, newest = store.boot_files(bundle, init)
    assert len(list(bundle.path.glob("initrd-*"))) == KEEP
    assert newest.exists()


def _boot_files(root: Path, init: Path) -> bytes:
    store = KernelStore(root)
    return store.boot_files(store.of("x86_64"), init)[1].read_bytes()


def test_many_processes_at_once_find_the_same_whole_file(store: KernelStore, source: Path, tmp_path: Path) -> None:
    store.add(source, "mine")
    init = tmp_path / "hyperstart"
    init.write_bytes(b"init" * 100_000)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        found = pool.starmap(_boot_files, [(store.path.parent, init)] * 8)
    assert len(set(found)) == 1
    assert len(found[0]) > 400_000
