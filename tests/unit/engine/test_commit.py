"""commit, diff and export: the guest tells, the engine believes no more than it must."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from hypercontainer.agent import messages as m
from hypercontainer.agent.wire import WireError
from hypercontainer.engine import commit
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import Exhausted, GuestTooOld, HyperError, InvalidInput, WrongState
from hypercontainer.images.unpack import BadLayer
from hypercontainer.model.spec import Commit, ContainerSpec, Healthcheck, PodSpec
from hypercontainer.sandbox import archive
from hypercontainer.testing import layers as made
from hypercontainer.testing.fake_agent import FakeAgent
from hypercontainer.testing.fake_process import FakeProcess
from tests.unit.engine.world import ADMIN, Run, World
from tests.unit.images.looking import leftovers

LAYER = made.layer([made.member("etc/new", b"new\n"), made.member("etc/.wh.passwd")])


def tell(world: World, mode: str, data: bytes) -> None:
    def agent() -> FakeAgent:
        made = FakeAgent()
        made.told[mode] = data
        return made

    world.hypervisor.make_agent = agent


async def running(engine: LocalEngine, create: Run, **spec: Any) -> str:
    id = await create("sleep", "1000", **spec)
    await engine.containers.start(id)
    return id


def config_of(engine: LocalEngine, name: str) -> dict[str, Any]:
    image = engine.host.images.get(name)
    document: dict[str, Any] = json.loads(engine.host.images.blob(image.id).read_bytes())
    return document


async def test_an_image_is_made_of_a_container(engine: LocalEngine, create: Run, world: World) -> None:
    tell(world, "layer", LAYER)
    check = Healthcheck(test=["CMD", "true"], interval_s=1.5)
    id = await running(engine, create, env=["A=1"], labels={"who": "me"}, healthcheck=check)
    before = engine.host.images.get("busybox")
    wanted = Commit(name="mine:1", author="I", message="why", changes=['CMD ["x"]', "ENV B=2"])
    ref = await engine.containers.commit(id, wanted)
    assert ref.name == "mine:1"
    image = await engine.images.inspect("mine:1")
    assert (image.id, image.parent, image.author, image.comment) == (ref.id, before.id, "I", "why")
    assert image.root_fs.layers == [*before.record.diff_ids, made.digest(LAYER)]
    assert (image.container, image.container_config["Image"]) == (id, "busybox")
    assert (image.config.cmd, image.config.labels) == (["x"], {"who": "me"})
    assert image.config.env[0] == "A=1" and image.config.env[-1] == "B=2"
    assert config_of(engine, ref.id)["config"]["Healthcheck"] == {"Test": ["CMD", "true"], "Interval": 15 * 10**8}
    newest, next_one, *_ = await engine.images.history("mine:1")
    assert (newest.created_by, newest.comment, newest.size) == ("sleep 1000", "why", 4)
    assert (next_one.id, next_one.tags) == (before.id, ["busybox:latest"])
    assert engine.host.images.rootfs(engine.host.images.get("mine:1")).exists()
    again = await engine.containers.create(PodSpec(containers=[ContainerSpec(image="mine:1")]), by=ADMIN)
    assert again.id
    await engine.containers.remove(id, force=True, volumes=False)
    await engine.images.remove("busybox", force=False)
    assert (await engine.images.inspect("mine:1")).parent == ""
    assert [line.id for line in await engine.images.history("mine:1")] == [ref.id, "<missing>"]
    assert leftovers(engine.host.images) == []


async def test_what_changed_nothing_adds_no_layer(engine: LocalEngine, create: Run) -> None:
    id = await running(engine, create)
    ref = await engine.containers.commit(id, Commit(created_by="RUN true"))
    before, after = engine.host.images.get("busybox"), engine.host.images.get(ref.id)
    assert (ref.name, after.record.layers, after.record.chain) == ("", before.record.layers, before.record.chain)
    step = config_of(engine, ref.id)["history"][-1]
    assert (step["created_by"], step["empty_layer"]) == ("RUN true", True)
    await engine.containers.remove(id, force=True, volumes=False)


@pytest.mark.parametrize("pause", [True, False])
async def test_it_stands_still_meanwhile_if_asked(engine: LocalEngine, create: Run, world: World, pause: bool) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    class Slow(FakeAgent):
        def _process_archive(self, args: dict[str, object]) -> object:
            async def tell(process: FakeProcess) -> int:
                asked.set()
                await go_on.wait()
                await process.write(LAYER)
                return 0

            request = msgspec.convert(args, m.ProcessArchive)
            assert request.freeze == pause
            return {"pid": self.begin(request.id, request.container, ["tar"], request.streams, tell).pid}

    world.hypervisor.make_agent = Slow
    id = await running(engine, create)
    committing = asyncio.create_task(engine.containers.commit(id, Commit(pause=pause)))
    await asked.wait()
    if pause:
        with pytest.raises(WrongState, match="being committed"):
            await engine.snapshots.create(id, "k", leave_running=True)
    go_on.set()
    await committing
    await engine.containers.remove(id, force=True, volumes=False)


async def test_one_that_does_not_run_is_committed_too(engine: LocalEngine, create: Run, world: World) -> None:
    tell(world, "layer", LAYER)
    id = await create("true")
    ref = await engine.containers.commit(id, Commit())
    assert engine.host.images.get(ref.id).record.diff_ids[-1] == made.digest(LAYER)
    await world.check_nothing_left()


@pytest.mark.parametrize(
    ("layer", "error"),
    [
        (b"no tar" * 1000, BadLayer),
        (made.layer([made.member("../../etc/passwd", b"x")]), BadLayer),
        (made.layer([made.hardlink("a", "/etc/../../x")]), BadLayer),
        (LAYER[:514], BadLayer),
    ],
)
async def test_what_a_hostile_guest_says(
    engine: LocalEngine, create: Run, world: World, layer: bytes, error: type[HyperError]
) -> None:
    tell(world, "layer", layer)
    id = await running(engine, create)
    with pytest.raises(error):
        await engine.containers.commit(id, Commit(name="mine"))
    assert [image.names for image in engine.host.images.list()] == [["busybox:latest"]]
    assert leftovers(engine.host.images) == []
    await engine.containers.remove(id, force=True, volumes=False)


async def test_a_layer_is_no_larger_than_what_holds_it(
    engine: LocalEngine, create: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "HEADERS", -(16 << 20) - engine.host.images.get("busybox").size + 2000)
    tell(world, "layer", LAYER)
    id = await running(engine, create)
    with pytest.raises(Exhausted, match="more than its image and its disk hold"):
        await engine.containers.commit(id, Commit())
    await engine.containers.remove(id, force=True, volumes=False)


async def test_a_guest_of_old_says_so(engine: LocalEngine, create: Run, world: World) -> None:
    def agent() -> FakeAgent:
        made = FakeAgent()
        made.features = []
        return made

    world.hypervisor.make_agent = agent
    id = await running(engine, create)
    for call in (engine.containers.commit(id, Commit()), engine.containers.changes(id)):
        with pytest.raises(GuestTooOld, match="cannot tell what a container has made of its image"):
            await call
    await engine.containers.remove(id, force=True, volumes=False)


@pytest.mark.parametrize("name", ["Upper", "a@sha256:" + "0" * 64])
async def test_wrong_names_are_refused_before_anything_boots(
    engine: LocalEngine, create: Run, world: World, name: str
) -> None:
    id = await create("true")
    with pytest.raises(InvalidInput):
        await engine.containers.commit(id, Commit(name=name))
    with pytest.raises(InvalidInput, match="use one of CMD"):
        await engine.containers.commit(id, Commit(changes=["FROM x"]))
    assert world.hypervisor.alive == []


async def test_changes(engine: LocalEngine, create: Run, world: World) -> None:
    tell(world, "changes", b"C/etc\0A/etc/a\nb\0D/gone\0")
    id = await running(engine, create)
    found = [(change.kind, change.path) for change in await engine.containers.changes(id)]
    assert found == [(0, "/etc"), (1, "/etc/a\nb"), (2, "/gone")]
    await engine.containers.remove(id, force=True, volumes=False)


@pytest.mark.parametrize("rows", [b"C/etc", b"X/etc\0", b"Cetc\0", b"\0", b"C\0"])
async def test_changes_that_make_no_sense(engine: LocalEngine, create: Run, world: World, rows: bytes) -> None:
    tell(world, "changes", rows)
    id = await running(engine, create)
    with pytest.raises(WireError, match="make no sense"):
        await engine.containers.changes(id)
    await engine.containers.remove(id, force=True, volumes=False)


@pytest.mark.parametrize(("limit", "value"), [("MAX_CHANGES", 2), ("MAX_ROWS", 15)])
async def test_more_changes_than_anyone_reads(
    engine: LocalEngine, create: Run, world: World, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    tell(world, "changes", b"C/etc\0A/etc/a\0D/gone\0")
    monkeypatch.setattr(archive, limit, value)
    id = await running(engine, create)
    with pytest.raises(Exhausted, match="cannot list the changes"):
        await engine.containers.changes(id)
    await engine.containers.remove(id, force=True, volumes=False)


async def test_export(engine: LocalEngine, create: Run, world: World) -> None:
    tell(world, "tree", LAYER)
    id = await create("true")
    assert b"".join([piece async for piece in await engine.containers.export(id)]) == LAYER
    await world.check_nothing_left()


async def test_a_paused_container_says_what_helps(engine: LocalEngine, create: Run) -> None:
    id = await running(engine, create)
    await engine.containers.pause(id)
    calls: Sequence[Any] = (engine.containers.commit(id, Commit()), engine.containers.export(id))
    for call in calls:
        with pytest.raises(WrongState, match="unpause it"):
            await call
    await engine.containers.remove(id, force=True, volumes=False)
