"""Pods of a kubelet: made, looked at, asked for again, found again after hyperd has died."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from msgspec.structs import replace

from hypercontainer.agent.messages import ContainerCreate, Rootfs
from hypercontainer.engine import kube_checkpoint, kube_events
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import (
    AlreadyExists,
    Exhausted,
    GuestError,
    InUse,
    InvalidInput,
    NotFound,
    TimedOut,
    WrongState,
)
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri import stats
from hypercontainer.model.container import IdMap, IdRange, Resources, Users
from hypercontainer.model.figures import Figure
from hypercontainer.model.kube import (
    KubeContainer,
    KubeDevice,
    KubeEvent,
    KubeIdentity,
    KubeImage,
    KubePod,
    KubeSecurity,
)
from hypercontainer.model.pod_network import HostPort
from hypercontainer.model.record import BlockRecord, DiskRecord
from hypercontainer.model.settings import Handler
from hypercontainer.model.spec import NONE, ContainerSpec, Dns, EndpointSpec, ExecSpec, Mount, PodSpec
from hypercontainer.network import dns as names
from hypercontainer.sandbox import agent_requests, rootfs
from hypercontainer.testing.fake_agent import FakeAgent
from hypercontainer.testing.fakes import FakeGuest
from tests.unit.engine.test_recovery import forsake
from tests.unit.engine.world import World

POD = KubePod(name="web", uid="u1", namespace="default", labels={"app": "web"}, annotations={"a": "b"}, request="r1")
CONTAINER = KubeContainer(name="one", image="docker.io/library/busybox:latest", request="c1")
ALONE = PodSpec(networks=[EndpointSpec(network=NONE)])
MIB = 1 << 20


async def run(engine: LocalEngine, **changes: object) -> str:
    return await engine.kube.run(replace(POD, **changes), ALONE)


async def make(engine: LocalEngine, pod: str, *command: str, limits: Resources | None = None, **changes: object) -> str:
    spec = ContainerSpec(image="busybox", command=list(command) or ["cat"], open_stdin=True, log="none")
    return await engine.kube.create(pod, replace(CONTAINER, **changes), spec, limits or Resources())


def have_older_guests(world: World) -> None:
    """Who tell what one of their containers uses, and not what all do."""
    make = world.hypervisor.make_agent

    def older() -> FakeAgent:
        agent = make()
        agent.features.remove("pod.stats")
        return agent

    world.hypervisor.make_agent = older


async def ended(engine: LocalEngine, id: str) -> None:
    container = engine.kube._find(id)[1]
    while container.alive and container.exit:
        await asyncio.wait([container.exit])


async def test_what_is_searched_is_what_its_kubelet_says(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Dns(nameservers=["192.0.2.1"], search=["host.example"], options=["timeout:9"])
    monkeypatch.setattr(names, "host_dns", lambda: host)
    asked, searched = Dns(nameservers=["10.0.0.10"]), Dns(search=["svc"])
    plugins = Dns(nameservers=["10.1.0.1"], search=["pods"])
    for dns, told in ((asked, asked), (searched, replace(searched, nameservers=["192.0.2.1"])), (Dns(), plugins)):
        pod = await engine.kube.run(replace(POD, uid=str(dns)), replace(ALONE, dns=dns))
        assert engine.supervisor.pods[pod].machine.interfaces.dns(None) == told
        await engine.kube.remove(pod)


IDS = [IdRange(inside=0, outside=65536, size=65536)]


async def test_a_user_namespace(engine: LocalEngine, tmp_path: Path) -> None:
    """What the guest's root makes for a container is as its own root's, and so is what it is shown with mapped ids."""
    pod = await run(engine, users=Users(uids=IDS, gids=IDS))
    record = engine.kube._pod(pod).record
    asked = agent_requests.pod_setup(record, [], share=True)
    assert asked.users and (asked.users.uids[0].outside, asked.users.gids[0].size) == (65536, 65536)
    spec = ContainerSpec(
        image="busybox",
        log="none",
        mounts=[Mount(type="bind", source=str(tmp_path), target=place) for place in ("/mapped", "/as-it-is")],
    )
    ids = IdMap(uids=IDS, gids=IDS)
    security = KubeSecurity(ids={"/mapped/": ids}, devices=[KubeDevice(path="/dev/fuse", target="")])
    id = await engine.kube.create(pod, CONTAINER, spec, Resources(), security)
    made = engine.kube._find(id)[1].record
    assert {mount.target: mount.ids for mount in made.mounts} == {"/mapped": ids, "/as-it-is": None}
    assert [(device.uid, device.gid) for device in made.config.devices] == [(65536, 65536)]
    options = {mount.destination: mount.options for mount in made.config.mounts}
    assert {"uid=65536", "gid=65536"} <= {*options["/dev"]} and "gid=65541" in options["/dev/pts"]
    told = await engine.kube.container(id)
    assert [mount.ids for mount in told.mounts] == [ids, None]
    assert (await engine.kube.state(pod)).pod.users == record.kube.users  # type: ignore[union-attr]
    await engine.kube.remove(pod)


@pytest.fixture
def private_and_shared(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two mounts, of which the second can be followed."""
    places = tmp_path / "private", tmp_path / "shared"
    for place in places:
        place.mkdir()
        subprocess.run(["mount", "--bind", place, place], check=True)
        subprocess.run(["mount", f"--make-{place.name}", place], check=True)
    yield places
    subprocess.run(["umount", *places], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
async def test_what_is_with_that_which_is_mounted_below(
    engine: LocalEngine, private_and_shared: tuple[Path, Path]
) -> None:
    pod = await run(engine)
    private, shared = map(str, private_and_shared)
    binds = {"/alike": private, "/own": private, "/followed": shared}
    mounts = [Mount(type="bind", source=source, target=place, read_only=True) for place, source in binds.items()]
    spec = ContainerSpec(image="busybox", log="none", mounts=mounts)
    security = KubeSecurity(below={"/own/": "own", "/followed": "followed"})
    id = await engine.kube.create(pod, CONTAINER, spec, Resources(), security)
    told = {mount.target: mount.below for mount in (await engine.kube.container(id)).mounts}
    assert told == {"/alike": "same", "/own": "own", "/followed": "followed"}
    record = engine.kube._find(id)[1].record
    asked = agent_requests.container_create(record, further=["/own"]).all_mounts or []
    assert {each.target: each.options for each in asked if each.target in ("/alike", "/own")} == {
        "/alike": ["ro"],
        "/own": [],
    }
    with pytest.raises(InvalidInput, match=r"cannot have mount propagation at /own .*: make that a shared one"):
        other = KubeSecurity(below={"/own": "followed"})
        await engine.kube.create(pod, replace(CONTAINER, name="two"), spec, Resources(), other)
    await engine.kube.remove(pod)


async def test_a_life(engine: LocalEngine, world: World) -> None:
    pod = await run(engine)
    [listed] = await engine.kube.list()
    assert (listed.id, listed.ready, listed.pod) == (pod, True, POD)
    id = await make(engine, pod)
    made = await engine.kube.container(id)
    assert (made.state, made.pod, made.container, made.started_ns) == ("created", pod, CONTAINER, 0)
    await engine.kube.start(id)
    await engine.kube.start(id)  # a kubelet asks again
    assert (await engine.kube.container(id)).state == "running"
    await engine.kube.stop_container(id, 10)
    await engine.kube.stop_container(id, 10)
    stopped = await engine.kube.container(id)
    assert stopped.state == "exited" and stopped.finished_ns >= stopped.started_ns > 0 and stopped.reason == "Error"
    assert (await engine.kube.state(pod)).ready  # though nobody is left in it
    await engine.kube.remove_container(id)
    with pytest.raises(NotFound):
        await engine.kube.container(id)
    await engine.kube.stop(pod)
    await engine.kube.stop(pod)
    assert not (await engine.kube.state(pod)).ready
    await engine.kube.remove(pod)
    assert await engine.kube.list() == []
    await world.check_nothing_left()


async def test_whose_it_is_and_what_it_shares(engine: LocalEngine) -> None:
    pod = await run(engine)
    id = await make(engine, pod)
    assert (await engine.kube.container(id)).identity is None
    await engine.kube.start(id)
    assert (await engine.kube.container(id)).identity == KubeIdentity(uid=1000, gid=100, groups=[100])
    record = engine.kube._find(id)[1].record
    assert record.config.process.memberships == "merge"
    assert [m.source for m in record.config.mounts if m.destination == "/dev/shm"] == ["shm"]
    security = KubeSecurity(memberships="strict", ambient=["CAP_CHOWN"], seccomp=b"filter")
    spec = ContainerSpec(image="busybox", command=["cat"], log="none")
    other = await engine.kube.create(pod, replace(CONTAINER, name="two"), spec, Resources(), security)
    process = engine.kube._find(other)[1].record.config.process
    assert (process.memberships, process.seccomp, process.capabilities.ambient) == ("strict", b"filter", ["CAP_CHOWN"])
    assert "CAP_CHOWN" in process.capabilities.inheritable
    await engine.kube.remove(pod)


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (KubeDevice(path="/no/such", target="/dev/x"), "give device /no/such: No such file"),
        (KubeDevice(path="/", target="/dev/x"), "no devices of the host"),
    ],
)
async def test_devices_that_no_container_has(engine: LocalEngine, device: KubeDevice, words: str) -> None:
    pod = await run(engine)
    spec = ContainerSpec(image="busybox", command=["cat"], log="none")
    with pytest.raises(InvalidInput, match=words):
        await engine.kube.create(pod, CONTAINER, spec, Resources(), KubeSecurity(devices=[device]))
    fuse = KubeSecurity(devices=[KubeDevice(path="/dev/fuse", target="/dev/f")])
    id = await engine.kube.create(pod, CONTAINER, spec, Resources(), fuse)
    record = engine.kube._find(id)[1].record
    assert [each.path for each in record.config.devices] == ["/dev/f"] and record.blocks == []
    disk = DiskRecord(target=130, path="/dev/loop0", read_only=False, device=True)
    record.blocks = [BlockRecord(path="/dev/xvda", disk=disk, mode=0o660, uid=0, gid=6)]
    told = agent_requests.container_create(record).devices[-1]
    assert (told.path, told.type, told.mode, told.gid, told.target) == ("/dev/xvda", "b", 0o660, 6, 130)
    assert rootfs.disks([record])[-1] == disk
    record.blocks = []
    await engine.kube.remove(pod)


