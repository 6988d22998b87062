"""Numbers of other libraries are numbers wherever one is taken, and are kept as Python's own."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async import BatchState, ComicQueue, LlamaGenClient, Plan, Prices, RateLimit
from llamagen_async.clock import Clock
from llamagen_async.errors import InvalidRequestError
from llamagen_async.sandbox import SandboxService
from llamagen_async.simulation import simulated_client

pytestmark = pytest.mark.virtual_time


class Int64:
    """A whole number like numpy's: one by its index, and of no kind of Python's."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


NUMBERS = [Int64(20), Decimal(20), Fraction(20)]


@pytest.mark.parametrize("number", NUMBERS, ids=["index", "decimal", "fraction"])
def test_settings_are_kept_as_pythons_own(number: Any) -> None:
    settings = LlamaGenClient("sk-a", quota="memory", timeout=number, polling=number)._core.settings
    prices, clock, limit = Prices(panel=number), Clock(number), RateLimit(3, per=number)
    kept = [settings.timeout, settings.polling, prices.panel, clock.speed, limit.per]
    assert kept == [20] * 5
    assert {type(one) for one in kept} <= {int, float}


def test_a_plan_takes_whole_numbers_of_others() -> None:
    number: Any = Int64(20)
    plan = Plan("p", limits=RateLimit(number, per=60), burst=number)
    assert (plan.rate.limit, plan.burst) == (20, 20)
    assert {type(one) for one in (plan.rate.limit, plan.burst)} == {int}
    assert attrs.asdict(plan.rate)["limit"] == 20


@pytest.mark.parametrize("number", [Decimal("sNaN"), Decimal(-1), 3j, True], ids=str)
def test_what_is_no_number_is_refused_by_name(number: Any) -> None:
    for field in ("per", "speed"):
        with pytest.raises(InvalidRequestError, match=f"^{field}: got"):
            RateLimit(1, per=number) if field == "per" else Clock(number)


@pytest.mark.parametrize("number", [Int64(2_000), Decimal(2_000)], ids=["index", "decimal"])
async def test_calls_take_numbers_of_others(number: Any, tmp_path: Path) -> None:
    async with simulated_client(SandboxService(seed=1), plan="paid") as client:
        comic = await client.comics.create_and_wait("x", timeout=number)
        again = await client.comics.wait_for_completion(comic.id, timeout=number, age=number)
        assert again.succeeded
        await client.comics.create("x", max_wait=number)
        batch = client.comics.batch(["x"], budget=number, timeout=number)
        assert [item.state async for item in batch] == [BatchState.SUCCEEDED]
        async with ComicQueue(client, tmp_path / "q.db") as queue:
            await queue.submit("x", key="k")
            limit: Any = Int64(5)
            assert [job.key for job in await queue.list(limit=limit)] == ["k"]
