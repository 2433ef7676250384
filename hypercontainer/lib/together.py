"""Several waits at once: all of them, or the first failure; and a thread that is waited for whatever happens."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def together(*parts: Coroutine[Any, Any, object]) -> None:
    """Run `parts` at once. When one fails the others are cancelled and waited for, and its error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except BaseExceptionGroup as e:
        first: BaseException = e
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """`work`, which is over when this returns: who is cancelled meanwhile waits for it first."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:  # once more: it is raised below
                continue
        raise


async def in_thread(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """asyncio.to_thread, but it is over when this returns, cancelled or not: files that it uses can be closed then."""
    return await to_its_end(asyncio.to_thread(work, *args, **kwargs))
