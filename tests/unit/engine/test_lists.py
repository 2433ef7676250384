"""What filters leave of a list: as docker 20.10 answered with the same things there, or refused in words."""
# ruff: noqa: E501

import re
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from hypercontainer.engine import events
from hypercontainer.engine.filters import matches_reference
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.model.documents import Actor, Event
from hypercontainer.model.record import PortRecord
from hypercontainer.model.spec import Mount, PortMapping
from hypercontainer.sandbox import pod
from tests.unit.engine.world import ADMIN, Run


@pytest.fixture
async def engine_with_three(engine: LocalEngine, create: Run) -> AsyncIterator[LocalEngine]:
    """web, which has port 8088 published; web2, which ended with 3; cr, which never ran."""
    await engine.images.tag("busybox", "foo/bb:1")
    await engine.volumes.create("v1", {}, by=ADMIN)
    mounts = [Mount(type="volume", source="v1", target="/data")]
    web = await create("cat", name="web", labels={"k": "v"}, open_stdin=True)
    await engine.containers.start(web)
    pod = engine.host.index.find_container(web)[0]
    pod.nics[0].ports = [PortRecord(host_ip="", host_port=8088, container_port=80, protocol="tcp")]
    pod.spec = msgspec.structs.replace(pod.spec, ports=[PortMapping(container_port=80, host_port=8088)])
    web2 = await create("exit", "3", name="web2")
    await engine.containers.start(web2)
    await engine.containers.wait(web2)
    await create("true", name="cr", network="none", mounts=mounts)
    yield engine
    await engine.containers.remove("web", force=True, volumes=True)


async def names(engine: LocalEngine, *filters: str, all: bool = True) -> list[str]:
    wanted: dict[str, list[str]] = {}
    for item in filters:
        key, _, value = item.partition("=")
        wanted.setdefault(key, []).append(value)
    return [entry.names[0][1:] for entry in await engine.containers.list(all=all, filters=wanted)]


FOUND = [
    (["name=^web$"], "web"), (["name=^/web$"], "web"), (["name=/web"], "web2 web"), (["name=web"], "web2 web"),
    (["name=WEB"], ""), (["name="], "cr web2 web"), (["name=web2", "name=cr"], "cr web2"), (["name=w.*2"], "web2"), (["name=^(web|cr|x|y|z|u|v)$"], "cr web"),
    (["id=nothing"], ""), (["status=dead"], ""), (["status=exited"], "web2"), (["status=exited", "status=created"], "cr web2"),
    (["exited=3"], "web2"), (["exited=-1"], ""), (["exited=0"], ""), (["ancestor=busybox"], "cr web2 web"),
    (["ancestor=busybox:1"], ""), (["ancestor=foo/bb:1"], "cr web2 web"), (["ancestor=foo/bb"], ""), (["ancestor=nosuch"], ""),
    (["volume=v1"], "cr"), (["volume=/data"], "cr"), (["volume=/da"], ""), (["network=bridge"], "web2 web"),
    (["network=none"], "cr"), (["network=bri"], ""), (["before=web2"], "web"), (["since=web2"], "cr"),
    (["since=web", "before=cr"], "web2"), (["health=none"], "cr web2 web"), (["health=healthy"], ""),
    (["publish=8088"], "web"), (["publish=80"], ""), (["publish=8088/udp"], ""), (["publish=8000-8100/tcp"], "web"),
    (["expose=80"], "web"), (["expose=79-90/tcp"], "web"), (["expose=80/udp"], ""), (["is-task=true"], ""),
    (["is-task=false"], "cr web2 web"), (["isolation=default"], "cr web2 web"), (["label=k"], "web"), (["label=k=v"], "web"),
    (["label=k=x"], ""), (["label=k=v", "label=k2"], ""), (["label="], ""), (["label!=k"], "cr web2"),
    (["label!=k=x"], "cr web2 web"), (["until=1"], ""), (["until=9999999999"], "cr web2 web"), (["pod=web"], "web"),
]  # fmt: skip


