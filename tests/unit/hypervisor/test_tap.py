"""Taps that waited become others', in network namespaces of theirs."""

import os
from collections.abc import Iterator

import pytest

from hypercontainer.errors import HyperError
from hypercontainer.hypervisor.host.tap import Taps, bring_up, open_tap
from hypercontainer.network import tap
from tests.interop.netns import inside, namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes taps and network namespaces")

OLD, NEW = f"hyo{os.getpid()}", f"hyn{os.getpid()}"


@pytest.fixture
def given() -> Iterator[str]:
    with namespace("hytap") as name:
        yield name


@pytest.fixture
def fd() -> Iterator[int]:
    """The VMM's."""
    fd = open_tap(OLD, 0)
    yield fd
    os.close(fd)
    assert not tap.exists(OLD) and not tap.exists(NEW)


async def test_it_is_there_when_it_has_moved(given: str, fd: int) -> None:
    held = Taps().hold(OLD, fd)
    await held.become(NEW, f"/run/netns/{given}")
    await held.moved()
    with inside(given):
        assert tap.exists(NEW)
    held.let_go()
    await held.gone()


async def test_who_lets_go_of_one_that_moves_waits_for_that(given: str, fd: int) -> None:
    held = Taps().hold(OLD, fd)
    await held.become(NEW, f"/run/netns/{given}")
    held.let_go()
    await held.gone()
    with inside(given):
        assert tap.exists(NEW)  # the VMM has it


@pytest.mark.parametrize("apart", [False, True])
def test_one_that_leads_nowhere_takes_frames_when_it_is_up(given: str, apart: bool) -> None:
    fd = open_tap(OLD, 0, f"/run/netns/{given}" if apart else "")
    frame = bytes(10) + b"\xff" * 6 + bytes(54)
    try:
        with pytest.raises(OSError, match="Input/output error"):
            os.write(fd, frame)
        bring_up(OLD, f"/run/netns/{given}" if apart else "")
        assert os.write(fd, frame) == len(frame)
    finally:
        os.close(fd)


def test_one_that_is_gone_is_not_brought_up() -> None:
    with pytest.raises(HyperError, match=f"^cannot bring tap device {OLD} up: No such device$"):
        bring_up(OLD)


async def test_a_namespace_that_is_not_there(fd: int) -> None:
    held = Taps().hold(OLD, fd)
    await held.become(NEW, "/run/netns/nosuch")
    with pytest.raises(HyperError, match="no such network namespace"):
        await held.moved()
    held.let_go()
    await held.gone()


async def test_one_that_stays_here(fd: int) -> None:
    held = Taps().hold(OLD, fd)
    await held.become(NEW, "")
    await held.moved()
    assert tap.exists(NEW)
    held.let_go()
    await held.gone()
