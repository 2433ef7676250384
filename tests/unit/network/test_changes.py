"""Changes in a network namespace are told."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from hypercontainer.errors import NotFound
from hypercontainer.network.changes import Changes
from tests.interop.netns import inside, ip, namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")


@pytest.fixture
def given() -> Iterator[str]:
    with namespace("hychg") as name:
        yield name


@pytest.fixture
async def changes(given: str) -> AsyncIterator[Changes]:
    changes = Changes(f"/run/netns/{given}")
    yield changes
    changes.end()


@pytest.mark.parametrize(
    "done",
    ["link add name d0 type veth peer name d1", "addr add 10.0.0.1/24 dev lo", "addr add fd00::1/64 dev lo",
     "route add 10.9.0.0/16 dev lo", "route add fd09::/64 dev lo", "link set lo mtu 1400"],
)  # fmt: skip
async def test_each_kind_is_told(given: str, changes: Changes, done: str) -> None:
    with inside(given):
        ip(done)
    assert await changes.wait()


async def test_nothing_is_told_of_other_namespaces(changes: Changes) -> None:
    with namespace("hyoth") as other, inside(other):
        ip("link add name d0 type veth peer name d1")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await changes.wait()


async def test_who_waits_goes_on_at_the_end(changes: Changes) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(changes.wait())
        await asyncio.sleep(0)
        changes.end()
    assert waiting.result() is False
    assert await changes.wait() is False


async def test_a_namespace_that_is_not_there() -> None:
    with pytest.raises(NotFound):
        Changes("/run/netns/nosuch")
