"""Requests that the plan does not meter need no slot; else they are treated as all others."""

from __future__ import annotations

import asyncio
import logging

import pytest

from llamagen_async import (
    APIConnectionError,
    BatchState,
    ClientClosedError,
    LlamaGenClient,
    Plan,
    RateLimit,
    RateLimitError,
    RequestKind,
    ServerError,
)
from llamagen_async.plans import DAY, MINUTE
from llamagen_async.scheduling import RequestReport
from tests.support.scheduling import (
    CREATES_ONLY,
    accepted_id,
    collect,
    network_of,
    refusal,
)
from tests.support.scripted import Network, left_over, now

pytestmark = pytest.mark.virtual_time


def unmetered(network: Network, reports: list[RequestReport]) -> LlamaGenClient:
    """Return a client of a plan that meters creates only; its reports go into `reports`."""
    return network.client(CREATES_ONLY, on_request=reports.append)


def outcomes(reports: list[RequestReport]) -> list[tuple[str, str]]:
    return [(report.kind.value, report.outcome) for report in reports]


async def known_comic(client: LlamaGenClient, reports: list[RequestReport]) -> str:
    comic = await client.comics.create("known")
    reports.clear()
    return comic.id


async def test_an_unmetered_read_needs_no_slot() -> None:
    """An unmetered read takes no slot and waits for none, but is counted and reported."""
    network = network_of(CREATES_ONLY, latency=2.0)
    reports: list[RequestReport] = []
    async with unmetered(network, reports) as client:
        id_ = await known_comic(client, reports)
        reading = asyncio.create_task(client.comics.get(id_))
        await asyncio.sleep(1)
        assert (await client.limits()).in_flight == 0
        assert (await reading).id == id_
        assert client.stats().requests == {"create": 1, "status": 1}
    (report,) = reports
    assert (report.outcome, report.waited) == ("answered", 0.0)
    assert report.took == pytest.approx(2.0)


async def test_an_unmetered_read_does_not_wait_behind_creates() -> None:
    """A read that needs no slot is answered while a create waits for one."""
    network = network_of(CREATES_ONLY)
    async with network.client(CREATES_ONLY) as client:
        id_ = (await client.comics.create("first")).id
        await client.comics.create("second")
        waiting = asyncio.create_task(client.comics.create("third"))
        await asyncio.sleep(1)
        assert (await client.comics.get(id_)).id == id_
        assert now() == pytest.approx(1.0)
        await waiting
        assert now() == pytest.approx(60.0)


@pytest.mark.parametrize("ticks", [*range(4), None])
async def test_a_cancelled_unmetered_read_leaves_no_task(ticks: int | None) -> None:
    """A cancelled read that was sent is counted, and ends with its answer."""
    network = network_of(CREATES_ONLY, latency=2.0)
    reports: list[RequestReport] = []
    async with unmetered(network, reports) as client:
        id_ = await known_comic(client, reports)
        reading = asyncio.create_task(client.comics.get(id_))
        if ticks is None:
            await asyncio.sleep(1)
        for _ in range(ticks or 0):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        await asyncio.sleep(3)
        assert not left_over()
        sent = len(network.checks)
        assert sent == (ticks != 0)
        assert client.stats().requests.get("status", 0) == sent
        assert outcomes(reports) == [("status", "answered")] * sent
        limits = await client.limits()
        assert (limits.in_flight, limits.windows[0].used) == (0, 1)
        assert (await client.comics.get(id_)).id == id_


async def test_closing_ends_an_unmetered_read_but_not_its_caller() -> None:
    """A reader gets an error that says that the client was closed, and is not cancelled."""
    network = network_of(CREATES_ONLY, latency=2.0)
    reports: list[RequestReport] = []
    went_on: list[int] = []
    client = unmetered(network, reports)
    id_ = await known_comic(client, reports)

    async def read() -> None:
        with pytest.raises(ClientClosedError, match="before the answer came"):
            await client.comics.get(id_)
        await asyncio.sleep(1)
        current = asyncio.current_task()
        assert current is not None
        went_on.append(current.cancelling())

    reading = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.sleep(1)
    before = now()
    await client.aclose()
    assert now() == before
    assert outcomes(reports) == [("status", "failed")]  # reads at the same time share one
    assert network.closed == 1
    await asyncio.gather(*reading)
    assert client.stats().requests == {"create": 1, "status": 1}
    assert not left_over()
    assert went_on == [0, 0, 0]


