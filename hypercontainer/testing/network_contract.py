"""What every kind of network must do, fake or real: a suite to inherit from, with three fixtures of your own.

    class TestMyNetwork(NetworkContract): ...

`network` (a Network); `vmm`, a context manager in which the tap of a NicRecord is there, as its VMM makes it; `seen`,
which returns all that can be seen of the network where it is. Nothing of pods is there yet.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from hypercontainer.model.record import NicRecord
from hypercontainer.network.base import Network

Vmm = Callable[[NicRecord], AbstractContextManager[None]]
Seen = Callable[[], object]


async def made(network: Network, pod_id: str, used: list[NicRecord]) -> list[NicRecord]:
    """The interfaces of a pod, without their taps."""
    nics = await network.plan(pod_id, [], used)
    for nic in nics:
        await network.create(nic)
    return nics


class NetworkContract:
    async def test_to_ensure_it_again_changes_nothing(self, network: Network, seen: Seen) -> None:
        await network.ensure()
        before = seen()
        await network.ensure()
        assert seen() == before

    async def test_a_plan_makes_nothing(self, network: Network, seen: Seen) -> None:
        await network.ensure()
        before = seen()
        assert await network.plan("p1", [], []) == await network.plan("p1", [], [])
        assert seen() == before

    async def test_what_was_made_is_removed(self, network: Network, seen: Seen, vmm: Vmm) -> None:
        await network.ensure()
        before = seen()
        with ExitStack() as vmms:
            nics = await made(network, "p1", [])
            for nic in nics:
                vmms.enter_context(vmm(nic))
                await network.plug(nic)
            assert (seen() == before) == (not nics)
            for nic in nics * 2:
                await network.remove(nic)
        assert seen() == before
        for nic in nics:
            await network.remove(nic)
        assert seen() == before

    async def test_what_a_vmm_left_is_removed(self, network: Network, seen: Seen, vmm: Vmm) -> None:
        await network.ensure()
        before = seen()
        nics = await made(network, "p1", [])
        for nic in nics:
            with vmm(nic):
                await network.plug(nic)
        for nic in nics:
            await network.remove(nic)
        assert seen() == before

    async def test_what_was_half_made_is_removed(self, network: Network, seen: Seen) -> None:
        await network.ensure()
        before = seen()
        for nic in await network.plan("p1", [], []):
            await network.remove(nic)  # recorded, and no more
        assert seen() == before
        for nic in await made(network, "p1", []):
            await network.remove(nic)
        assert seen() == before

    async def test_it_can_be_made_again(self, network: Network, seen: Seen, vmm: Vmm) -> None:
        await network.ensure()
        before = seen()
        for _ in range(2):
            for nic in await network.plan("p1", [], []):
                await network.create(nic)
                with vmm(nic):
                    await network.plug(nic)
                    await network.remove(nic)
        assert seen() == before

    async def test_what_no_record_owns_is_swept(self, network: Network, seen: Seen, vmm: Vmm) -> None:
        await network.ensure()
        before = seen()
        with ExitStack() as vmms:
            nics = await made(network, "p1", [])
            for nic in nics:
                vmms.enter_context(vmm(nic))
                await network.plug(nic)
            whole = seen()
            assert network.take_up(nics) == []
            await network.sweep(lambda: nics)
            assert seen() == whole
            for nic in nics:
                await network.remove(nic)
        await network.sweep(list)
        assert seen() == before

    async def test_what_it_made_outlives_it(self, network: Network, seen: Seen, vmm: Vmm) -> None:
        await network.ensure()
        with ExitStack() as vmms:
            nics = await made(network, "p1", [])
            for nic in nics:
                vmms.enter_context(vmm(nic))
                await network.plug(nic)
            whole = seen()
            network.close()
            network.close()
            assert seen() == whole

    async def test_what_was_ensured_is_destroyed(self, network: Network, seen: Seen) -> None:
        before = seen()
        await network.ensure()
        await network.destroy()
        assert seen() == before
        await network.destroy()
        assert seen() == before
        await network.ensure()
        for nic in await made(network, "p1", []):
            await network.remove(nic)
        await network.destroy()
        assert seen() == before

    async def test_its_interfaces_are_numbered_after_those_of_others(self, network: Network) -> None:
        await network.ensure()
        first = await network.plan("p1", [], [])
        second = await network.plan("p1", [], [], number=len(first))
        assert len({nic.tap for nic in (*first, *second)}) == len(first) + len(second)
