"""A cancellation is one, whoever and whatever else is cancelled; and what closes is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import ClientClosedError, ComicQueue, LlamaGenClient
from llamagen_async.simulation import run
from llamagen_async.transport import APIRequest, APIResponse
from llamagen_async.waiting import finished, result_for_all
from tests.support.scripted import Network, left_over, minute

pytestmark = pytest.mark.virtual_time


class Silent(Network):
    """A network from which no answer comes."""

    async def send(self, request: APIRequest) -> APIResponse:
        """Wait for ever."""
        del request
        await asyncio.Event().wait()
        raise AssertionError


def silent_client() -> LlamaGenClient:
    return LlamaGenClient("the-key", plan="auto", transport=Silent())


async def cancelled_together(
    calls: list[asyncio.Task[Any]], *, callers_first: bool
) -> list[asyncio.Task[Any]]:
    """Cancel all other tasks at once, as a program that ends does; return who went on."""
    others = [task for task in left_over() if task not in calls]
    for task in [*calls, *others] if callers_first else [*others, *calls]:
        task.cancel()
    await asyncio.wait(calls)
    return [task for task in calls if not task.cancelled()]


@pytest.mark.parametrize("callers_first", [True, False])
@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.comics.create("x"),
        lambda client: client.comics.get("cmc_1"),
        lambda client: client.limits(),
    ],
)
async def test_who_is_cancelled_together_with_the_detection_of_the_plan_is_cancelled(
    call: Callable[[LlamaGenClient], Coroutine[Any, Any, Any]], *, callers_first: bool
) -> None:
    """Not told that the client is closed: a task that takes this for an error would go on."""
    client = silent_client()
    calls: list[asyncio.Task[Any]] = [asyncio.create_task(call(client)) for _ in range(3)]
    await asyncio.sleep(1)
    assert await cancelled_together(calls, callers_first=callers_first) == []
    await client.aclose()


async def test_who_is_not_cancelled_is_told_that_the_client_was_closed() -> None:
    client = silent_client()
    call = asyncio.create_task(client.limits())
    await asyncio.sleep(1)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await call


@pytest.mark.parametrize("callers_first", [True, False])
async def test_who_waits_for_a_task_that_others_wait_for_is_cancelled_as_asked(
    *, callers_first: bool
) -> None:
    shared = asyncio.create_task(asyncio.sleep(60, "done"))
    left, stays = (asyncio.create_task(result_for_all(shared, "gone")) for _ in range(2))
    await asyncio.sleep(1)
    left.cancel()
    assert await stays == "done"
    assert left.cancelled()
    shared = asyncio.create_task(asyncio.sleep(60, "done"))
    calls = [asyncio.create_task(result_for_all(shared, "gone")) for _ in range(2)]
    await asyncio.sleep(1)
    assert await cancelled_together([*calls], callers_first=callers_first) == []


async def cancel_until_done(task: asyncio.Task[Any]) -> None:
    """Cancel a task again and again, as the cancel scopes of anyio do."""
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)


async def test_a_client_in_a_cancel_scope_is_closed() -> None:
    """Nobody else knows of it then, and its connections would stay open."""
    network = Network(minute())

    async def use() -> None:
        async with network.client() as client:
            await client.comics.create_and_wait("x")

    using = asyncio.create_task(use())
    await asyncio.sleep(1)
    await cancel_until_done(using)
    assert using.cancelled()
    assert network.closed == 1
    assert left_over() == set()


async def test_what_closes_badly_says_so_whoever_is_cancelled() -> None:
    async def close() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        raise OSError("the disk is gone")

    closing = asyncio.create_task(finished(close()))
    await asyncio.sleep(0)
    await cancel_until_done(closing)
    assert isinstance(closing.exception(), OSError)


def test_a_task_factory_that_takes_no_context_loses_nothing(tmp_path: Path) -> None:
    """Many were written before Python 3.11 gave them one; who called waited for ever."""
    network = Network(minute())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
        async with network.client() as client, asyncio.timeout(3600):
            assert (await client.comics.create_and_wait("x")).succeeded
            async with ComicQueue(client, journal=tmp_path / "jobs.db") as queue:
                assert (await queue.result(await queue.submit("y"))).succeeded

    run(main())
