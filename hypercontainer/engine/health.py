"""Whether containers are well: what they are asked, which is an exec now and then, and what follows from the answers.
In docker's words and numbers."""

import asyncio
import logging
from collections.abc import Sequence

from hypercontainer.engine import config
from hypercontainer.errors import GuestDied, HyperError, InvalidInput, WrongState
from hypercontainer.lib import clock
from hypercontainer.lib.limit import limit
from hypercontainer.model import ids
from hypercontainer.model.documents import HealthConfig
from hypercontainer.model.record import ContainerRecord, HealthRecord, ProbeRecord
from hypercontainer.model.spec import ExecSpec, Healthcheck
from hypercontainer.sandbox.container import Container
from hypercontainer.sandbox.exec import Exec, ExecSession
from hypercontainer.sandbox.locked import SIGKILL
from hypercontainer.sandbox.pod import Pod

log = logging.getLogger(__name__)

INTERVAL_S, TIMEOUT_S, START_INTERVAL_S, RETRIES = 30.0, 30.0, 5.0, 3  # where nobody says another
LEAST_S, MOST_S = 0.001, 365 * 86400.0  # of what is asked for
PAUSE_S = 0.1  # between two probes at least: nobody's image keeps hyperd busy
KEPT = 5  # probes
OUTPUT_BYTES = 4096  # of each
FAILED = -1  # exit code of a probe that could not be run, or took too long
KILL_S = 10.0  # for a process that was killed to be gone
MARK = (
    "0" * 16
)  # begins the id of an exec that is a probe, and by chance of no other: a hyperd after us knows it by that

DEFAULT_SHELL = ("/bin/sh", "-c")
DURATIONS = ("interval_s", "timeout_s", "start_period_s", "start_interval_s")


# What is asked


def check(asked: Healthcheck) -> None:
    """InvalidInput for what makes no sense."""
    for name in DURATIONS:
        value = getattr(asked, name)
        if value and not LEAST_S <= value <= MOST_S:
            raise InvalidInput(f"invalid healthcheck.{name} {value:g}: {LEAST_S:g} to {MOST_S:g}, or 0")
    if not 0 <= asked.retries <= 1 << 31:
        raise InvalidInput(f"invalid healthcheck.retries {asked.retries}: 0 to {1 << 31}")
    if asked.test and asked.test[0] not in ("CMD", "CMD-SHELL", "NONE"):
        raise InvalidInput(f"invalid healthcheck.test {asked.test[0][:60]!r}: begin it with CMD, CMD-SHELL or NONE")
    if asked.test and (asked.test[0] == "NONE") != (len(asked.test) == 1):
        raise InvalidInput(f"invalid healthcheck.test: {asked.test[0]} and {len(asked.test) - 1} words")
    if any("\0" in word for word in asked.test):
        raise InvalidInput("invalid healthcheck.test: a NUL byte in it")


def resolve(asked: Healthcheck | None, image: HealthConfig | None) -> Healthcheck | None:
    """What was asked for, and where that says nothing what the image says; None where neither says anything."""
    if asked is None and image is None:
        return None
    asked, image = asked or Healthcheck(), image or HealthConfig()
    return Healthcheck(
        test=asked.test or image.test,
        interval_s=asked.interval_s or image.interval / 1e9,
        timeout_s=asked.timeout_s or image.timeout / 1e9,
        start_period_s=asked.start_period_s or image.start_period / 1e9,
        start_interval_s=asked.start_interval_s or image.start_interval / 1e9,
        retries=asked.retries or image.retries,
    )


def command(resolved: Healthcheck, shell: Sequence[str]) -> list[str]:
    """What a probe runs; [] where there is to be none. `shell` is the image's."""
    kind, words = (resolved.test or ["NONE"])[0], resolved.test[1:]
    if kind == "CMD":
        return words
    return [*(shell or DEFAULT_SHELL), *words] if kind == "CMD-SHELL" and words else []


def warnings(resolved: Healthcheck) -> list[str]:
    """What will not be as it says, in words; an image's may say anything."""
    said = []
    if resolved.test and resolved.test[0] != "NONE" and not command(resolved, ()):
        said.append(f"the image's HEALTHCHECK is not run: {resolved.test[0][:40]!r} is no kind of probe that is known")
    short = [value for value in (resolved.interval_s, resolved.start_interval_s) if 0 < value < PAUSE_S]
    if short:
        said.append(f"an interval of {min(short):g} s between probes is too short: it will be {PAUSE_S:g} s")
    return said


def interval_s(record: ContainerRecord, now_ns: int) -> float:
    """From the end of a probe, or from the start, to the next probe."""
    check, health = record.healthcheck or Healthcheck(), record.health or HealthRecord()
    early = health.status == "starting" and now_ns < record.started_ns + check.start_period_s * 1e9
    wanted = (check.start_interval_s or START_INTERVAL_S) if early else (check.interval_s or INTERVAL_S)
    return max(wanted, PAUSE_S)


# What follows from an answer


