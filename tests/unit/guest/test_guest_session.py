"""Connections that break, hosts that come back, peers that break the rules."""

import errno
import json
import os
import random
from pathlib import Path

import pytest

from hypercontainer.agent import messages as m
from tests.unit.guest.conftest import ENV, Guest
from tests.unit.guest.wire_client import ACK, DATA, EOF, HELLO, HYPR, STOP, Host, Refused, frame

FEATURES = [feature.word for feature in m.FEATURES]


def test_hello_names_the_session(guest: Guest) -> None:
    answer = guest.host.reconnect()
    assert answer == {"version": 1, "session": guest.host.session, "resumed": True, "features": FEATURES}
    other = guest.another_host()
    assert other.hello() == {"version": 1, "session": other.session, "resumed": False, "features": FEATURES}
    assert other.call("ping") == {}


def test_a_version_that_it_does_not_speak(guest: Guest) -> None:
    other = guest.another_host()
    assert other.hello(version=2) == {"version": 1, "session": other.session, "resumed": False, "features": FEATURES}
    other.ask("ping")
    with pytest.raises(TimeoutError):
        other.pump(0.2)
    assert guest.another_host().hello()["version"] == 1
    assert guest.host.call("ping") == {}


def test_an_answer_that_came_while_the_host_was_away(guest: Guest) -> None:
    number = guest.host.ask("ping")
    guest.host.reconnect()
    assert guest.host.answer(number) == {}
    assert guest.host.call("ping") == {}


def test_a_new_session_hears_no_old_answers_and_learns_all_by_list(running: Guest) -> None:
    streams = running.start("p", "sh", "-c", "echo out; exit 4")
    running.host.exit_of("p")
    running.host.ask("ping")
    host = running.another_host()
    host.hello()
    listing = host.call("list")
    assert listing["pod"] is False
    assert listing["containers"] == [{"id": "c1", "created": True}]
    process = next(p for p in listing["processes"] if p["id"] == "p")
    assert (process["running"], process["status"], process["container"]) == (False, 4, "c1")
    assert process["streams"] == streams
    assert listing["next_stream"] == max(streams.values()) + 1
    assert host.events == []


@pytest.mark.parametrize(
    ("command", "hook", "status"), [("true", "exit 1", 128), ("nosuch", "exit 0", 127), ("/etc", "exit 0", 126)]
)
def test_a_start_that_fails_after_who_asked_has_gone_is_an_end(
    guest: Guest, command: str, hook: str, status: int
) -> None:
    """The next host has taken what is listed for a process that runs."""
    guest.container()
    script = f"until [ -e /go ]; do sleep 0.01; done; {hook}"
    guest.host.ask(
        "process.start", id="c1", container="c1", args=[command], env=ENV, streams=guest.host.streams(), first=True,
        hooks=[{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ENV}], state="{}",
    )  # fmt: skip
    guest.host.call("ping")
    host = guest.another_host()
    host.hello()
    [process] = host.call("list")["processes"]
    assert process["running"]
    pid_1 = Path(f"/proc/{guest.process.pid}/task/{guest.process.pid}/children").read_text().split()[0]
    [root] = Path(f"/proc/{pid_1}/root{guest.folder}/run/c").glob("*/rootfs")
    (root / "go").touch()
    assert host.exit_of("c1")["status"] == status
    [process] = host.call("list")["processes"]
    assert (process["running"], process["status"]) == (False, status)
    host.call("process.forget", process="c1")
    guest.first()


def test_a_new_session_continues_output_where_its_log_ends(running: Guest) -> None:
    streams = running.host.streams()
    number, output = streams["stdout"], running.host.outputs[streams["stdout"]]
    output.held = True
    words = ["sh", "-c", "yes | head -c 100000"]
    running.host.call("process.start", id="p", container="c1", args=words, streams=streams, env=["PATH=/bin"])
    running.host.until(lambda: output.ended)
    host = running.another_host()
    host.outputs[number] = type(output)(data=output.data[:70001])
    host.hello()
    assert host.read_all(number) == b"y\n" * 50000


