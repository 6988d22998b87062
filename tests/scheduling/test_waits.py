"""No surprise waits: whoever would wait longer than they may is told at once, with the time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llamagen_async import (
    InvalidRequestError,
    Plan,
    QuotaExhaustedError,
    RateLimit,
    RequestKind,
    WaitTimeoutError,
)
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxService
from llamagen_async.simulation import run, simulated_client

TWO = Plan("two", limits=RateLimit(2, per=60))


def service(seconds: float = 50.0) -> SandboxService:
    return SandboxService(durations=Durations.constant(seconds), plans={PAID_KEY: TWO})


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_create_that_may_not_wait_so_long_is_refused_before_anything_is_sent() -> None:
    """At once, with the window, the time and what to do."""
    sandbox = service()

    async def main() -> None:
        async with simulated_client(sandbox, plan=TWO) as client:
            await asyncio.gather(client.comics.create("a"), client.comics.create("b"))
            with pytest.raises(QuotaExhaustedError) as caught:
                await client.comics.create("c", max_wait=30)
            assert now() == 0
            assert caught.value.limit == TWO.limits[0]
            assert caught.value.wait == pytest.approx(60)
            assert "nothing was sent" in str(caught.value)
            await client.comics.create("d", max_wait=61)
            assert now() == 60

    run(main())
    assert len(sandbox.stats(0)["generations"]) == 3


def test_the_line_counts_into_the_wait() -> None:
    """With two a minute the third in the line waits for the second minute."""

    async def main() -> None:
        async with simulated_client(service(), plan=TWO) as client:
            await asyncio.gather(client.comics.create("a"), client.comics.create("b"))
            line = [asyncio.create_task(client.comics.create(f"{n}")) for n in range(2)]
            await asyncio.sleep(1)
            with pytest.raises(QuotaExhaustedError) as caught:
                await client.comics.create("fifth", max_wait=100)
            assert now() == 1
            assert caught.value.wait == pytest.approx(119)
            await asyncio.gather(*line)

    run(main())


def test_a_wait_that_no_check_can_end_in_time_ends_at_once() -> None:
    """The comic goes on; waiting longer collects it."""

    async def main() -> None:
        async with simulated_client(service(), plan=TWO) as client:
            first, _ = await asyncio.gather(client.comics.create("a"), client.comics.create("b"))
            await asyncio.sleep(40)
            with pytest.raises(QuotaExhaustedError):
                await client.comics.wait_for_completion(first.id, timeout=15)
            assert now() < 45
            comic = await client.comics.wait_for_completion(first.id)
            assert comic.succeeded

    run(main())


def test_a_wait_that_a_check_could_end_runs_its_time() -> None:
    """Time up is another error, and it carries the id."""

    async def main() -> None:
        async with simulated_client(service(500), plan=Plan.PAID) as client:
            comic = await client.comics.create("a")
            with pytest.raises(WaitTimeoutError, match=comic.id):
                await client.comics.wait_for_completion(comic.id, timeout=100)
            assert now() == 100

    run(main())


def test_polling_bounds_how_often_a_generation_is_looked_at() -> None:
    """No two checks of one comic are closer than was asked for."""
    sandbox = SandboxService(durations=Durations.constant(300))

    async def main() -> int:
        async with simulated_client(sandbox, polling=40) as client:
            await client.comics.create_and_wait("a")
            return client.stats().requests["status"]

    assert run(main()) <= 300 / 40 + 2


def test_a_server_that_asks_for_hours_is_not_waited_for_silently() -> None:
    """The next create is told at once; with `wait_for_quota` it waits that long."""
    sandbox = SandboxService()

    async def main() -> None:
        async with simulated_client(sandbox) as client:
            limiter = client._open().limiter
            slot = await limiter.acquire(RequestKind.STATUS)
            await slot.commit(refused=True, retry_after=5 * 3600)
            with pytest.raises(QuotaExhaustedError) as caught:
                await client.comics.create("a")
            assert caught.value.wait == pytest.approx(5 * 3600)
            await client.comics.create("b", wait_for_quota=True)
            assert now() == 5 * 3600

    run(main())


@pytest.mark.parametrize("max_wait", [0, -1, float("nan"), "soon", True])
def test_a_wait_that_is_no_number_is_refused(max_wait: Any) -> None:
    """Before a request is spent."""

    async def main() -> None:
        async with simulated_client(service()) as client:
            with pytest.raises(InvalidRequestError, match="max_wait"):
                await client.comics.create("a", max_wait=max_wait)

    run(main())