@pytest.mark.parametrize("first", ["caller", "client"])
async def test_a_reader_that_is_cancelled_while_the_client_closes_stays_cancelled(
    first: str,
) -> None:
    """Closing and cancelling may come in either order."""
    network = network_of(CREATES_ONLY, latency=2.0)
    client = unmetered(network, [])
    id_ = (await client.comics.create("known")).id
    reading = asyncio.create_task(client.comics.get(id_))
    await asyncio.sleep(1)
    if first == "caller":
        reading.cancel()
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    if first == "client":
        reading.cancel()
    await asyncio.wait([reading, closing])
    assert reading.cancelled()
    assert not left_over()


async def test_closing_ends_a_read_of_a_cancelled_task() -> None:
    """A task that reads while it cleans up after its cancellation stays cancelled."""
    network = network_of(CREATES_ONLY, latency=2.0)
    client = unmetered(network, [])
    id_ = (await client.comics.create("known")).id
    cleaned_up = asyncio.Event()

    async def clean_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            with pytest.raises(ClientClosedError):
                await client.comics.get(id_)
            cleaned_up.set()

    cleaning = asyncio.create_task(clean_up())
    await asyncio.sleep(1)
    cleaning.cancel()
    await asyncio.sleep(1)
    await client.aclose()
    await asyncio.wait([cleaning])
    assert cleaned_up.is_set()
    assert cleaning.cancelled()
    assert cleaning.cancelling() == 1


async def test_a_refused_unmetered_read_goes_back_into_the_queue() -> None:
    """Refusals of an unmetered read pause and count like those of any other request."""
    network = network_of(
        CREATES_ONLY,
        before=lambda sent: (
            refusal(1.0) if sent.kind is RequestKind.STATUS and sent.n < 3 else None
        ),
    )
    reports: list[RequestReport] = []
    async with unmetered(network, reports) as client:
        id_ = await known_comic(client, reports)
        assert (await client.comics.get(id_)).id == id_
        assert outcomes(reports) == [("status", "refused")] * 3 + [("status", "answered")]
        assert now() == pytest.approx(3.0)  # each pause in full
        stats = client.stats()
        assert (stats.refused, stats.retries) == (3, 3)
        assert stats.requests == {"create": 1, "status": 4}
        await asyncio.sleep(0)
        assert not left_over()


async def test_a_refused_unmetered_read_pauses_all_requests() -> None:
    """Reads and creates wait for the end of the pause."""
    network = network_of(
        CREATES_ONLY,
        before=lambda sent: (
            refusal(40.0) if sent.kind is RequestKind.STATUS and sent.n < 1 else None
        ),
    )
    async with network.client(CREATES_ONLY) as client:
        id_ = (await client.comics.create("known")).id
        first = asyncio.create_task(client.comics.get(id_))
        await asyncio.sleep(1)
        late = [asyncio.create_task(client.comics.get(id_, page=0)) for _ in range(2)]
        await client.comics.create("held")
        assert now() == pytest.approx(40.0)
        await asyncio.gather(first, *late, return_exceptions=True)
        assert now() == pytest.approx(40.0)
    assert [sent.at for sent in network.creates] == pytest.approx([0.0, 40.0])
    assert [sent.at for sent in network.checks] == pytest.approx([0.0, 40.0, 40.0])


async def test_closing_ends_an_unmetered_read_that_waits_for_the_end_of_a_pause() -> None:
    """The error comes at once and says that nothing was sent."""
    network = network_of(
        CREATES_ONLY,
        before=lambda sent: refusal(900.0) if sent.kind is RequestKind.STATUS else None,
    )
    client = network.client(CREATES_ONLY)
    id_ = (await client.comics.create("known")).id
    first = asyncio.create_task(client.comics.get(id_))
    await asyncio.sleep(1)
    second = asyncio.create_task(client.comics.get(id_, page=0))
    await asyncio.sleep(1)
    await client.aclose()
    errors = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(error) for error in errors] == [ClientClosedError] * 2
    assert "closed before the request was sent" in str(errors[1])
    assert now() < 3
    assert not left_over()
    assert len(network.checks) == 1


