"""Answers in frames of our own, read by two clients of HTTP/2 that others wrote."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpclib.client
import pytest
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError

from hypercontainer.errors import NotFound
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri import service
from hypercontainer.hyperd.listen import listen

METHOD = "/runtime.v1.RuntimeService/Version"
OF_A_FRAME, OF_A_WINDOW = 16_384, 65_535
SIZES = [0, 1, OF_A_FRAME - 9, OF_A_FRAME, OF_A_WINDOW, 3 * OF_A_WINDOW, 2_000_000]


async def version(request: pb.VersionRequest) -> pb.VersionResponse:
    """As long as the request says."""
    if request.version == "missing":
        raise NotFound("thing", "of that name")
    return pb.VersionResponse(version="x" * int(request.version))


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    server = service.Calls({"Version": version}, {})
    await server.start(sock=listen(tmp_path / "c.sock", "", 0o600))
    yield tmp_path / "c.sock"
    server.close()
    await server.wait_closed()


def of_grpcio(path: Path, *options: tuple[str, int]) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"unix://{path}", [("grpc.max_receive_message_length", -1), *options])


async def size(channel: grpc.aio.Channel, wanted: str) -> int:
    call = channel.unary_unary(METHOD, pb.VersionRequest.SerializeToString, pb.VersionResponse.FromString)
    return len((await call(pb.VersionRequest(version=wanted))).version)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="as it comes"),
        pytest.param([("grpc.http2.bdp_probe", 0)], id="a window that stays small"),
        pytest.param([("grpc.http2.hpack_table_size.decoder", 100)], id="a table of headers of its own size"),
        pytest.param([("grpc.http2.max_frame_size", 1 << 20)], id="large frames"),
    ],
)
async def test_they_are_whole(path: Path, options: list[tuple[str, int]]) -> None:
    async with of_grpcio(path, *options) as channel:
        for wanted in SIZES:
            assert await size(channel, str(wanted)) == wanted
        with pytest.raises(grpc.aio.AioRpcError, match="no such thing"):  # whose headers are hyper-h2's
            await size(channel, "missing")
        assert await asyncio.gather(*(size(channel, str(wanted)) for wanted in 5 * SIZES)) == 5 * SIZES


async def test_hyper_h2_takes_them_too(path: Path) -> None:
    channel = grpclib.client.Channel(path=str(path))
    call = grpclib.client.UnaryUnaryMethod(channel, METHOD, pb.VersionRequest, pb.VersionResponse)
    for wanted in SIZES:
        assert len((await call(pb.VersionRequest(version=str(wanted)))).version) == wanted
    with pytest.raises(GRPCError, match="no such thing"):
        await call(pb.VersionRequest(version="missing"))
    found = await asyncio.gather(*(call(pb.VersionRequest(version=str(wanted))) for wanted in 5 * SIZES))
    assert [len(each.version) for each in found] == 5 * SIZES
    channel.close()


async def test_who_goes_in_the_middle_holds_up_nobody(path: Path) -> None:
    channel = grpclib.client.Channel(path=str(path))
    for _ in range(3):
        async with channel.request(METHOD, Cardinality.UNARY_UNARY, pb.VersionRequest, pb.VersionResponse) as stream:
            await stream.send_message(pb.VersionRequest(version="20000000"), end=True)
            await stream.recv_initial_metadata()  # the rest waits for room, which there is none of until it is read
            await stream.cancel()
    call = grpclib.client.UnaryUnaryMethod(channel, METHOD, pb.VersionRequest, pb.VersionResponse)
    assert len((await call(pb.VersionRequest(version="7"))).version) == 7
    channel.close()