async def test_an_image_is_a_volume(engine: LocalEngine) -> None:
    pod = await run(engine)
    spec = ContainerSpec(image="busybox", command=["cat"], log="none")

    async def made(*volumes: KubeImage) -> str:
        return await engine.kube.create(pod, CONTAINER, spec, Resources(), KubeSecurity(images=list(volumes)))

    volume = KubeImage(image="busybox", target="/m/", subpath="./bin")
    for wrong, error in (
        ([replace(volume, image="missing")], NotFound),
        ([replace(volume, subpath="../x")], InvalidInput),
        ([replace(volume, subpath="bin/no/such")], InvalidInput),
        ([volume, volume], InvalidInput),
    ):
        with pytest.raises(error):
            await made(*wrong)
    id = await made(volume)
    [told] = (await engine.kube.container(id)).mounts
    assert (told.target, told.image, told.subpath, told.read_only) == ("/m", "busybox", "bin", True)
    record = engine.kube._find(id)[1].record
    assert told.image_id == record.image_id
    disk = rootfs.disks([record])[-1]
    asked = (agent_requests.container_create(record).all_mounts or [])[-1]
    assert (asked.type, asked.target, asked.source) == ("disk", "/m", f"{disk.target}/bin") and disk.read_only
    await engine.kube.remove(pod)


