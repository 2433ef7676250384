"""What QEMU is told when a guest is to have more, or less, and what it is taken for when it says nonsense."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import Exhausted, GuestError, InvalidInput
from hypercontainer.hypervisor.base import Size
from hypercontainer.hypervisor.host.limits import OVERHEAD_MIB
from hypercontainer.hypervisor.qemu import translations
from hypercontainer.hypervisor.qemu.machines import Q35, VIRT
from hypercontainer.hypervisor.qemu.resize import resize, size
from hypercontainer.hypervisor.qemu.translations import REGIONS, SPARE
from tests.unit.hypervisor.test_qmp import Peer, monitor, qemu

BASE_MIB = 128


class Machine:
    """A QEMU with four slots for processors, and a guest that takes all memory and gives back what is not `stuck`."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.cpus, self.added_mib, self.stuck_mib, self.most_mib = 1, 0, 0, 16384
        self.translated, self.flushes, self.one_by_one = 0, 0, False  # regions; how often emptied
        self.word = "singlestep"  # this QEMU's
        self.nonsense: dict[str, object] = {}

    async def __call__(self, message: dict[str, Any], peer: Peer) -> None:
        args = message.get("arguments", {})
        self.said.append((message["execute"], args))
        found = getattr(self, message["execute"].replace("-", "_"))(args)
        peer.send(id=message["id"], **{"return": self.nonsense.get(message["execute"], found)})

    def query_hotpluggable_cpus(self, args: dict[str, Any]) -> object:
        slots: list[dict[str, Any]] = [
            {"type": "max-x86_64-cpu", "props": {"socket-id": 0, "core-id": n, "thread-id": 0}, "vcpus-count": 1}
            for n in range(4)
        ]
        for slot in slots[: self.cpus]:
            slot["qom-path"] = "/machine/x"
        return slots[::-1]  # as QEMU lists them

    def query_cpus_fast(self, args: dict[str, Any]) -> object:
        return [{"qom-path": f"/machine/{n}", "cpu-index": n, "props": {"core-id": n}} for n in range(self.cpus)]

    def query_memory_size_summary(self, args: dict[str, Any]) -> object:
        return {"base-memory": BASE_MIB << 20, "plugged-memory": self.added_mib << 20}

    def query_memory_devices(self, args: dict[str, Any]) -> object:
        return [{"type": "virtio-mem", "data": {"id": "room", "max-size": 16384 << 20}}]

    def x_query_jit(self, args: dict[str, Any]) -> object:
        if self.one_by_one and self.translated:
            self.translated += 1
        if self.translated + self.cpus > REGIONS:
            self.translated, self.flushes = 0, self.flushes + 1
        lines = [
            f"gen code size       {self.translated * 1000}/{REGIONS * 1000}",
            f"TB flush count      {self.flushes}",
        ]
        return {"human-readable-text": "\n".join(["Translation buffer state:", *lines, ""])}

    def human_monitor_command(self, args: dict[str, Any]) -> object:
        word, _, switch = args["command-line"].partition(" ")
        if word != self.word:
            return f"unknown command: '{word}'\r\n"
        self.one_by_one = switch == "on"
        return ""

    def device_add(self, args: dict[str, Any]) -> object:
        assert self.translated + self.cpus < REGIONS, "QEMU ends here"
        self.cpus += 1
        return {}

    def qom_set(self, args: dict[str, Any]) -> object:
        assert (args["path"], args["property"]) == ("/machine/peripheral/room", "requested-size")
        self.added_mib = min(self.most_mib, max(args["value"] >> 20, min(self.added_mib, self.stuck_mib)))
        return {}

    def qom_get(self, args: dict[str, Any]) -> object:
        return self.added_mib << 20

    @property
    def done(self) -> list[tuple[str, dict[str, Any]]]:
        return [(command, args) for command, args in self.said if not command.startswith(("query-", "qom-get"))]

    @property
    def requested(self) -> list[int]:
        return [args["value"] >> 20 for command, args in self.said if command == "qom-set"]


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def group(tmp_path: Path) -> Path:
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.max").write_text("")
    return group


def limit_mib(group: Path) -> int:
    """What was written last: the file keeps all of it, one after the other."""
    return (int((group / "memory.max").read_text()) >> 20) - OVERHEAD_MIB


async def resized(machine: Machine, group: Path, vcpus: int, memory_mib: int, *, emulated: bool = False) -> Size:
    path = group.parent / "q"
    path.unlink(missing_ok=True)
    async with qemu(path, machine), monitor(path) as m, asyncio.timeout(60):
        return await resize(m, Q35, [group], vcpus=vcpus, memory_mib=memory_mib, emulated=emulated, stalled_s=0)


async def test_processors_are_plugged_in_their_order(machine: Machine, group: Path) -> None:
    assert (await resized(machine, group, 3, BASE_MIB)).vcpus == 3
    assert [args["id"] for command, args in machine.done if command == "device_add"] == ["cpu0-1-0", "cpu0-2-0"]
    assert machine.done[0][1] == {
        "driver": "max-x86_64-cpu", "id": "cpu0-1-0", "socket-id": 0, "core-id": 1, "thread-id": 0,
    }  # fmt: skip


@pytest.mark.parametrize("word", ["singlestep", "one-insn-per-tb"])
@pytest.mark.parametrize("translated", range(REGIONS))
async def test_no_processor_is_plugged_where_there_is_no_room_for_its_code(
    machine: Machine, group: Path, word: str, translated: int
) -> None:
    machine.word, machine.translated = word, translated
    assert (await resized(machine, group, 4, BASE_MIB, emulated=True)).vcpus == 4
    assert not machine.one_by_one
    assert machine.flushes == (translated + 3 + SPARE >= REGIONS)


