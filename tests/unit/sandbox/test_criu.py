"""CRIU and what it needs, as guests are lent it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercontainer.errors import NotFound
from hypercontainer.sandbox import criu


async def test_without_criu_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(criu, "PATH", str(tmp_path))
    with pytest.raises(NotFound, match=r"no such program: criu .*Debian's package criu"):
        await criu.prepare(tmp_path / "criu", tmp_path / "modules")
    assert not (tmp_path / "criu").exists()


async def test_all_that_it_runs_and_loads_is_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs, folder, modules = tmp_path / "bin", tmp_path / "criu", tmp_path / "modules"
    programs.mkdir()
    for name in criu.PROGRAMS:
        (programs / name).write_bytes(Path("/bin/sh").read_bytes())
        (programs / name).chmod(0o755)
    monkeypatch.setattr(criu, "PATH", str(programs))
    modules.mkdir()
    (modules / "modules.dep").write_text("kernel/unix_diag.ko: kernel/other.ko\nkernel/other.ko:\n")
    for name in ("modules.builtin", "modules.alias", "modules.softdep"):
        (modules / name).touch()
    (modules / "kernel").mkdir()
    for name in ("unix_diag", "other"):
        (modules / f"kernel/{name}.ko").write_text(name)
    await criu.prepare(folder, modules)
    there = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert {*criu.PROGRAMS, "libc.so.6", "unix_diag.ko", "other.ko"} <= there.keys()
    assert any(name.startswith("ld-linux") for name in there)
    assert (folder / "modules.order").read_text() == "other.ko\nunix_diag.ko\n"
    os.utime(programs / "tar")
    (folder / ".gzip").write_text("half a copy")
    await criu.prepare(folder, modules)
    changed = {name for name, number in there.items() if (folder / name).stat().st_ino != number}
    assert changed == {"tar", "modules.order"}


LOG = b"""(00.1) Error (criu/util.c:642): exited, status=1
(00.2) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.
(00.3) Error (criu/files.c:1): of a file
(00.4) Error (criu/cr-dump.c:1635): Dump files (pid: 96) failed with -1
(00.5) Unlock network
(00.6) Error (criu/cr-dump.c:2053): Dumping FAILED.
"""
SAID = (
    "(criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.; "
    "(criu/files.c:1): of a file; "
    "(criu/cr-dump.c:1635): Dump files (pid: 96) failed with -1"
)


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (LOG, SAID),
        (b"x" * (2 * criu.LOG_BYTES) + b"\n" + LOG, SAID),
        (LOG + b"x" * (2 * criu.LOG_BYTES), ""),
        (b"(00.1) Error \x1b[31m\xff\0" + b"x" * 5000, "?[31m\N{REPLACEMENT CHARACTER}?" + "x" * 1017),
        (b"all is well\n", ""),
        (b"", ""),
    ],
)
def test_why_it_failed_is_the_last_that_it_complained_of(tmp_path: Path, log: bytes, why: str) -> None:
    (tmp_path / "dump.log").write_bytes(log)
    with folder(tmp_path) as fd:
        assert criu.why(fd, criu.DUMP_LOG) == why


def test_a_log_that_is_none_is_not_read(tmp_path: Path) -> None:
    """Whoever is in the guest may have made it."""
    (tmp_path / "elsewhere").write_bytes(LOG)
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with folder(tmp_path) as fd:
        assert [criu.why(fd, name) for name in ("link", "folder", "pipe", "missing")] == [""] * 4


@contextmanager
def folder(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_PATH)
    try:
        yield fd
    finally:
        os.close(fd)