async def test_it_is_nobody_elses(engine: LocalEngine) -> None:
    pod = await run(engine)
    id = await make(engine, pod)
    assert await engine.containers.list(all=True, filters={}) == []
    with pytest.raises(NotFound):
        await engine.containers.inspect(id)
    assert await engine.bundles.list("") == []
    await engine.kube.remove(pod)


async def test_its_machine_is_removed_by_who_asks_for_it(engine: LocalEngine, world: World) -> None:
    pod = await run(engine)
    await engine.kube.start(await make(engine, pod))
    assert await engine.pods.list(all=True, filters={}) == []
    [entry] = await engine.pods.list(all=True, filters={}, all_owners=True)
    assert (entry.id, entry.owner, entry.kube, entry.containers) == (pod, "cri", "default/web", ["one"])
    for refused in (engine.pods.stop(pod, None), engine.pods.pause(pod[:6]), engine.pods.start(pod)):
        with pytest.raises(InvalidInput, match="another engine, cri"):
            await refused
    with pytest.raises(InvalidInput, match="another engine, cri"):
        await engine.pods.remove(pod, force=True, volumes=True)
    await engine.pods.remove(pod, force=True, volumes=True, all_owners=True)
    assert await engine.kube.list() == []
    await world.check_nothing_left()


async def test_the_same_request_makes_no_second_one(engine: LocalEngine) -> None:
    pod = await run(engine)
    assert await run(engine) == pod
    with pytest.raises(AlreadyExists):
        await run(engine, request="another")
    other = await run(engine, attempt=1)
    id = await make(engine, pod)
    assert await make(engine, pod) == id
    with pytest.raises(AlreadyExists):
        await make(engine, pod, request="another")
    assert await make(engine, pod, attempt=1, request="another") != id
    for each in (pod, other):
        await engine.kube.remove(each)
        with pytest.raises(NotFound):
            await engine.kube.remove(each)