async def test_a_guest_that_does_nothing_may_get_no_processor(
    machine: Machine, group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translations, "EMPTIED_S", 0.1)
    said = f"gen code size       {REGIONS * 1000 - 1}/{REGIONS * 1000}\nTB flush count      7\n"
    machine.nonsense["x-query-jit"] = {"human-readable-text": said}
    with pytest.raises(Exhausted, match="try again while something runs in it"):
        await resized(machine, group, 2, BASE_MIB, emulated=True)
    assert (machine.cpus, machine.one_by_one) == (1, False)


@pytest.mark.parametrize("said", [None, {}, {"human-readable-text": "gen code size 1/2\nTB flush count 0"}])
async def test_a_qemu_that_says_nonsense_of_its_code(machine: Machine, group: Path, said: object) -> None:
    machine.nonsense["x-query-jit"] = said
    with pytest.raises(GuestError, match="nonsense"):
        await resized(machine, group, 2, BASE_MIB, emulated=True)


async def test_a_hyperd_that_ended_in_between_leaves_no_slow_guest(machine: Machine, group: Path) -> None:
    machine.one_by_one = True
    await resized(machine, group, 1, BASE_MIB, emulated=True)
    assert not machine.one_by_one


async def test_a_machine_that_plugs_no_processors_has_those_that_it_started_with(machine: Machine, group: Path) -> None:
    machine.cpus, path = 2, group.parent / "q"
    async with qemu(path, machine), monitor(path) as m, asyncio.timeout(60):
        assert (await size(m, VIRT)).vcpus == 2
        with pytest.raises(InvalidInput, match="cannot give a running virtual machine 3 vCPUs: 2 at most"):
            await resize(m, VIRT, [group], vcpus=3, memory_mib=BASE_MIB, emulated=True, stalled_s=0)
        had = await resize(m, VIRT, [group], vcpus=2, memory_mib=BASE_MIB + 64, emulated=True, stalled_s=0)
    assert (had.vcpus, had.added_mib) == (2, 64)


async def test_processors_are_never_unplugged(machine: Machine, group: Path) -> None:
    machine.cpus = 3
    assert (await resized(machine, group, 1, BASE_MIB)).vcpus == 3
    assert machine.done == []


@pytest.mark.parametrize(("asked", "gets"), [(512, 512), (129, 132), (128, 128), (64, 128), (16512, 16512)])
async def test_memory_comes_in_whole_blocks_and_the_limit_on_the_host_with_it(
    machine: Machine, group: Path, asked: int, gets: int
) -> None:
    size = await resized(machine, group, 1, asked)
    assert size == Size(vcpus=1, memory_mib=gets, added_mib=gets - BASE_MIB)
    assert limit_mib(group) == gets


async def test_memory_goes_again_and_the_limit_follows(machine: Machine, group: Path) -> None:
    await resized(machine, group, 1, 512)
    assert (await resized(machine, group, 1, 256)).memory_mib == 256
    assert (await resized(machine, group, 1, 100)).memory_mib == BASE_MIB
    assert limit_mib(group) == BASE_MIB


async def test_what_the_guest_keeps_is_no_longer_asked_of_it(machine: Machine, group: Path) -> None:
    """Or it would search for it again every minute, and all that runs in it would feel that."""
    machine.added_mib, machine.stuck_mib = 384, 40
    assert (await resized(machine, group, 1, BASE_MIB)).added_mib == 40
    assert machine.requested == [0, 40]
    assert limit_mib(group) == BASE_MIB + 40


async def test_what_the_guest_does_not_take_is_no_longer_offered(machine: Machine, group: Path) -> None:
    machine.most_mib = 200
    assert (await resized(machine, group, 1, 1024)).added_mib == 200
    assert machine.requested == [896, 200]


async def test_again_changes_nothing(machine: Machine, group: Path) -> None:
    await resized(machine, group, 2, 512)
    machine.said.clear()
    await resized(machine, group, 2, 512)
    assert machine.done == []


@pytest.mark.parametrize(
    ("vcpus", "memory_mib", "words"), [(5, 128, "5 vCPUs: 4 at most"), (1, 16513, "16513 MiB of memory: 16512 at most")]
)
async def test_more_than_can_be_is_refused_before_anything_is_done(
    machine: Machine, group: Path, vcpus: int, memory_mib: int, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        await resized(machine, group, vcpus, memory_mib)
    assert machine.done == []


async def test_a_guest_that_was_started_without_room_keeps_its_memory(machine: Machine, group: Path) -> None:
    machine.nonsense["query-memory-devices"] = []
    assert (await resized(machine, group, 2, BASE_MIB)).vcpus == 2
    with pytest.raises(InvalidInput, match="128 at most"):
        await resized(machine, group, 2, 256)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("query-hotpluggable-cpus", ["cpu"]),
        ("query-hotpluggable-cpus", [{"props": 7}]),
        ("query-memory-size-summary", []),
        ("query-memory-size-summary", {"base-memory": "all"}),
        ("qom-get", "much"),
    ],
)
async def test_nonsense_is_named(machine: Machine, group: Path, command: str, said: object) -> None:
    machine.nonsense[command] = said
    with pytest.raises(GuestError, match="QEMU"):
        await resized(machine, group, 2, 256)


async def test_the_size_is_what_qemu_has(machine: Machine, tmp_path: Path) -> None:
    machine.cpus, machine.added_mib = 2, 64
    async with qemu(tmp_path / "q", machine), monitor(tmp_path / "q") as m:
        assert await size(m, Q35) == Size(vcpus=2, memory_mib=192, added_mib=64)
