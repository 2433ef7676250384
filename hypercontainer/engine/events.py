"""What happened: kept in SQLite for `events --since`, told at once to whoever listens."""

import asyncio
import logging
import os
import sqlite3
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal, get_args

import msgspec

from hypercontainer.engine import filters
from hypercontainer.engine.filters import Filters
from hypercontainer.errors import Unavailable
from hypercontainer.lib import clock, document
from hypercontainer.model import upgrade
from hypercontainer.model.documents import Actor, Event

log = logging.getLogger(__name__)

KEPT = 10_000
QUEUE = 1_000  # events that a listener may lag behind before it is let go

Kind = Literal["container", "pod", "image", "volume", "network"]
TYPES = get_args(Kind)
ACTIONS = frozenset(
    """archive-path attach checkpoint commit connect create delete destroy die disconnect exec_create exec_die
    exec_start export extract-to-dir fork health_status import kill load mount oom pause prune pull push rename resize
    restart restore resume start stop suspend tag top unmount unpause untag update""".split()  # noqa: SIM905  one a line would be a page
)


class Events:
    """The last 10,000 of them. While the disk takes no more they are kept in memory, and written as soon as it does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self.unwritten: deque[tuple[int, bytes]] = deque(maxlen=KEPT)  # time, document
        self._write()
        self._listeners: set[asyncio.Queue[Event | None]] = set()

    def emit(self, kind: Kind, action: str, id: str, attributes: Mapping[str, str]) -> None:
        now = clock.now_ns()
        known = kind in ("container", "image")
        event = Event(
            status=action if known else "",
            id=id if known else "",
            origin=attributes.get("image", "") if kind == "container" else "",
            type=kind,
            action=action,
            actor=Actor(id=id, attributes=dict(attributes)),
            time=now // 1_000_000_000,
            time_nano=now,
        )
        self.unwritten.append((now, msgspec.json.encode(event)))
        self._write()
        for queue in list(self._listeners):
            if queue.full():
                self._listeners.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    def _write(self) -> None:
        """What is not written yet, as far as that goes."""
        try:
            self._db = db = self._db or _opened(self._path)
            while self.unwritten:
                with closing(db.cursor()) as cursor:
                    cursor.execute("INSERT INTO events (time_ns, document) VALUES (?, ?)", self.unwritten[0])
                    self.unwritten.popleft()
                    if cursor.lastrowid and cursor.lastrowid % 500 == 0:
                        cursor.execute("DELETE FROM events WHERE id <= ?", (cursor.lastrowid - KEPT,))
        except (sqlite3.Error, OSError) as e:
            if len(self.unwritten) <= 1:  # else it has been said
                log.error("cannot write %s: %s: events are kept in memory", self._path, e)

    def _past(self, since_ns: int, until_ns: int) -> list[bytes]:
        times = since_ns, until_ns
        query = "SELECT document FROM events WHERE time_ns >= ? AND time_ns <= ? ORDER BY id"
        rows = self._db.execute(query, times).fetchall() if self._db else []
        return [row[0] for row in rows] + [row for time, row in self.unwritten if since_ns <= time <= until_ns]

    async def follow(self, since_ns: int | None, until_ns: int | None, wanted: Filters) -> AsyncGenerator[Event, None]:
        """Past events from `since_ns` on (None: no past ones), then those to come until `until_ns`.

        A listener that lags more than 1,000 events behind comes to an end rather than losing some unseen.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue(QUEUE)
        self._listeners.add(queue)
        try:
            last = 0
            if since_ns is not None:
                for kept in self._past(since_ns, 2**62 if until_ns is None else until_ns):
                    event = document.decode(kept, Event, "an event")
                    last = event.time_nano
                    if matches(event, wanted):
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
                if following.time_nano > last and matches(following, wanted):
                    yield following
        finally:
            self._listeners.discard(queue)

    def check(self) -> None:
        """Unavailable when what was kept cannot be read."""
        try:
            if self._db:
                self._db.execute("SELECT 1")
        except sqlite3.Error as e:
            raise Unavailable(f"cannot use the event store: {e}") from e

    def close(self) -> None:
        for queue in list(self._listeners):
            if not queue.full():
                queue.put_nowait(None)
        self._write()
        if self._db:
            self._db.close()


def _opened(path: Path) -> sqlite3.Connection:
    """Its files are ours alone: those that SQLite makes beside it have its mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for name in (path, f"{path}-wal", f"{path}-shm"):  # an older hyperd's were not
        with suppress(FileNotFoundError):
            os.chmod(name, 0o600)
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        _upgrade(db)
    except BaseException:
        db.close()
        raise
    return db


def _upgrade(db: sqlite3.Connection) -> None:
    """Take the steps that it lacks, each with its number or not at all."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found > len(upgrade.EVENTS):
        raise sqlite3.NotSupportedError(f"it is of version {found}, which a newer program wrote")
    for number, step in enumerate(upgrade.EVENTS[found:], found + 1):
        db.executescript(f"BEGIN IMMEDIATE; {step}; PRAGMA user_version = {number}; COMMIT")


def check(wanted: Filters) -> None:
    """InvalidInput for a filter that no event of ours can ever match."""
    filters.check(
        "events", wanted, ["type", "event", "container", "pod", "image", "volume", "network", "label", "scope"]
    )
    filters.choice(wanted, "type", TYPES)
    filters.choice(wanted, "scope", ("local",))
    asked = [value.partition(":")[0] for value in wanted.get("event", [])]
    filters.choice({"event": asked}, "event", sorted(ACTIONS))


def matches(event: Event, wanted: Filters) -> bool:
    """What docker's filters say: values of one key are alternatives, labels and keys add up."""
    actor = event.actor
    for key, values in wanted.items():
        if key == "type":
            found = event.type in values
        elif key == "event":
            found = any(value in (event.action, event.action.partition(":")[0]) for value in values)
        elif key == "label":
            found = filters.has_label(actor.attributes, values)
        elif key == "image":
            found = any(value in _images(event) for value in values)
        elif key == "scope":
            found = True
        else:
            found = any(name.startswith(value) for name in _names(event, key) for value in values)
        if not found:
            return False
    return True


def _names(event: Event, kind: str) -> list[str]:
    """What a filter names the container, pod, volume or network of this event by: the beginning of one of these, as
    docker has it."""
    attributes = event.actor.attributes
    if event.type == kind:
        return [event.actor.id, attributes.get("name", event.actor.id)]
    if kind == "pod" and event.type == "container":
        return [attributes[key] for key in ("pod", "podName") if key in attributes]
    return []


def _images(event: Event) -> list[str]:
    """The image of this event, with its tag and without."""
    key = {"container": "image", "image": "name"}.get(event.type)
    if key is None:
        return []
    name = event.actor.attributes.get(key, "")
    repository, colon, tag = name.rpartition(":")
    names = [name, repository] if colon and "/" not in tag else [name]
    return [*names, event.actor.id, event.actor.id.removeprefix("sha256:")[:12]]
