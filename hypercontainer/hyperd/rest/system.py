"""/v1/ping, version, info, doctor, events."""

from collections.abc import AsyncGenerator
from typing import Literal

import msgspec

from hypercontainer.hyperd.http.call import Call
from hypercontainer.hyperd.rest.call import FilterList, Nothing, Query, Time, filters
from hypercontainer.lib.clock import nanoseconds
from hypercontainer.model import documents as doc


class EventsQuery(Query, frozen=True, kw_only=True):
    since: Time = ""
    until: Time = ""
    filter: FilterList = msgspec.field(default_factory=list)


class Pong(doc.Document, frozen=True, kw_only=True):
    ok: Literal[True] = True


async def ping(call: Call[Nothing, None]) -> Pong:
    await call.engine.system.ping()
    return Pong()


async def version(call: Call[Nothing, None]) -> doc.Version:
    return await call.engine.system.version()


async def info(call: Call[Nothing, None]) -> doc.Info:
    return await call.engine.system.info()


async def doctor(call: Call[Nothing, None]) -> doc.Doctor:
    return await call.engine.system.doctor()


async def events(call: Call[EventsQuery, None]) -> AsyncGenerator[doc.Event, None]:
    q = call.query
    return await call.engine.system.events(nanoseconds(q.since), nanoseconds(q.until), filters(q.filter))
