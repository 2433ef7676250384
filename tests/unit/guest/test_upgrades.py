"""Hosts and guests of other times: what the first hyperd said to this guest, what this one says to the first guest."""

import asyncio
import base64
import copy
import errno
import json
import lzma
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hypercontainer.model.spec import ContainerSpec, ContainerUpdate, Dns, ExecSpec, InlineFile, Mount, PodSpec, Ulimit
from hypercontainer.testing import busybox
from hypercontainer.testing.fake_agent import FakeAgent
from tests.conftest import FIRST
from tests.unit.engine.world import ADMIN, World, execute, load
from tests.unit.guest.conftest import Guest, inside
from tests.unit.guest.wire_client import Input, Output

Lines = Sequence[tuple[str, dict[str, Any]]]

ONE = ContainerSpec(
    image="busybox",
    name="one",
    command=["sleep", "1000"],
    init=True,
    env=["A=1"],
    user="root",
    working_dir="/tmp",
    hostname="mine",
    files=[InlineFile(path="/etc/greeting", content=base64.b64encode(b"hello\n").decode())],
    cap_add=["NET_ADMIN"],
    cap_drop=["MKNOD"],
    no_new_privileges=True,
    ulimits=[Ulimit(name="nofile", soft=512, hard=1024)],
    sysctls={"net.core.somaxconn": "128"},
    memory_mib=64,
    pids=100,
    shm_mib=32,
)
TWO = ContainerSpec(image="busybox", name="two", command=["sleep", "1000"], privileged=True)


async def life(world: World, archive: Path, folder: Path) -> Lines:
    """All that an engine asks of a guest in a pod's life: tests/fixtures/first has what the first one did."""
    engine = await world.engine()
    await load(engine, archive)

    async def run(name: str, *command: str, stdin: bytes = b"", **spec: Any) -> None:
        session = await execute(engine, name, ExecSpec(command=list(command), open_stdin=bool(stdin), **spec))
        if stdin:
            await session.write(stdin)
            await session.close_stdin()
        async for _ in session:
            pass
        assert await session.wait() == 0

    mounts = [
        Mount(type="tmpfs", target="/scratch", size_mib=8, options=["uid=5"]),
        Mount(type="bind", source=str(folder), target="/bound", read_only=True),
        Mount(type="volume", source="kept", target="/kept"),
    ]
    one = replace(ONE, mounts=mounts)
    dns = Dns(nameservers=["10.0.0.9"], search=["example"])
    pod = await engine.pods.create(
        PodSpec(name="pod", containers=[one], dns=dns, extra_hosts={"far": "10.9.9.9"}), by=ADMIN
    )
    await engine.pods.start(pod.id)
    agent = world.hypervisor.alive[0].agent
    await run("one", "echo", "well")
    await run("one", "cat", stdin=b"said\n", env=["B=2"], working_dir="/", user="0:0")
    await run("one", "echo", "tty", tty=True, rows=24, columns=80)
    await engine.containers.stats("one")
    await engine.containers.top("one")
    agent.archives[(next(iter(agent.containers)), "/etc/passwd")] = bytes(1024)
    async for _ in await engine.containers.archive_get("one", "/etc/passwd"):
        pass
    await engine.containers.update("one", ContainerUpdate(pids=50))
    await engine.containers.rename("one", "uno")
    await engine.pods.add(pod.id, TWO, by=ADMIN)
    await engine.containers.start("two")
    await run("two", "echo", "new")
    await engine.containers.pause("two")
    await engine.containers.unpause("two")
    for again in (True, False):
        await engine.containers.kill("two", 9)
        await engine.containers.wait("two")
        if again:
            await engine.containers.start("two")
    await engine.containers.remove("two", force=False, volumes=False)
    await engine.containers.kill("uno", 9)
    await engine.containers.wait("uno")
    await engine.pods.remove(pod.id, force=True, volumes=True)
    return list(agent.requests)


def of_the_first() -> FakeAgent:
    """The agent of a guest that has learnt nothing since."""
    agent = FakeAgent()
    agent.features = []
    return agent


def said(folder: Path, agent: Callable[[], FakeAgent]) -> Lines:
    """What an engine of now asks such guests in a pod's life."""
    busybox.write_archive(folder / "busybox.tar")
    (folder / "bound").mkdir()

    async def lived() -> Lines:
        world = World(folder, factory="direct")
        world.hypervisor.make_agent = agent
        try:
            return await life(world, folder / "busybox.tar", folder / "bound")
        finally:
            for engine in world.engines:
                await engine.close()

    return asyncio.run(lived())