async def test_an_unmetered_read_that_is_always_refused_is_given_up() -> None:
    """The caller gets the refusal after nine in a row."""
    network = network_of(
        CREATES_ONLY,
        before=lambda sent: refusal(1.0) if sent.kind is RequestKind.STATUS else None,
    )
    async with network.client(CREATES_ONLY) as client:
        id_ = (await client.comics.create("known")).id
        with pytest.raises(RateLimitError):
            await client.comics.get(id_)
        assert client.stats().retries == 8
    assert len(network.checks) == 9
    assert not left_over()


async def test_a_lost_unmetered_read_is_repeated() -> None:
    """An unmetered read is retried as every read is; attempts that were not sent do not count."""
    losses = [APIConnectionError("no connection", request_sent=False), ServerError(500, None, "x")]
    network = network_of(
        CREATES_ONLY,
        before=lambda sent: (
            losses[sent.n] if sent.kind is RequestKind.STATUS and sent.n < len(losses) else None
        ),
    )
    reports: list[RequestReport] = []
    async with unmetered(network, reports) as client:
        id_ = await known_comic(client, reports)
        assert (await client.comics.get(id_)).id == id_
        assert [outcome for _, outcome in outcomes(reports)] == ["not sent", "failed", "answered"]
        assert client.stats().requests == {"create": 1, "status": 2}


async def test_an_unmetered_create_goes_on_when_its_caller_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A billed request outlives its caller, whether it is metered or not."""
    caplog.set_level(logging.WARNING, "llamagen_async")
    plan = Plan("checks", limits=RateLimit(2, per=MINUTE), metered={"status"})
    network = network_of(plan, latency=4.0)
    async with network.client(plan) as client:
        gone = asyncio.create_task(client.comics.create("gone"))
        await asyncio.sleep(1)
        gone.cancel()
        await asyncio.wait([gone])
        await asyncio.sleep(9)
        assert client.stats().requests == {"create": 1}
        assert not left_over()
    assert network.accepted == 1
    (record,) = caplog.records
    assert accepted_id(network, "gone") in record.getMessage()


async def test_unmetered_checks_never_wait_for_a_slot() -> None:
    """A plan that meters creates only collects a comic while others wait for a slot."""
    network = network_of(CREATES_ONLY, seconds=20.0)
    async with network.client(CREATES_ONLY) as client:
        items = await collect(client, [f"s{n}" for n in range(6)])
        assert [item.state for item in items] == [BatchState.SUCCEEDED] * 6
        before = now()
        await client.comics.get(items[0].generation.id)
        assert now() == before
    assert [sent.at for sent in network.creates] == pytest.approx([0, 0, 60, 60, 120, 120])
    assert min(sent.at for sent in network.checks) < 60
    assert network.refused == 0
    assert len(network.checks) < 6 * 12


async def test_unmetered_checks_leave_the_whole_day_to_creates() -> None:
    """A plan that meters creates only starts 15 comics a day, and collects all of them."""
    plan = Plan("day", limits=Plan.DEMO.limits, metered={"create"})
    network = network_of(plan)
    async with network.client(plan) as client:
        items = await collect(client, [f"s{n}" for n in range(17)])
        states = [item.state for item in items]
        assert states.count(BatchState.SUCCEEDED) == 15
        assert states.count(BatchState.QUEUED) == 2
    assert network.refused == 0


async def test_unmetered_checks_go_on_while_creates_wait_for_the_next_day() -> None:
    """A plan that meters creates only collects at once, and creates the rest the next day."""
    plan = Plan("day", limits=Plan.DEMO.limits, metered={"create"})
    network = network_of(plan)
    async with network.client(plan) as client:
        items = await collect(client, [f"s{n}" for n in range(17)], wait_for_quota=True)
        assert [item.state for item in items] == [BatchState.SUCCEEDED] * 17
        assert DAY < now() < DAY + 600
    assert network.refused == 0