async def test_containers_as_docker_finds_them(engine_with_three: LocalEngine) -> None:
    engine = engine_with_three
    assert {" ".join(f): await names(engine, *f) for f, _ in FOUND} == {
        " ".join(f): found.split() for f, found in FOUND
    }
    assert await names(engine, "id=" + engine.host.index.find_container("cr")[1].id[3:9]) == ["cr"]
    assert await names(engine, all=False) == await names(engine, "before=cr", all=False) == ["web"]
    assert await names(engine, "status=created", all=False) == ["cr"]


@pytest.mark.parametrize(
    ("filter", "why"),
    [
        ("status=bogus", "use one of created, running"), ("name=[", "no regular expression"), ("name=(a+)+b", "repeat no group"),
        ("name=.*.*.*.*.*x", "use at most 4"), ("name=" + "a" * 300, "use at most"), ("name=" + "(a|a)" * 30 + "x", "use at most"), ("exited=x", "an exit status"), ("exited=", "exit status"),
        ("exited=٣", "an exit status"), ("health=bogus", "use one of none"), ("publish=x", "use a port"), ("publish=8088/xyz", "use a port"),
        ("publish=70000", "ports are 1"), ("publish=90-80", "the smaller one first"), ("expose=", "use a port"),
        ("is-task=bogus", "use one of true"), ("isolation=hyperv", "use one of default"), ("bogus=1", "invalid filter 'bogus'"),
        ("until=x", "invalid time"), ("until=", "give a time"),
    ],
)  # fmt: skip
async def test_what_can_match_nothing_is_refused(engine: LocalEngine, filter: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        await names(engine, filter)


async def test_a_neighbour_in_time_has_to_be_there(engine: LocalEngine, create: Run) -> None:
    for key in ("before", "since"):
        with pytest.raises(NotFound, match="no such container: nosuch"):
            await names(engine, f"{key}=nosuch")
        with pytest.raises(NotFound, match="no such image: nosuch"):
            await engine.images.list({key: ["nosuch"]})
    await create("true", name="a")
    with pytest.raises(InvalidInput, match="give it once"):
        await names(engine, "before=a", "before=a")


async def test_pods_by_the_same_rules(engine_with_three: LocalEngine) -> None:
    engine = engine_with_three

    async def found(**wanted: Sequence[str]) -> list[str]:
        return [pod.name for pod in await engine.pods.list(all=True, filters=wanted)]

    assert await found(name=["^web$"]) == ["web"]
    assert await found(name=["^web$", "cr"], status=["running"]) == ["web"]
    assert await found(status=["created", "paused"]) == ["cr"]
    assert await found(name=["web"], status=["created"]) == []
    for wrong in ({"status": ["bogus"]}, {"name": ["["]}, {"bogus": ["1"]}):
        with pytest.raises(InvalidInput):
            await found(**wrong)


REFERENCES = {
    "foo/*": "foo/bb:1 foo/bb:2", "foo": "", "foo/bb": "foo/bb:1 foo/bb:2", "foo/bb:*": "foo/bb:1 foo/bb:2",
    "*": "child:1 plain:latest", "*:1": "child:1", "*/*": "foo/bb:1 foo/bb:2", "*/*/*": "reg.io:5000/x/foo:3",
    "*/*/*:3": "reg.io:5000/x/foo:3", "plain": "plain:latest", "docker.io/foo/bb": "", "FOO": "", "foo/[a-b]?:2": "foo/bb:2",
    "reg.io:5000/x/foo": "reg.io:5000/x/foo:3", "foo/[^a]b": "foo/bb:1 foo/bb:2", "foo/b*b*": "foo/bb:1 foo/bb:2",
}  # fmt: skip


def test_references_as_docker_matches_them() -> None:
    every = ["child:1", "foo/bb:1", "foo/bb:2", "plain:latest", "reg.io:5000/x/foo:3"]
    assert {p: " ".join(name for name in every if matches_reference(name, p)) for p in REFERENCES} == REFERENCES


async def test_images(engine: LocalEngine) -> None:
    for name in ("foo/bb:1", "foo/bb:2", "plain"):
        await engine.images.tag("busybox", name)

    async def found(**wanted: Sequence[str]) -> list[str]:
        return [name for entry in await engine.images.list(wanted) for name in entry.repo_tags]

    assert await found(reference=["foo/*"]) == ["foo/bb:1", "foo/bb:2"]  # those of its names alone, as docker
    assert await found(reference=["*:2", "plain"]) == ["plain:latest"]
    assert len(await found(dangling=["false"])) == 4
    assert await found(dangling=["true"]) == await found(label=["nosuch"]) == await found(until=["1"]) == []
    assert await found(before=["plain"]) == await found(since=["plain"]) == []
    assert len(await found(**{"label!": ["nosuch"]})) == 4
    for wrong in (
        {"reference": ["["]},
        {"reference": [""]},
        {"dangling": ["bogus"]},
        {"bogus": ["1"]},
        {"until": ["x"]},
    ):
        with pytest.raises(InvalidInput):
            await found(**wrong)
    with pytest.raises(InvalidInput, match="give it once"):
        await found(dangling=["true", "false"])


async def test_volumes(engine: LocalEngine, create: Run) -> None:
    await engine.volumes.create("v1", {}, by=ADMIN)
    await engine.volumes.create("v2", {"q": "w"}, by=ADMIN)
    await create("true", mounts=[Mount(type="volume", source="v1", target="/data")])

    async def found(**wanted: Sequence[str]) -> list[str]:
        return [volume.name for volume in await engine.volumes.list(wanted)]

    assert await found(driver=["local"]) == await found(name=["v"]) == ["v1", "v2"]
    assert await found(driver=["x"]) == await found(label=["z"]) == []
    assert await found(name=["^v1$"]) == await found(dangling=["false"]) == await found(dangling=["0"]) == ["v1"]
    assert await found(dangling=["true"]) == await found(dangling=["1"]) == await found(label=["q=w"]) == ["v2"]
    for wrong in ({"dangling": ["yes"]}, {"name": ["["]}, {"bogus": ["1"]}):
        with pytest.raises(InvalidInput):
            await found(**wrong)


async def test_prunes_take_what_their_filters_say(engine: LocalEngine) -> None:
    await engine.volumes.create("v1", {"keep": "yes"}, by=ADMIN)
    await engine.volumes.create("v2", {}, by=ADMIN)
    assert (await engine.volumes.prune(all=True, wanted={"label": ["nosuch"]})).deleted == []
    assert (await engine.volumes.prune(all=False, wanted={"label!": ["keep"]})).deleted == []  # they have names
    assert (await engine.volumes.prune(all=True, wanted={"label!": ["keep"]})).deleted == ["v2"]
    assert (await engine.volumes.prune(all=False, wanted={"all": ["true"]})).deleted == ["v1"]
    for wrong in ({"until": ["1"]}, {"bogus": ["1"]}, {"all": ["x"]}):
        with pytest.raises(InvalidInput):
            await engine.volumes.prune(all=True, wanted=wrong)
    assert (await engine.images.prune(all=False, wanted={})).deleted == []
    assert (await engine.images.prune(all=True, wanted={"until": ["1"]})).deleted == []
    assert (await engine.images.prune(all=True, wanted={"label": ["nosuch"]})).deleted == []
    for bad in ({"reference": ["x"]}, {"until": ["x"]}, {"dangling": ["bogus"]}):
        with pytest.raises(InvalidInput):
            await engine.images.prune(all=True, wanted=bad)
    assert len((await engine.images.prune(all=False, wanted={"dangling": ["false"]})).deleted) > 0


def event(kind: str, action: str, name: str, **attributes: str) -> Event:
    actor = Actor(id=f"{name}id", attributes={"name": name, **attributes})
    return Event(type=kind, action=action, actor=actor, time=0, time_nano=0)  # type: ignore[arg-type]


EVENTS = [
    event("pod", "start", "web"), event("container", "start", "web", image="foo/bb:1", k="v", pod="p1", podName="web"),
    event("container", "exec_start: ls -l", "db", image="pg", pod="p2", podName="two"), event("image", "tag", "foo/bb:1"),
    Event(type="volume", action="create", actor=Actor(id="v1", attributes={}), time=0, time_nano=0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"container": ["web"]}, [1]), ({"container": ["webi"]}, [1]), ({"container": ["w", "d"]}, [1, 2]),
        ({"container": ["eb"]}, []), ({"pod": ["web"]}, [0, 1]), ({"pod": ["p2"]}, [2]), ({"image": ["foo/bb"]}, [1, 3]),
        ({"image": ["foo/bb:1"]}, [1, 3]), ({"image": ["foo"]}, []), ({"volume": ["v1"]}, [4]), ({"type": ["pod", "volume"]}, [0, 4]),
        ({"event": ["start"]}, [0, 1]), ({"event": ["exec_start"]}, [2]), ({"event": ["exec_start: ls -l"]}, [2]),
        ({"label": ["k"]}, [1]), ({"label": ["k=v"]}, [1]), ({"label": ["k", "z"]}, []), ({"scope": ["local"]}, [0, 1, 2, 3, 4]),
        ({"type": ["container"], "event": ["start"]}, [1]), ({}, [0, 1, 2, 3, 4]),
    ],
)  # fmt: skip
def test_events(wanted: dict[str, list[str]], found: list[int]) -> None:
    events.check(wanted)
    assert [i for i, event in enumerate(EVENTS) if events.matches(event, wanted)] == found


