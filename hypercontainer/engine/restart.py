"""Restart policies: whether a container that ended is started again, and when. Rules and numbers are docker's."""

import asyncio

from hypercontainer.model.record import ContainerRecord

BACKOFF_S, BACKOFF_MAX_S, STEADY_S = 0.1, 60.0, 10.0  # docker's: doubled from 100 ms, afresh after 10 s of running


def wanted(container: ContainerRecord) -> bool:
    """Whether the policy of a container that has ended has it started again."""
    return not container.stopped_by_user and _allowed(container)


def wanted_anew(container: ContainerRecord) -> bool:
    """Whether its policy has one that ended before started by a hyperd that starts: who stopped it matters to
    unless-stopped alone."""
    stays = container.stopped_by_user and container.spec.restart.name == "unless-stopped"
    return container.runs > 0 and not stays and _allowed(container)


def _allowed(container: ContainerRecord) -> bool:
    policy = container.spec.restart
    if policy.name == "on-failure":
        return container.exit_code != 0 and (not policy.max_retries or container.restart_count < policy.max_retries)
    return policy.name != "no"


class Restarts:
    """The starts that are due, a task for each container, and how long the next one is put off."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._backoff_s: dict[str, float] = {}

    def ended(self, container: ContainerRecord) -> None:
        """A run has ended: one that went well for a while is not held against the next."""
        if container.finished_ns - container.started_ns >= STEADY_S * 1e9:
            self._backoff_s.pop(container.id, None)

    def next_delay_s(self, id: str) -> float:
        delay_s = self._backoff_s.get(id, BACKOFF_S)
        self._backoff_s[id] = min(delay_s * 2, BACKOFF_MAX_S)
        return delay_s

    def begin_anew(self, id: str) -> None:
        """Its ends until now are not held against it."""
        self._backoff_s.pop(id, None)

    def due(self, id: str) -> bool:
        return id in self._tasks

    def plan(self, id: str, start: "asyncio.Task[None]") -> None:
        self._tasks[id] = start

    def cancel(self, id: str) -> None:
        """A start that is due is so no more; safe in the start itself."""
        task = self._tasks.pop(id, None)
        if task and task is not asyncio.current_task():
            task.cancel()

    def forget(self, id: str) -> None:
        """The container is removed."""
        self.cancel(id)
        self._backoff_s.pop(id, None)
