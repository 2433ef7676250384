"""What a fake guest leaves in a snapshot of itself: enough for another one to go on from it."""

import msgspec

from hypercontainer.agent import messages as m
from hypercontainer.testing.fake_agent import FakeAgent
from hypercontainer.testing.fake_process import FakeProcess


class FrozenProcess(msgspec.Struct, kw_only=True):
    """Its program begins anew where it goes on; its streams do not."""

    id: str
    container: str
    args: list[str]
    pid: int
    streams: m.StreamSet
    sent: list[int]  # acknowledged bytes of stdout, stderr
    consumed: int  # bytes of stdin


class Image(msgspec.Struct, kw_only=True):
    containers: dict[str, m.ContainerCreate]
    frozen: list[str]
    processes: list[FrozenProcess]
    next_stream: int


def image(agent: FakeAgent) -> bytes:
    """As a guest's memory begins; zeroes follow."""
    kept = [_frozen(process) for process in agent.processes.values() if process.status is None]
    taken = Image(
        containers=agent.containers, frozen=sorted(agent.frozen), processes=kept, next_stream=agent.next_stream
    )  # fmt: skip
    return msgspec.json.encode(taken)


def _frozen(process: FakeProcess) -> FrozenProcess:
    return FrozenProcess(
        id=process.id,
        container=process.container,
        args=process.args,
        pid=process.pid,
        streams=process.streams,
        sent=[sender.acknowledged if sender else 0 for sender in process.senders],
        consumed=process.stdin.consumed if process.stdin else 0,
    )


def go_on(agent: FakeAgent, memory: bytes) -> None:
    """Make `agent`, which holds nothing, what was left in `memory`; in one of zeroes there is nothing."""
    if not (text := memory.partition(b"\0")[0]):
        return
    kept = msgspec.json.decode(text, type=Image)
    agent.containers.update(kept.containers)
    agent.frozen.update(kept.frozen)
    for old in kept.processes:
        agent.offsets.update(zip((old.streams.stdout, old.streams.stderr), old.sent, strict=True))
        process = agent.begin(old.id, old.container, old.args, old.streams, agent.programs[old.args[0]])
        process.pid = old.pid
        if process.stdin:
            process.stdin.consumed = old.consumed
    agent.next_stream = kept.next_stream
