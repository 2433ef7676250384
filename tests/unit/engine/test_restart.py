"""Restart policies: docker's rules, as a dockerd 20.10 was seen to keep them, and its numbers."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from hypercontainer.engine import resolve, restart
from hypercontainer.engine.local import LocalEngine
from hypercontainer.engine.restart import Restarts
from hypercontainer.model.documents import Event, ProcessConfig
from hypercontainer.model.record import ContainerRecord
from hypercontainer.model.spec import ContainerSpec, RestartPolicy
from tests.unit.engine.test_recovery import forsake
from tests.unit.engine.world import ROOTFS, Run, World

SECOND = 10**9
ALWAYS, UNLESS, FAILURE = (RestartPolicy(name=name) for name in ("always", "unless-stopped", "on-failure"))


def record(policy: RestartPolicy, **is_so: object) -> ContainerRecord:
    spec = ContainerSpec(image="i", restart=policy)
    made = resolve.container(spec, "sha256:0", ProcessConfig(cmd=["x"]), ROOTFS, name="c")
    for name, value in {"runs": 1, **is_so}.items():
        setattr(made, name, value)
    return made


def test_starts_are_put_off_twice_as_long_up_to_a_minute() -> None:
    restarts = Restarts()
    assert [restarts.next_delay_s("c") for _ in range(12)] == [
        0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60,
    ]  # fmt: skip
    short, steady = record(ALWAYS), record(ALWAYS)
    short.id = steady.id = "c"
    short.finished_ns, steady.finished_ns = 10 * SECOND - 1, 10 * SECOND
    restarts.ended(short)
    assert restarts.next_delay_s("c") == 60
    restarts.ended(steady)
    assert restarts.next_delay_s("c") == 0.1


@pytest.mark.parametrize(
    ("policy", "is_so", "wanted", "wanted_anew"),
    [
        (RestartPolicy(), {"exit_code": 1}, False, False),
        (ALWAYS, {}, True, True),
        (ALWAYS, {"stopped_by_user": True}, False, True),
        (ALWAYS, {"runs": 0}, True, False),  # one that was never started is not
        (UNLESS, {}, True, True),
        (UNLESS, {"stopped_by_user": True}, False, False),
        (FAILURE, {}, False, False),
        (FAILURE, {"exit_code": 1}, True, True),
        (FAILURE, {"exit_code": 1, "stopped_by_user": True}, False, True),
        (RestartPolicy(name="on-failure", max_retries=2), {"exit_code": 1, "restart_count": 1}, True, True),
        (RestartPolicy(name="on-failure", max_retries=2), {"exit_code": 1, "restart_count": 2}, False, False),
    ],
)
def test_who_is_started_after_an_end_and_by_a_hyperd_that_starts(
    policy: RestartPolicy, is_so: dict[str, object], wanted: bool, wanted_anew: bool
) -> None:
    found = record(policy, **is_so)
    assert (restart.wanted(found), restart.wanted_anew(found)) == (wanted, wanted_anew)


@pytest.mark.parametrize(
    ("stop_signal", "sent", "stops"),
    [
        (None, signal.SIGHUP, True),
        (None, signal.SIGKILL, True),
        ("SIGQUIT", signal.SIGHUP, False),
        ("SIGQUIT", signal.SIGTERM, False),
        ("SIGQUIT", signal.SIGQUIT, True),
        ("SIGQUIT", signal.SIGKILL, True),
    ],
)
async def test_a_signal_is_a_wish_that_it_stops(
    engine: LocalEngine, create: Run, stop_signal: str | None, sent: int, stops: bool
) -> None:
    id = await create("sleep", "1", restart=ALWAYS, stop_signal=stop_signal)
    await engine.containers.start(id)
    await engine.containers.kill(id, sent)
    ends = [event async for event in _until(engine, id, "die" if stops else "start", 1 if stops else 2)]
    assert ends and (await engine.containers.inspect(id)).state.status == ("exited" if stops else "running")


async def _until(engine: LocalEngine, id: str, action: str, count: int) -> AsyncIterator[Event]:
    async with asyncio.timeout(60):
        async for event in await engine.system.events(0, None, {"event": [action], "container": [id]}):
            yield event
            count -= 1
            if not count:
                return


async def test_a_start_that_somebody_wants_counts_anew(engine: LocalEngine, create: Run) -> None:
    id = await create("false", restart=RestartPolicy(name="on-failure", max_retries=2))
    for starts in (3, 6):
        await engine.containers.start(id)
        _ = [event async for event in _until(engine, id, "die", starts)]
        async with engine.supervisor.find(id)[0].locked():
            pass  # what follows from the end has been done
        state = await engine.containers.inspect(id)
        assert (state.restart_count, state.state.status) == (2, "exited")


async def test_a_hyperd_that_starts_starts_what_its_policy_says(world: World, engine: LocalEngine, create: Run) -> None:
    kept = {
        "always": await create("sleep", "1", name="always", restart=ALWAYS),
        "unless": await create("sleep", "1", name="unless", restart=UNLESS),
        "never-ran": await create("sleep", "1", name="never-ran", restart=ALWAYS),
        "plain": await create("sleep", "1", name="plain"),
    }
    for name in ("always", "unless", "plain"):
        await engine.containers.start(name)
        await engine.containers.stop(name, 0)
    await forsake(engine)
    again = await world.engine()
    _ = [event async for event in _until(again, kept["always"], "start", 2)]
    found = {entry.names[0][1:]: entry.state for entry in await again.containers.list(all=True, filters={})}
    assert found == {"always": "running", "unless": "exited", "never-ran": "created", "plain": "exited"}
    assert (await again.containers.inspect("always")).restart_count == 0
