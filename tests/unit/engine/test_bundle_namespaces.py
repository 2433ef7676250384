"""In whose machine a container of another engine is, and in whose namespaces there."""

import os
from pathlib import Path

import pytest

from hypercontainer.engine import bundle_namespaces
from hypercontainer.errors import InvalidInput
from hypercontainer.lib import proc
from hypercontainer.model.bundle import Bundle
from hypercontainer.model.container import ContainerConfig, Mount, Process
from hypercontainer.model.record import (
    VERSION,
    ContainerRecord,
    FolderRootfsRecord,
    PodRecord,
    ProcessRef,
    StandInRecord,
)
from hypercontainer.model.spec import ContainerSpec, PodSpec

SHM = Mount(type="tmpfs", destination="/dev/shm", options=["size=1"])
OURS = f"/proc/{os.getpid()}/ns/net"
GONE = 1 << 30  # no pid


def container(id: str, pid: int) -> ContainerRecord:
    started = proc.start_time(pid) or 1
    return ContainerRecord(
        id=id,
        name=f"name-{id}",
        spec=ContainerSpec(image=""),
        image_id="",
        image_name="",
        config=ContainerConfig(process=Process(args=["x"]), mounts=[SHM]),
        rootfs=FolderRootfsRecord(path="/r", read_only=False),
        sinks=[StandInRecord(key=id, process=ProcessRef(pid=pid, start_time=started))],
        stop_signal=15,
        labels={},
        mounts=[],
        created_ns=1,
    )


def pod(*containers: ContainerRecord, id: str = "p") -> PodRecord:
    return PodRecord(
        version=VERSION,
        id=id,
        name=id,
        spec=PodSpec(),
        implicit=True,
        created_ns=1,
        containers=list(containers),
        owner="engine",
    )


def wanted(netns: str = OURS, *, sandbox: str = "", pinned: bool = False, sysctl: str = "", **paths: str) -> Bundle:
    return Bundle(
        owner="engine",
        id="new",
        path="/b",
        oci_version="1.0.2",
        rootfs="/r",
        config=ContainerConfig(
            process=Process(args=["x"]), mounts=[SHM], hostname="own", sysctl={sysctl: "1"} if sysctl else {}
        ),
        netns=netns,
        namespaces=paths,
        sandbox=sandbox,
        pinned=pinned,
        stand_in=StandInRecord(key="k", process=ProcessRef(pid=1, start_time=1)),
    )


def held(id: str) -> Path:
    return Path(OURS if id == "here" else "/nosuch")


def test_one_network_namespace_is_one_machine() -> None:
    there, other = pod(container("a", os.getpid()), id="here"), pod(id="elsewhere")
    assert bundle_namespaces.sharing([other, there], held, wanted()) is there
    assert bundle_namespaces.sharing([other, there], held, wanted("/proc/self/ns/ipc")) is None
    assert bundle_namespaces.sharing([other], held, wanted("/nosuch")) is None


def test_a_pod_that_is_named_must_be_there() -> None:
    there = pod(container("a", os.getpid()), id="here")
    assert bundle_namespaces.sharing([there], held, wanted(sandbox="name-a")) is there
    for missing, netns in (("name-b", OURS), ("name-a", "/proc/self/ns/ipc")):
        with pytest.raises(InvalidInput, match=f"in the pod of {missing}"):
            bundle_namespaces.sharing([there], held, wanted(netns, sandbox=missing))


def test_namespaces_are_those_of_the_containers_that_stand_there() -> None:
    there = pod(container("a", os.getpid()), container("b", GONE))
    found = bundle_namespaces.joined([there], there, wanted(pid=f"/proc/{GONE}/ns/pid", uts=f"/proc/{GONE}/ns/uts"))
    assert (found.pid_of, found.ipc_of, found.own_ipc, found.hostname) == ("b", "", True, "")
    assert found.mounts == [SHM]
    found = bundle_namespaces.joined([there], there, wanted(ipc=f"/proc/{os.getpid()}/ns/ipc"))
    assert (found.pid_of, found.ipc_of, found.own_ipc, found.hostname) == ("", "a", False, "own")
    assert found.mounts == [Mount(type="container", destination=SHM.destination, source="a")]
    assert bundle_namespaces.joined([there], None, wanted()) == wanted().config


def test_namespaces_at_places_of_an_engines_pod_are_the_machines() -> None:
    there = pod(container("a", os.getpid()))
    paths = {"ipc": "/run/ipcns/x", "uts": "/run/utsns/x"}
    found = bundle_namespaces.joined([there], there, wanted(pinned=True, **paths))
    assert (found.ipc_of, found.own_ipc, found.hostname) == ("", False, "")
    assert found.mounts == [Mount(type="container", destination=SHM.destination, source="a")]
    for bundle in (wanted(ipc="/run/ipcns/x"), wanted(pinned=True, pid="/run/pidns/x"), wanted(uts="/proc/1/ns/uts")):
        with pytest.raises(InvalidInput, match=r"namespace of this host, /\w+/.*it is not in the machine"):
            bundle_namespaces.joined([there], there, bundle)


def test_what_is_in_another_machine_cannot_be_shared() -> None:
    there, other = pod(container("a", os.getpid())), pod(container("b", GONE))
    with pytest.raises(InvalidInput, match="another machine: give it that one's network namespace as well"):
        bundle_namespaces.joined([there, other], there, wanted(ipc=f"/proc/{GONE}/ns/ipc"))
    with pytest.raises(InvalidInput, match="cannot set sysctl kernel"):
        bundle_namespaces.joined([there], there, wanted(sysctl="kernel.shmmax"))
