"""What other versions left on disk: older files are read as what they were, newer ones are left alone."""

import json
import re
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hypercontainer.engine import config
from hypercontainer.engine.checkpoint import CheckpointStore
from hypercontainer.engine.events import Events
from hypercontainer.engine.local import LocalEngine
from hypercontainer.engine.store import PodStore
from hypercontainer.errors import HyperError, InUse
from hypercontainer.images import index
from hypercontainer.kernel.bundle import KernelStore
from hypercontainer.lib import document
from hypercontainer.model import record, upgrade
from hypercontainer.model.documents import ProcessConfig
from hypercontainer.model.spec import Mount
from hypercontainer.sandbox import rootfs
from hypercontainer.sandbox.log import Log
from hypercontainer.storage.volume import VolumeStore
from tests.conftest import FIRST, SINCE
from tests.unit.engine.world import ADMIN, Run, World

RUNS, POD, CREATED, EXITED, SLEEPS = "287a47486796", "f85b194c120f", "798f0523d24e", "dacf59819c60", "4f1275608b42"
KERNEL = "6.1.0-56-amd64-6.1.192-2"
EVENTS = 27
NEWER = 99


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A copy of what the first hyperd left, below a root of its own, with the folders of the containers' disks."""
    root = tmp_path / "lib"
    shutil.copytree(FIRST / "root", root)
    for path in root.rglob("*.json"):
        path.write_text(
            path.read_text().replace("/var/lib/hyper", str(root)).replace("/run/hyper", str(tmp_path / "run"))
        )
        if path.name == "pod.json":
            for container in json.loads(path.read_text())["containers"]:
                (path.parent / container["id"]).mkdir(exist_ok=True)
    (root / "volumes/kept/_data").mkdir()
    return root


# What the first hyperd left


def test_pods(first: Path) -> None:
    records, unread = PodStore(first / "pods").load()
    assert unread == []
    pods = {pod.id: pod for pod in records}
    states = {pod.id: [(c.name, c.state) for c in pod.containers] for pod in records}
    assert states == {
        CREATED: [("created", "created")],
        EXITED: [("exited", "exited")],
        RUNS: [("runs", "running")],
        POD: [("one", "running"), ("two", "running")],
        SLEEPS: [("sleeps", "suspended")],
    }
    runs = pods[RUNS].containers[0]
    [folder] = [path for path in (first / "pods" / RUNS).iterdir() if path.is_dir()]
    assert isinstance(runs.rootfs, record.DiskRootfsRecord) and runs.rootfs.type == "erofs"
    assert runs.rootfs.disk.path.endswith(".erofs")
    assert runs.rootfs.disk == record.DiskRecord(target=0, path=runs.rootfs.disk.path, read_only=True)
    assert runs.rootfs.scratch == record.DiskRecord(target=1, path=str(folder / "scratch.img"), read_only=False)
    assert [disk.target for disk in rootfs.disks(pods[POD].containers)] == [0, 1, 2, 3]
    assert [c.sinks for c in pods[POD].containers] == [[record.LogSinkRecord()], [record.LogSinkRecord()]]
    assert [(m.type, m.target, m.read_only) for m in runs.mounts] == [
        ("volume", "/kept", False), ("bind", "/bound", True), ("tmpfs", "/t", False),
    ]  # fmt: skip
    [nic], guest = pods[RUNS].nics, pods[RUNS].guest
    assert nic.mac == "02:68:c0:a8:b4:03" and [port.container_port for port in nic.ports] == [80]
    assert nic.addresses == [nic.address, nic.address6] == ["192.168.180.3/24", "fd68:7970:1178:a98f::3/64"]
    assert (nic.gateway, nic.gateway6, nic.name) == ("192.168.180.1", "fd68:7970:1178:a98f::1", "eth0")
    assert pods[CREATED].nics == []
    assert guest and guest.accelerator == "tcg" and runs.spec.restart.max_retries == 3
    assert pods[CREATED].containers[0].spec.cap_add == ["NET_ADMIN"]
    assert pods[SLEEPS].suspended and not pods[POD].implicit
    for pod in records:
        PodStore(first / "pods").save(pod)
    assert PodStore(first / "pods").load() == (records, [])