def test_nothing_is_sent_on_a_stream_before_its_ack(running: Guest) -> None:
    streams = running.start("p", "sh", "-c", "read x; yes | head -c 1000", stdin=True)
    host = running.another_host()
    host.inputs[streams["stdin"]] = type(host.inputs[0])()
    host.hello()
    host.until(lambda: host.inputs[streams["stdin"]].synced)
    host.write(streams["stdin"], b"\n")
    host.exit_of("p")
    assert not [f for f in host.frames_seen if f[1] == streams["stdout"]]
    host.outputs[streams["stdout"]] = type(host.outputs[0])()
    host.raw(frame(ACK, streams["stdout"], 0))
    assert host.read_all(streams["stdout"]) == b"y\n" * 500


def test_the_eof_of_an_output_comes_again(running: Guest) -> None:
    streams = running.start("p", "echo", "x")
    assert running.host.read_all(streams["stdout"]) == b"x\n"
    running.host.outputs[streams["stdout"]].ended = False
    running.host.reconnect()
    assert running.host.read_all(streams["stdout"]) == b"x\n"


def test_a_stop_that_was_lost_comes_again(running: Guest) -> None:
    streams = running.start("p", "sh", "-c", "exec <&-; sleep 1000", stdin=True)
    stream = running.host.inputs[streams["stdin"]]
    running.host.until(lambda: stream.stopped)
    stream.stopped = False
    running.host.reconnect()
    running.host.until(lambda: stream.stopped)


@pytest.mark.parametrize("seed", range(6))
def test_connections_that_break_at_any_moment_lose_nothing(running: Guest, seed: int) -> None:
    """Through `cat` and back, while the connection is cut in the middle of frames, again and again."""
    rng = random.Random(seed)
    data = rng.randbytes(1 << 20)
    streams = running.start("p", "cat", stdin=True)
    output, stream = running.host.outputs[streams["stdout"]], running.host.inputs[streams["stdin"]]
    running.host.write(streams["stdin"], data)  # on a busy machine all of it may be back before the first cut
    cuts = 0
    while not output.ended:
        if cuts < 25 and (not cuts or rng.random() < 0.3):
            half = frame(DATA, streams["stdin"], stream.sent, data[stream.sent : stream.sent + 9000])
            if stream.sent < len(data) and rng.random() < 0.7:
                running.host.socket.setblocking(False)
                try:
                    running.host.socket.send(half[: rng.randrange(1, len(half))])
                except BlockingIOError:
                    pass
            cuts += 1
            running.host.reconnect()
            running.host.write(streams["stdin"], b"", end=True)
        running.host.pump()
    assert bytes(output.data) == data


def test_a_hello_inside_a_frame_that_was_cut_short_is_no_hello(running: Guest) -> None:
    """What stands in a payload may be anyone's bytes: the container's user typed them, say."""
    streams = running.start("p", "cat", stdin=True)
    evil = {"version": 1, "session": "0" * 32}
    forged = frame(HELLO, HYPR, 666, json.dumps(evil).encode())
    request = b'{"id":1,"op":"container.remove","args":{"id":"c1"}}\n'
    cut = frame(DATA, streams["stdin"], 0, forged + frame(ACK, 0, 0) + frame(DATA, 0, 0, request) + bytes(9000))[:-8000]
    running.host.socket.sendall(cut)
    assert running.host.reconnect()["resumed"] is True
    assert [c["id"] for c in running.host.call("list")["containers"]] == ["c1"]