async def test_what_cannot_be_made_leaves_nothing(engine: LocalEngine, world: World) -> None:
    pod = await run(engine)
    with pytest.raises(NotFound):
        await engine.kube.create(pod, CONTAINER, ContainerSpec(image="missing", log="none"), Resources())
    with pytest.raises(InvalidInput):
        await make(engine, pod, limits=Resources(memory_bytes=1 << 50))
    assert await engine.kube.containers() == []
    assert await make(engine, pod)  # of the same name
    await engine.kube.remove(pod)
    await world.check_nothing_left()


async def test_a_machine_that_does_not_come_leaves_no_pod(engine: LocalEngine, world: World) -> None:
    with pytest.raises(InvalidInput):
        await engine.kube.run(POD, replace(ALONE, memory_mib=1 << 30))
    assert await engine.kube.list() == []
    await world.check_nothing_left()


async def test_a_stopped_pod_takes_no_more(engine: LocalEngine) -> None:
    pod = await run(engine)
    id = await make(engine, pod)
    await engine.kube.stop(pod)
    with pytest.raises(WrongState, match="not ready"):
        await engine.kube.start(id)
    with pytest.raises(WrongState, match="not ready"):
        await make(engine, pod, attempt=1)
    await engine.kube.remove(pod)


async def test_a_process_that_cannot_begin_has_ended(engine: LocalEngine) -> None:
    pod = await run(engine)
    id = await make(engine, pod, "/no/such")
    with pytest.raises(GuestError):
        await engine.kube.start(id)
    found = await engine.kube.container(id)
    assert (found.state, found.reason, found.exit_code) == ("exited", "StartError", 127) and found.message
    with pytest.raises(WrongState):
        await engine.kube.start(id)
    await engine.kube.remove(pod)


async def test_a_container_that_the_guest_cannot_make_is_no_success(engine: LocalEngine) -> None:
    pod = await run(engine)
    id = await make(engine, pod)
    guest = engine.kube._pod(pod).machine.running().guest
    assert isinstance(guest, FakeGuest)
    there = ContainerCreate(id=id, rootfs=Rootfs(), masked_paths=[], readonly_paths=[])
    guest.agent.containers[id] = there  # so it is refused
    with pytest.raises(GuestError, match="it exists"):
        await engine.kube.start(id)
    found = await engine.kube.container(id)
    assert (found.state, found.reason, found.exit_code) == ("exited", "StartError", 128)
    await engine.kube.remove(pod)


async def test_its_end_is_seen(engine: LocalEngine) -> None:
    pod = await run(engine)
    id = await make(engine, pod, "true")
    await engine.kube.start(id)
    await ended(engine, id)
    found = await engine.kube.container(id)
    assert (found.state, found.reason, found.exit_code) == ("exited", "Completed", 0)
    await engine.kube.remove(pod)


async def test_its_log_is_where_the_kubelet_looks(engine: LocalEngine, tmp_path: Path) -> None:
    pod, log = await run(engine), tmp_path / "0.log"
    id = await make(engine, pod, log=str(log))
    await engine.kube.start(id)
    assert log.read_text() == ""  # nothing was said yet
    session = await engine.kube.attach(id, stdin=True, stdout=True, stderr=False)
    await session.write(b"a line\n")
    async for _ in session:
        break
    await session.detach()
    assert log.read_text().endswith(" stdout F a line\n")
    log.rename(tmp_path / "0.log.1")
    await engine.kube.reopen_log(id)
    assert log.exists()
    await engine.kube.stop_container(id, 0)
    with pytest.raises(WrongState):
        await engine.kube.reopen_log(id)
    await engine.kube.remove(pod)


