"""What was asked for and what the image says, put together; times and events as people read them."""

import asyncio
from pathlib import Path

import pytest

from hypercontainer.engine import describe, resolve
from hypercontainer.engine.events import Events
from hypercontainer.errors import InvalidInput
from hypercontainer.model.documents import ProcessConfig
from hypercontainer.model.spec import ContainerSpec, Mount, PodSpec, PortMapping

IMAGE = ProcessConfig(entrypoint=["/entry"], cmd=["a", "b"], env=["PATH=/p", "X=1"], volumes={"/data": {}})


def args(**spec: object) -> list[str]:
    return resolve.container(ContainerSpec(image="i", **spec), "sha256:0", IMAGE, name="c").args  # type: ignore[arg-type]


def test_entrypoint_and_command_are_joined_as_docker_joins_them() -> None:
    assert args() == ["/entry", "a", "b"]
    assert args(command=["x"]) == ["/entry", "x"]
    assert args(entrypoint=["/other"]) == ["/other"]  # the image's command is void then
    assert args(entrypoint=["/other"], command=["x"]) == ["/other", "x"]
    assert args(entrypoint=[], command=["x"]) == ["x"]
    with pytest.raises(InvalidInput, match="no command"):
        args(entrypoint=[])


def test_the_callers_environment_wins_and_keeps_the_images_order() -> None:
    made = resolve.container(ContainerSpec(image="i", env=["X=2", "Y=3"]), "sha256:0", IMAGE, name="c")
    assert made.env == ["PATH=/p", "X=2", "Y=3"]


def test_an_images_volume_is_anonymous_unless_something_is_mounted_there() -> None:
    made = resolve.container(ContainerSpec(image="i"), "sha256:0", IMAGE, name="c")
    assert [(m.target, m.anonymous) for m in made.mounts] == [("/data", True)]
    mine = Mount(type="volume", source="mine", target="/data")
    made = resolve.container(ContainerSpec(image="i", mounts=[mine]), "sha256:0", IMAGE, name="c")
    assert [(m.source, m.anonymous) for m in made.mounts] == [("mine", False)]


@pytest.mark.parametrize(
    "wrong",
    [
        PodSpec(vcpus=0),
        PodSpec(memory_mib=1),
        PodSpec(hostname="-x"),
        PodSpec(tenant="../x"),
        PodSpec(tenant="x" * 64),
        PodSpec(network="none", ports=[PortMapping(container_port=80)]),
        PodSpec(ports=[PortMapping(container_port=0)]),
        PodSpec(extra_hosts={"a b": "1.2.3.4"}),
        PodSpec(extra_hosts={"a": "nowhere"}),
    ],
)
def test_absurd_pods_are_refused(wrong: PodSpec) -> None:
    with pytest.raises(InvalidInput):
        resolve.pod(wrong, name="p", implicit=False)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (125, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (86400 * 3, "3 days"),
        (86400 * 20, "2 weeks"),
        (86400 * 90, "3 months"),
        (86400 * 800, "2 years"),
    ],
)
def test_times_are_told_as_docker_tells_them(seconds: int, words: str) -> None:
    assert describe.ago(0, seconds * 1_000_000_000) == words


async def test_events_are_kept_and_told(tmp_path: Path) -> None:
    events = Events(tmp_path / "events.db")
    events.emit("container", "start", "1", {})
    following = events.follow(0, None, {})
    assert (await anext(following)).action == "start"
    later = asyncio.create_task(anext(following))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    events.emit("container", "die", "1", {})
    assert (await later).action == "die"
    await following.aclose()
    events.close()
    again = Events(tmp_path / "events.db")
    past = again.follow(0, None, {})
    assert [(await anext(past)).action for _ in range(2)] == ["start", "die"]
    await past.aclose()
    again.close()
