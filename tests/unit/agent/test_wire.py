"""Frames <-> bytes: round trips, any pieces, cut frames, HELLO among rubbish."""

import json
import struct
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.agent.wire import (
    HEADER,
    HELLO_STREAM,
    MAX_FRAME,
    MAX_OFFSET,
    MAX_PAYLOAD,
    MAX_STREAM,
    PREAMBLE,
    Decoder,
    Frame,
    Kind,
    WireError,
    encode,
    hello,
)

NONCE = 0x1122334455667788
HELLO = Frame(Kind.HELLO, HELLO_STREAM, NONCE, b"{}")
VECTORS = Path(__file__).parents[2] / "vectors" / "frames.json"

payloads = st.one_of(st.binary(max_size=40), st.integers(0, MAX_PAYLOAD).map(lambda n: bytes([n & 0xFF]) * n))
streams = st.integers(0, MAX_STREAM)
offsets = st.integers(0, MAX_OFFSET)
frames = st.one_of(
    st.builds(Frame, st.just(Kind.DATA), streams, offsets, payloads),
    st.builds(Frame, st.sampled_from([Kind.ACK, Kind.EOF, Kind.STOP]), streams, offsets, st.just(b"")),
)


def raw(frame: Frame) -> bytes:
    return encode(*frame)


def found(nonce: int | None = NONCE) -> Decoder:
    decoder = Decoder(nonce)
    assert list(decoder.feed(raw(HELLO))) == [HELLO]
    return decoder


def fed(decoder: Decoder, pieces: Iterable[bytes]) -> list[Frame]:
    taken: list[Frame] = []
    for piece in pieces:
        taken += decoder.feed(piece)
        assert decoder.held < MAX_FRAME
    return taken


