"""Network interfaces that come and go while a pod's machine runs."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from hypercontainer.errors import Exhausted, GuestError, GuestTooOld, HyperError, InUse, Unsupported, WrongState
from hypercontainer.hypervisor.base import HOT_NICS, Nic
from hypercontainer.lib.trace import Timings
from hypercontainer.model.record import MOST_NICS, NicRecord, PodRecord, RouteRecord
from hypercontainer.model.spec import ANY
from hypercontainer.sandbox.pod import Pod
from hypercontainer.testing.fake_process import Refused
from hypercontainer.testing.fakes import FakeGuest, FakeHypervisor
from hypercontainer.vm import Vm
from tests.unit.sandbox.lonely import Lot


@pytest.fixture
async def lot(tmp_path: Path) -> AsyncIterator[Lot]:
    lot = Lot(tmp_path)
    yield lot
    for guest in lot.hypervisor.alive:
        await guest.kill()


async def running(lot: Lot, networks: int = 1) -> Pod:
    pod = lot.pod("cat", networks=[ANY] * networks)
    async with pod.locked() as locked:
        for container in pod.containers.values():
            await locked.start(container, Timings())
    return pod


async def planned(lot: Lot, pod: Pod) -> NicRecord:
    [nic] = await lot.network.plan(pod.record.id, [], pod.record.nics)
    return nic


async def added(lot: Lot, pod: Pod) -> NicRecord:
    async with pod.locked() as locked:
        await locked.add_interface(nic := await planned(lot, pod))
    return nic


async def removed(pod: Pod, nic: NicRecord) -> None:
    async with pod.locked() as locked:
        await locked.remove_interface(nic)


def guest(lot: Lot) -> FakeGuest:
    [guest] = lot.hypervisor.alive
    return guest


def check_the_same(lot: Lot, pod: PodRecord) -> None:
    """Record, host, machine and guest have the same interfaces."""
    assert not [nic for nic in pod.nics if nic.provisional]
    assert set(lot.network.nics) == lot.network.plugged == {nic.tap for nic in pod.nics}
    assert set(guest(lot).plugged_nics) == {nic.number for nic in pod.nics}
    assert {i.mac: i.name for i in guest(lot).agent.interfaces.values()} == {nic.mac: nic.name for nic in pod.nics}


@pytest.mark.parametrize("networks", [0, 1])
async def test_interfaces_come_and_go(lot: Lot, networks: int) -> None:
    pod = await running(lot, networks)
    first = list(pod.record.nics)
    for _ in range(2):
        several = [await added(lot, pod) for _ in range(3)]
        assert pod.record.nics == [*first, *several]
        for values in ("number", "tap", "mac", "name", "address"):
            assert len({getattr(nic, values) for nic in pod.record.nics}) == len(pod.record.nics)
        assert [nic.name for nic in pod.record.nics] == [f"eth{n}" for n in range(len(pod.record.nics))]
        check_the_same(lot, pod.record)
        for nic in several:
            await removed(pod, nic)
            check_the_same(lot, pod.record)
    assert pod.record.nics == first


async def test_what_has_come_ends_with_its_machine(lot: Lot) -> None:
    pod = await running(lot)
    await added(lot, pod)
    async with pod.locked() as locked:
        await locked.power_off()
    assert (pod.record.nics, lot.network.nics) == ([], {})


async def test_the_guest_is_told_of_addresses_and_routes(lot: Lot) -> None:
    pod = await running(lot)
    agent, [first] = guest(lot).agent, pod.record.nics
    async with pod.locked() as locked:
        nic = await planned(lot, pod)
        default = RouteRecord(dst="default", gateway="10.0.0.254")
        nic.routes = [default, RouteRecord(dst="10.7.0.0/16", gateway="10.0.0.9")]
        await locked.add_interface(nic)
    assert agent.pod and agent.pod.hosts and agent.pod.hostname == "p"
    assert {"10.0.0.2", "10.0.0.3"} < {row[0] for row in agent.pod.hosts}
    assert [route.dst for route in agent.pod.routes] == ["10.7.0.0/16"]  # the first has the default one
    await removed(pod, first)
    assert [(route.dst, route.gateway) for route in agent.pod.routes] == [("default", "10.0.0.254")]
    assert "10.0.0.2" not in {row[0] for row in agent.pod.hosts}
    check_the_same(lot, pod.record)


async def test_there_is_room_for_so_many(lot: Lot) -> None:
    pod = await running(lot)
    for _ in range(MOST_NICS - 1):
        await added(lot, pod)
    with pytest.raises(Exhausted, match=f"the pod has {MOST_NICS}"):
        await added(lot, pod)
    await removed(pod, pod.record.nics[0])
    await added(lot, pod)
    check_the_same(lot, pod.record)


async def test_an_interface_of_somebody_elses_keeps_its_name(lot: Lot) -> None:
    pod = await running(lot)
    async with pod.locked() as locked:
        nic = await planned(lot, pod)
        nic.netns = "/run/netns/given"
        with pytest.raises(InUse, match="cannot add network interface eth0 of /run/netns/given"):
            await locked.add_interface(nic)
    check_the_same(lot, pod.record)


async def test_a_guest_knows_each_by_its_mac_address(lot: Lot) -> None:
    pod = await running(lot)
    async with pod.locked() as locked:
        nic = await planned(lot, pod)
        nic.mac = pod.record.nics[0].mac
        with pytest.raises(InUse, match=f"MAC address {nic.mac}: eth0 of the pod has it"):
            await locked.add_interface(nic)
    check_the_same(lot, pod.record)


class Broken(HyperError):
    pass


def fail(*_: object) -> object:
    raise Broken("no")


def _full(lot: Lot) -> None:
    lot.supervisor.full = True


def _no_rules(lot: Lot) -> None:
    lot.network.create = fail  # type: ignore[method-assign, assignment]


def _no_device(lot: Lot) -> None:
    guest(lot).fail_nics = Broken("no")


def _no_port(lot: Lot) -> None:
    lot.network.plug = fail  # type: ignore[method-assign, assignment]


def _refuses(lot: Lot) -> None:
    def refuse(args: dict[str, object]) -> object:
        raise Refused(errno.ENODEV, "no such device")

    guest(lot).agent.answers["pod.setup"] = refuse


def _full_in_the_end(lot: Lot) -> None:
    save, left = lot.supervisor.save, [1]

    def once(pod: PodRecord, *, durable: bool = False) -> None:
        if not left:
            raise Exhausted("the disk is full")
        left.pop()
        save(pod, durable=durable)

    lot.supervisor.save = once  # type: ignore[method-assign]


@pytest.mark.parametrize("breaks", [_full, _no_rules, _no_device, _no_port, _refuses, _full_in_the_end])
async def test_one_that_cannot_be_added_leaves_nothing(lot: Lot, breaks: Callable[[Lot], None]) -> None:
    pod = await running(lot)
    breaks(lot)
    with pytest.raises((Broken, Exhausted, GuestError)):
        await added(lot, pod)
    check_the_same(lot, pod.record)
    assert len(pod.record.nics) == 1


@pytest.mark.parametrize("says", ["refuses", "is silent"])
async def test_a_guest_that_holds_on_to_one_loses_it(lot: Lot, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = await running(lot)
    nic = await added(lot, pod)
    if says == "refuses":
        _refuses(lot)
    else:
        guest(lot).agent.unanswered.add("pod.setup")
        monkeypatch.setattr("hypercontainer.sandbox.interfaces.TELL_S", 0.01)
    await removed(pod, nic)
    assert nic not in pod.record.nics and nic.tap not in lot.network.nics
    assert set(guest(lot).plugged_nics) == {0}


async def test_what_could_not_be_taken_away_is_tried_again(lot: Lot) -> None:
    pod = await running(lot)
    nic, remove = await added(lot, pod), lot.network.remove
    lot.network.remove = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(Broken):
        await removed(pod, nic)
    assert pod.record.nics[-1] is nic and nic.provisional
    lot.network.remove = remove  # type: ignore[method-assign]
    await removed(pod, nic)
    check_the_same(lot, pod.record)


async def test_states_that_do_not_allow_it(lot: Lot) -> None:
    pod = lot.pod("cat")
    with pytest.raises(WrongState, match="cannot add a network interface to p: it is not running"):
        await added(lot, pod)
    pod = await running(lot)
    async with pod.locked() as locked:
        await locked.pause()
    with pytest.raises(WrongState, match="it is paused"):
        await added(lot, pod)
    with pytest.raises(WrongState, match="cannot remove a network interface from p: it is paused"):
        await removed(pod, pod.record.nics[0])
    async with pod.locked() as locked:
        await locked.unpause()
    check_the_same(lot, pod.record)


async def test_a_guest_of_an_older_hyperd_is_not_asked(lot: Lot) -> None:
    make = lot.hypervisor.make_agent

    def older() -> object:
        agent = make()
        agent.features.remove("interfaces")
        return agent

    lot.hypervisor.make_agent = older  # type: ignore[assignment]
    pod = await running(lot)
    with pytest.raises(GuestTooOld, match="cannot add or remove network interfaces while it runs: the virtual machine"):
        await added(lot, pod)
    check_the_same(lot, pod.record)


async def test_a_hypervisor_that_cannot_is_not_asked(lot: Lot) -> None:
    lot.hypervisor = lot.site.hypervisor = FakeHypervisor(features=frozenset())
    pod = await running(lot)
    with pytest.raises(Unsupported, match="cannot add a network interface to p: not with Fake"):
        await added(lot, pod)
    assert len(pod.record.nics) == 1


# Our own death


class Dead(BaseException):
    """Nobody undoes anything any more."""


def stopping(lot: Lot, pod: Pod, step: str) -> tuple[asyncio.Event, asyncio.Event]:
    """It comes to a standstill after that step: when the first event tells, until the second one does."""
    reached, over = asyncio.Event(), asyncio.Event()
    owner = next(o for o in (lot.network, guest(lot), pod.machine.running().agent) if hasattr(o, step))
    does = getattr(owner, step)

    async def stop(*args: object, **options: object) -> None:
        await does(*args, **options)
        reached.set()
        setattr(owner, step, does)
        await over.wait()
        raise Dead

    setattr(owner, step, stop)
    return reached, over


async def taken_up(lot: Lot, pod: Pod) -> Pod:
    """By the next hyperd, which knows what was written down."""
    record = msgspec.json.decode(lot.supervisor.written, type=PodRecord)
    again = Pod(lot.site, record, lot.supervisor, pod.folder)
    async with again.locked() as locked:
        assert await locked.attach()
    return again


ADDING, REMOVING = ("create", "add_nic", "plug", "setup_pod"), ("setup_pod", "remove", "remove_nic")


@pytest.mark.parametrize(
    ("verb", "step"), [*(("add", step) for step in ADDING), *(("remove", step) for step in REMOVING)]
)
async def test_what_a_death_of_ours_left_half_is_taken_away(lot: Lot, verb: str, step: str) -> None:
    pod = await running(lot)
    nic = await added(lot, pod) if verb == "remove" else None
    reached, over = stopping(lot, pod, step)
    dying = asyncio.create_task(removed(pod, nic) if nic else added(lot, pod))
    await reached.wait()
    await pod.machine.running().close()
    again = await taken_up(lot, pod)
    assert len(again.record.nics) == 1
    check_the_same(lot, again.record)
    await added(lot, again)
    check_the_same(lot, again.record)
    await again.let_go()
    pod.machine.interfaces._take_away = dead  # type: ignore[method-assign]
    over.set()
    with pytest.raises(Dead):
        await dying
    await pod.let_go()


async def dead(vm: Vm, nic: NicRecord) -> None:
    raise Dead


async def test_what_is_on_no_record_is_taken_away(lot: Lot) -> None:
    pod = await running(lot)
    await guest(lot).add_nic(Nic(number=HOT_NICS[-1], tap="hyx", mac="02:00:00:00:00:99"))
    await pod.let_go()
    again = await taken_up(lot, pod)
    check_the_same(lot, again.record)
    await again.let_go()
