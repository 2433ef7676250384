"""Containers in the pid and IPC namespaces of another one, and in an IPC namespace of their own."""

import errno
from typing import Any

import pytest

from tests.unit.guest.conftest import Guest
from tests.unit.guest.test_guest_container import CGROUP, DEV, FILES, MQUEUE, PROC, PTS, SYS, USUAL
from tests.unit.guest.wire_client import Refused

OTHERS_SHM = {"type": "container", "source": "c1", "target": "/dev/shm"}
SHARING = [PROC, DEV, PTS, OTHERS_SHM, MQUEUE, SYS, CGROUP, *FILES]
ALONE = "until [ $(ps -o args | grep -c '^sleep 2222$') = 0 ]; do sleep 0.01; done"


def begin(guest: Guest, name: str, *words: str, init: bool = False, **args: Any) -> None:
    """A container of this name whose first process is called first-NAME."""
    guest.container(name, **args)
    again(guest, name, *words, init=init)


def again(guest: Guest, name: str, *words: str, init: bool = False) -> None:
    guest.start(f"first-{name}", *(words or ("sleep", "1000")), container=name, first=True, init=init)


def end(guest: Guest, name: str) -> int:
    """Kill its first process: the status."""
    guest.host.call("process.signal", process=f"first-{name}", signal=9)
    return forget(guest, name)


def forget(guest: Guest, name: str) -> int:
    status: int = guest.host.exit_of(f"first-{name}")["status"]
    guest.host.events = [event for event in guest.host.events if event.get("process") != f"first-{name}"]
    guest.host.call("process.forget", process=f"first-{name}")
    return status


def said(guest: Guest, name: str, script: str) -> str:
    return guest.sh(script, container=name)[1].strip()


def namespaces(guest: Guest, name: str) -> dict[str, str]:
    """Of one more process in it."""
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    own = said(guest, name, f"cd /proc/self/ns; for n in {' '.join(kinds)}; do readlink $n; done").split()
    assert len(own) == len(kinds)
    return dict(zip(kinds, own, strict=True))


def shared(guest: Guest, *names: str) -> set[str]:
    first, *others = (namespaces(guest, name) for name in names)
    return {kind for kind in first if all(other[kind] == first[kind] for other in others)}


@pytest.mark.parametrize("init", [False, True])
def test_processes_of_both_see_each_other(guest: Guest, init: bool) -> None:
    begin(guest, "c1", "sleep", "1111", init=init)
    begin(guest, "c2", "sh", "-c", "sleep 2222 & sleep 3333; true", pid_of="c1")
    assert shared(guest, "c1", "c2") == {"ipc", "net", "pid", "uts"}
    for name in ("c1", "c2"):
        seen = said(guest, name, "ps -o args")
        assert "sleep 1111" in seen and "sleep 3333" in seen
        assert said(guest, name, "cat /proc/1/comm") == ("init" if init else "sleep")
    listed = guest.host.call("container.processes", id="c2")["processes"]
    assert 1 not in [process["pid"] for process in listed] and len(listed) == 3
    assert end(guest, "c2") == 137
    assert guest.sh(ALONE, container="c1")[0] == 0  # what it has left went after it
    assert said(guest, "c1", "ps -o args | grep -c '^sleep 1111$'") == "1"
    again(guest, "c2")
    assert shared(guest, "c1", "c2") >= {"pid"}


def test_the_end_of_pid_1_is_the_end_of_all_in_its_namespace(guest: Guest) -> None:
    begin(guest, "c1")
    begin(guest, "c2", pid_of="c1")
    begin(guest, "c3", pid_of="c2")
    begin(guest, "c4")
    assert shared(guest, "c1", "c2", "c3") >= {"pid"} and "pid" not in shared(guest, "c1", "c4")
    assert end(guest, "c2") == 137
    assert said(guest, "c3", "echo here") == "here"  # it was not that one's namespace
    assert end(guest, "c1") == forget(guest, "c3") == 137
    with pytest.raises(Refused, match="join container c1, which does not run") as refused:
        again(guest, "c2")
    assert refused.value.errno == errno.ESRCH
    again(guest, "c1")
    again(guest, "c2")
    assert shared(guest, "c1", "c2") >= {"pid"}
    guest.host.call("container.remove", id="c1")
    assert forget(guest, "c2") == 137
    with pytest.raises(Refused, match="find container c1"):
        again(guest, "c2")
    assert said(guest, "c4", "echo here") == "here"


