"""How the wire grows: a guest says what it has learnt, and is asked for nothing else."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from hypercontainer.agent import messages as m
from hypercontainer.agent.client import AgentClient
from hypercontainer.agent.wire import WireError
from hypercontainer.errors import GuestError, GuestTooOld
from hypercontainer.testing.fake_agent import FakeAgent

COLOURS = m.Feature("colours", "paint it")


class Painted(m.ProcessStart, frozen=True, kw_only=True):
    """A start with a word that no guest knows."""

    needs: ClassVar[Mapping[str, m.Feature]] = {"colour": COLOURS}
    colour: str = ""


class Gallery(m.Request, frozen=True, kw_only=True):
    pictures: list[Painted]


def painted(client: AgentClient, colour: str) -> Painted:
    return Painted(
        id="p", container="c", args=["true"], streams=m.StreamSet(stdout=client.new_streams(1)), colour=colour
    )


def asked(agent: FakeAgent, op: str) -> list[dict[str, object]]:
    return [args for name, args in agent.requests if name == op]


async def test_what_a_guest_has_not_learnt_it_is_not_asked(agent: FakeAgent, client: AgentClient) -> None:
    with pytest.raises(GuestTooOld, match="cannot paint it: the virtual machine was started by an older") as refused:
        await client.start_process(painted(client, "red"))
    assert refused.value.feature == "colours"
    assert asked(agent, "process.start") == []
    await client.start_process(painted(client, ""))  # which it can, by the same name
    assert "colour" not in asked(agent, "process.start")[0]


async def test_what_a_guest_has_learnt_it_is_asked(agent: FakeAgent, tmp_path: Path) -> None:
    agent.features = ["colours", "of.a-newer_hyperd.9"]
    client = await AgentClient.connect(tmp_path / "agent", timeout_s=10)
    assert client.features == {"colours", "of.a-newer_hyperd.9"}
    with pytest.raises(GuestError):  # the fake has not, whatever it says
        await client.start_process(painted(client, "red"))
    assert asked(agent, "process.start")[0]["colour"] == "red"
    await client.close()


def test_what_is_needed_is_found_however_deep() -> None:
    plain, red = (Painted(id="p", container="c", args=[], colour=colour) for colour in ("", "red"))
    assert list(m.needed(Gallery(pictures=[plain]))) == []
    assert list(m.needed(Gallery(pictures=[plain, red]))) == [COLOURS]


@pytest.mark.parametrize("features", [["x"] * (m.MAX_FEATURES + 1), ["x" * 65], ["../x"], ["X"], [1], "x"])
async def test_features_are_few_and_words(agent: FakeAgent, tmp_path: Path, features: list[str]) -> None:
    agent.features = features
    with pytest.raises(WireError, match="HELLO"):
        await AgentClient.connect(tmp_path / "agent", timeout_s=10)


def test_nothing_that_is_said_is_more_than_nothing_that_is_not() -> None:
    start = m.ProcessStart(id="p", container="c", args=[])
    assert list(m.needed(start)) == []
    assert [f.word for f in m.needed(msgspec.structs.replace(start, umask=0))] == ["umask"]
    assert [f.word for f in m.needed(msgspec.structs.replace(start, group_names=["adm"]))] == ["group-names"]
    scheduled = msgspec.structs.replace(start, scheduling=m.Scheduling(nice=1))
    assert [f.word for f in m.needed(scheduled)] == ["scheduling"]
    disk = m.Disk(target=0)
    create = m.ContainerCreate(id="c", rootfs=m.Rootfs(lower=disk, upper=disk), masked_paths=[], readonly_paths=[])
    assert list(m.needed(create)) == []
    assert [f.word for f in m.needed(msgspec.structs.replace(create, all_mounts=[]))] == ["mounts"]


def requests(of: type[m.Request] = m.Request) -> Iterator[type[m.Request]]:
    for each in of.__subclasses__():
        yield each
        yield from requests(each)


def test_fields_that_need_a_feature_default_to_nothing() -> None:
    """Else `needed` would find what is not said, or the guest of one end mean something else than the other's."""
    for each in requests():
        fields = {field.name: field for field in msgspec.structs.fields(each)}
        for name in each.needs:
            default = fields[name].default
            factory = fields[name].default_factory
            assert factory in (list, dict) if default is msgspec.NODEFAULT else not default, (each, name)


def test_what_is_at_its_default_is_not_said() -> None:
    disk = m.Disk(target=0)
    create = m.ContainerCreate(
        id="c", rootfs=m.Rootfs(lower=disk, upper=disk), masked_paths=[], readonly_paths=[],
        mounts=[m.ShareMount(source="a", target="/a"), m.TmpfsMount(target="/t")],
    )  # fmt: skip
    assert msgspec.to_builtins(create) == {
        "id": "c",
        "rootfs": {"lower": {"target": 0}, "upper": {"target": 0}},
        "masked_paths": [],
        "readonly_paths": [],
        "mounts": [{"type": "share", "source": "a", "target": "/a"}, {"type": "tmpfs", "target": "/t"}],
    }
