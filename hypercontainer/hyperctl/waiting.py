"""One line on stderr when a start takes long: what hyperd makes for it."""

from __future__ import annotations

import _thread

from hypercontainer.hyperctl.context import complain
from hypercontainer.hyperctl.lifecycle import path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hypercontainer.client.http import Client

LONG_S = 2.0  # that nobody wonders about
AGAIN_S = 1.0  # until it is asked again what is made, when that was nothing to wait for


class Waiting:
    """`with Waiting(client, container):` around the call that starts it; asked over a connection of its own."""

    def __init__(self, client: Client, container: str) -> None:
        self._client, self._container = client, container
        self._under_way, self._watching = _thread.allocate_lock(), _thread.allocate_lock()

    def __enter__(self) -> None:
        self._under_way.acquire()
        self._watching.acquire()
        _thread.start_new_thread(self._watch, ())

    def __exit__(self, *_: object) -> None:
        self._under_way.release()
        self._watching.acquire()  # its line comes before whatever the container says

    def _watch(self) -> None:
        try:
            self._tell()
        finally:
            self._watching.release()

    def _tell(self) -> None:
        wait_s = LONG_S
        while not self._under_way.acquire(timeout=wait_s):
            wait_s = AGAIN_S
            try:
                with self._client.another() as client:
                    making = client.get(path(self._container))["State"].get("Starting")
            except Exception:
                return  # whoever waits for the start hears of it
            if making:
                complain(f"starting {self._container[:12]} takes a moment: {making}")
                return
