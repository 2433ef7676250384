"""/events: what happens to what docker knows, too."""

from collections.abc import AsyncGenerator

from hypercontainer.hyperd.docker import filters
from hypercontainer.hyperd.http.call import Call
from hypercontainer.lib import clock
from hypercontainer.model.documents import Event

OURS = ("container", "image", "volume", "network")  # beside pods, which docker does not have


class EventsQuery(filters.Filtered, frozen=True, kw_only=True):
    since: str = ""
    until: str = ""


async def events(call: Call[EventsQuery, None]) -> AsyncGenerator[Event, None]:
    """0 is a time here, the beginning of all, and not docker's "no time" as in logs."""
    q = call.query
    times = clock.nanoseconds(q.since), clock.nanoseconds(q.until)
    return await call.engine.system.events(*times, wanted(filters.read(q.filters)))


def wanted(said: dict[str, list[str]]) -> dict[str, list[str]]:
    """The engine's filters: it refuses a type that it tells nothing of, unless there is another one to tell of."""
    kinds = [kind for kind in said.get("type", OURS) if kind in OURS]
    return {**said, "type": kinds or said["type"]}