async def test_exec(engine: LocalEngine) -> None:
    pod = await run(engine)
    id = await make(engine, pod)
    with pytest.raises(WrongState):
        await engine.kube.exec(id, ExecSpec(command=["true"]))
    await engine.kube.start(id)
    session = await engine.kube.exec(id, ExecSpec(command=["exit", "4"]))
    assert await session.wait() == 4
    await session.detach()
    await engine.kube.remove(pod)


async def test_what_it_uses(engine: LocalEngine) -> None:
    pod = await run(engine)
    one, two = await make(engine, pod), await make(engine, pod, name="two")
    assert await engine.kube.usage(pod) == {}
    with pytest.raises(WrongState, match="measure"):
        await stats.Stats(engine).of_container(pb.ContainerStatsRequest(container_id=one))
    await engine.kube.start(one)
    assert list(await engine.kube.usage(pod)) == [one]
    await engine.kube.start(two)
    found = await engine.kube.usage(pod)
    assert {id: (used.pids, disk >= 0) for id, (used, disk) in found.items()} == {one: (1, True), two: (1, True)}
    await engine.kube.remove(pod)


@pytest.mark.parametrize("learnt", [True, False], ids=["a guest of now", "one that tells of one at a time"])
async def test_a_machine_is_asked_once_what_all_in_it_use(engine: LocalEngine, world: World, *, learnt: bool) -> None:
    if not learnt:
        have_older_guests(world)
    pods = [await run(engine, name=name) for name in ("one", "two")]
    made = [await make(engine, pod, name=name) for pod in pods for name in ("c", "d")]
    for container in made:
        await engine.kube.start(container)
    agents = [guest.agent for guest in world.hypervisor.alive]
    before = [len(agent.requests) for agent in agents]
    told = (await stats.Stats(engine).of_containers(pb.ListContainerStatsRequest())).stats
    assert [each.attributes.id for each in told] == made
    asked = [[op for op, _ in agent.requests[n:]] for agent, n in zip(agents, before, strict=True)]
    assert asked == [["pod.stats"] if learnt else ["container.stats"] * 2] * 2
    for pod in pods:
        await engine.kube.remove(pod)


async def test_a_container_that_an_old_guest_has_no_more_is_left_out(engine: LocalEngine, world: World) -> None:
    have_older_guests(world)
    pod = await run(engine)
    one, two = await make(engine, pod), await make(engine, pod, name="two")
    for container in (one, two):
        await engine.kube.start(container)
    [agent] = [guest.agent for guest in world.hypervisor.alive]
    held = agent.containers.pop(one)
    assert list(await engine.kube.usage(pod)) == [two]
    agent.containers[one] = held
    await engine.kube.remove(pod)


async def test_the_image_is_in_use(engine: LocalEngine) -> None:
    pod = await run(engine)
    await make(engine, pod)
    with pytest.raises(InUse):
        await engine.images.remove("busybox", force=False)
    [entry] = await engine.images.list({})
    assert entry.containers == 1
    await engine.kube.remove(pod)


async def test_a_pod_of_no_more_than_is_usual_has_a_usual_machine(engine: LocalEngine, world: World) -> None:
    usual = world.settings.memory_mib
    for asked, has in ((0, 0), (100, 0), (usual - 64, 0), (usual, usual + 64)):
        assert engine.kube._sized(PodSpec(memory_mib=asked), Handler()).memory_mib == has


