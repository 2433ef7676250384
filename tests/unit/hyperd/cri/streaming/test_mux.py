"""The streams of one connection, whatever its client says."""

from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri.streaming import mux, spdy
from hypercontainer.hyperd.cri.streaming.mux import Aborted, Came, Ended, Mux, Opened
from tests.unit.hyperd.cri.streaming.test_spdy import FRAMES, encoded

IDS = st.integers(0, 12)
LIKELY = st.one_of(
    st.builds(spdy.Open, IDS, st.just({}), st.booleans()),
    st.builds(spdy.Data, IDS, st.binary(max_size=20), st.booleans()),
    st.builds(spdy.Reset, IDS, st.just(1)),
    st.builds(spdy.Window, IDS, st.integers(0, 2**20)),
    st.builds(spdy.Headers, IDS, st.just({}), st.booleans()),
    FRAMES,
)


@given(st.lists(LIKELY, max_size=40), st.integers(1, 100))
def test_no_stream_speaks_before_it_opens_or_after_it_ends(frames: list[spdy.Frame], size: int) -> None:
    connection, data, speaks = Mux(), encoded(frames), set[int]()
    try:
        for at in range(0, len(data), size):
            for event in connection.receive(data[at : at + size]):
                if isinstance(event, Opened):
                    assert event.stream % 2 and event.stream not in speaks
                    speaks.add(event.stream)
                elif isinstance(event, Came):
                    assert event.stream in speaks
                    connection.taken(event.stream, len(event.data))
                elif isinstance(event, Ended):
                    speaks.remove(event.stream)
                elif isinstance(event, Aborted):
                    speaks.discard(event.stream)
                    assert not connection.has(event.stream)
    except InvalidInput as e:
        assert str(e).startswith("cannot ")
        assert list(spdy.Decoder().feed(bytes(connection.out)))[-1] == spdy.GoAway(connection._last, 1)
    assert len(connection.out) <= 100 + len(data)


def test_what_a_client_has_said_of_windows_is_kept() -> None:
    connection = Mux()
    list(connection.receive(encoded([spdy.Open(1, {})])))
    assert connection.room(1) > 1 << 20  # it has said nothing of them
    connection.send(1, bytes(60_000))
    list(connection.receive(encoded([spdy.Window(1, 1000)])))
    assert connection.room(1) == mux.WINDOW - 60_000  # of all streams
    list(connection.receive(encoded([spdy.Window(0, 10_000)])))
    assert connection.room(1) == mux.WINDOW - 59_000
    list(connection.receive(encoded([spdy.Settings({spdy.WINDOW_SETTING: 0})])))
    assert connection.room(1) == 0
