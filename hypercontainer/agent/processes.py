"""Which processes the guest runs for us: whose exit events are believed, and which streams end with them."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from hypercontainer.agent.messages import ExitEvent, Listing, StreamSet
from hypercontainer.agent.wire import WireError

MAX_STRAYS = 1000  # exit events of processes that do not run, before the guest counts as broken

ExitCallback = Callable[[ExitEvent], None]


class Process(NamedTuple):
    container: str
    streams: StreamSet


class Processes:
    """Reports each exit once, however often the guest says it."""

    def __init__(self) -> None:
        self._known: dict[str, Process] = {}
        self._running: set[str] = set()
        self._strays = 0
        self._callback: ExitCallback | None = None
        self._early: list[ExitEvent] = []  # at most one for each process

    @property
    def callback(self) -> ExitCallback | None:
        return self._callback

    @callback.setter
    def callback(self, callback: ExitCallback | None) -> None:
        self._callback = callback
        early, self._early = self._early, []
        for event in early:
            self._report(event)

    def learn(self, listing: Listing) -> None:
        """What the guest held before us. What has ended already is in the listing and is not reported."""
        for process in listing.processes:
            self._known[process.id] = Process(process.container, process.streams)
            if process.running:
                self._running.add(process.id)

    def add(self, name: str, container: str, streams: StreamSet) -> None:
        """A request that starts `name` is about to be sent: its exit may come before the answer."""
        self._known[name] = Process(container, streams)
        self._running.add(name)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def remove(self, name: str) -> list[int]:
        """Forget `name`; its streams' numbers, which end with it."""
        self._running.discard(name)
        process = self._known.pop(name, None)
        if process is None:
            return []
        stdin = [process.streams.stdin] if process.streams.stdin else []  # 0 is none; stream 0 itself never ends
        return stdin + process.streams.outputs()

    def rename(self, container: str, to: str) -> None:
        """The guest has renamed a container, and the process of the same name."""
        for name, process in list(self._known.items()):
            if process.container == container:
                self._known[name] = process._replace(container=to)
        if container in self._known:
            self._known[to] = self._known.pop(container)
        if container in self._running:
            self._running.remove(container)
            self._running.add(to)

    def remove_all(self, container: str) -> list[int]:
        names = [name for name, process in self._known.items() if process.container == container]
        return [number for name in names for number in self.remove(name)]

    def exited(self, event: ExitEvent) -> None:
        """The guest says so. WireError when it will not stop inventing them."""
        if event.process in self._running:
            self._running.discard(event.process)
            self._report(event)
            return
        self._strays += 1
        if self._strays > MAX_STRAYS:
            raise WireError("the guest's agent floods us with exits of processes that do not run")

    def _report(self, event: ExitEvent) -> None:
        if self._callback:  # later, so that what it raises is not taken for the guest's fault
            asyncio.get_running_loop().call_soon(self._callback, event)
        else:
            self._early.append(event)