@pytest.mark.parametrize(
    "wrong", [("type", "bogus"), ("event", "star"), ("scope", "swarm"), ("bogus", "1"), ("daemon", "x")]
)
async def test_events_that_never_come_are_refused(engine: LocalEngine, wrong: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput, match=f"invalid filter '?{wrong[0]}"):
        await engine.system.events(None, None, {wrong[0]: [wrong[1]]})


async def test_each_name_that_goes_is_told_and_then_the_image(engine: LocalEngine) -> None:
    await engine.images.tag("busybox", "second:1")
    [image] = await engine.images.list({"reference": ["second"]})
    since = time.time_ns()
    await engine.images.remove("second:1", force=False)
    await engine.images.remove(image.id, force=False)
    told = [event async for event in await engine.system.events(since, time.time_ns(), {"type": ["image"]})]
    assert [event.action for event in told] == ["untag", "untag", "delete"]
    assert {(event.actor.id, event.actor.attributes["name"]) for event in told} == {(image.id, image.id)}


def test_every_event_that_is_told_can_be_asked_for() -> None:
    rooms = [Path(events.__file__).parent, Path(pod.__file__).parent]
    sources = "".join(path.read_text() for room in rooms for path in room.glob("*.py"))
    told = set(re.findall(r"""(?:pod|found|self)\._?emit\(f?"([a-z_-]+)""", sources)) | {"unpause", "untag"}
    told |= set(re.findall(r'self\._tell\(exec_, f?"(\w+)', sources))
    told |= set(re.findall(r'events\.emit\("\w+", "([\w-]+)"', sources))
    assert {"start", "exec_start", "health_status", "destroy", "pull", "rename", "fork"} <= told
    assert told <= events.ACTIONS


async def test_an_image_that_goes_meanwhile_is_in_no_list(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    there, store = engine.host.images.list(), engine.host.images
    await engine.images.remove("busybox", force=False)
    answers = [there]
    now = store.list
    monkeypatch.setattr(store, "list", lambda: answers.pop() if answers else now())
    assert await engine.images.list({}) == []
    answers = [there, there]  # as where its configuration alone is gone
    with pytest.raises(NotFound, match="pull or load the image again"):
        await engine.images.list({})
