"""Calls of hyperd's API, without a command line between."""

import time
from collections.abc import Iterator

from hypercontainer.client.http import Client
from hypercontainer.lib import fastjson
from hypercontainer.model import stream
from hypercontainer.testing.daemon import PrivateDaemon

DEADLINE_S = 120.0
FOREVER = "86400"


def client(daemon: PrivateDaemon) -> Client:
    return Client(str(daemon.socket))


def pod(image: str, command: list[str], **more: object) -> dict[str, object]:
    """The body that creates a container with a virtual machine of its own."""
    return {"containers": [{"image": image, "command": command, **more}]}


def create(caller: Client, image: str, command: list[str], **more: object) -> str:
    """The id of a new container, not started."""
    return str(caller.post("/v1/containers", pod(image, command, **more))["Id"])


def start(caller: Client, container: str) -> None:
    caller.post(f"/v1/containers/{container}/start")


def remove(caller: Client, container: str) -> None:
    caller.delete(f"/v1/containers/{container}", force=True, volumes=True)


def idle(caller: Client, image: str) -> tuple[str, float]:
    """Start a container that does nothing; its id, and the milliseconds that create and start took."""
    begin = time.perf_counter()
    container = create(caller, image, ["sleep", FOREVER])
    start(caller, container)
    return container, (time.perf_counter() - begin) * 1e3


def vmm_pid(caller: Client, container: str) -> int:
    return int(caller.get(f"/v1/containers/{container}")["Vm"]["Pid"])


def started(caller: Client, container: str) -> tuple[float, float]:
    """Start `container`, tied to it. Milliseconds to its first output, and to its end."""
    begin = time.perf_counter()
    times = [time.perf_counter() for _ in _frames(caller, f"/v1/containers/{container}/attach", None, start=True)]
    return (times[0] - begin) * 1e3, (times[-1] - begin) * 1e3


def answers(caller: Client, container: str) -> bool:
    """Whether a process can be run in `container`."""
    body = {"command": ["echo", "here"]}
    said = list(_frames(caller, f"/v1/containers/{container}/exec", body))
    return said[0] == (stream.STDOUT, b"here\n") and said[-1][0] == stream.EXIT


def _frames(caller: Client, path: str, body: object, **query: object) -> Iterator[tuple[int, bytes]]:
    """What a process writes and its end, as they come, without what hyperd tells of the start."""
    upgraded = caller.upgrade(path, body, **query)
    frames = stream.Decoder(stream.FROM_SERVER)
    frames.feed(upgraded.rest)
    upgraded.socket.settimeout(DEADLINE_S)
    try:
        while True:
            for kind, payload in frames:
                data = bytes(payload)
                if kind == stream.ERROR:
                    raise RuntimeError(f"{path}: {fastjson.loads(data)}")
                if kind != stream.INFO:
                    yield kind, data
                if kind == stream.EXIT:
                    return
            got = upgraded.socket.recv_into(frames.space())
            if not got:
                raise RuntimeError(f"{path}: hyperd closed the connection")
            frames.received(got)
    finally:
        upgraded.socket.close()