GARBAGE = [
    b"\xff" * 1000,
    os.urandom(5000),
    b"\x02\x00\xff\xff" + bytes(100),
    b"\x01" * 50000,
    frame(HELLO, HYPR, 1, b"{}"),
    frame(HELLO, HYPR, 1, b"[" * 30000),
    frame(HELLO, HYPR, 1, b'{"version":1,"session":"../../../../../../../../etc/pass"}'),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_survived(running: Guest, garbage: bytes) -> None:
    running.host.socket.sendall(garbage)
    assert running.host.reconnect()["resumed"] is True
    assert running.sh("echo fine")[1] == "fine\n"


def test_frames_that_break_the_rules_are_ignored(running: Guest) -> None:
    streams = running.start("p", "cat", stdin=True)
    number = streams["stdin"]
    for bad in (
        frame(DATA, number, 5, b"ahead"),
        frame(DATA, number, 2**64 - 3, b"around the end"),
        frame(DATA, 999, 0, b"of no stream"),
        frame(ACK, streams["stdout"], 10**12),
        frame(ACK, 999, 0),
        frame(EOF, number, 77),
        frame(EOF, 0, 0),
        frame(STOP, 0, 0),
        frame(STOP, number, 0),
        frame(HELLO, 5, 0, b"x"),
        frame(DATA, streams["stdout"], 0, b"the wrong way"),
    ):
        running.host.raw(bad)
    running.host.write(number, b"whole\n", end=True)
    assert running.host.read_all(streams["stdout"]) == b"whole\n"


def test_overlapping_data_is_taken_once(running: Guest) -> None:
    streams = running.start("p", "cat", stdin=True)
    number = streams["stdin"]
    for offset, text in ((0, b"abc"), (0, b"abc"), (1, b"bcdef"), (2, b"c"), (6, b"g\n")):
        running.host.raw(frame(DATA, number, offset, text))
    running.host.inputs[number].data += b"abcdefg\n"
    running.host.inputs[number].sent = 8
    running.host.write(number, b"", end=True)
    assert running.host.read_all(streams["stdout"]) == b"abcdefg\n"


def test_more_than_the_credit_is_ignored(running: Guest) -> None:
    streams = running.start("p", "sleep", "1000", stdin=True)  # reads nothing: what its pipe holds is all
    number = streams["stdin"]
    blob = bytes(32768)
    for i in range(20):
        running.host.raw(frame(DATA, number, i * 32768, blob))
    assert running.host.call("ping") == {}
    acked = running.host.inputs[number].acked
    assert acked <= 262144


def test_a_flood_of_requests_without_reading(guest: Guest) -> None:
    """Answers wait for their ACK; requests wait for the answers; memory stays bounded."""
    host = guest.another_host()
    host.hello()
    host.outputs[0].held = True
    lines = b"".join(b'{"id":%d,"op":"info"}\n' % i for i in range(1, 20001))
    host.inputs[0].data += lines
    with pytest.raises(TimeoutError):
        for _ in range(100000):
            host.pump(0.5)
    assert host.inputs[0].sent < len(lines)
    memory = next(line for line in (_inner(guest) / "status").read_text().splitlines() if line.startswith("VmRSS"))
    assert int(memory.split()[1]) < 16384  # KiB
    host.outputs[0].held = False
    host.reconnect()
    host.until(lambda: len(host.answers) == 20000)


def _inner(guest: Guest) -> Path:
    """/proc of the inner process: the outer one only waits for it."""
    outer = guest.process.pid
    return Path("/proc") / Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0]


def test_idle_it_does_not_run(running: Guest) -> None:
    def ticks() -> int:
        return sum(map(int, (_inner(running) / "stat").read_text().rsplit(")", 1)[1].split()[11:13]))

    host = running.host
    host.reconnect()
    before = ticks()
    with pytest.raises(TimeoutError):
        while True:
            host.pump(0.5)
    assert ticks() - before < 10


def test_two_hosts_after_each_other(guest: Guest) -> None:
    waiting = Host(guest.path)  # in the backlog, as QEMU's chardev has it
    guest.host.close()
    guest.host = waiting
    assert waiting.hello()["resumed"] is False
    assert waiting.call("ping") == {}


def test_requests_in_any_pieces(guest: Guest) -> None:
    text = json.dumps({"id": 1, "op": "ping"}).encode() + b"\n"
    for i in range(len(text)):
        guest.host.raw(frame(DATA, 0, i, text[i : i + 1]))
    guest.host.until(lambda: 1 in guest.host.answers)


def test_ids_rise(guest: Guest) -> None:
    guest.host.call("ping")
    guest.host.say({"id": 1, "op": "ping"})
    with pytest.raises(Refused) as refused:
        guest.host.answer(1)
    assert refused.value.errno == errno.EINVAL
    assert guest.host.call("ping") == {}
