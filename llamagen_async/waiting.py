"""Waits that end as they should, whoever is cancelled meanwhile: one for all, one to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from llamagen_async.errors import ClientClosedError

__all__ = ["finished", "result_for_all"]

_T = TypeVar("_T")


async def result_for_all(task: asyncio.Task[_T], closed: str) -> _T:
    """Return the result of a task for which others may wait, too; who is cancelled ends no task.

    Args:
        task: The task.
        closed: What a cancelled task means, for those who are not cancelled themselves.

    Raises:
        ClientClosedError: The task was cancelled.
    """
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        waiter = asyncio.current_task()
        # A program that ends cancels both. Who took that for news would go on.
        if task.cancelled() and not (waiter is not None and waiter.cancelling()):
            raise ClientClosedError(closed) from None
        raise


async def finished(closing: Coroutine[None, None, None]) -> None:
    """Close to the end, whatever happens meanwhile, and be cancelled then.

    Cancel scopes (anyio) cancel what waits in them again and again: nobody could close twice there.
    """
    task, cancelled = asyncio.Task(closing), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
