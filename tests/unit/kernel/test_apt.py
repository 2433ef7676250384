"""apt is asked for another architecture's packages, and nothing of this host's changes."""

import subprocess
from pathlib import Path

import pytest

from hypercontainer.errors import Unavailable
from hypercontainer.kernel.apt import CONFIGURATION, foreign
from hypercontainer.kernel.ports import PORTS, port_of
from hypercontainer.model.arch import ARCHES


@pytest.mark.parametrize("arch", PORTS)
def test_apt_sees_one_architecture_and_our_folder(arch: str, tmp_path: Path) -> None:
    port, file = PORTS[arch], tmp_path / "apt.conf"
    file.write_text(CONFIGURATION.format(debian=port.debian, folder=tmp_path))
    said = subprocess.run(
        ["apt-config", "-c", file, "shell", "ARCH", "APT::Architecture", "ALL", "APT::Architectures::", "LISTS",
         "Dir::State::lists/f", "STATUS", "Dir::State::status/f", "CACHE", "Dir::Cache::archives/f",
         "PACKAGES", "Dir::Cache::pkgcache/f", "SOURCES", "Dir::Etc::sourceparts/f"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    found = dict(line.split("=", 1) for line in said.replace("'", "").splitlines())
    assert found["ARCH"] == port.debian
    assert Path(found["LISTS"]) == tmp_path / "state/lists"
    assert Path(found["STATUS"]) == tmp_path / "status"
    assert Path(found["CACHE"]) == tmp_path / "cache/archives"
    assert Path(found["SOURCES"]) == Path("/etc/apt/sources.list.d")
    dump = subprocess.run(["apt-config", "-c", file, "dump"], capture_output=True, text=True, check=True, timeout=60)
    words = [line for line in dump.stdout.splitlines() if line.startswith("APT::Architectures::")]
    assert words == [f'APT::Architectures:: "{port.debian}";']


def test_each_architecture_of_the_kernels_is_one_of_ours() -> None:
    assert set(PORTS) == {port.arch for port in PORTS.values()} <= set(ARCHES)
    with pytest.raises(Unavailable, match="no kernel for guests of architecture mips: there are x86_64, aarch64"):
        port_of("mips")


async def test_what_apt_said_was_wrong_is_told_and_not_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (
        "Get:1 a mirror\\nE: Failed to fetch it  Hash Sum mismatch\\n   Hashes of expected file: {long}\\nE: Some index"
    )
    program = tmp_path / "bin/apt-get"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf '{said.format(long='0' * 400)}' >&2\nexit 100\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    with pytest.raises(Unavailable, match=r"^cannot list packages of arm64: E: Failed to fetch it  Hash Sum mismatch "):
        await foreign(PORTS["aarch64"], tmp_path / "lists")