def test_ipc_is_ones_own(guest: Guest) -> None:
    """Queues that others have in the namespace of the guest are not seen, whether file systems were staged or not."""
    guest.host.call("stage", targets=[], mounts=USUAL)
    begin(guest, "c1", all_mounts=USUAL)
    begin(guest, "c2", all_mounts=USUAL, own_ipc=True)
    begin(guest, "c3", all_mounts=USUAL, own_ipc=True)
    assert shared(guest, "c1", "c2") == shared(guest, "c2", "c3") == {"net", "uts"}
    for name in ("c1", "c2", "c3"):
        assert said(guest, name, f"touch /dev/mqueue/{name} /dev/shm/{name}; ls /dev/mqueue /dev/shm").split() == [
            "/dev/mqueue:", name, "/dev/shm:", name,
        ]  # fmt: skip
    end(guest, "c2")
    again(guest, "c2")
    assert said(guest, "c2", "ls /dev/mqueue") == ""


def test_ipc_is_that_of_another_one(guest: Guest) -> None:
    begin(guest, "c1", all_mounts=USUAL, own_ipc=True)
    begin(guest, "c2", all_mounts=SHARING, ipc_of="c1")
    begin(guest, "c3", all_mounts=SHARING, ipc_of="c2")
    assert shared(guest, "c1", "c2", "c3") == {"ipc", "net", "uts"}
    said(guest, "c1", "echo shared > /dev/shm/file; touch /dev/mqueue/queue")
    for name in ("c2", "c3"):
        assert said(guest, name, "cat /dev/shm/file; ls /dev/mqueue").split() == ["shared", "queue"]
        assert "noexec" in said(guest, name, "grep ' /dev/shm ' /proc/mounts")
    end(guest, "c1")
    guest.host.call("container.remove", id="c1")
    assert said(guest, "c2", "cat /dev/shm/file; ls /dev/mqueue").split() == ["shared", "queue"]
    end(guest, "c2")
    with pytest.raises(Refused, match="find container c1"):
        again(guest, "c2")


def test_what_the_other_one_makes_of_its_folders_leads_nowhere(guest: Guest) -> None:
    """Its /dev is its own to change: a link there is not followed."""
    begin(guest, "c1", all_mounts=[PROC, DEV, SYS])
    said(guest, "c1", "ln -s /proc /dev/shm")
    with pytest.raises(Refused, match="mount on /dev/shm"):
        guest.container("c2", all_mounts=SHARING, ipc_of="c1")
    said(guest, "c1", "rm /dev/shm; ln -s / /dev/x")
    with pytest.raises(Refused, match="mount on /dev/shm"):
        guest.container("c2", all_mounts=SHARING, ipc_of="c1")
    assert [each["id"] for each in guest.host.call("list")["containers"]] == ["c1"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"pid_of": "c1", "ipc_of": "c1", "own_ipc": True}, "its IPC namespace is its own, and that of c1"),
        ({"pid_of": "../c1"}, "name a container"),
        ({"ipc_of": "x" * 65}, "name a container"),
        ({"pid_of": 1}, "pid_of"),
        ({"all_mounts": [{"type": "container", "target": "/dev/shm"}]}, "a container has a source"),
        ({"all_mounts": [{"type": "container", "target": "/dev/shm", "source": "no"}]}, "find container no"),
        ({"all_mounts": [{"type": "container", "target": "/x", "source": "c2"}]}, "find container c2"),
        ({"all_mounts": [{"type": "container", "target": "/x", "source": "c1", "options": ["size=1"]}]}, "size=1"),
    ],
)
def test_what_makes_no_sense_is_refused(running: Guest, args: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        running.container("c2", **args)
    assert [each["id"] for each in running.host.call("list")["containers"]] == ["c1"]


@pytest.mark.parametrize("kind", ["pid_of", "ipc_of"])
def test_nobody_joins_one_that_does_not_run(guest: Guest, kind: str) -> None:
    for name, other in (("c1", "c1"), ("c2", "c3"), ("c3", "c2"), ("c4", "nobody")):
        guest.container(name, **{kind: other})
        with pytest.raises(Refused) as refused:
            again(guest, name)
        assert refused.value.errno in (errno.ESRCH, errno.ENOENT)
    assert guest.host.call("list")["processes"] == []
    guest.host.call("ping")
