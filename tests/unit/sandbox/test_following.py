"""What makes the interfaces of a pod those of a namespace."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from hypercontainer.hypervisor.base import HOT_NICS
from hypercontainer.lib.trace import Timings
from hypercontainer.model.record import NicRecord
from hypercontainer.network import tap
from hypercontainer.sandbox.following import difference
from hypercontainer.sandbox.pod import Pod
from tests.interop.netns import inside, ip, namespace, output
from tests.unit.sandbox.lonely import Lot


def nic(name: str, mac: str = "", mtu: int = 1500, addresses: tuple[str, ...] = ("10.0.0.2/24",)) -> NicRecord:
    return NicRecord(tap="t", name=name, mac=mac or name, mtu=mtu, addresses=list(addresses), netns="/run/netns/given")


def test_what_is_there_already_stays() -> None:
    assert not any(difference([nic("a"), nic("b")], [nic("b"), nic("a")]))


def test_what_comes_and_what_goes() -> None:
    a, b, c = nic("a"), nic("b"), nic("c")
    assert difference([a, b], [b, c]) == ([a], [c], [])


def test_a_name_or_an_address_of_another_one_is_another_one() -> None:
    a, named, other = nic("a", "m"), nic("b", "m"), nic("a", "n")
    assert difference([a], [named]) == ([a], [named], [])
    assert difference([a], [other]) == ([a], [other], [])


def test_one_that_was_removed_and_made_anew_is_another_one() -> None:
    a, again = nic("a"), nic("a")
    assert difference([a], [again], [a]) == ([a], [again], [])


def test_what_was_not_ended_with_is_begun_anew() -> None:
    a = nic("a")
    begun = msgspec.structs.replace(a, provisional=True)
    assert difference([begun], [a]) == ([begun], [a], [])


def test_what_has_changed() -> None:
    for wanted in (nic("a", mtu=1400), nic("a", addresses=("10.0.0.3/24",)), nic("a", addresses=())):
        assert difference([nic("a")], [wanted]) == ([], [], [(nic("a"), wanted)])


@pytest.fixture
async def lot(tmp_path: Path) -> AsyncIterator[Lot]:
    lot = Lot(tmp_path)
    yield lot
    for guest in lot.hypervisor.alive:
        await guest.kill()


@pytest.fixture
async def given(lot: Lot) -> AsyncIterator[tuple[str, Pod]]:
    """A pod that follows a namespace, in which there are taps as VMMs make them."""
    with namespace("hyfol") as name:
        pod = lot.pod("cat", networks=[])
        pod.record.netns = f"/run/netns/{name}"
        with inside(name):
            ip(*(f"tuntap add mode tap {tap.name(pod.record.id, number)}" for number in HOT_NICS))
        async with pod.locked() as locked:
            for container in pod.containers.values():
                await locked.start(container, Timings())
        yield name, pod
        await pod.let_go()
        await pod.machine.release()


async def until(pod: Pod, is_so: Callable[[Sequence[NicRecord]], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            async with pod.locked():
                if is_so(pod.record.nics):
                    return
            await asyncio.sleep(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")
async def test_a_machine_follows_its_namespace(
    lot: Lot, given: tuple[str, Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, pod = given
    [guest] = lot.hypervisor.alive
    unplug = guest.remove_nic

    async def remove_nic(number: int) -> None:
        """The tap goes as well, as with a VMM; the next one is there."""
        await unplug(number)
        with inside(name):
            ip(f"link del {tap.name(pod.record.id, number)}", f"tuntap add mode tap {tap.name(pod.record.id, number)}")

    monkeypatch.setattr(guest, "remove_nic", remove_nic)
    with inside(name):
        ip("link add name eth1 type veth peer name wire", "addr add 10.9.0.2/24 dev eth1", "link set eth1 up")
    await until(pod, lambda nics: [(nic.name, nic.addresses) for nic in nics] == [("eth1", ["10.9.0.2/24"])])
    assert len(guest.plugged_nics) == 1 and not pod.record.nics[0].provisional
    with inside(name):
        assert "mirred" in output("tc", "filter", "show", "dev", "eth1", "ingress")
        ip("link set wire up", "link set eth1 mtu 1400", "addr add fd09::2/64 dev eth1 nodad")
        ip("route add default via 10.9.0.1 dev eth1")
    await until(
        pod,
        lambda nics: (
            [(n.mtu, n.address6, n.gateway, n.provisional) for n in nics] == [(1400, "fd09::2/64", "10.9.0.1", False)]
        ),
    )
    with inside(name):  # another one that looks the same
        ip("link del eth1")
        ip("link add name eth1 type veth peer name wire", f"link set eth1 address {pod.record.nics[0].mac}")
        ip("addr add 10.9.0.2/24 dev eth1", "link set eth1 up")
    await until(pod, lambda nics: [(nic.name, nic.gateway, nic.provisional) for nic in nics] == [("eth1", "", False)])
    with inside(name):
        assert "mirred" in output("tc", "filter", "show", "dev", "eth1", "ingress")
        ip("link del eth1")
    await until(pod, lambda nics: not nics)
    assert not guest.plugged_nics


@pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")
async def test_what_was_not_followed_is_tried_again(
    lot: Lot, given: tuple[str, Pod], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hypercontainer.sandbox.following.AGAIN_S", 0.05)
    name, pod = given
    async with pod.locked() as locked:
        await locked.pause()
    with inside(name):
        ip("link add name eth1 type veth peer name wire", "addr add 10.9.0.2/24 dev eth1", "link set eth1 up")
    async with asyncio.timeout(60):
        while "is paused" not in caplog.text:  # noqa: ASYNC110  whatever the log says, nobody tells
            await asyncio.sleep(0)
    async with pod.locked() as locked:
        await locked.unpause()
    await until(pod, lambda nics: [nic.provisional for nic in nics] == [False])


@pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")
async def test_what_no_machine_has_is_said(given: tuple[str, Pod], caplog: pytest.LogCaptureFixture) -> None:
    name, _ = given
    with inside(name):
        ip("rule add fwmark 5 table 7 prio 72")
    async with asyncio.timeout(60):
        while "does without rule 72 of IPv4" not in caplog.text:  # noqa: ASYNC110  whatever the log says, nobody tells
            await asyncio.sleep(0)
