import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.model import stream

FRAMES = st.lists(st.tuples(st.sampled_from(sorted(stream.FROM_SERVER)), st.binary(max_size=300)))


def test_a_frame_is_kind_padding_length_payload() -> None:
    assert stream.frame(stream.STDIN, b"hi") == b"\x00\0\0\0\0\0\0\x02hi"
    assert stream.header(stream.SIGNAL, 65536) == b"\x07\0\0\0\0\x01\0\0"


@given(FRAMES, st.integers(1, 700))
def test_frames_arrive_whole_however_they_are_cut(frames: list[tuple[int, bytes]], step: int) -> None:
    data = b"".join(stream.frame(kind, payload) for kind, payload in frames)
    decoder = stream.Decoder(stream.FROM_SERVER)
    got = []
    for i in range(0, len(data), step):
        decoder.feed(data[i : i + step])
        got += [(kind, bytes(payload)) for kind, payload in decoder]
    assert got == frames
    assert not decoder.partial


def test_the_largest_frames_follow_each_other_through_a_small_buffer() -> None:
    decoder = stream.Decoder(stream.FROM_SERVER, stream.MAX_PAYLOAD + stream.HEADER + 7)
    payload = bytes(range(256)) * 256
    data = stream.frame(stream.STDOUT, payload) * 5
    got = 0
    while data:
        space = decoder.space()
        n = min(len(space), len(data), 50_000)
        space[:n] = data[:n]
        data = data[n:]
        decoder.received(n)
        for kind, piece in decoder:
            assert (kind, bytes(piece)) == (stream.STDOUT, payload)
            got += 1
    assert got == 5


@pytest.mark.parametrize(
    "head",
    [
        b"\x00\0\0\0\0\0\0\0",  # stdin comes from no server
        b"\x01\0\0\0\0\x01\0\x01",  # longer than 65536
        b"\x01\0\0\x01\0\0\0\0",  # padding that is not zero
        b"\xff" * 8,
    ],
)
def test_a_frame_that_no_server_sends_is_refused(head: bytes) -> None:
    decoder = stream.Decoder(stream.FROM_SERVER)
    decoder.feed(head)
    with pytest.raises(ValueError, match="frame of kind"):
        list(decoder)