def test_what_ran_in_a_container_of_the_first_is_what_its_words_mean_now(first: Path) -> None:
    records, _ = PodStore(first / "pods").load()
    containers = [container for pod in records for container in pod.containers]
    assert len(containers) == 6
    for container in containers:
        is_as_said(container)
    [created] = [container for container in containers if container.name == "created"]
    assert "CAP_NET_ADMIN" in created.config.process.capabilities.bounding


def is_as_said(container: record.ContainerRecord) -> None:
    """Its words, resolved now, are what it says of what runs in it."""
    process = container.config.process
    said = {"command": process.args, "entrypoint": [], "env": process.env, "working_dir": process.cwd}
    spec = msgspec.structs.replace(container.spec, **said, user=process.user)
    resolved = config.container(spec, ProcessConfig(), container.mounts, arch="x86_64")  # whose hosts made the records
    assert config.placed(resolved, container.mounts) == config.placed(container.config, container.mounts)
    assert process.args and process.env and process.seccomp


@pytest.mark.parametrize("version", sorted(path.name for path in SINCE.iterdir()))
def test_pods_of_each_version_since_then(version: str, tmp_path: Path) -> None:
    for path in (SINCE / version).iterdir():
        pod = json.loads(path.read_text())
        for container in pod["containers"]:
            (tmp_path / pod["id"] / container["id"]).mkdir(parents=True)
        shutil.copy(path, tmp_path / pod["id"] / "pod.json")
    records, unread = PodStore(tmp_path).load()
    assert unread == [] and str(pod["version"]) == version
    pods = {pod.name: pod for pod in records}
    [runs], [one, two] = pods["runs"].containers, pods["pod"].containers
    for container in (runs, one, two):
        is_as_said(container)
        assert container.sinks == [record.LogSinkRecord()]
    assert [(c.state, c.runs) for c in (runs, one, two)] == [("running", 1), ("running", 1), ("created", 0)]
    for container, pod in ((runs, pods["runs"]), (one, pods["pod"]), (two, pods["pod"])):
        assert rootfs.of(container.rootfs).scratch == Path("/var/lib/hyper/pods", pod.id, container.id, "scratch.img")
    assert [[disk.target for disk in rootfs.disks([c])] for c in (runs, one, two)] == [[0, 1], [0, 1], [2, 3]]
    assert [m.target for m in runs.mounts] == ["/kept", "/bound", "/t"] and runs.config.process.user == "1:1"
    assert (runs.spec.restart.max_retries, runs.labels, runs.streams.stderr) == (3, {"of": "mine"}, 3)
    for pod in records:
        assert [endpoint.network for endpoint in pod.spec.networks] == ["bridge"]
        [nic], guest = pod.nics, pod.guest
        assert (nic.network, nic.name, nic.gateway) == ("bridge", "eth0", "10.0.0.1") and guest
        assert nic.address.startswith("10.0.0.") and guest.run_dir == f"/run/hyper/pods/{pod.id}"
        PodStore(tmp_path).save(pod)
    assert PodStore(tmp_path).load() == (records, [])


def test_memory_that_others_may_have_was_told_again_alone_before_20(tmp_path: Path) -> None:
    pod = json.loads((SINCE / "15/pod.json").read_text())
    pod["containers"][1]["spec"]["as_asked"] = {"IpcMode": "shareable", "MemorySwap": -1}
    for container in pod["containers"]:
        (tmp_path / pod["id"] / container["id"]).mkdir(parents=True)
    (tmp_path / pod["id"] / "pod.json").write_text(json.dumps(pod))
    [[one, two]] = [record.containers for record in PodStore(tmp_path).load()[0]]
    assert [(c.spec.ipc, c.spec.as_asked) for c in (one, two)] == [("", {}), ("shareable", {"MemorySwap": -1})]


def test_checkpoints(first: Path) -> None:
    store = CheckpointStore(first / "checkpoints")
    [checkpoint] = store.all()
    assert (checkpoint.name, checkpoint.container.name) == ("kept", "sleeps")
    assert checkpoint.snapshot.container == checkpoint.container.id
    assert checkpoint.pod.version == record.VERSION