def judge(record: ContainerRecord, probe: ProbeRecord) -> bool:
    """Write a probe down; whether the container's status is another now."""
    check, health = record.healthcheck, record.health
    assert check and health  # noqa: S101  it is asked
    before = health.status
    health.log = [*health.log, probe][-KEPT:]
    if probe.exit_code == 0:
        health.status, health.failing_streak = "healthy", 0
    elif before != "starting" or probe.started_ns >= record.started_ns + check.start_period_s * 1e9:
        health.failing_streak += 1
        if health.failing_streak >= (check.retries or RETRIES):
            health.status = "unhealthy"
    return health.status != before


# Asking


class Watch:
    """Asks a container how it is, until its run ends. What does not go on is not asked: paused, suspended, stopping."""

    def __init__(self, pod: Pod, container: Container) -> None:
        assert container.exit  # noqa: S101  it runs
        self.pod, self.container, self.record = pod, container, container.record
        self._exit = container.exit
        self._left: list[Exec] = []  # probes that are to end

    async def run(self) -> None:
        async with self.pod.locked():  # those of a hyperd before us, or of what this is a copy of
            self._left += [e for e in self.pod.execs.values() if e.container is None and e.id.startswith(MARK)]
        wait_s = self._first_wait_s()
        while not await self._ends_within(wait_s):
            if self._goes_on() and await self._alone() and (probe := await self._probe()):
                await self._note(probe)
            wait_s = interval_s(self.record, clock.now_ns())

    def _first_wait_s(self) -> float:
        """A hyperd before us may have asked."""
        now_ns = clock.now_ns()
        asked = self.record.health.log[-1:] if self.record.health else []
        last_ns = max(self.record.started_ns, *(probe.ended_ns for probe in asked), 0)
        wanted_s = interval_s(self.record, now_ns)
        return min(max(wanted_s - (now_ns - last_ns) / 1e9, 0.0), wanted_s)

    def _goes_on(self) -> bool:
        record, pod = self.record, self.pod
        held = pod.record.frozen or pod.machine.unreached or pod.machine.vm is None
        return record.state == "running" and not self.container.stops and not held

    async def _ends_within(self, seconds: float) -> bool:
        await asyncio.wait({self._exit}, timeout=seconds)
        return self._exit.done()

    async def _alone(self) -> bool:
        """No probe is left from before."""
        for exec_ in self._left:
            await self._end(exec_)
        self._left = [exec_ for exec_ in self._left if exec_.running]
        return not self._left

    async def _end(self, exec_: Exec) -> None:
        await exec_.signal(SIGKILL, group=True)
        await asyncio.wait({exec_.exit, self._exit}, timeout=KILL_S, return_when=asyncio.FIRST_COMPLETED)

    async def _probe(self) -> ProbeRecord | None:
        """Ask once. None when there is no answer that says anything of the container."""
        spec = ExecSpec(command=self.record.probe)
        process = config.exec_process(self.record.config.process, spec)
        exec_ = self.pod.add_exec(self.container, spec, process, MARK + ids.new_id()[len(MARK) :])
        started_ns, said, halts = clock.now_ns(), bytearray(), self.pod.halts
        answer = asyncio.ensure_future(self._answer(exec_, said))
        try:
            await asyncio.wait({answer, self._exit}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() or not self._goes_on():
                return None
            exit_code = answer.result()
        except TimeoutError:
            if self.pod.halts != halts:
                return None  # it could not answer meanwhile
            exit_code, late = FAILED, f"Health check exceeded timeout ({self._timeout_s():g}s)"
            said[:0] = f"{late}: ".encode() if said else late.encode()
        except (WrongState, GuestDied):
            return None
        except HyperError as e:
            exit_code, said = FAILED, bytearray(str(e).encode())
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
            await self._let_go(exec_)
        return ProbeRecord(started_ns=started_ns, ended_ns=clock.now_ns(), exit_code=exit_code, output=_text(said))

    def _timeout_s(self) -> float:
        return (self.record.healthcheck or Healthcheck()).timeout_s or TIMEOUT_S

    async def _answer(self, exec_: Exec, said: bytearray) -> int:
        """Its exit status. TimeoutError: that took too long."""
        async with limit(self._timeout_s(), self.pod.machine.running().guest.waited_s):
            await self.pod.start_exec(exec_)
            async for _, data in ExecSession(exec_):
                said += data[: max(0, OUTPUT_BYTES + 1 - len(said))]
            return await asyncio.shield(exec_.exit)

    async def _let_go(self, exec_: Exec) -> None:
        """Nothing of it is left, in the guest or here; as soon as that can be."""
        if exec_.running:
            self.pod.execs[exec_.id] = exec_  # also if its start was given up: then its end is heard
            if self._goes_on():
                await self._end(exec_)
        await exec_.abandon()
        if exec_.running:
            self._left.append(exec_)
        else:
            self.pod.execs.pop(exec_.id, None)

    async def _note(self, probe: ProbeRecord) -> None:
        async with self.pod.locked() as locked:
            if self._exit.done() or not self._goes_on():
                return
            changed = judge(self.record, probe)
            locked.machine.note()
        if changed and self.record.health:
            self.pod.emit(f"health_status: {self.record.health.status}", self.container)


def _text(said: bytearray) -> str:
    whole = said[:OUTPUT_BYTES].decode(errors="replace")
    return whole + ("..." if len(said) > OUTPUT_BYTES else "")
