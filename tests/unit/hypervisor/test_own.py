"""A QEMU of our own: what chooses it, and what it says of itself."""

import subprocess
from pathlib import Path

import pytest

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.hypervisor.host import jail
from hypercontainer.hypervisor.libvirt import driver as libvirt
from hypercontainer.hypervisor.qemu import own
from hypercontainer.hypervisor.qemu.driver import hypervisor
from hypercontainer.hypervisor.qemu.machines import MACHINES
from hypercontainer.model.arch import host_name
from hypercontainer.model.settings import Settings, load

HERE = MACHINES[host_name()]
DEBIAN = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) Fabrice Bellard\n"
OWN = "QEMU emulator version 7.2.22 (HyperContainer, of Debian {})\nCopyright (c) Fabrice Bellard\n"


def test_its_version_is_not_that_of_the_distribution_s() -> None:
    assert own.version(DEBIAN) == "7.2.22"
    assert own.version(OWN.format("1:7.2+dfsg-7+deb12u18")) == "7.2.22-hyper"
    assert own.version("bash: no such thing") == ""


@pytest.fixture
def installed() -> str:
    """The version of the source that Debian's QEMU is of."""
    argv = ["dpkg-query", "-W", "-f", "${source:Version}", HERE.package]
    return subprocess.run(argv, capture_output=True, check=True, text=True).stdout


async def test_it_is_behind_when_the_distribution_has_a_newer_one(installed: str) -> None:
    assert await own.behind(OWN.format(installed), HERE.package) == ""
    assert await own.behind(OWN.format("9:99"), HERE.package) == ""
    why = await own.behind(OWN.format("1:7.2+dfsg-1"), HERE.package)
    assert why == f"it was built of 1:7.2+dfsg-1, and {HERE.package} is {installed}: {own.BUILD}"


async def test_the_distribution_s_is_never_behind() -> None:
    assert await own.behind(DEBIAN.replace("dfsg-7", "dfsg-1"), HERE.package) == ""
    assert await own.behind(OWN.format("1:7.2+dfsg-1"), "there-is-no-such-package") == ""


def test_the_settings_choose_it(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'qemu = "{tmp_path}/qemu-system"\n')
    driver = hypervisor(load(config))
    assert driver.commands == (f"{tmp_path}/qemu-system",)
    assert hypervisor(Settings()).commands == (driver._machine.program,)


def test_one_that_is_not_there_is_told_with_what_named_it(tmp_path: Path) -> None:
    driver = hypervisor(Settings(qemu=str(tmp_path / "qemu-system")))
    with pytest.raises(NotFound, match=r"`qemu` in config\.toml says so; docs/howto/qemu\.md says how it is built"):
        driver.check(driver._machine.arch)


def test_a_path_that_depends_on_where_hyperd_is_started_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('qemu = "qemu-system"\n')
    with pytest.raises(InvalidInput, match="qemu"):
        load(config)


def test_libvirt_has_the_distribution_s_alone() -> None:
    with pytest.raises(InvalidInput, match="libvirt"):
        libvirt.hypervisor(Settings(hypervisor="libvirt", qemu="/opt/qemu-system"))


def test_the_jail_has_what_is_not_among_the_system_s(tmp_path: Path) -> None:
    program = tmp_path / "qemu-system"
    program.touch()
    assert jail.placed(str(program)) == ("/qemu-system", {"/qemu-system": program})
    other = tmp_path / "other"
    other.symlink_to("/usr/bin/env")
    assert jail.placed(str(other)) == (str(Path("/usr/bin/env").resolve()), {})