def test_images_volumes_and_kernels(first: Path) -> None:
    images = index.read(first / "images/index.json")
    assert sorted(images.names) == ["docker.io/library/busybox:latest", "example.com/other:1"]
    assert set(images.images) == {image for ids in images.names.values() for image in ids}
    [volume] = VolumeStore(first / "volumes").list()
    assert (volume.name, volume.labels, volume.anonymous) == ("kept", {"of": "mine"}, False)
    assert [kernel.arch for kernel in KernelStore(first).list()] == ["x86_64"]


def test_a_log(first: Path) -> None:
    folder = first / "pods" / EXITED
    [entry] = [path for path in folder.iterdir() if path.is_dir()]
    log = Log(entry / "log", max_bytes=1 << 20, files=2)
    assert log.open(1) == (4, 4)


async def test_events(first: Path) -> None:
    events = Events(first / "events.db")
    actions = []
    async for event in events.follow(0, None, {}):
        actions.append(event.action)
        if len(actions) == EVENTS:
            break
    assert actions[:2] == ["load", "tag"] and "checkpoint" in actions and "suspend" in actions
    events.emit("volume", "destroy", "kept", {})
    events.close()
    with closing(sqlite3.connect(first / "events.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(upgrade.EVENTS),)
        assert db.execute("SELECT count(*) FROM events").fetchone() == (EVENTS + 1,)


async def test_an_engine_begins_where_the_first_one_ended(world: World, first: Path) -> None:
    engine = await world.engine()
    listed = {entry.names[0].lstrip("/"): entry.state for entry in await engine.containers.list(all=True, filters={})}
    assert listed.pop("runs") in ("restarting", "exited")  # as its policy has it, now that the machine is gone
    assert listed == {
        "created": "created", "exited": "exited", "one": "exited", "two": "exited", "sleeps": "suspended",
    }  # fmt: skip
    inspected = await engine.containers.inspect("created")
    assert inspected.config.env[-1] == "A=1"


# Steps


def renamed(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """One from version 1 to 2."""
    return {**{key: value for key, value in pod.items() if key != "name"}, "title": pod["name"]}


def praised(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """One from version 2 to 3."""
    return {**pod, "title": f"the {pod['title']}"}


class Titled(msgspec.Struct):
    """As much of a pod of version 3 as is looked at."""

    version: int
    title: str


class Kept(msgspec.Struct):
    """The same of a checkpoint."""

    version: int
    pod: Titled


def test_a_file_goes_through_each_step_from_its_version_on(tmp_path: Path) -> None:
    path = tmp_path / "pod.json"
    for version, words in ((1, {"name": "web"}), (2, {"title": "web"}), (3, {"title": "the web"})):
        path.write_text(json.dumps({"version": version, **words}))
        before = path.read_bytes()
        assert document.read_versioned(path, Titled, (renamed, praised)) == Titled(3, "the web")
        assert path.read_bytes() == before
    path.write_text(json.dumps({"version": 1, "pod": {"version": 1, "name": "web"}}))
    steps = [upgrade.within("pod", step) for step in (renamed, praised)]
    assert document.read_versioned(path, Kept, steps) == Kept(3, Titled(3, "the web"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"version":4,"title":"web"}', "it is of version 4, which a newer program wrote; this one knows 3"),
        ('{"version":1}', "it is not as version 1 had it: 'name'"),
        ('{"version":2,"title":7,"name":{}}', None),
        ('{"version":0}', "Expected `int` >= 1"),
        ('{"name":"web"}', "missing required field `version`"),
        ('{"version":1,"name":', "truncated"),
        ("[]", "Expected `object`"),
    ],
)
def test_what_is_no_version_of_it_is_told(tmp_path: Path, text: str, why: str | None) -> None:
    path = tmp_path / "pod.json"
    path.write_text(text)
    if why is None:  # a step makes something of it all the same
        assert document.read_versioned(path, Titled, (renamed, praised)).title == "the 7"
        return
    with pytest.raises(HyperError, match=rf"^cannot read {path}: ") as refused:
        document.read_versioned(path, Titled, (renamed, praised))
    assert why in str(refused.value)


# What a newer hyperd left


async def test_a_pod_of_a_newer_version_is_left_alone(world: World, engine: LocalEngine, create: Run) -> None:
    """Its machine runs on, and nothing that is its own is given to another: its user, address, volumes, image."""
    await engine.volumes.create("data", {}, by=ADMIN)
    other = await create("sleep", "1000")
    id = await create("sleep", "1000", mounts=[Mount(type="volume", source="data", target="/d")])
    await engine.containers.start(id)
    before = engine.supervisor.find(id)[0].record
    [nic], path = before.nics, engine.host.pods.folder(before.id) / "pod.json"
    await engine.close()
    path.write_text(path.read_text().replace(f'"version": {record.VERSION}', f'"version": {NEWER}', 1))
    written = path.read_bytes()

    again = await world.engine()
    [guest] = world.hypervisor.alive
    assert world.network.nics == {nic.tap: nic}
    assert [entry.id for entry in await again.containers.list(all=True, filters={})] == [other]
    assert f"version {NEWER}" in (await again.system.info()).warnings[-1]
    with pytest.raises(InUse, match="whose record cannot be read"):
        await again.volumes.remove("data", force=False)
    await again.containers.start(other)
    pod = again.supervisor.find(other)[0].record
    assert pod.uid != before.uid and pod.nics[0].address != nic.address
    await again.containers.remove(other, force=True, volumes=False)
    assert again.host.index.image_user(pod.containers[0].image_id) == f"pod {before.id}, whose record cannot be read"
    assert path.read_bytes() == written
    await again.close()

    path.write_text(path.read_text().replace(f'"version": {NEWER}', f'"version": {record.VERSION}', 1))
    back = await world.engine()
    assert (await back.containers.inspect(id)).state.status == "running" and world.hypervisor.alive == [guest]
    await back.containers.remove(id, force=True, volumes=False)
    await world.check_nothing_left()


def test_a_damaged_record_costs_its_pod_only(first: Path) -> None:
    path = first / "pods" / RUNS / "pod.json"
    path.write_text(path.read_text()[:1000])
    records, [unread] = PodStore(first / "pods").load()
    assert RUNS not in {pod.id for pod in records} and len(records) == 4
    assert (unread.id, unread.uid, unread.nics) == (RUNS, 0, []) and '"kept"' in unread.text


def test_what_is_understood_of_a_record_that_is_not_stays_its_pods(first: Path) -> None:
    path = first / "pods" / RUNS / "pod.json"
    path.write_text(path.read_text().replace('"implicit"', '"unheard_of"', 1))
    _, [unread] = PodStore(first / "pods").load()
    assert unread.uid and [nic.address for nic in unread.nics] == ["192.168.180.3/24"]


async def test_volumes_and_kernels_that_cannot_be_read_stand_in_nobodys_way(engine: LocalEngine) -> None:
    """Damaged, newer, or no file: the others are listed and booted, `info` tells of these."""
    volumes, kernels = engine.host.volumes, KernelStore(Path(engine.host.settings.root))
    for name in ("damaged", "fine", "newer", "strange"):
        await engine.volumes.create(name, {}, by=ADMIN)
        shutil.copytree(FIRST / "root/kernels" / KERNEL, kernels.path / name)
    for file in (volumes.root / "{}/volume.json", kernels.path / "{}/bundle.json"):
        damaged, newer, strange = (Path(str(file).format(name)) for name in ("damaged", "newer", "strange"))
        damaged.write_text("{")
        newer.write_text(f'{{"version":{NEWER}}}')
        strange.unlink()
        strange.mkdir()
    (volumes.root / "stray").touch()
    engine.host.kernels = kernels
    assert [volume.name for volume in await engine.volumes.list({})] == ["fine"]
    assert [bundle.name for bundle in kernels.list()] == ["fine"] and kernels.of("x86_64").name == "fine"
    said = "\n".join((await engine.system.info()).warnings)
    for name in ("volume", "bundle"):
        assert re.search(rf"cannot read .*/damaged/{name}.json: Input data was truncated", said)
        assert re.search(rf"cannot read .*/newer/{name}.json: it is of version {NEWER}", said)
        assert re.search(rf"cannot read .*/strange/{name}.json: Is a directory", said)
    assert (await engine.volumes.prune(all=True, wanted={})).deleted == ["fine"]


async def test_events_of_a_newer_version_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {NEWER}")
    events = Events(path)
    events.emit("volume", "create", "v", {})
    assert [event.action async for event in events.follow(0, 1, {})] == [] and len(events.unwritten) == 1
    events.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (NEWER,)
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == []
