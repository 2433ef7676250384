"""Network interfaces that come and go, as QEMU's monitor is asked for them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import GuestError
from hypercontainer.hypervisor.base import HOT_NICS, Nic
from hypercontainer.hypervisor.qemu import nics
from hypercontainer.hypervisor.qemu.machines import CCW, Q35
from tests.unit.hypervisor.test_qmp import Peer, monitor, qemu

NIC = Nic(number=HOT_NICS[1], tap="hyx9", mac="02:00:00:00:00:01")


class Machine:
    """What QEMU has of interfaces: devices by their path, each with the name of its other end; other ends; a tap that
    was handed over. `refuses` a command, once. `bus`: that of its devices, of which PCI's is opened first."""

    def __init__(self, refuses: str = "", bus: str = "pci") -> None:
        self.bus = bus
        self.devices = {"/machine/peripheral-anon/device[4]": "net"}
        self.ends = {"net"}
        self.handed, self.opened = False, bus != "pci"
        self.refuses = refuses
        self.places: list[str | None] = []

    async def answer(self, message: dict[str, Any], peer: Peer) -> None:
        command, words = message["execute"], message.get("arguments", {})
        if command == self.refuses:
            self.refuses = ""
            peer.send(id=message["id"], error={"class": "GenericError", "desc": "no"})
            return
        try:
            answer = getattr(self, command.replace("-", "_"))(words, peer)
        except KeyError as e:
            kind = "DeviceNotFound" if command == "netdev_del" else "GenericError"
            peer.send(id=message["id"], error={"class": kind, "desc": f"{e} not found"})
        else:
            peer.send(id=message["id"], **{"return": answer if answer is not None else {}})

    def getfd(self, words: dict[str, Any], peer: Peer) -> None:
        self.handed = True

    def closefd(self, words: dict[str, Any], peer: Peer) -> None:
        if not self.handed:
            raise KeyError(words["fdname"])
        self.handed = False

    def netdev_add(self, words: dict[str, Any], peer: Peer) -> None:
        assert self.handed
        self.handed = False
        self.ends.add(words["id"])

    def netdev_del(self, words: dict[str, Any], peer: Peer) -> None:
        assert words["id"] not in self.devices.values()
        self.ends.remove(words["id"])

    def qom_set(self, words: dict[str, Any], peer: Peer) -> None:
        self.opened = True

    def device_add(self, words: dict[str, Any], peer: Peer) -> None:
        assert self.opened and words["netdev"] in self.ends
        self.places.append(words.get("addr"))
        self.devices[f"/machine/peripheral/{words['id']}"] = words["netdev"]

    def device_del(self, words: dict[str, Any], peer: Peer) -> None:
        assert self.opened
        del self.devices[words["id"]]
        peer.send(event="DEVICE_DELETED", data={"path": words["id"]}, timestamp={})

    def qom_list(self, words: dict[str, Any], peer: Peer) -> list[dict[str, str]]:
        names = [path.rpartition("/") for path in self.devices]
        found = [
            {"name": name, "type": f"child<virtio-net-{self.bus}>"}
            for folder, _, name in names
            if folder == words["path"]
        ]
        return [*found, {"name": "s", "type": "child<virtio-scsi-pci>"}]

    def qom_get(self, words: dict[str, Any], peer: Peer) -> str:
        return self.devices[words["path"]]


@pytest.fixture
def tap(tmp_path: Path) -> Iterator[int]:
    """A descriptor: of what is of no account here."""
    with open(tmp_path / "tap", "wb") as file:
        yield file.fileno()


async def test_an_interface_has_a_place_of_its_own(tmp_path: Path, tap: int) -> None:
    machine = Machine()
    async with qemu(tmp_path / "q", machine.answer), monitor(tmp_path / "q") as m:
        for number in HOT_NICS:
            await nics.add(m, Q35, Nic(number=number, tap="", mac=NIC.mac), tap)
        assert set(await nics.plugged(m, Q35)) == {0, *HOT_NICS}
        assert machine.places == [hex(0x10 + n) for n in range(len(HOT_NICS))]
        for number in (0, *HOT_NICS):
            await nics.remove(m, Q35, number)
        assert (machine.devices, machine.ends, machine.handed) == ({}, set(), False)


async def test_channel_devices_are_placed_by_their_machine(tmp_path: Path, tap: int) -> None:
    """And nothing is done to their bus."""
    machine = Machine("qom-set", bus="ccw")
    async with qemu(tmp_path / "q", machine.answer), monitor(tmp_path / "q") as m:
        await nics.add(m, CCW, NIC, tap)
        assert set(await nics.plugged(m, CCW)) == {0, NIC.number} and machine.places == [None]
        await nics.remove(m, CCW, NIC.number)
        assert set(machine.devices.values()) == {"net"}


@pytest.mark.parametrize("refuses", ["getfd", "netdev_add", "qom-set", "device_add"])
async def test_one_that_cannot_be_plugged_leaves_nothing(tmp_path: Path, tap: int, refuses: str) -> None:
    machine = Machine(refuses)
    async with qemu(tmp_path / "q", machine.answer), monitor(tmp_path / "q") as m:
        with pytest.raises(GuestError, match=f"QEMU refused {refuses}: no"):
            await nics.add(m, Q35, NIC, tap)
        assert (set(machine.devices.values()), machine.ends, machine.handed) == ({"net"}, {"net"}, False)


@pytest.mark.parametrize("step", ["getfd", "netdev_add", "device_add"])
async def test_what_was_half_made_is_taken_away(tmp_path: Path, step: str) -> None:
    """By a hyperd that was killed."""
    machine = Machine()
    machine.handed = step == "getfd"
    machine.ends |= set() if machine.handed else {"net9"}
    machine.devices |= {"/machine/peripheral/nic9": "net9"} if step == "device_add" else {}
    async with qemu(tmp_path / "q", machine.answer), monitor(tmp_path / "q") as m:
        for _ in range(2):
            await nics.remove(m, Q35, NIC.number)
            assert (set(machine.devices.values()), machine.ends, machine.handed) == ({"net"}, {"net"}, False)


@pytest.mark.parametrize("command", ["device_del", "netdev_del"])
async def test_what_qemu_keeps_is_said(tmp_path: Path, tap: int, command: str) -> None:
    machine = Machine()
    async with qemu(tmp_path / "q", machine.answer), monitor(tmp_path / "q") as m:
        await nics.add(m, Q35, NIC, tap)
        machine.refuses = command
        with pytest.raises(GuestError, match=f"QEMU refused {command}"):
            await nics.remove(m, Q35, NIC.number)
        await nics.remove(m, Q35, NIC.number)
        assert machine.ends == {"net"}