def one_by_one(data: bytes) -> Iterable[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


@given(st.lists(frames, max_size=8), st.integers(0, 5))
def test_what_is_encoded_is_decoded_whatever_zeros_lie_between(sent: list[Frame], zeros: int) -> None:
    data = b"".join(raw(frame) + bytes(zeros) for frame in sent)
    assert fed(found(), [data]) == sent


@given(st.lists(frames, min_size=1, max_size=6), st.data())
def test_the_pieces_do_not_matter(sent: list[Frame], data: st.DataObject) -> None:
    whole = PREAMBLE[:7] + b"".join(map(raw, [HELLO, *sent]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert fed(Decoder(NONCE), pieces) == [HELLO, *sent]


def test_a_byte_at_a_time_is_enough() -> None:
    sent = [HELLO, Frame(Kind.DATA, 0, 0, b"x" * 300), Frame(Kind.ACK, 7, 300), Frame(Kind.EOF, 9, 1)]
    assert fed(Decoder(NONCE), one_by_one(hello(NONCE, b"{}") + b"".join(map(raw, sent[1:])))) == sent


@given(st.lists(st.binary(max_size=300), max_size=20), st.booleans())
def test_rubbish_raises_nothing_but_wire_error(pieces: list[bytes], is_found: bool) -> None:
    decoder = found() if is_found else Decoder(NONCE)
    try:
        assert is_found or fed(decoder, pieces) == []
        fed(decoder, pieces)
    except WireError:
        assert is_found


@given(st.lists(frames, max_size=4), st.binary(max_size=200), st.data())
def test_damaged_frames_raise_nothing_but_wire_error(sent: list[Frame], noise: bytes, data: st.DataObject) -> None:
    whole = bytearray(b"".join(map(raw, sent)) + noise)
    for at in data.draw(st.lists(st.integers(0, max(0, len(whole) - 1)), max_size=4)):
        if whole:
            whole[at] ^= data.draw(st.integers(1, 255))
    try:
        fed(found(), [bytes(whole)])
    except WireError:
        pass


@given(st.binary(max_size=400), st.lists(frames, max_size=3))
def test_the_host_skips_everything_up_to_its_own_hello(rubbish: bytes, sent: list[Frame]) -> None:
    other = raw(Frame(Kind.HELLO, HELLO_STREAM, NONCE ^ 1, b"{}"))
    stream = b"".join(map(raw, sent)) + other + rubbish + raw(HELLO) + raw(Frame(Kind.ACK, 1, 2))
    assert fed(Decoder(NONCE), one_by_one(stream)) == [HELLO, Frame(Kind.ACK, 1, 2)]


def test_the_nonce_counts_only_at_its_place_in_a_hello() -> None:
    bare = struct.pack(">IQ", HELLO_STREAM, NONCE)
    decoys = bare + b"\x02\0\0\0" + bare + HEADER.pack(1, 1, 0, HELLO_STREAM, NONCE) + b"\xa5"
    decoys += HEADER.pack(1, 0, MAX_PAYLOAD + 1, HELLO_STREAM, NONCE) + HEADER.pack(1, 0, 3, HELLO_STREAM, NONCE)
    assert fed(Decoder(NONCE), one_by_one(decoys + raw(HELLO))) == [HELLO]


@pytest.mark.parametrize("nonce", [NONCE, None], ids=["host", "guest"])
def test_a_flood_without_hello_is_skipped_in_bounded_memory(nonce: int | None) -> None:
    decoder = Decoder(nonce)
    pieces = [(b"HYPR" + struct.pack(">Q", NONCE))[:11] * 2000, bytes(200_000), b"\1" * 200_000] * 50
    tracemalloc.start()
    assert fed(decoder, pieces) == []
    assert tracemalloc.get_traced_memory()[1] < 2 << 20  # of 21 MB
    tracemalloc.stop()


@given(frames, st.data())
def test_a_frame_cut_anywhere_loses_a_guest_until_the_next_hello(frame: Frame, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(raw(frame)) - 1))
    decoder = found(None)
    assert fed(decoder, [raw(frame)[:cut], PREAMBLE]) == []
    assert decoder.lost == (raw(frame)[:cut].strip(b"\0") != b"")
    assert fed(decoder, [raw(HELLO), raw(frame)]) == [HELLO, frame]


def test_a_guest_that_is_lost_takes_no_frame_but_hello() -> None:
    decoder = Decoder()
    assert fed(decoder, [raw(Frame(Kind.DATA, 1, 0, b"x"))]) == []
    assert fed(decoder, [raw(HELLO), raw(Frame(Kind.ACK, 1, 0))]) == [HELLO, Frame(Kind.ACK, 1, 0)]


def test_a_hello_inside_a_cut_frame_is_a_forgery() -> None:
    forged = raw(Frame(Kind.HELLO, HELLO_STREAM, 666, b"{}"))
    cut = raw(Frame(Kind.DATA, 1, 0, forged + bytes(100)))[: HEADER.size + len(forged) + 10]
    assert fed(found(None), [cut, PREAMBLE, raw(HELLO)]) == [HELLO]


@pytest.mark.parametrize(
    "header",
    [(0x80, 0, 0), (6, 0, 0), (2, 1, 0), (2, 0, MAX_PAYLOAD + 1), (3, 0, 1), (4, 0, 1), (5, 0, 1), (3, 0, 0xFFFF)],
)
def test_headers_out_of_bounds_are_refused_at_once(header: tuple[int, int, int]) -> None:
    with pytest.raises(WireError, match="cannot understand"):
        fed(found(), [HEADER.pack(*header, 1, 0)])


def test_a_wrong_end_is_refused() -> None:
    with pytest.raises(WireError, match="ends in 0x00"):
        fed(found(), [HEADER.pack(2, 0, 1, 1, 0) + b"x\0"])


def test_the_vectors_that_the_guest_shares() -> None:
    vectors = json.loads(VECTORS.read_text())
    assert vectors["good"]
    assert vectors["bad"]
    for vector in vectors["good"]:
        frame = Frame(vector["kind"], vector["stream"], vector["offset"], bytes.fromhex(vector["payload_hex"]))
        data = bytes.fromhex(vector["hex"])
        assert raw(frame) == data, vector["name"]
        assert fed(found(), [data]) == [frame], vector["name"]
    for vector in vectors["bad"]:
        with pytest.raises(WireError):
            fed(found(), [bytes.fromhex(vector["hex"])])
