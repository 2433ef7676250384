"""A kubelet's calls, by gRPC, of whatever runtime: frakti, or containerd with runc."""

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpclib
import pytest
from google.protobuf import message_factory
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from h2.exceptions import StreamClosedError

from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.service import IMAGES, RUNTIME
from hypercontainer.testing import busybox
from hypercontainer.testing.daemon import PrivateDaemon, Value, free_subnet
from tests.conftest import PROFILES
from tests.interop.clients import CLIENTS
from tests.interop.containerd import Containerd, containerd

PLUGINS = Path("/usr/lib/cni")
LIMIT_S = 600.0
IMAGE = "docker.io/library/busybox:latest"
PAUSE = ["sh", "-c", "trap exit TERM; sleep 1000000 & wait"]
WAITS = ["sh", "-c", "trap 'exit 3' TERM; echo ready; sleep 1000000 & wait"]
OBEYS_NOT = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000000; done"]
PARENT = "hyper-tests"  # control group that kubelets have their pods in
RUNC = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


class Server:
    """A runtime that listens at `socket`. `handler`: of a RuntimeClass there. `within`: words before a command that has
    its network. `old`: it is of before 2024, when CRI's words on what is called again were read anew."""

    def __init__(self, socket: str, handler: str, within: Sequence[str] = (), *, old: bool = False) -> None:
        self.socket, self.handler, self.within, self.old = socket, handler, list(within), old

    @property
    def ours(self) -> bool:
        return self.handler == "hyper"


def of_hyperd(hyper: PrivateDaemon) -> Server:
    return Server(str(hyper.settings["cri_socket"]), "hyper")


def described(folder: Path) -> dict[str, Value]:
    """Settings of a hyperd for kubelets, whose files are in `folder`."""
    (folder / "conf").mkdir()
    ipam = {"type": "host-local", "dataDir": str(folder / "ipam"), "ranges": [[{"subnet": free_subnet()}]]}
    network = {"cniVersion": "1.0.0", "name": folder.name, "plugins": [{"type": "ptp", "ipam": ipam}]}
    (folder / "conf/10-pods.conflist").write_text(json.dumps(network))
    return {
        "accelerator": "tcg",
        "memory_mib": 256,
        "cri_socket": str(folder / "c.sock"),
        "cni_conf_dir": str(folder / "conf"),
        "cni_bin_dirs": [str(PLUGINS)],
        "pool": [],
        "apparmor_profiles": str(PROFILES),
    }


@contextmanager
def of_containerd(folder: Path, which: str) -> Iterator[Server]:
    """With runc, which has the image of `IMAGE` and one for its pause containers."""
    archives = [folder / name for name in ("pause.tar", "busybox.tar")]
    busybox.write_archive(archives[0], ["docker.io/library/pause:1"], config={"Cmd": PAUSE})
    busybox.write_archive(archives[1], [IMAGE])
    with _groups(PARENT), containerd(folder, {}, cri=True, which=which, settings=RUNC) as daemon:
        for archive in archives:
            daemon.ok("-n", "k8s.io", "image", "import", str(archive))
        try:
            yield Server(f"{daemon.folder}/c.sock", "runc", daemon.inside(), old=which == "debian")
        finally:
            _clear(daemon)


def servers(*names: str) -> Any:
    """The fixture `server` of a module: one of those at a time."""

    @pytest.fixture(scope="module", params=names)
    def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        if request.param == "frakti":
            yield of_hyperd(request.getfixturevalue("frakti"))
            return
        which = "today" if "today" in request.param else "debian"
        if which == "today" and not (CLIENTS / "containerd2/containerd").exists():
            pytest.skip("there is no containerd of today: run `make interop`")
        with of_containerd(tmp_path_factory.mktemp("containerd"), which) as made:
            yield made

    return server


def _clear(daemon: Containerd) -> None:
    """What a test that failed has left there."""
    space = ("-n", "k8s.io")
    for id in daemon.ok(*space, "task", "ls", "-q").split():
        daemon(*space, "task", "rm", "-f", id)


@contextmanager
def _groups(name: str) -> Iterator[None]:
    """Control groups of that name, which nobody is in any more, are gone after it."""
    roots = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")]
    ours = [root / name for root in roots if root.is_dir() and not (root / name).exists()]
    yield
    for path in ours:
        if path.is_dir():
            for folder, _, _ in os.walk(path, topdown=False):
                os.rmdir(folder)


