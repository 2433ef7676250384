"""Xen's description of a machine, and what its driver refuses before anything is made.

The golden file is read by people: a change of it is a change of what runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from hypercontainer.errors import InvalidInput, Unavailable, Unsupported
from hypercontainer.hypervisor.base import Nic, SharedFolder, VmConfig
from hypercontainer.hypervisor.xen import toolstack
from hypercontainer.hypervisor.xen.domain import MOST_NICS, describe, disk_number
from hypercontainer.hypervisor.xen.driver import XenHypervisor, hypervisor
from hypercontainer.lib.trace import Timings
from hypercontainer.model.record import DiskRecord
from hypercontainer.model.settings import Settings
from tests.unit.hypervisor.test_argv import a_config

GOLDEN = Path(__file__).with_name("golden-xen.cfg")
AGENT = Path("/run/hyper/pods/p/agent.sock")
DISKS = [DiskRecord(target=0, path="/image", read_only=True), DiskRecord(target=1, path="/scratch", read_only=False)]
DEVICES = {0: "/dev/loop0", 1: "/dev/loop7"}
NIC = Nic(tap="t0", mac="52:54:00:00:00:01")


def a_domain(**changes: object) -> VmConfig:
    return a_config(**{"arch": "x86_64", "share": None, "disks": (), "nics": (), "accelerator": "xen", **changes})


def test_the_whole_description() -> None:
    assert describe(a_domain(disks=DISKS, nics=[NIC]), "hyper-p", AGENT, DEVICES) == GOLDEN.read_text()


@pytest.mark.parametrize("hostile", ['/a"/b', "/a\nname = 'x'"])
def test_words_that_would_be_more_than_words_are_refused(hostile: str) -> None:
    with pytest.raises(InvalidInput, match=r"^cannot tell Xen of .*: its toolstack takes no quotes"):
        describe(a_domain(kernel=Path(hostile)), "hyper-p", AGENT, {})


def test_a_path_of_several_words_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^cannot tell Xen of /run/a,b/agent.sock: its toolstack takes no comma"):
        describe(a_domain(), "hyper-p", Path("/run/a,b/agent.sock"), {})


@pytest.mark.parametrize(("target", "number"), [(0, 51712), (1, 51728), (15, 51952), (16, 268439552), (25, 268441856)])
def test_disks_have_the_numbers_that_xenstore_knows_them_by(target: int, number: int) -> None:
    assert disk_number(target) == number


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nics": [replace(NIC, macvtap=True)]}, "^cannot have web at a macvtap: not with Xen$"),
        ({"nics": [NIC] * (MOST_NICS + 1)}, "^cannot boot web with more than 8 network interfaces: not with Xen$"),
        ({"share": SharedFolder(folder=Path("/f"))}, "^cannot share a folder with web: not with Xen$"),
        (
            {"disks": [DiskRecord(target=26, path="/d", read_only=True)]},
            "^cannot boot web with more than 26 disks: not with Xen$",
        ),
    ],
)
async def test_what_it_cannot_have_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        await XenHypervisor().boot(a_domain(**changes), tmp_path, Timings())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "words"), [(Settings(accelerator="kvm"), "accelerator = 'kvm'"), (Settings(qemu="/q"), "`qemu`")]
)
def test_settings_of_others_are_refused(settings: Settings, words: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^cannot use {words}.* with Xen: it"):
        hypervisor(settings)


def test_an_architecture_without_domains_is_refused() -> None:
    with pytest.raises(Unavailable, match="cannot run guests of architecture aarch64 with Xen: there is x86_64"):
        XenHypervisor().check("aarch64")


@pytest.fixture
def dom0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a dom0 of Xen 4.17 looks like."""
    (tmp_path / "version").mkdir()
    for name, text in {
        "xl": "", "type": "xen", "capabilities": "control_d", "socket": "", "version/major": "4", "version/minor": "17",
        "version/extra": ".7",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "xl").chmod(0o755)
    places = {"WAYS": str(tmp_path), "SYS": tmp_path, "CAPABILITIES": tmp_path / "capabilities"}
    for name, value in (places | {"STORE": tmp_path / "socket"}).items():
        monkeypatch.setattr(toolstack, name, value)
    return tmp_path


async def test_a_dom0_tells_its_version(dom0: Path) -> None:
    assert await XenHypervisor().version() == "4.17.7"


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ("xl", "^cannot use Xen: xl is not installed: Debian's package is xen-system-amd64$"),
        ("type", "^cannot use Xen: this host does not run on it: boot it by Debian's xen-system-amd64$"),
        ("capabilities", "^cannot use Xen: .* does not say that this is dom0: is xenfs mounted at /proc/xen"),
        ("socket", "^cannot use Xen: xenstored does not run: start the service `xen` of xen-utils-common$"),
    ],
)
async def test_what_a_dom0_lacks_is_named(dom0: Path, lacks: str, words: str) -> None:
    (dom0 / lacks).unlink()
    with pytest.raises(Unavailable, match=words):
        await XenHypervisor().version()


@pytest.mark.parametrize("minor", ["16", "20"])
async def test_a_xen_that_numbers_channels_in_another_way_is_refused(dom0: Path, minor: str) -> None:
    (dom0 / "version/minor").write_text(minor)
    with pytest.raises(Unavailable, match=rf"^cannot use Xen: this is Xen 4\.{minor}, and 4\.17 to 4\.19 are known$"):
        await XenHypervisor().version()
