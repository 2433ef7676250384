"""A build as a whole, in guests that are fakes: what is printed, what becomes of each instruction, what is left."""

import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from hypercontainer.engine.build import container
from hypercontainer.engine.local import LocalEngine
from hypercontainer.errors import BuildFailed, Denied, HyperError, InvalidInput, Unavailable
from hypercontainer.model import documents as doc
from hypercontainer.model.principal import Role
from hypercontainer.model.spec import Build
from hypercontainer.testing import layers as made
from hypercontainer.testing.fake_agent import FakeAgent
from tests.unit.engine.world import ADMIN, World
from tests.unit.images.looking import leftovers


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def context(text: str, files: Sequence[Any] = ()) -> bytes:
    return made.layer([made.member("Dockerfile", text.encode()), *files])


async def built(engine: LocalEngine, text: str, files: Sequence[Any] = (), **wanted: Any) -> tuple[str, list[str]]:
    """What was printed, and the images of the stages."""
    said, stages = "", []
    source = await engine.builds.run(once(context(text, files)), Build(**wanted), credentials={}, by=ADMIN)
    async for item in source:
        if isinstance(item, doc.BuildOutput):
            said += item.stream
        elif isinstance(item, doc.BuildStage):
            stages.append(item.stage)
    return said, stages


def config_of(engine: LocalEngine, name: str) -> dict[str, Any]:
    image = engine.host.images.get(name)
    document: dict[str, Any] = json.loads(engine.host.images.blob(image.id).read_bytes())
    return document


async def nothing_left(engine: LocalEngine, world: World) -> None:
    await world.check_nothing_left()
    assert (engine.supervisor.pods, leftovers(engine.host.images)) == ({}, [])


async def test_what_says_how_an_image_starts(engine: LocalEngine, world: World) -> None:
    text = """
        FROM busybox
        MAINTAINER me
        ENV A=1 B="two words"
        ENV A=${B}!
        LABEL l=$A
        EXPOSE 80 53/udp
        VOLUME /v ["/w"]
        USER nobody
        SHELL ["/bin/ash", "-c"]
        CMD run $A
        ENTRYPOINT ["start", "it"]
        STOPSIGNAL INT
        HEALTHCHECK --interval=5s --retries=3 CMD true
        ONBUILD RUN later
    """
    said, [id] = await built(engine, text, names=["mine:1"], labels={"who": "$me"})
    document = config_of(engine, "mine:1")
    config = document["config"]
    assert config["Env"][-2:] == ["A=two words!", "B=two words"]
    assert config["Labels"] == {"l": "two words!", "who": "$me"}
    assert set(config["ExposedPorts"]) == {"80/tcp", "53/udp"}
    assert (config["User"], config["Shell"]) == ("nobody", ["/bin/ash", "-c"])
    assert (config["Cmd"], config["Entrypoint"]) == (["/bin/ash", "-c", "run $A"], ["start", "it"])
    assert (config["StopSignal"], config["OnBuild"], document["author"]) == ("INT", ["RUN later"], "me")
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5 * 10**9, "Retries": 3}
    steps = [step["created_by"] for step in document["history"]][-14:]
    assert steps[1] == "/bin/sh -c #(nop)  ENV A=1 B=two words"
    assert steps[8] == '/bin/ash -c #(nop)  CMD ["/bin/ash" "-c" "run $A"]'
    assert all(step["empty_layer"] for step in document["history"][-14:])
    assert said.startswith("Step 1/15 : FROM busybox\n ---> ")
    assert said.endswith(f"Successfully built {id[7:19]}\nSuccessfully tagged mine:1\n")
    await nothing_left(engine, world)


async def test_what_was_built_before_is_found_again(engine: LocalEngine, world: World) -> None:
    text = "FROM busybox\nENV A=1\nENV B=2\n"
    _, first = await built(engine, text)
    said, again = await built(engine, text)
    assert (first, said.count("Using cache")) == (again, 2)
    said, other = await built(engine, text.replace("A=1", "A=2"))
    assert (said.count("Using cache"), other != first) == (0, True)
    await built(engine, text, names=["built"])
    for names, hits in (["built"], 2), (["nosuch", "built"], 2), (["nosuch"], 0), (["busybox"], 0):
        said, _ = await built(engine, text, cache_from=names)
        assert said.count("Using cache") == hits
    said, anew = await built(engine, text, no_cache=True)
    assert (said.count("Using cache"), anew != first) == (0, True)
    await nothing_left(engine, world)


