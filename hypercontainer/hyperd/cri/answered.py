"""The one message of a call that went well, and all around it. grpclib has hyper-h2 make three to twenty frames of an
answer, object by object: with a list of some hundred containers that is most of what a call costs.

What is counted and allowed is hyper-h2's as before: windows, and the states of streams. Our blocks of headers leave its
table of headers as it is, so that others may follow that are hyper-h2's."""

import struct
from typing import Any

from grpclib.protocol import Stream as H2Stream
from grpclib.server import Stream
from h2.connection import ConnectionInputs
from h2.exceptions import StreamClosedError
from h2.stream import StreamInputs

DATA, HEADERS = 0, 1  # types of frames, and flags: RFC 9113
END_STREAM, END_HEADERS = 1, 4
FRAME = struct.Struct(">HBBBL")  # the length has 24 bits
MESSAGE = struct.Struct(">?L")  # gRPC's own: compressed, length


def _header(name: bytes, value: str) -> bytes:
    """One that no table keeps: RFC 7541, 6.2.2. `name`: with its length, or its index."""
    return name + bytes([len(value)]) + value.encode()


HEAD = b"\x88" + _header(b"\x0f\x10", "application/grpc+proto")  # :status 200, content-type
TAIL = _header(b"\x00\x0bgrpc-status", "0")


def _frame(kind: int, flags: int, stream: int, length: int) -> bytes:
    return FRAME.pack(length >> 8, length & 0xFF, kind, flags, stream)


async def answered(to: Stream[Any, Any], message: bytes) -> None:
    """Say `message`, and that all is well. StreamClosedError: the client has gone."""
    stream = to._stream
    h2, id = stream._h2_connection, stream.id
    assert id is not None  # noqa: S101  it has come
    if h2.encoder.table_size_changes:  # the client is to be told first, in a block that is hyper-h2's
        await to.send_message(message)
        return
    if id not in h2.streams:
        raise StreamClosedError(id)
    state = h2.streams[id].state_machine
    h2.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
    state.process_input(StreamInputs.SEND_HEADERS)
    pieces: list[bytes | memoryview] = [_frame(HEADERS, END_HEADERS, id, len(HEAD)), HEAD]
    rest = memoryview(MESSAGE.pack(False, len(message)) + message)
    to._send_initial_metadata_done = True
    while rest:
        room = min(h2.local_flow_control_window(id), len(rest))
        if room <= 0 or not stream.connection.write_ready.is_set():
            stream._transport.write(b"".join(pieces))
            pieces = []
            await _room(stream)
            continue
        state.process_input(StreamInputs.SEND_DATA)
        for start in range(0, room, h2.max_outbound_frame_size):
            part = rest[start : min(start + h2.max_outbound_frame_size, room)]
            pieces += _frame(DATA, 0, id, len(part)), part
        h2.outbound_flow_control_window -= room
        h2.streams[id].outbound_flow_control_window -= room
        rest = rest[room:]
    state.process_input(StreamInputs.SEND_HEADERS)
    state.process_input(StreamInputs.SEND_END_STREAM)
    pieces += _frame(HEADERS, END_HEADERS | END_STREAM, id, len(TAIL)), TAIL
    stream._transport.write(b"".join(pieces))
    stream.connection.data_send_process()
    to._send_message_done = to._send_trailing_metadata_done = True


async def _room(stream: H2Stream) -> None:
    """Until the client takes more."""
    await stream.connection.write_ready.wait()
    assert stream.id is not None  # noqa: S101  as above
    if stream._h2_connection.local_flow_control_window(stream.id) <= 0:
        stream.window_updated.clear()
        await stream.window_updated.wait()
