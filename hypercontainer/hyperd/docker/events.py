"""/events: what happens to what docker knows, too."""

from collections.abc import AsyncGenerator

from hypercontainer.hyperd.docker import filters
from hypercontainer.hyperd.docker.logs import time_ns
from hypercontainer.hyperd.http.call import Call
from hypercontainer.model.documents import Event

OURS = ("container", "image", "volume", "network")  # beside pods, which docker does not have


class EventsQuery(filters.Filtered, frozen=True, kw_only=True):
    since: str = ""
    until: str = ""


async def events(call: Call[EventsQuery, None]) -> AsyncGenerator[Event, None]:
    q = call.query
    return await call.engine.system.events(time_ns(q.since), time_ns(q.until), wanted(filters.read(q.filters)))


def wanted(said: dict[str, list[str]]) -> dict[str, list[str]]:
    """The engine's filters: it refuses a type that it tells nothing of, unless there is another one to tell of."""
    kinds = [kind for kind in said.get("type", OURS) if kind in OURS]
    return {**said, "type": kinds or said["type"]}
