"""The archive that a kernel unpacks: read back by us, and by cpio where there is one."""

import os
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.kernel.initramfs import SIGNATURE, Entry, build, cpio, unsigned
from hypercontainer.kernel.modules import Module

FILE, FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755


def parse(archive: bytes) -> list[Entry]:
    """Documentation/driver-api/early-userspace/buffer-format.rst, "newc"."""
    entries: list[Entry] = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        _, mode, uid, gid, _, mtime, size, _, _, major, minor, name_size, check = fields
        assert (uid, gid, mtime, check) == (0, 0, 0, 0)
        name = archive[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        begin = (at + 110 + name_size + 3) & ~3
        if name == b"TRAILER!!!\0":
            assert archive[begin:].strip(b"\0") == b""
            return entries
        entries.append(Entry(name[:-1].decode(), mode, archive[begin : begin + size], (major, minor)))
        at = (begin + size + 3) & ~3


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=40
)


MODES = st.sampled_from([FILE, stat.S_IFREG | 0o755])


@given(st.lists(st.builds(Entry, NAMES, MODES, st.binary(max_size=70), st.just((0, 0)))))
def test_what_was_put_in_comes_out(entries: list[Entry]) -> None:
    assert parse(cpio(entries)) == entries


def test_folders_and_devices() -> None:
    entries = [Entry("dev", FOLDER), Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))]
    assert parse(cpio(entries)) == entries


@pytest.mark.skipif(not shutil.which("busybox"), reason="busybox is not installed")
def test_cpio_reads_it(tmp_path: Path) -> None:
    archive = cpio([Entry("a", FOLDER), Entry("a/b", stat.S_IFREG | 0o755, b"hello")])
    subprocess.run(["busybox", "cpio", "-i", "-d"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "a/b").read_bytes() == b"hello"
    assert os.access(tmp_path / "a/b", os.X_OK)


def signed(code: bytes, signature: bytes = b"s" * 300) -> bytes:
    """As scripts/sign-file leaves a module: struct module_signature after the signature."""
    return code + signature + struct.pack(">8BI", 0, 0, 2, 0, 0, 0, 0, 0, len(signature)) + SIGNATURE


@pytest.mark.parametrize("data", [b"\x7fELF code", signed(b"\x7fELF code")])
def test_a_signature_is_taken_off(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.ko").write_bytes(data)
    assert unsigned(tmp_path / "m.ko") == b"\x7fELF code"


def test_a_signature_that_cannot_be_is_left_alone(tmp_path: Path) -> None:
    data = b"code" + struct.pack(">8BI", 0, 0, 2, 0, 0, 0, 0, 0, 10**6) + SIGNATURE
    (tmp_path / "m.ko").write_bytes(data)
    assert unsigned(tmp_path / "m.ko") == data


def test_an_initramfs_holds_init_the_modules_and_their_order(tmp_path: Path) -> None:
    modules = []
    for name in ("virtio", "scsi_mod"):
        (tmp_path / f"{name}.ko").write_bytes(name.encode())
        modules.append(Module(name, tmp_path / f"{name}.ko"))
    (tmp_path / "dummy.ko").write_bytes(b"dummy")
    later = [Module("dummy", tmp_path / "dummy.ko")]
    entries = {entry.name: entry for entry in parse(build(b"hyperstart", modules, later))}
    assert entries["init"] == Entry("init", stat.S_IFREG | 0o755, b"hyperstart")
    assert entries["modules/virtio.ko"].data == b"virtio"
    assert entries["modules/order"].data == b"virtio.ko\nscsi_mod.ko scan=manual\n"
    assert entries["modules/dummy.ko"].data == b"dummy"
    assert entries["modules/network"].data == b"dummy.ko numdummies=0\n"
    assert entries["dev/console"].device == (5, 1)
    assert {"dev", "modules", "proc", "sys"} <= set(entries)
    assert build(b"hyperstart", modules) == build(b"hyperstart", modules)