async def test_commands_run_and_what_they_print_is_told(engine: LocalEngine, world: World) -> None:
    said, [id] = await built(engine, 'FROM busybox\nARG WHO=me\nRUN ["echo", "hello"]\n')
    assert "hello" in said and " ---> Running in " in said and "Removing intermediate container" in said
    assert config_of(engine, id)["history"][-1]["created_by"] == "|1 WHO=me echo hello"
    said, _ = await built(engine, 'FROM busybox\nARG WHO=me\nRUN ["echo", "hello"]\n')
    assert said.count("Using cache") == 2
    said, _ = await built(engine, 'FROM busybox\nARG WHO=me\nRUN ["echo", "hello"]\n', args={"WHO": "you"})
    assert said.count("Using cache") == 1  # the ARG itself says what the file does
    await nothing_left(engine, world)


def rootfs(agent: FakeAgent) -> list[str]:
    """Of the containers that were made in a guest, in order: "disks", or the number of the one that it goes on from."""
    made = [args for op, args in agent.requests if op == "container.create"]
    ids = [args["id"] for args in made]
    return [str(ids.index(args["rootfs"]["over"])) if "over" in args["rootfs"] else "disks" for args in made]  # type: ignore[operator,index]


async def test_a_stage_is_one_machine_but_for_volumes(
    engine: LocalEngine, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents: list[FakeAgent] = []

    def agent() -> FakeAgent:
        agents.append(one := FakeAgent())
        one.told["layer"] = made.layer([made.member(f"of/machine{len(agents)}", b"a")])
        return one

    world.hypervisor.make_agent = agent
    run = 'RUN ["echo", "it runs"]\n'
    await built(engine, 'FROM busybox\nRUN ["echo", "a template is made"]\n')
    agents.clear()
    said, _ = await built(
        engine,
        f"FROM busybox\n{run}ENV A=1\n{run}COPY a /a\nVOLUME /v\n{run}{run}FROM busybox\nUSER 1\n{run}",
        [made.member("a", b"1")],
    )
    assert [rootfs(one) for one in agents] == [["disks", "0", "1"], ["disks"], ["disks"], ["disks"]]
    assert len(set(re.findall("Running in ([0-9a-f]{12})", said))) == 5
    agents.clear()
    await built(engine, f"FROM busybox\n{run}ENV A=1\n{run}{run}WORKDIR /w\n")
    assert [rootfs(one) for one in agents] == [["disks", "0"]]  # two steps were in the cache
    agents.clear()
    monkeypatch.setattr(container, "STEPS", 2)
    await built(engine, f"FROM busybox\n{run * 4}", no_cache=True)
    assert [rootfs(one) for one in agents] == [["disks", "0", "1"], ["disks"]]
    agents.clear()
    monkeypatch.setattr(container, "ROOM", 1.0)  # no disk is so empty
    await built(engine, f"FROM busybox\n{run * 2}", no_cache=True)
    assert [rootfs(one) for one in agents] == [["disks"], ["disks"]]
    await nothing_left(engine, world)


async def test_a_command_that_fails_ends_the_build(engine: LocalEngine, world: World) -> None:
    with pytest.raises(BuildFailed, match=r"^The command 'exit 7' returned a non-zero code: 7$") as caught:
        await built(engine, 'FROM busybox\nRUN ["exit", "7"]\n', names=["mine"])
    assert caught.value.code == 7
    with pytest.raises(HyperError):
        engine.host.images.get("mine")
    await nothing_left(engine, world)


async def test_stages(engine: LocalEngine, world: World) -> None:
    text = "ARG BASE=busybox\nFROM ${BASE} AS one\nENV A=1\nFROM one\nENV B=$A\nFROM scratch\nENV C=1\n"
    said, stages = await built(engine, text)
    assert (len(stages), "Step 1/7 : ARG BASE=busybox\nStep 2/7 : FROM ${BASE} AS one" in said) == (3, True)
    assert "B=1" in config_of(engine, stages[1])["config"]["Env"]
    last = config_of(engine, stages[2])
    assert (last["rootfs"]["diff_ids"], len(last["history"])) == ([], 1)
    _, stages = await built(engine, text, target="one")
    assert len(stages) == 1
    await nothing_left(engine, world)


async def test_triggers_of_a_base(engine: LocalEngine) -> None:
    await built(engine, "FROM busybox\nONBUILD ENV A=1\nONBUILD LABEL b=2\n", names=["base"])
    said, [id] = await built(engine, "FROM base\nENV C=3\n")
    assert "# Executing 2 build triggers\n" in said
    config = config_of(engine, id)["config"]
    assert (config["Env"][-2:], config["Labels"], "OnBuild" in config) == (["A=1", "C=3"], {"b": "2"}, False)


async def test_a_copy_is_known_by_what_is_in_the_files(engine: LocalEngine, world: World) -> None:
    agents: list[FakeAgent] = []

    def agent() -> FakeAgent:
        agents.append(one := FakeAgent())
        one.told["layer"] = made.layer([made.member("etc/a", b"a")])
        return one

    world.hypervisor.make_agent = agent
    text = "FROM busybox\nCOPY a b* /etc/\n"
    files = [made.member("a", b"1"), made.member("b1", b"2")]
    _, [id] = await built(engine, text, files)
    message = config_of(engine, id)["history"][-1]["created_by"]
    assert message.startswith("/bin/sh -c #(nop) COPY multi:") and message.endswith(" in /etc/ ")
    said, again = await built(engine, text, files)
    assert ("Using cache" in said, again) == (True, [id])
    said, _ = await built(engine, text, [made.member("a", b"other"), files[1]])
    assert "Using cache" not in said
    await nothing_left(engine, world)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("FROM busybox\nCOPY nosuch /", "COPY failed: file not found in build context"),
        ("FROM busybox\nCOPY nosuch* /", "COPY failed: no source files were specified"),
        ("FROM busybox\nCOPY a b /x", "the destination must be a directory and end with a /"),
        ("FROM busybox\nCOPY out /", "file not found in build context"),
        ("FROM busybox\nCOPY around /", "file not found in build context"),
        ("FROM busybox\nCOPY http://h/x /", "COPY failed: source can't be a URL for COPY"),
        ("FROM busybox\nADD git@h:x /", "file not found in build context"),
        ("FROM busybox\nCOPY --chmod=1 a /", "BuildKit"),
        ("FROM $NOSUCH", "should not be blank"),
        ("FROM scratch", "No image was generated"),
        ("FROM busybox AS a\nFROM busybox AS a", "duplicate name"),
    ],
)
async def test_what_cannot_be_done(engine: LocalEngine, world: World, text: str, why: str) -> None:
    links = [made.member("out", kind=b"2", link="../../etc"), made.member("around", kind=b"2", link="around")]
    with pytest.raises(InvalidInput) as caught:
        await built(engine, text, [made.member("a", b"1"), made.member("b", b"2"), *links])
    assert why in str(caught.value)
    await nothing_left(engine, world)


