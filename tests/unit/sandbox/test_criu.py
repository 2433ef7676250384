"""CRIU and what it needs, as guests are lent it."""

import os
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
