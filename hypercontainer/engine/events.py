"""What happened: kept in SQLite for `events --since`, told at once to whoever listens."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec

from hypercontainer.errors import Unavailable
from hypercontainer.lib import clock
from hypercontainer.model.documents import Actor, Event

KEPT = 10_000
QUEUE = 1_000  # events that a listener may lag behind before it is let go

Kind = Literal["container", "pod", "image", "volume", "network", "daemon"]


class Events:
    """The last 10,000 of them."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, time_ns INTEGER, document TEXT)")
        self._listeners: set[asyncio.Queue[Event | None]] = set()

    def emit(self, kind: Kind, action: str, id: str, attributes: Mapping[str, str]) -> None:
        now = clock.now_ns()
        event = Event(
            type=kind,
            action=action,
            actor=Actor(id=id, attributes=dict(attributes)),
            time=now // 1_000_000_000,
            time_nano=now,
        )
        with closing(self._db.cursor()) as cursor:
            cursor.execute("INSERT INTO events (time_ns, document) VALUES (?, ?)", (now, msgspec.json.encode(event)))
            if cursor.lastrowid and cursor.lastrowid % 500 == 0:
                cursor.execute("DELETE FROM events WHERE id <= ?", (cursor.lastrowid - KEPT,))
        for queue in list(self._listeners):
            if queue.full():
                self._listeners.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    async def follow(
        self, since_ns: int | None, until_ns: int | None, filters: Mapping[str, Sequence[str]]
    ) -> AsyncGenerator[Event, None]:
        """Past events from `since_ns` on (None: no past ones), then those to come until `until_ns`.

        A listener that lags more than 1,000 events behind comes to an end rather than losing some unseen.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue(QUEUE)
        self._listeners.add(queue)
        try:
            last = 0
            if since_ns is not None:
                rows = self._db.execute(
                    "SELECT document FROM events WHERE time_ns >= ? AND time_ns <= ? ORDER BY id",
                    (since_ns, until_ns or 2**62),
                ).fetchall()
                for (document,) in rows:
                    event = msgspec.json.decode(document, type=Event)
                    last = event.time_nano
                    if matches(event, filters):
                        yield event
            while until_ns is None or clock.now_ns() < until_ns:
                timeout_s = None if until_ns is None else max(0.0, (until_ns - clock.now_ns()) / 1e9)
                try:
                    async with asyncio.timeout(timeout_s):
                        following = await queue.get()
                except TimeoutError:
                    return
                if following is None:
                    return
                if following.time_nano > last and matches(following, filters):
                    yield following
        finally:
            self._listeners.discard(queue)

    def check(self) -> None:
        """Unavailable when they cannot be kept."""
        try:
            self._db.execute("SELECT 1")
        except sqlite3.Error as e:
            raise Unavailable(f"cannot use the event store: {e}") from e

    def close(self) -> None:
        for queue in list(self._listeners):
            if not queue.full():
                queue.put_nowait(None)
        self._db.close()


def matches(event: Event, filters: Mapping[str, Sequence[str]]) -> bool:
    """Docker's filters: type, event, container, image, pod, label; values of one key are alternatives."""
    attributes = event.actor.attributes
    for key, wanted in filters.items():
        have: list[str]
        if key == "type":
            have = [event.type]
        elif key == "event":
            have = [event.action]
        elif key == "label":
            have = [*(f"{k}={v}" for k, v in attributes.items()), *attributes]
        else:
            have = [attributes.get(key, ""), attributes.get("name", "")]
            if event.type == key:
                have += [event.actor.id, event.actor.id[:12]]
        if not any(w in have for w in wanted):
            return False
    return True
