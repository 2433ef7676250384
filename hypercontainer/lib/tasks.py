"""Several waits at once, all of them or the first failure; and work that is waited for, whatever happens."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def all_of(*parts: Coroutine[Any, Any, object]) -> None:
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


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Wait for `work`, which is over when this returns: a caller that is cancelled meanwhile waits for it first."""
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
    """asyncio.to_thread, but `work` is over when this returns, cancelled or not: files that it uses can be closed
    then."""
    return await uninterrupted(asyncio.to_thread(work, *args, **kwargs))
