"""One line on stderr when a start takes long: what hyperd makes for it."""

from __future__ import annotations

import select
import time

from hypercontainer.hyperctl.containers import path
from hypercontainer.hyperctl.context import complain
from hypercontainer.hyperctl.signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hypercontainer.client.http import Client

LONG_S = 2.0  # that nobody wonders about
AGAIN_S = 1.0  # until it is asked again what is made, when that was nothing to wait for


class Waiting:
    """`with Waiting(client, container):` around the call that starts it. Ctrl-C ends the call at any moment of it."""

    def __init__(self, client: Client, container: str) -> None:
        self._client, self._container = client, container
        self._signals: Signals | None = None
        self._look_s = time.monotonic() + LONG_S
        self._told = False

    def __enter__(self) -> None:
        try:
            self._signals = Signals(()).__enter__()
        except ValueError:  # several starts at once, each in a thread: the main one waits for signals
            pass
        self._client.idle = self._wait

    def __exit__(self, *_: object) -> None:
        self._client.idle = None
        if self._signals:
            self._signals.__exit__()

    def _wait(self, fd: int) -> None:
        """Until `fd` can be read. A signal that came just before reading began would not end that: it is seen here."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if self._signals:
            poll.register(self._signals.fd, select.POLLIN)
        while fd not in (ready := dict(poll.poll(self._left_ms()))):
            if not ready:
                self._tell()
            elif self._signals:
                self._signals.take()

    def _left_ms(self) -> float | None:
        return None if self._told else max(self._look_s - time.monotonic(), 0.0) * 1e3

    def _tell(self) -> None:
        self._look_s = time.monotonic() + AGAIN_S
        try:
            with self._client.another() as client:
                making = client.get(path(self._container))["State"].get("Starting")
        except Exception:
            self._told = True  # whoever waits for the start hears of it
            return
        if making:
            complain(f"starting {self._container[:12]} takes a moment: {making}")
            self._told = True
