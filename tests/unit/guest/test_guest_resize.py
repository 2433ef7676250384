"""Sizes: processors switched on and off, in a folder that has them; limits of a container set anew."""

import errno
from pathlib import Path
from typing import Any

import pytest

from tests.unit.guest.conftest import Guest
from tests.unit.guest.wire_client import Refused


def processors(guest: Guest, *states: str) -> list[Path]:
    """Those beside the first, which has no switch."""
    switches = [guest.folder / f"cpu/cpu{n + 1}/online" for n in range(len(states))]
    for switch, state in zip(switches, states, strict=True):
        switch.parent.mkdir(parents=True, exist_ok=True)
        switch.write_text(state)
    return switches


def resize(guest: Guest, cpus: int, added_kib: int = 0) -> Any:
    return guest.host.call("pod.resize", cpus=cpus, added_kib=added_kib)


def test_processors_are_switched_on_and_off_and_again_is_harmless(guest: Guest) -> None:
    switches = processors(guest, "0", "1", "0")
    for count, states in ((4, "111"), (2, "100"), (2, "100"), (1, "000"), (3, "110")):
        assert resize(guest, count)["cpus"] == count
        assert "".join(switch.read_text() for switch in switches) == states


def test_the_answer_tells_the_memory_there_is(guest: Guest) -> None:
    words = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    said = resize(guest, 0)
    assert said["cpus"] == 1 and said["memory_total_kib"] == int(words["MemTotal"].split()[0])
    assert 0 < said["memory_used_kib"] < said["memory_total_kib"]


def test_no_number_of_processors_leaves_them_as_they_are(guest: Guest) -> None:
    switches = processors(guest, "0", "1")
    assert resize(guest, 0)["cpus"] == 2
    assert [switch.read_text() for switch in switches] == ["0", "1"]


def test_a_processor_that_is_on_its_way_is_waited_for(guest: Guest) -> None:
    asked = guest.host.ask("pod.resize", cpus=2, added_kib=0)
    assert guest.host.call("ping") == {}
    assert asked not in guest.host.answers
    (guest.folder / "cpu/new").mkdir(parents=True)
    (guest.folder / "cpu/new/online").write_text("0")
    (guest.folder / "cpu/new").rename(guest.folder / "cpu/cpu1")
    assert guest.host.answer(asked)["cpus"] == 2


def test_a_second_wish_takes_the_place_of_one_that_waits(guest: Guest) -> None:
    asked = guest.host.ask("pod.resize", cpus=2, added_kib=0)
    assert resize(guest, 1)["cpus"] == 1
    with pytest.raises(Refused) as refused:
        guest.host.answer(asked)
    assert refused.value.errno == errno.ECANCELED


def test_a_wish_of_a_host_that_is_gone_hinders_nobody(guest: Guest) -> None:
    guest.host.ask("pod.resize", cpus=2, added_kib=0)
    guest.host.call("ping")
    host = guest.another_host()
    host.hello()
    assert host.call("pod.resize", cpus=1)["cpus"] == 1


def test_a_processor_that_cannot_be_switched_is_said(guest: Guest) -> None:
    switch = processors(guest, "0")[0]
    switch.unlink()
    switch.symlink_to("/proc/version")  # which is not "1", and nobody may write it
    with pytest.raises(Refused) as refused:
        resize(guest, 2)
    assert refused.value.errno in (errno.EACCES, errno.EPERM, errno.EIO)


@pytest.mark.parametrize("args", [{"cpus": -1}, {"cpus": 1025}, {"cpus": 1, "added_kib": -1}, {}])
def test_absurd_sizes_are_refused(guest: Guest, args: dict[str, int]) -> None:
    with pytest.raises(Refused) as refused:
        guest.host.call("pod.resize", **args)
    assert refused.value.errno == errno.EINVAL


def controllers(guest: Guest) -> list[str]:
    return (guest.cgroup / "cgroup.controllers").read_text().split()


@pytest.mark.parametrize(
    ("limits", "file", "value"),
    [
        ({"memory_bytes": 1 << 26}, "memory.max", str(1 << 26)),
        ({"cpu_quota_us": 50000}, "cpu.max", "50000 100000"),
        ({"cpu_shares": 1024}, "cpu.weight", "39"),
        ({"pids": 10}, "pids.max", "10"),
    ],
)
def test_limits_are_set_and_lifted(running: Guest, limits: dict[str, int], file: str, value: str) -> None:
    path = running.cgroup / "c-1" / file
    if file.split(".")[0] not in controllers(running):  # then a limit is refused, and none is fine
        with pytest.raises(Refused) as refused:
            running.host.call("container.update", id="c1", cgroup=limits)
        assert refused.value.errno == errno.EOPNOTSUPP
        assert running.host.call("container.update", id="c1", cgroup={}) == {}
        return
    before = path.read_text()
    running.host.call("container.update", id="c1", cgroup=limits)
    assert path.read_text().strip() == value
    running.host.call("container.update", id="c1", cgroup={})
    assert path.read_text() == before


def test_limits_of_no_container(guest: Guest) -> None:
    with pytest.raises(Refused) as refused:
        guest.host.call("container.update", id="c1", cgroup={})
    assert refused.value.errno == errno.ENOENT
