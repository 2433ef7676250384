"""What runs -> what the agent is asked, and what it is asked of a guest that has not learnt it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hypercontainer.agent import messages as m
from hypercontainer.agent.client import AgentClient
from hypercontainer.errors import GuestTooOld
from hypercontainer.model import defaults
from hypercontainer.model.container import Capabilities, ContainerConfig, Device, Mount, Process, Resources
from hypercontainer.model.record import ContainerRecord, NeighbourRecord, NicRecord, RouteRecord, RuleRecord, Streams
from hypercontainer.sandbox import agent_requests, first_guests
from hypercontainer.testing.fake_agent import FakeAgent
from tests.unit.sandbox.lonely import Lot

OPTIONS = [*defaults.PLAIN, "mode=700", "size=1048576", "exec", "uid=5", "ro"]
TMPFS = Mount(type="tmpfs", destination="/t", options=OPTIONS)


@pytest.fixture
def record(tmp_path: Path) -> ContainerRecord:
    """Of a container that has its disks."""
    [container] = Lot(tmp_path).pod("true").record.containers
    return container


def create(record: ContainerRecord, **config: Any) -> m.ContainerCreate:
    config.setdefault("mounts", defaults.mounts())
    record.config = ContainerConfig(process=Process(args=["true"]), **config)
    return agent_requests.container_create(record)


def test_what_runs_is_what_is_asked(record: ContainerRecord) -> None:
    asked = create(
        record,
        mounts=[TMPFS],
        devices=[Device(path="/dev/fuse", type="c", major=10, minor=229, file_mode=0o600)],
        resources=Resources(cpu_shares=2, unified={"memory.high": "1"}),
        sysctl={"a": "b"},
    )
    assert asked.all_mounts == [m.Mount(type="tmpfs", target="/t", options=TMPFS.options)]
    assert asked.devices == [m.Device(path="/dev/fuse", type="c", major=10, minor=229, mode=0o600)]
    assert asked.cgroup == m.Cgroup(cpu_shares=2, unified={"memory.high": "1"})
    assert (asked.sysctls, asked.mounts, asked.shm_bytes) == ({"a": "b"}, [], 64 << 20)


def test_five_sets_are_said_where_one_does_not_do(record: ContainerRecord) -> None:
    def start(capabilities: Capabilities) -> m.ProcessStart:
        process = Process(args=["true"], capabilities=capabilities, umask=0)
        return agent_requests.exec_process("c", "p", process, Streams())

    usual = start(Capabilities.granted(["CAP_CHOWN"]))
    assert (usual.capabilities, usual.capability_sets, usual.umask) == (["CAP_CHOWN"], None, 0)
    ambient = start(Capabilities(bounding=["CAP_KILL"], ambient=["CAP_CHOWN"]))
    assert ambient.capabilities == []
    assert ambient.capability_sets == m.CapabilitySets(bounding=["CAP_KILL"], ambient=["CAP_CHOWN"])


# The first guests


@pytest.mark.parametrize("privileged", [False, True])
def test_the_usual_mounts_are_made_by_the_first_guests_themselves(record: ContainerRecord, privileged: bool) -> None:
    usual = defaults.mounts(1 << 20, privileged=privileged)
    asked = first_guests.container_create(create(record, mounts=[*usual, TMPFS], all_devices=privileged))
    assert (asked.all_mounts, asked.shm_bytes) == (None, 1 << 20)
    tmpfs = m.TmpfsMount(
        target="/t", size_bytes=1 << 20, mode=0o700, read_only=True, options=[*defaults.PLAIN, "exec", "uid=5"]
    )
    assert asked.mounts == [tmpfs]


@pytest.mark.parametrize(
    "config",
    [
        {"mounts": [TMPFS]},
        {"mounts": defaults.mounts(privileged=True)},
        {"mounts": [*defaults.mounts(), Mount(type="tmpfs", destination="/t")]},
        {"mounts": [*defaults.mounts(), Mount(type="tmpfs", destination="/t", options=[*defaults.PLAIN, "size=1m"])]},
        {"mounts": [*defaults.mounts(), Mount(type="sysfs", destination="/s")]},
        {"devices": [Device(path="/dev/fuse", type="c", major=10, minor=229)]},
        {"resources": Resources(unified={"memory.high": "1"})},
    ],
)
async def test_what_the_first_guests_cannot_they_are_not_asked(
    record: ContainerRecord, agent: FakeAgent, tmp_path: Path, config: dict[str, Any]
) -> None:
    agent.features = []
    client = await AgentClient.connect(tmp_path / "agent", timeout_s=10)
    with pytest.raises(GuestTooOld, match="started by an older hyperd"):
        await client.create_container(first_guests.container_create(create(record, **config)))
    assert [op for op, _ in agent.requests if op == "container.create"] == []
    await client.close()


def test_a_record_holds_all_of_it(record: ContainerRecord) -> None:
    create(record, mounts=[TMPFS])
    record.config = msgspec.structs.replace(record.config, process=Process(args=["a"], seccomp=b"\0\1", umask=0))
    assert msgspec.json.decode(msgspec.json.encode(record), type=ContainerRecord) == record


def test_the_first_interface_that_leads_somewhere_gives_the_route() -> None:
    def nic(*gateways: str) -> NicRecord:
        routes = [RouteRecord(dst="10.9.0.0/16", gateway="10.0.0.9")]
        return NicRecord(
            tap="", mac="", addresses=[], routes=routes + [RouteRecord(dst="default", gateway=g) for g in gateways]
        )

    found = agent_requests.routes([nic(), nic("10.0.1.1"), nic("10.0.2.1", "fd02::1")])
    assert [route.gateway for route in found] == ["10.0.0.9", "10.0.1.1", "fd02::1"]


def test_an_interface_goes_down_only_where_a_route_has_no_successor() -> None:
    def nic(name: str, *routes: tuple[str, str]) -> NicRecord:
        found = [RouteRecord(dst=dst, gateway=gateway, device=name) for dst, gateway in routes]
        return NicRecord(tap="t", mac=name, name=name, addresses=["10.0.0.2/24"], routes=found)

    def told(old: NicRecord, new: NicRecord, *others: NicRecord) -> tuple[list[bool], list[str]]:
        asked = agent_requests.interface_changed(old, new, [old, *others], [new, *others], [], exact=False)
        return [interface.down for interface in asked.interfaces], [route.gateway for route in asked.routes]

    leads, leads_elsewhere = nic("a", ("default", "10.0.0.1")), nic("a", ("default", "10.0.0.3"))
    assert told(leads, leads_elsewhere) == ([False], ["10.0.0.3"])
    assert told(leads, nic("a"), nic("b", ("default", "10.1.0.1"))) == ([False], ["10.1.0.1"])
    assert told(leads, nic("a"), nic("b", ("10.9.0.0/16", "10.1.0.1"))) == ([True, False], ["10.1.0.1"])
    assert told(nic("a"), nic("a")) == ([False], [])


def test_what_ends_is_named_to_a_guest_that_can_do_it() -> None:
    old = NicRecord(
        tap="t", mac="a", addresses=["10.0.0.2/24"], neighbours=[NeighbourRecord(address="10.0.0.9", mac="b")],
        routes=[RouteRecord(dst="10.9.0.0/16", gateway="10.0.0.1"), RouteRecord(dst="10.8.0.0/16", gateway="10.0.0.1")],
        rules=[RuleRecord(priority=70, family=4, table=7), RuleRecord(priority=71, family=4, table=7)],
    )  # fmt: skip
    new = msgspec.structs.replace(old, routes=old.routes[:1], rules=old.rules[:1], neighbours=[])
    asked = agent_requests.interface_changed(old, new, [old], [new], [], exact=True)
    assert [(interface.down, interface.neighbours) for interface in asked.interfaces] == [(False, [])]
    assert [(route.dst, route.gone) for route in asked.routes] == [("10.8.0.0/16", True)]
    assert [(rule.priority, rule.gone) for rule in asked.rules] == [(71, True)]
    back = agent_requests.interface_changed(new, old, [new], [old], [], exact=True)
    assert back.interfaces[0].neighbours and [rule.gone for rule in back.rules] == [False]