async def test_only_admins_have_this_host_fetch(engine: LocalEngine, world: World) -> None:
    text = context("FROM busybox\nADD http://127.0.0.1:1/x /\n")
    for principal, error in (ADMIN, Unavailable), (ADMIN._replace(role=Role.USER), Denied):
        source = await engine.builds.run(once(text), Build(), credentials={}, by=principal)
        with pytest.raises(error):
            _ = [item async for item in source]
    await nothing_left(engine, world)


@pytest.mark.parametrize("files", [[made.member("../x", b"")], [made.member("x", kind=b"1", link="nosuch")]])
async def test_a_hostile_context(engine: LocalEngine, world: World, files: list[Any]) -> None:
    with pytest.raises(InvalidInput, match="cannot read the context"):
        await built(engine, "FROM busybox", files)
    await nothing_left(engine, world)


async def test_one_that_is_closed_early_leaves_nothing(engine: LocalEngine, world: World) -> None:
    text = 'FROM busybox\nRUN ["sleep", "1000"]\n'
    source = await engine.builds.run(once(context(text)), Build(), credentials={}, by=ADMIN)
    async for item in source:
        if isinstance(item, doc.BuildOutput) and "Running in" in item.stream:
            break
    await source.aclose()
    await nothing_left(engine, world)
    await (await engine.builds.run(once(context(text)), Build(), credentials={}, by=ADMIN)).aclose()
    await nothing_left(engine, world)


async def test_after_a_kill_nothing_is_left_of_a_build(engine: LocalEngine, world: World) -> None:
    source = await engine.builds.run(
        once(context('FROM busybox\nRUN ["sleep", "1000"]\n')), Build(), credentials={}, by=ADMIN
    )
    starts = await engine.system.events(None, None, {"event": ["start"], "type": ["container"]})
    async for item in source:
        if isinstance(item, doc.BuildOutput) and "Running in" in item.stream:
            break
    await anext(starts)
    await starts.aclose()
    again = await world.engine()
    assert again.supervisor.pods == {}
    await world.check_nothing_left()
    await source.aclose()


async def test_steps_are_listed_only_when_asked_for(engine: LocalEngine) -> None:
    _, [id] = await built(engine, "FROM busybox\nENV A=1\nENV B=2\n", names=["mine"])
    assert sorted(len(entry.repo_tags) for entry in await engine.images.list({})) == [1, 1]
    assert len(await engine.images.list({}, all=True)) == 3
    await engine.images.prune(all=False, wanted={})
    assert len(await engine.images.list({}, all=True)) == 3
    await engine.images.remove("mine", force=False, parents=False)
    assert len(await engine.images.list({}, all=True)) == 2
    _, [id] = await built(engine, "FROM busybox\nENV A=1\nENV B=2\n", names=["mine"])
    removed = await engine.images.remove("mine", force=False)
    assert (len(await engine.images.list({}, all=True)), id in [step.deleted for step in removed]) == (1, True)