class Cri:
    """What a kubelet asks of `server`. `await cri("StopContainer", container_id=…)`: the answer; GRPCError."""

    def __init__(self, channel: Channel, server: Server, folder: Path) -> None:
        self._channel, self.server, self.folder = channel, server, folder

    async def __call__(self, method: str, **fields: Any) -> Any:
        path, request, reply = _method(method)
        call = UnaryUnaryMethod(self._channel, path, request, reply)
        return await call(request(**fields), timeout=LIMIT_S)

    @asynccontextmanager
    async def streamed(self, method: str, **fields: Any) -> AsyncIterator[AsyncIterator[Any]]:
        """The answers of one that has several, as they come."""
        path, request, reply = _method(method)
        async with UnaryStreamMethod(self._channel, path, request, reply).open(timeout=LIMIT_S) as stream:
            await stream.send_message(request(**fields), end=True)
            yield stream.__aiter__()
            with suppress(StreamClosedError):  # it has come to its end
                await stream.cancel()

    async def refused(self, method: str, **fields: Any) -> Status:
        """With which code."""
        try:
            answer = await self(method, **fields)
        except grpclib.GRPCError as e:
            return e.status
        raise AssertionError(f"{method} was answered: {answer}")

    def described(self, name: str = "pod", **more: Any) -> pb.PodSandboxConfig:
        usual: dict[str, Any] = {
            "metadata": {"name": name, "uid": f"{name}-uid", "namespace": "default", "attempt": 0},
            "hostname": f"{name}-host",
            "log_directory": str(self.folder),
            "linux": {
                "cgroup_parent": f"/{PARENT}",
                "security_context": {"namespace_options": {"pid": pb.CONTAINER}},
            },
        }
        return pb.PodSandboxConfig(**{**usual, **more})

    async def pod(self, name: str = "pod", **more: Any) -> str:
        """The id of one that is ready."""
        config = self.described(name, **more)
        done = await self("RunPodSandbox", config=config, runtime_handler=self.server.handler)
        return str(done.pod_sandbox_id)

    def container(self, name: str, *command: str, linux: Mapping[str, Any] = {}, **more: Any) -> pb.ContainerConfig:
        usual: dict[str, Any] = {
            "metadata": {"name": name, "attempt": 0},
            "image": {"image": IMAGE},
            "command": list(command),
            "log_path": f"{name}.log",
            "linux": {"security_context": {"namespace_options": {"pid": pb.CONTAINER}}, **linux},
        }
        return pb.ContainerConfig(**{**usual, **more})

    async def made(self, pod: str, name: str, *command: str, of: str = "pod", **more: Any) -> str:
        """The id of a container that was not started."""
        config = self.container(name, *command, **more)
        done = await self("CreateContainer", pod_sandbox_id=pod, config=config, sandbox_config=self.described(of))
        return str(done.container_id)

    async def started(self, pod: str, name: str, *command: str, of: str = "pod", **more: Any) -> str:
        container = await self.made(pod, name, *command, of=of, **more)
        await self("StartContainer", container_id=container)
        return container

    async def status(self, container: str) -> pb.ContainerStatus:
        found: pb.ContainerStatus = (await self("ContainerStatus", container_id=container)).status
        return found

    async def pod_status(self, pod: str) -> pb.PodSandboxStatus:
        found: pb.PodSandboxStatus = (await self("PodSandboxStatus", pod_sandbox_id=pod)).status
        return found

    async def ended(self, container: str) -> pb.ContainerStatus:
        while (found := await self.status(container)).state != pb.CONTAINER_EXITED:
            continue  # a kubelet looks again, too
        return found

    async def exec(self, container: str, *command: str) -> str:
        done = await self("ExecSync", container_id=container, cmd=command)
        assert done.exit_code == 0, done
        return str(done.stdout.decode().strip())

    def log(self, name: str) -> list[str]:
        """Its lines, each without its time."""
        return [line.split(" ", 1)[1] for line in (self.folder / f"{name}.log").read_text().splitlines()]

    async def says(self, name: str, true: Callable[[list[str]], bool]) -> list[str]:
        """Its log, once that is true of it."""
        while not true(self.log(name)):
            await self("Version")  # which gives way
        return self.log(name)

    async def clear(self) -> None:
        for pod in (await self("ListPodSandbox")).items:
            await self("StopPodSandbox", pod_sandbox_id=pod.id)
            await self("RemovePodSandbox", pod_sandbox_id=pod.id)
        assert not (await self("ListContainers")).containers


def _method(name: str) -> tuple[str, Any, Any]:
    """Its path, and what it is asked with and answers."""
    service = RUNTIME if name in RUNTIME.methods_by_name else IMAGES
    found = service.methods_by_name[name]
    request, reply = (message_factory.GetMessageClass(each) for each in (found.input_type, found.output_type))
    return f"/{service.full_name}/{name}", request, reply


@asynccontextmanager
async def calling(server: Server, folder: Path) -> AsyncIterator[Cri]:
    channel = Channel(path=server.socket)
    try:
        yield Cri(channel, server, folder)
    finally:
        channel.close()