async def test_a_machine_grows_for_its_pod_and_never_shrinks(engine: LocalEngine, world: World) -> None:
    pod, usual = await run(engine), world.settings.memory_mib
    machine = engine.kube._pod(pod).machine
    for vcpus, memory_mib, has in (
        (0, 0, (1, usual)),
        (1, usual - 64, (1, usual)),
        (3, usual, (3, usual + 64)),
        (2, 0, (3, usual + 64)),
        (0, 100, (3, usual + 64)),
    ):
        await engine.kube.enlarge(pod, vcpus, memory_mib)
        size = await machine.running().guest.size()
        assert (size.vcpus, size.memory_mib) == has
    for absurd in ((1000, 0), (0, 1 << 30)):
        with pytest.raises(InvalidInput):
            await engine.kube.enlarge(pod, *absurd)
    assert machine.record.spec.memory_mib == usual + 64
    await forsake(engine)
    again = await world.engine()
    assert again.kube._pod(pod).record.spec.vcpus == 3
    await again.kube.stop(pod)
    with pytest.raises(WrongState, match="not ready"):
        await again.kube.enlarge(pod, 4, 0)
    await again.kube.remove(pod)
    with pytest.raises(NotFound):
        await again.kube.enlarge(pod, 4, 0)
    await world.check_nothing_left()


async def test_a_guest_that_does_not_answer_holds_up_no_figures(
    engine: LocalEngine, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "ANSWER_S", 0.05)
    pod = await run(engine)
    one = await make(engine, pod)
    await engine.kube.start(one)
    asked, agent = stats.Stats(engine), world.hypervisor.alive[0].agent
    [(_, [sample])] = await asked.sampled(await engine.kube.list())
    assert (await asked.with_files(sample)).files.descriptors == 3
    agent.unanswered.add("container.files")
    assert await asked.with_files(sample) == sample
    agent.unanswered.add("pod.stats")
    [(_, samples)] = await asked.sampled(await engine.kube.list())
    assert samples == []
    with pytest.raises(TimedOut, match=f"pod {pod} was not measured: its machine does not answer"):
        await asked.of_container(pb.ContainerStatsRequest(container_id=one))
    agent.unanswered.clear()
    await engine.kube.remove(pod)


async def test_another_hyperd_has_all_of_it(engine: LocalEngine, world: World, tmp_path: Path) -> None:
    pod = await run(engine)
    runs = await make(engine, pod, log=str(tmp_path / "0.log"))
    waits = await make(engine, pod, name="two")
    ends = await make(engine, pod, "exit", "3", name="three")
    await engine.kube.start(runs)
    await engine.kube.start(ends)
    await ended(engine, ends)
    before = [await engine.kube.container(id) for id in (runs, waits, ends)], await engine.kube.state(pod)
    await forsake(engine)
    again = await world.engine()
    assert before == ([await again.kube.container(id) for id in (runs, waits, ends)], await again.kube.state(pod))
    assert await run(again) == pod and await make(again, pod, name="two") == waits
    await again.kube.start(waits)
    assert (await again.kube.container(waits)).state == "running"
    await again.kube.remove(pod)
    await world.check_nothing_left()


async def test_a_pod_whose_machine_is_gone_is_not_ready(engine: LocalEngine, world: World) -> None:
    pod = await run(engine)
    id = await make(engine, pod)
    await engine.kube.start(id)
    await forsake(engine)
    for guest in world.hypervisor.alive:
        await guest.kill()
    again = await world.engine()
    assert not (await again.kube.state(pod)).ready
    found = await again.kube.container(id)
    assert found.state == "exited" and found.message
    await again.kube.remove(pod)
    await world.check_nothing_left()


async def test_what_was_half_made_is_gone(engine: LocalEngine, world: World) -> None:
    pod = await run(engine)
    record = engine.supervisor.pods[pod].record
    record.provisional, record.guest, record.nics = True, None, []  # as it is until the machine runs
    engine.supervisor.save(record)
    await forsake(engine)
    again = await world.engine()
    assert again.kube._sweeping
    await again.kube._sweeping
    assert await again.kube.list() == []
    await world.check_nothing_left()


async def test_it_is_in_a_network_from_its_start_to_its_stop(engine: LocalEngine, world: World) -> None:
    pod = await run(engine, ports=[HostPort(8080, 80)])
    [asked] = world.pod_networks.asked
    assert (asked.id, asked.name, asked.namespace, asked.uid) == (pod, "web", "default", "u1")
    assert asked.ports == [HostPort(8080, 80)] and world.pod_networks.connected == {pod}
    dns = engine.supervisor.pods[pod].record.spec.dns  # which its kubelet has not said
    assert (dns.nameservers, dns.search) == (["10.1.0.1"], ["pods"])
    await engine.kube.stop(pod)
    assert world.pod_networks.connected == set()
    await engine.kube.remove(pod)


