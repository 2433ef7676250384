"""/v1/kernels: the kernels that guests boot."""

from collections.abc import AsyncGenerator, Sequence
from typing import Annotated

import msgspec

from hypercontainer.hyperd.http.call import Call
from hypercontainer.hyperd.rest.call import Nothing, Query
from hypercontainer.model import documents as doc


class UseQuery(Query, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class FetchQuery(Query, frozen=True, kw_only=True):
    arch: Annotated[str, msgspec.Meta(max_length=40)] = ""  # "" = the host's


class BuildQuery(Query, frozen=True, kw_only=True):
    name: Annotated[str, msgspec.Meta(max_length=63)] = ""
    jobs: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0


async def entries(call: Call[Nothing, None]) -> Sequence[doc.Kernel]:
    return await call.engine.kernels.list()


async def fetch(call: Call[FetchQuery, None]) -> AsyncGenerator[doc.Progress | doc.KernelDone, None]:
    return await call.engine.kernels.fetch(call.query.arch)


async def build(call: Call[BuildQuery, None]) -> AsyncGenerator[doc.Progress | doc.KernelDone, None]:
    return await call.engine.kernels.build(call.query.name, call.query.jobs)


async def use(call: Call[UseQuery, None]) -> None:
    await call.engine.kernels.use(call.query.name)