@pytest.fixture(scope="module")
def said_now(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    return said(tmp_path_factory.mktemp("life"), FakeAgent)


@pytest.fixture(scope="module")
def said_to_the_first(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    return said(tmp_path_factory.mktemp("life"), of_the_first)


@pytest.fixture(scope="module")
def said_first() -> Lines:
    lines = (FIRST / "requests.jsonl").read_text().splitlines()
    return [(line["op"], line["args"]) for line in map(json.loads, lines)]


@pytest.fixture(scope="module")
def first_hyperstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("first") / "hyperstart"
    program.write_bytes(lzma.decompress((FIRST / "hyperstart.xz").read_bytes()))
    program.chmod(0o755)
    return program


@pytest.fixture
def first_guest(first_hyperstart: Path, lower: Path, tmp_path: Path) -> Iterator[Guest]:
    guest = Guest(first_hyperstart, tmp_path, lower)
    yield guest
    guest.close()


class Replay:
    """Asks a guest what a host was recorded to ask; Refused if it does not understand. `wrote` has what came back."""

    def __init__(self, guest: Guest, lines: Lines) -> None:
        self.guest, self.host = guest, guest.host
        self.wrote: dict[tuple[str, ...], bytes] = {}
        for op, args in copy.deepcopy(lines):
            getattr(self, "_" + op.replace(".", "_"), lambda args: None)(args)
            self.host.call(op, **args)
            if op == "process.start" and not args.get("first"):
                self._read(args)

    def _pod_setup(self, args: dict[str, Any]) -> None:
        """The machine's part: its network card, its share. Sysctls that have no namespace are not ours to set."""
        (self.guest.folder / "hyper").mkdir(exist_ok=True)
        for n, interface in enumerate(args["interfaces"]):
            words = ("address", interface["hardware"], "type", "veth", "peer", "name", f"other{n}")
            inside(self.guest, "ip", "link", "add", f"odd{n}", *words)
        args["sysctls"] = {k: v for k, v in args["sysctls"].items() if k.startswith("net.")}

    def _container_create(self, args: dict[str, Any]) -> None:
        """The machine's part: disks, which are folders here, and what is in the share."""
        self._container_update(args)
        upper = self.guest.folder / f"upper-{args['id'][:12]}"
        upper.mkdir()
        args["rootfs"] = {"lower": {"path": str(self.guest.lower)}, "upper": {"path": str(upper)}}
        for mount in [*args.get("mounts", []), *args.get("all_mounts", [])]:
            if mount["type"] in ("share", "bind"):
                (self.guest.folder / "hyper" / mount["source"]).mkdir()

    def _container_update(self, args: dict[str, Any]) -> None:
        """The words of limits, without their numbers: this machine's kernel may be unable to set any."""
        args["cgroup"] = dict.fromkeys(args.get("cgroup", {}), 0)

    def _process_start(self, args: dict[str, Any]) -> None:
        streams = args["streams"]
        for number in filter(None, (streams["stdout"], streams["stderr"])):
            self.host.outputs[number] = Output()
        if streams["stdin"]:
            self.host.inputs[streams["stdin"]] = Input()

    _process_archive = _process_start

    def _process_forget(self, args: dict[str, Any]) -> None:
        self.host.events.remove(self.host.exit_of(args["process"]))

    def _read(self, args: dict[str, Any]) -> None:
        if stdin := args["streams"]["stdin"]:
            self.host.write(stdin, b"said\n", end=True)
        self.wrote[tuple(args["args"])] = self.host.read_all(args["streams"]["stdout"])


SPOKEN = {("echo", "well"): b"well\n", ("cat",): b"said\n", ("echo", "tty"): b"tty\r\n", ("echo", "new"): b"new\n"}


def test_this_guest_understands_the_first_host(guest: Guest, said_first: Lines) -> None:
    assert Replay(guest, said_first).wrote == SPOKEN
    guest.process.wait(30)


def test_the_first_guest_understands_this_host(first_guest: Guest, said_to_the_first: Lines) -> None:
    assert Replay(first_guest, said_to_the_first).wrote == SPOKEN
    first_guest.process.wait(30)


def test_this_guest_understands_this_host(guest: Guest, said_now: Lines) -> None:
    assert Replay(guest, said_now).wrote == SPOKEN
    guest.process.wait(30)


def test_what_was_asked_then_is_asked_now(said_first: Lines, said_now: Lines, said_to_the_first: Lines) -> None:
    """Else the tests above would try less than there is."""
    assert {op for op, _ in said_first} <= {op for op, _ in said_now}
    assert [op for op, _ in said_now] == [op for op, _ in said_to_the_first]


def test_the_first_guest_is_asked_for_the_same_containers(said_first: Lines, said_to_the_first: Lines) -> None:
    """As it was by the first host, but for ids, and what is not said where it is nothing."""

    def containers(lines: Lines) -> list[dict[str, Any]]:
        named = [copy.deepcopy(args) for op, args in lines if op == "container.create"]
        for args in named:
            del args["id"]
            args.setdefault("mounts", [])
            for mount in args["mounts"]:
                mount.pop("source", None)
        return [without_nothing(args) for args in named]

    def without_nothing(value: Any) -> Any:
        if not isinstance(value, dict):
            return [without_nothing(each) for each in value] if isinstance(value, list) else value
        usual = {"shm_bytes": 64 << 20, "cpu_period_us": 100_000, "mode": 0o1777}
        kept = {key: without_nothing(each) for key, each in value.items()}
        return {
            key: each
            for key, each in kept.items()
            if (each or key in ("masked_paths", "readonly_paths")) and each != usual.get(key)
        }

    assert containers(said_to_the_first) == containers(said_first)


def test_the_first_guest_says_in_words_alone_why_it_could_not_copy(first_guest: Guest) -> None:
    """sandbox/archive.py reads them, for a guest without the feature `archive.errno`."""
    first_guest.container()
    for path, number in (("/none", errno.ENOENT), ("/etc/passwd/none", errno.ENOTDIR)):
        streams, process = first_guest.host.streams(), f"copy{number}"
        args = {"id": process, "container": "c1", "mode": "read", "path": path, "streams": streams}
        first_guest.host.call("process.archive", **args)
        assert first_guest.host.read_all(streams["stderr"]).decode().rstrip().endswith(os.strerror(number))
        assert first_guest.host.exit_of(process)["status"] == 1


def test_the_first_guest_answers_a_version_that_it_does_not_speak_and_listens_on(first_guest: Guest) -> None:
    """So a host that speaks two of them can greet again: docs/wire.md, section 5."""
    other = first_guest.another_host()
    assert other.hello(version=2)["version"] == 1
    assert other.hello(version=1)["version"] == 1
    assert other.call("ping") == {}