async def test_without_a_network_there_is_no_pod(engine: LocalEngine, world: World) -> None:
    await engine.kube.network()
    world.pod_networks.refuses = "in /etc/cni/net.d"
    for call in (engine.kube.network(), run(engine)):
        with pytest.raises(NotFound):
            await call
    assert await engine.kube.list() == []
    await world.check_nothing_left()


async def test_networks_forget_pods_that_are_gone(engine: LocalEngine, world: World) -> None:
    stays, goes = await run(engine), await run(engine, name="other")
    record = engine.supervisor.pods[goes].record
    record.provisional = True
    engine.supervisor.save(record)
    await forsake(engine)
    again = await world.engine()
    assert again.kube._sweeping
    await again.kube._sweeping
    assert world.pod_networks.connected == {stays}
    await again.kube.remove(stays)
    await world.check_nothing_left()


async def test_ids_may_be_short(engine: LocalEngine) -> None:
    pod = await run(engine)
    id = await make(engine, pod)
    assert (await engine.kube.container(id[:8])).id == id
    other = await run(engine, name="other")
    with pytest.raises(NotFound):
        await engine.kube.state("")
    for each in (pod, other):
        await engine.kube.remove(each)


async def listening(engine: LocalEngine) -> AsyncGenerator[KubeEvent, None]:
    """What happens from now on."""
    events, before = engine.kube.events(), len(engine.supervisor.kube_events._listeners)
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    assert len(engine.supervisor.kube_events._listeners) == before + 1

    async def all_of_them() -> AsyncGenerator[KubeEvent, None]:
        async with aclosing(events):
            yield await first
            async for each in events:
                yield each

    return all_of_them()


async def heard(events: AsyncGenerator[KubeEvent, None], last: tuple[str, str]) -> list[KubeEvent]:
    """All until this one."""
    found = []
    async with asyncio.timeout(60):
        async for event in events:
            found.append(event)
            if (event.id, event.kind) == last:
                break
    return found


async def test_what_happens_is_told_as_it_was_then(engine: LocalEngine) -> None:
    events = await listening(engine)
    pod = await run(engine)
    id = await make(engine, pod)
    await engine.kube.start(id)
    await engine.kube.stop_container(id, 10)
    other = await make(engine, pod, attempt=1)
    await engine.kube.remove_container(id)
    await engine.kube.stop(pod)
    await engine.kube.remove(pod)
    told = await heard(events, (pod, "deleted"))
    await events.aclose()
    assert [(each.id, each.kind, each.pod.ready, [c.state for c in each.containers]) for each in told] == [
        (pod, "created", True, []),
        (pod, "started", True, []),
        (id, "created", True, ["created"]),
        (id, "started", True, ["running"]),
        (id, "stopped", True, ["exited"]),
        (other, "created", True, ["exited", "created"]),
        (id, "deleted", True, ["created"]),
        (pod, "stopped", False, ["created"]),
        (other, "deleted", False, []),
        (pod, "deleted", False, []),
    ]
    assert [each.time_ns for each in told] == sorted(each.time_ns for each in told)
    assert told[4].containers[0].exit_code and told[4].containers[0].finished_ns


async def test_the_end_of_a_machine_is_told(engine: LocalEngine) -> None:
    pod = await run(engine)
    id = await make(engine, pod)
    await engine.kube.start(id)
    events = await listening(engine)
    await engine.kube._pod(pod).machine.running().guest.kill()
    [whole, part] = await heard(events, (id, "stopped"))
    await events.aclose()
    assert (whole.id, whole.kind, whole.pod.ready) == (pod, "stopped", False)
    assert [(c.state, c.exit_code) for c in part.containers] == [("exited", 255)] and part.containers[0].message
    await engine.kube.remove(pod)


async def test_what_never_began_is_told_to_have_ended(engine: LocalEngine) -> None:
    pod = await run(engine)
    id = await make(engine, pod, "/no/such")
    events = await listening(engine)
    with pytest.raises(GuestError):
        await engine.kube.start(id)
    [event] = await heard(events, (id, "stopped"))
    await events.aclose()
    assert [c.reason for c in event.containers] == ["StartError"]
    await engine.kube.remove(pod)


