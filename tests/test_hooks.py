"""Functions of a user that are called later: checked beforehand, and their failures are theirs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    BatchState,
    ComicQueue,
    InvalidRequestError,
    LlamaGenClient,
    Plan,
    RateLimitError,
    RequestReport,
)
from llamagen_async.sandbox import SandboxService
from llamagen_async.simulation import simulated_client
from tests.support.batches import collect
from tests.support.machine import states
from tests.support.scripted import Network, minute

pytestmark = pytest.mark.virtual_time

KEY = "sk-very-secret-1234567890"


async def report_later(report: RequestReport) -> None:
    """Take a report; nobody would await it."""


class Reporter:
    """A hook that is an object, and that nobody would await either."""

    async def __call__(self, report: RequestReport) -> None:
        """Take a report."""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhooks", "no"),
        ("webhooks", 0),
        ("on_request", "print"),
        ("on_request", report_later),
        ("on_request", Reporter()),
        ("metered", ""),
        ("metered", 5),
    ],
)
def test_what_a_client_is_given_is_checked_when_it_is_made(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"quota": "memory", name: value}
    with pytest.raises(InvalidRequestError, match=f"^{name}: got"):
        LlamaGenClient(KEY, **arguments)


def test_what_is_metered_may_be_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty set is not taken for an argument that was not given."""
    monkeypatch.setenv("LLAMAGEN_METERED", "create")
    assert LlamaGenClient(KEY, quota="memory", metered=()).plan.metered == frozenset()
    plan = LlamaGenClient(KEY, quota="memory", plan=Plan.PAID, metered=set()).plan
    assert plan.metered == frozenset()
    monkeypatch.setenv("LLAMAGEN_METERED", "")
    assert LlamaGenClient(KEY, quota="memory").plan == Plan.DEMO


async def test_progress_that_nobody_would_await_is_refused() -> None:
    async with simulated_client(SandboxService(), plan="paid") as client:
        later: Any = report_later
        with pytest.raises(InvalidRequestError, match=r"^progress: got .* no async one"):
            await client.comics.wait_for_completion("cmc_1", progress=later)


async def test_an_async_function_is_not_told_of_events(tmp_path: Path) -> None:
    async with simulated_client(SandboxService(), plan="paid") as client:
        later: Any = report_later
        with pytest.raises(InvalidRequestError, match=r"^announced: got"):
            ComicQueue(client, tmp_path / "orders.db", announced=later)


def fail(_told: object) -> None:
    """Ask a future that was cancelled, such as what an earlier call has started."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    future.result()


async def test_a_hook_that_meets_a_cancelled_future_cancels_nothing() -> None:
    """A wait went on until its time was up, and a create that was to be sent again failed."""
    busy = RateLimitError(429, None, "busy", retry_after=3.0)
    network = Network(minute(), before=lambda sent: None if sent.n else busy)
    async with network.client(on_request=fail) as client:
        comic = await client.comics.create("x")
        assert (await client.comics.wait_for_completion(comic.id, progress=fail)).succeeded
        items = await collect(client, ["a", "b", "c"])
    assert states(items) == {BatchState.SUCCEEDED: 3}
