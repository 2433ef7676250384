"""Frames of SPDY: what they are in bytes, and that no bytes break who reads them."""

import struct
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri.streaming import headers, spdy
from hypercontainer.hyperd.cri.streaming.spdy import Data, Decoder, Encoder, Frame

IDS = st.integers(0, spdy.MAX_ID)
WORDS = st.integers(0, 2**32 - 1)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=20).map(str.lower)
LATIN = st.characters(max_codepoint=255)
HEADERS = st.dictionaries(NAMES.filter(lambda n: all(ord(c) < 256 for c in n)), st.text(LATIN, max_size=40), max_size=8)
FRAMES = st.one_of(
    st.builds(spdy.Open, IDS, HEADERS, st.booleans()),
    st.builds(spdy.Reply, IDS, HEADERS, st.booleans()),
    st.builds(spdy.Headers, IDS, HEADERS, st.booleans()),
    st.builds(Data, IDS, st.binary(min_size=1, max_size=300), st.booleans()),
    st.builds(spdy.Reset, IDS, WORDS),
    st.builds(spdy.Settings, st.dictionaries(st.integers(0, 0xFFFFFF), WORDS, max_size=4)),
    st.builds(spdy.Ping, WORDS),
    st.builds(spdy.GoAway, IDS, WORDS),
    st.builds(spdy.Window, IDS, IDS),
)


def encoded(frames: list[Frame]) -> bytes:
    encoder = Encoder()
    return b"".join(encoder.encode(frame) for frame in frames)


def joined(frames: Iterator[Frame]) -> list[Frame]:
    """Pieces of one data frame are one again."""
    made: list[Frame] = []
    for frame in frames:
        last = made[-1] if made else None
        if isinstance(frame, Data) and isinstance(last, Data) and last.stream == frame.stream and not last.fin:
            made[-1] = Data(frame.stream, last.data + frame.data, frame.fin)
        else:
            made.append(frame)
    return made


@given(st.lists(FRAMES, max_size=8), st.integers(1, 50))
def test_what_is_sent_comes_however_it_is_cut(frames: list[Frame], size: int) -> None:
    data, decoder = encoded(frames), Decoder()
    came = [frame for at in range(0, len(data), size) for frame in decoder.feed(data[at : at + size])]
    assert joined(iter(came)) == joined(iter(frames))


@given(st.lists(FRAMES, min_size=1, max_size=5), st.data())
def test_changed_bytes_are_read_or_refused(frames: list[Frame], data: st.DataObject) -> None:
    changed = bytearray(encoded(frames))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(changed))


@given(st.binary(max_size=500))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read(data)


def read(data: bytes) -> list[Frame]:
    try:
        return list(Decoder().feed(data))
    except InvalidInput as e:
        assert str(e).startswith("cannot ")
        return []


def test_the_bytes_of_the_draft() -> None:
    encoder = Encoder()
    assert encoder.encode(spdy.Ping(7)) == bytes.fromhex("80030006 00000004 00000007")
    assert encoder.encode(spdy.Window(3, 0x1000)) == bytes.fromhex("80030009 00000008 00000003 00001000")
    assert encoder.encode(Data(5, b"hi", True)) == bytes.fromhex("00000005 01000002") + b"hi"
    assert encoder.encode(spdy.Settings({7: 65536})) == bytes.fromhex("80030004 0000000c 00000001 00000007 00010000")
    assert zlib.adler32(headers.DICTIONARY) == 0xE3C6A7C2  # by which zlib names it


def control(kind: int, payload: bytes) -> bytes:
    return struct.pack(">HHI", 0x8003, kind, len(payload)) + payload


def block(text: bytes) -> bytes:
    packer = zlib.compressobj(zdict=headers.DICTIONARY)
    return packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)


PAIR = struct.pack(">I", 1) + b"a" + struct.pack(">I", 1) + b"b"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack(">HHI", 0x8002, 1, 0), "SPDY/2"),
        (struct.pack(">HHI", 0x8003, 1, 1 << 20), "control frame of 1048576"),
        (control(6, b"123"), "PING of 3 bytes"),
        (control(1, b"123"), "SYN_STREAM of 3 bytes"),
        (control(4, struct.pack(">I", 2**32 - 1)), "SETTINGS of 4 bytes"),
        (control(2, bytes(4) + b"no zlib"), "unpack headers"),
        (control(2, bytes(4) + block(bytes(1 << 20))), "no block of at most"),
        (control(2, bytes(4) + block(struct.pack(">I", 65))), "65 headers"),
        (control(2, bytes(4) + block(struct.pack(">I", 1) + PAIR + b"x")), "1 bytes are behind"),
        (control(2, bytes(4) + block(struct.pack(">I", 2) + PAIR + PAIR)), "there twice"),
        (control(2, bytes(4) + block(struct.pack(">II", 1, 2**32 - 1))), "4294967295 bytes are wanted"),
    ],
)
def test_what_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        list(Decoder().feed(data))


def test_frames_of_kinds_that_there_are_not_are_passed_over() -> None:
    assert list(Decoder().feed(control(99, b"x") + encoded([spdy.Ping(1)]))) == [spdy.Ping(1)]


def test_a_long_data_frame_comes_in_pieces_and_waits_for_none() -> None:
    decoder = Decoder()
    head = struct.pack(">II", 1, 1 << 24 | spdy.MAX_DATA)
    assert list(decoder.feed(head + b"abc")) == [Data(1, b"abc")]
    assert list(decoder.feed(b"def")) == [Data(1, b"def")]