async def test_who_is_too_slow_is_told_so_and_holds_nobody_up(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_events, "QUEUE", 2)
    slow, quick = await listening(engine), await listening(engine)
    pod = await run(engine)
    assert [each.kind for each in await heard(quick, (pod, "started"))] == ["created", "started"]
    for attempt in range(2):
        id = await make(engine, pod, attempt=attempt)
        assert [each.kind for each in await heard(quick, (id, "created"))] == ["created"]
    with pytest.raises(Exhausted, match="listen anew"):
        await heard(slow, (pod, "never"))
    await quick.aclose()
    assert not engine.supervisor.kube_events._listeners
    await engine.kube.remove(pod)


async def test_a_pod_that_did_not_come_is_not_told_of(engine: LocalEngine, world: World) -> None:
    events = await listening(engine)
    with pytest.raises(InvalidInput):
        await engine.kube.run(POD, replace(ALONE, memory_mib=1 << 30))
    world.pod_networks.refuses = "in /etc/cni/net.d"
    with pytest.raises(NotFound):
        await run(engine)
    world.pod_networks.refuses = ""
    pod = await run(engine)
    assert [each.kind for each in await heard(events, (pod, "started"))] == ["created", "started"]
    await events.aclose()
    await engine.kube.remove(pod)


async def test_monitoring_knows_of_it_without_its_name(engine: LocalEngine) -> None:
    pod = await run(engine)
    id = await make(engine, pod)
    await engine.kube.start(id)
    found = {family.name: family.figures for family in await engine.system.figures()}
    assert found["hyperd_pods"] == [Figure(1, {"owner": "kubelet", "state": "running"})]
    assert found["hyperd_containers"] == [Figure(1, {"state": "running"})]
    [own] = found["hyperd_resident_memory_bytes"]
    assert own.value > 1 << 20
    whole = {each.labels["what"]: each.value for each in found["hyperd_start_seconds"] if each.part == "count"}
    assert whole == {"pod": 1, "container": 1}
    assert {each.labels["step"] for each in found["hyperd_start_step_seconds"]} >= {"process"}
    assert "web" not in str(found)
    await engine.kube.stop(pod)
    found = {family.name: family.figures for family in await engine.system.figures()}
    assert found["hyperd_pods"] == [Figure(1, {"owner": "kubelet", "state": "stopped"})]
    assert found["hyperd_vmm_resident_bytes"] == []
    await engine.kube.remove(pod)


async def test_what_has_no_checkpoint(engine: LocalEngine, tmp_path: Path) -> None:
    pod, path = await run(engine), str(tmp_path / "saved.tar")
    id = await make(engine, pod)
    with pytest.raises(WrongState, match=r"cannot checkpoint .*: it is created"):
        await engine.kube.checkpoint(id, path, {}, None)
    await engine.kube.start(id)
    with pytest.raises(InvalidInput, match="give the absolute path"):
        await engine.kube.checkpoint(id, "saved.tar", {}, None)
    with pytest.raises(NotFound):
        await engine.kube.checkpoint("missing", path, {}, None)
    assert list(tmp_path.glob("*.tar")) == []
    await engine.kube.remove(pod)


async def test_what_a_checkpoint_says_of_what_runs(engine: LocalEngine) -> None:
    id = await make(engine, await run(engine), "sh", "-c", "true")
    pod, container = engine.kube._find(id)
    said = kube_checkpoint.spec(pod.record, container.record)
    assert json.loads(json.dumps(said)) == said
    annotations = said["annotations"]
    assert isinstance(annotations, dict)
    assert annotations["io.kubernetes.cri.container-name"] == "one"
    assert annotations["io.kubernetes.cri.sandbox-namespace"] == "default"
    assert said["process"]["args"] == ["sh", "-c", "true"]  # type: ignore[index]
    await engine.kube.remove(pod.record.id)


async def test_an_exec_waits_for_one_that_stands_still(engine: LocalEngine) -> None:
    id = await make(engine, pod := await run(engine))
    await engine.kube.start(id)
    container = engine.kube._find(id)[1]
    with container.held(True), container.held(False):
        waiting = asyncio.create_task(engine.kube.exec(id, ExecSpec(command=["true"])))
        await asyncio.wait([waiting], timeout=0)
        assert not waiting.done()
    session = await waiting
    await session.wait()
    await session.detach()
    await engine.kube.remove(pod)
