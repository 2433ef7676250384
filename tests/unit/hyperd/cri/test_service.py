"""The door as clients of gRPC find it: grpclib's, and grpcio's as one that others wrote."""

import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from hypercontainer.errors import NotFound, Unavailable
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri import service
from hypercontainer.hyperd.cri.status import Status
from hypercontainer.hyperd.listen import listen
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Engine

METHODS = {method.name for part in (service.RUNTIME, service.IMAGES) for method in part.methods}


class System:
    well = True

    async def version(self) -> doc.Version:
        return doc.Version(version="1.2.3", api_version="1", python_version="3", arch="x86_64", kernel_version="6")

    async def ping(self) -> None:
        if not self.well:
            raise Unavailable("cannot work: no kernel")


class Kube:
    def handlers(self) -> Sequence[str]:
        return ["hyper", "hyper-small"]

    async def network(self) -> None:
        if not System.well:
            raise NotFound("network", "in /etc/cni/net.d")


class Some:
    system = System()
    kube = Kube()


async def broken(request: pb.StopContainerRequest) -> pb.StopContainerResponse:
    raise ZeroDivisionError("of ours")


async def missing(request: pb.StartContainerRequest) -> pb.StartContainerResponse:
    raise NotFound("container", request.container_id)


async def events(request: pb.GetEventsRequest) -> AsyncGenerator[pb.ContainerEventResponse, None]:
    for id in ("a", "b"):
        yield pb.ContainerEventResponse(container_id=id)


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    calls: dict[str, service.Call] = {
        **Status(cast(Engine, Some())).calls(),
        "StopContainer": broken,
        "StartContainer": missing,
        "GetContainerEvents": events,
    }
    server = service.Calls(calls, {})
    path = tmp_path / "c.sock"
    await server.start(sock=listen(path, "", 0o600))
    async with grpc.aio.insecure_channel(f"unix://{path}") as made:
        yield made
    server.close()
    await server.wait_closed()


async def call(channel: grpc.aio.Channel, method: str, request: Any, reply: Any, name: str = "RuntimeService") -> Any:
    asked = channel.unary_unary(
        f"/runtime.v1.{name}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=reply.FromString,
    )
    return await asked(request)


async def test_what_it_is(channel: grpc.aio.Channel) -> None:
    found = await call(channel, "Version", pb.VersionRequest(version="v1"), pb.VersionResponse)
    assert (found.version, found.runtime_name, found.runtime_api_version) == ("0.1.0", "frakti", "v1")
    assert found.runtime_version == "1.2.3"


async def test_whether_it_is_well(channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    found = await call(channel, "Status", pb.StatusRequest(), pb.StatusResponse)
    ready = {each.type: each.status for each in found.status.conditions}
    assert [each.name for each in found.runtime_handlers] == ["", "hyper", "hyper-small"]
    assert all(each.features.recursive_read_only_mounts for each in found.runtime_handlers)
    assert all(each.features.user_namespaces for each in found.runtime_handlers)
    assert ready == {"RuntimeReady": True, "NetworkReady": True}
    monkeypatch.setattr(System, "well", False)
    found = await call(channel, "Status", pb.StatusRequest(), pb.StatusResponse)
    why, network = found.status.conditions
    assert (network.status, network.reason) == (False, "NetworkPluginNotReady") and "cni" in network.message
    assert (why.status, why.reason, why.message) == (False, "EngineNotReady", "cannot work: no kernel")


@pytest.mark.parametrize(
    ("method", "status", "words"),
    [
        ("StartContainer", grpc.StatusCode.NOT_FOUND, "no such container: c1"),
        ("StopContainer", grpc.StatusCode.INTERNAL, "ZeroDivisionError: of ours"),
        ("CheckpointPod", grpc.StatusCode.UNIMPLEMENTED, "CheckpointPod is not there: see docs/frakti.md"),
        ("OfTomorrow", grpc.StatusCode.UNIMPLEMENTED, "there is no such method"),
    ],
)
async def test_what_goes_wrong(channel: grpc.aio.Channel, method: str, status: grpc.StatusCode, words: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, method, pb.StartContainerRequest(container_id="c1"), pb.StartContainerResponse)
    assert (caught.value.code(), caught.value.details()) == (status, words)


async def test_an_answer_that_is_a_stream(channel: grpc.aio.Channel) -> None:
    asked = channel.unary_stream(
        "/runtime.v1.RuntimeService/GetContainerEvents",
        request_serializer=pb.GetEventsRequest.SerializeToString,
        response_deserializer=pb.ContainerEventResponse.FromString,
    )
    assert [each.container_id async for each in asked(pb.GetEventsRequest())] == ["a", "b"]


def test_nothing_of_it_is_loaded_where_no_kubelet_calls() -> None:
    program = (
        "import sys, hypercontainer.hyperd.main, hypercontainer.hyperd.doors, hypercontainer.engine.local\n"
        "print(*[name for name in ('grpclib', 'google.protobuf', 'hypercontainer.hyperd.cri') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
