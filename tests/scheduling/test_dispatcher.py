"""What leaves when, what became of it, and what a caller who is gone leaves behind."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    BatchState,
    ClientClosedError,
    ClientStats,
    ComicGeneration,
    ComicRequest,
    LlamaGenClient,
    LlamaGenError,
    NotFoundError,
    Plan,
    QuotaExhaustedError,
    QuotaStoreError,
    RateLimit,
    RateLimitError,
    RequestKind,
    ServerError,
    SubmissionUncertainError,
)
from llamagen_async.plans import DAY, MINUTE
from llamagen_async.ratelimit import Limiter, Slot
from llamagen_async.sandbox import DEMO_KEY, SandboxService
from llamagen_async.scheduling import RequestReport
from llamagen_async.simulation import run
from tests.support.scripted import Network, Sent, left_over, minute, now

TWO = Plan("two", limits=RateLimit(2, per=MINUTE))
ONE = Plan("one", limits=RateLimit(1, per=MINUTE))
CREATES_ONLY = Plan("creates", limits=RateLimit(2, per=MINUTE), metered={"create"})


def service_of(plan: Plan, seconds: float = 60.0, **settings: Any) -> SandboxService:
    """A service that lets a key do what the plan allows."""
    return minute(seconds, plans={"the-key": plan}, **settings)


def network_of(plan: Plan, seconds: float = 60.0, **settings: Any) -> Network:
    return Network(service_of(plan, seconds), key="the-key", **settings)


def refusal(retry_after: float | None) -> RateLimitError:
    return RateLimitError(429, "slow_down", "too many", None, retry_after)


async def fill(client: LlamaGenClient, slots: int) -> None:
    """Use up slots of the present window."""
    for n in range(slots):
        await client.comics.create(f"filler {n}")


def accepted_id(network: Network, story: str) -> str:
    ids = [one["id"] for one in network.service.stats(0)["generations"] if one["prompt"] == story]
    return str(ids[0])


def test_others_have_their_turn_while_many_are_sent() -> None:
    """However many slots are free: nothing else need make the dispatcher wait."""
    network = network_of(Plan("many", limits=RateLimit(200, per=MINUTE)))

    async def main() -> int:
        async with network.client(Plan("many", limits=RateLimit(200, per=MINUTE))) as client:
            creates = [asyncio.create_task(client.comics.create(f"{n}")) for n in range(100)]
            turns, sent_before = 0, 0
            while len(network.sent) < 100:
                await asyncio.sleep(0)
                turns += len(network.sent) > sent_before
                sent_before = len(network.sent)
            await asyncio.gather(*creates)
            return turns

    assert run(main()) > 50


# --- who goes first -----------------------------------------------------------------------------


def test_creates_go_before_checks_in_the_queue() -> None:
    """Of what waits for a slot, what is billed is sent first, whoever asked first."""
    network = network_of(TWO)

    async def main() -> None:
        async with network.client(TWO) as client:
            await fill(client, 2)
            known = accepted_id(network, "filler 0")
            await asyncio.gather(client.comics.get(known), client.comics.create("later"))
        assert network.order[2:] == ["create later", f"status {known}"]

    run(main())


def test_first_come_first_served_among_equals() -> None:
    """Creates of one kind leave in the order in which they were asked for."""
    network = network_of(TWO)

    async def main() -> None:
        async with network.client(TWO) as client:
            await asyncio.gather(*(client.comics.create(f"s{n}") for n in range(7)))
        assert network.order == [f"create s{n}" for n in range(7)]

    run(main())


def test_interactive_goes_before_batch() -> None:
    """Somebody who waits for an answer does not stand behind a batch."""
    network = network_of(TWO)

    async def main() -> None:
        async with network.client(TWO) as client:
            batch = asyncio.create_task(collect(client, [f"b{n}" for n in range(6)]))
            await asyncio.sleep(1)
            await client.comics.create("urgent")
            assert network.order[:3] == ["create b0", "create b1", "create urgent"]
            batch.cancel()
            await asyncio.gather(batch, return_exceptions=True)

    run(main())


async def collect(client: LlamaGenClient, stories: list[str], **settings: Any) -> list[Any]:
    return [item async for item in client.comics.batch(stories, **settings)]


def test_what_is_more_worthwhile_and_comes_later_is_sent_first() -> None:
    """What a slot is used for is decided when it is free, not when it was asked for."""
    network = network_of(ONE)

    async def main() -> None:
        async with network.client(ONE) as client:
            await fill(client, 1)
            known = accepted_id(network, "filler 0")
            reading = asyncio.create_task(client.comics.get(known))
            await asyncio.sleep(59)  # the read has long been chosen and waits for the slot
            assert len(network.sent) == 1
            await client.comics.create("late")
            await reading
        assert network.order[1:] == ["create late", f"status {known}"]
        assert [sent.at for sent in network.sent] == pytest.approx([0, 60, 120])

    run(main())


# --- cancelled callers --------------------------------------------------------------------------


@pytest.mark.parametrize("when", [0, 30, 59.999])
def test_cancelled_before_sending_is_not_sent_and_loses_no_slot(when: float) -> None:
    """Who goes away in the queue costs nothing, and the next one gets the slot in time."""
    network = network_of(ONE)

    async def main() -> None:
        async with network.client(ONE) as client:
            await fill(client, 1)
            gone = asyncio.create_task(client.comics.create("gone"))
            next_one = asyncio.create_task(client.comics.create("next"))
            await asyncio.sleep(when)
            gone.cancel()
            await next_one
            assert gone.cancelled()
        assert network.order == ["create filler 0", "create next"]
        assert network.sent[1].at == pytest.approx(60)
        assert not left_over()

    run(main())


@pytest.mark.parametrize("ticks", range(8))
def test_cancelled_at_the_moment_of_sending_is_sent_or_costs_nothing(ticks: int) -> None:
    """A caller who goes away right when its request is chosen never blocks the next one."""
    network = network_of(ONE)

    async def main() -> None:
        async with network.client(ONE) as client:
            gone = asyncio.create_task(client.comics.create("gone"))
            for _ in range(ticks):
                await asyncio.sleep(0)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            await client.comics.create("next")
        assert network.order in (["create next"], ["create gone", "create next"])
        assert network.sent[-1].at == (0 if len(network.sent) == 1 else pytest.approx(60))

    run(main())


def test_cancelled_on_the_wire_is_counted_and_its_id_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A create that has left still takes its slot, and who gave up on it can find its id."""
    network = network_of(ONE, latency=4.0)

    async def main() -> None:
        async with network.client(ONE) as client:
            gone = asyncio.create_task(client.comics.create("gone"))
            await asyncio.sleep(3.9)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            limits = await client.limits()
            assert (limits.in_flight, limits.windows[0].free) == (1, 0)
            await client.comics.create("next")
            assert client.stats().requests == {"create": 2}
        assert network.sent[1].at == pytest.approx(64)
        assert network.accepted == 2
        assert not left_over()

    with caplog.at_level(logging.WARNING, "llamagen_async"):
        run(main())
    (record,) = caplog.records
    assert accepted_id(network, "gone") in record.getMessage()


def test_cancelled_reads_leave_nothing_behind() -> None:
    """Somebody who reads a comic and goes away leaves no task that waits for its slot."""
    network = network_of(ONE)

    async def main() -> None:
        async with network.client(ONE) as client:
            comic = await client.comics.create("x")
            reading = asyncio.create_task(client.comics.get(comic.id))
            await asyncio.sleep(1)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        assert not left_over()

    run(main())


def test_a_queue_of_cancelled_callers_is_not_waited_for() -> None:
    """When the last caller has gone away, nothing is left that waits for a slot on its behalf."""
    network = network_of(ONE)

    async def main() -> None:
        async with network.client(ONE) as client:
            await fill(client, 1)
            gone = asyncio.create_task(client.comics.create("gone"))
            await asyncio.sleep(1)
            gone.cancel()
            await asyncio.sleep(0.1)
            assert not left_over()

    run(main())


# --- reads that do not count, which their caller sends ------------------------------------------


def uncounted(network: Network, reports: list[RequestReport]) -> LlamaGenClient:
    """A client of a plan that counts creates only, and its reports."""
    return network.client(CREATES_ONLY, on_request=reports.append)


def told(reports: list[RequestReport]) -> list[tuple[str, str]]:
    return [(report.kind.value, report.outcome) for report in reports]


async def known_comic(client: LlamaGenClient, reports: list[RequestReport]) -> str:
    comic = await client.comics.create("known")
    reports.clear()
    return comic.id


def test_an_uncounted_read_needs_no_task_and_no_slot() -> None:
    """Nothing runs beside its caller, and what it did is counted and reported."""
    network = network_of(CREATES_ONLY, latency=2.0)
    reports: list[RequestReport] = []

    async def main() -> None:
        async with uncounted(network, reports) as client:
            id_ = await known_comic(client, reports)
            reading = asyncio.create_task(client.comics.get(id_))
            await asyncio.sleep(1)
            assert left_over() == {reading}
            assert (await client.limits()).in_flight == 0
            assert (await reading).id == id_
            assert client.stats().requests == {"create": 1, "status": 1}
        (report,) = reports
        assert (report.outcome, report.waited) == ("answered", 0.0)
        assert report.took == pytest.approx(2.0)

    run(main())


@pytest.mark.parametrize("ticks", [*range(4), None])
def test_a_cancelled_uncounted_read_ends_at_once_and_is_accounted_for(ticks: int | None) -> None:
    """It leaves no task and no request behind; if it had left, it is counted and reported."""
    network = network_of(CREATES_ONLY, latency=2.0)
    reports: list[RequestReport] = []

    async def main() -> None:
        async with uncounted(network, reports) as client:
            id_ = await known_comic(client, reports)
            reading = asyncio.create_task(client.comics.get(id_))
            if ticks is None:
                await asyncio.sleep(1)
            for _ in range(ticks or 0):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            assert reading.cancelled()
            assert not left_over()
            sent = len(network.checks)
            assert sent == (ticks != 0)
            assert client.stats().requests.get("status", 0) == sent
            assert told(reports) == [("status", "failed")] * sent
            limits = await client.limits()
            assert (limits.in_flight, limits.windows[0].used) == (0, 1)
            assert (await client.comics.get(id_)).id == id_

    run(main())


def test_closing_ends_an_uncounted_read_but_not_its_caller() -> None:
    """Who reads is told that the client was closed, and is not cancelled by it."""
    network = network_of(CREATES_ONLY, latency=2.0)
    reports: list[RequestReport] = []
    went_on: list[int] = []

    async def main() -> None:
        client = uncounted(network, reports)
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
        assert told(reports) == [("status", "failed")] * 3
        assert network.closed == 1
        await asyncio.gather(*reading)
        assert client.stats().requests == {"create": 1, "status": 3}
        assert not left_over()

    run(main())
    assert went_on == [0, 0, 0]


@pytest.mark.parametrize("first", ["caller", "client"])
def test_who_is_cancelled_while_the_client_closes_stays_cancelled(first: str) -> None:
    """Closing takes back its own cancellation of an uncounted read, and not another one."""
    network = network_of(CREATES_ONLY, latency=2.0)

    async def main() -> None:
        client = uncounted(network, [])
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

    run(main())


def test_a_read_on_behalf_of_one_who_was_cancelled_is_ended_by_closing() -> None:
    """Somebody who reads while cleaning up has been cancelled before, and stays so."""
    network = network_of(CREATES_ONLY, latency=2.0)

    async def main() -> None:
        client = uncounted(network, [])
        id_ = (await client.comics.create("known")).id
        cleaned_up = False

        async def clean_up() -> None:
            nonlocal cleaned_up
            try:
                await asyncio.sleep(60)
            finally:
                with pytest.raises(ClientClosedError):
                    await client.comics.get(id_)
                cleaned_up = True

        cleaning = asyncio.create_task(clean_up())
        await asyncio.sleep(1)
        cleaning.cancel()
        await asyncio.sleep(1)
        await client.aclose()
        await asyncio.wait([cleaning])
        assert cleaned_up
        assert cleaning.cancelled()
        assert cleaning.cancelling() == 1

    run(main())


@pytest.mark.parametrize("ending", ["cancelled", "closed"])
def test_an_uncounted_read_that_has_not_left_yet_costs_nothing(ending: str) -> None:
    """One that is ended in the same moment in which it was asked for is not sent or counted."""
    network = network_of(CREATES_ONLY, latency=2.0)
    reports: list[RequestReport] = []

    async def main() -> None:
        client = uncounted(network, reports)
        id_ = await known_comic(client, reports)
        first = asyncio.create_task(client.comics.get(id_))
        await asyncio.sleep(1)
        second = asyncio.create_task(client.comics.get(id_))
        await asyncio.sleep(0)  # it lets others go first
        if ending == "cancelled":
            second.cancel()
            await first
        await client.aclose()
        await asyncio.wait([first, second])
        if ending == "cancelled":
            assert second.cancelled()
        else:
            assert isinstance(second.exception(), ClientClosedError)
        assert len(network.checks) == len(reports) == 1
        assert client.stats().requests == {"create": 1, "status": 1}
        assert not left_over()

    run(main())


def test_closing_takes_its_cancellation_back_whatever_becomes_of_it() -> None:
    """Time that runs out while the client closes leaves the caller as it was."""
    network = network_of(CREATES_ONLY)
    left: list[int] = []

    async def main() -> None:
        client = network.client(CREATES_ONLY, max_retries=0)

        async def late(_slot: Slot) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise APIConnectionError("no complete answer in the time allowed") from None

        async def read() -> None:
            dispatcher = client._open().poller.dispatcher
            with pytest.raises(APIConnectionError):
                await dispatcher.submit(RequestKind.STATUS, late)
            current = asyncio.current_task()
            assert current is not None
            left.append(current.cancelling())

        reading = asyncio.create_task(read())
        await asyncio.sleep(1)
        await client.aclose()
        await reading

    run(main())
    assert left == [0]


def test_a_refused_uncounted_read_goes_on_in_the_queue() -> None:
    """Its refusals count as those of any other request, and end in the same way."""
    network = network_of(
        CREATES_ONLY,
        before=lambda sent: (
            refusal(1.0) if sent.kind is RequestKind.STATUS and sent.n < 3 else None
        ),
    )
    reports: list[RequestReport] = []

    async def main() -> None:
        async with uncounted(network, reports) as client:
            id_ = await known_comic(client, reports)
            assert (await client.comics.get(id_)).id == id_
            assert told(reports) == [("status", "refused")] * 3 + [("status", "answered")]
            assert now() == pytest.approx(3.0)  # each pause in full
            stats = client.stats()
            assert (stats.refused, stats.retries) == (3, 3)
            assert stats.requests == {"create": 1, "status": 4}
            await asyncio.sleep(0)
            assert not left_over()

    run(main())


def test_an_uncounted_read_that_is_refused_holds_everyone() -> None:
    """Reads and creates wait for the end of the pause; who is closed meanwhile has sent nothing."""
    network = network_of(
        CREATES_ONLY,
        before=lambda sent: (
            refusal(40.0) if sent.kind is RequestKind.STATUS and sent.n < 1 else None
        ),
    )

    async def main() -> None:
        async with network.client(CREATES_ONLY) as client:
            id_ = (await client.comics.create("known")).id
            reads = [asyncio.create_task(client.comics.get(id_)) for _ in range(2)]
            await asyncio.sleep(1)
            late = asyncio.create_task(client.comics.get(id_))
            await client.comics.create("held")
            assert now() == pytest.approx(40.0)
            await asyncio.gather(*reads, late)
            assert now() == pytest.approx(40.0)

    run(main())
    assert [sent.at for sent in network.creates] == pytest.approx([0.0, 40.0])
    assert [sent.at for sent in network.checks] == pytest.approx([0.0, 40.0, 40.0, 40.0])


def test_closing_ends_an_uncounted_read_that_waits_for_the_end_of_a_pause() -> None:
    """It was not sent, and says so at once."""
    network = network_of(
        CREATES_ONLY,
        before=lambda sent: refusal(900.0) if sent.kind is RequestKind.STATUS else None,
    )

    async def main() -> None:
        client = network.client(CREATES_ONLY)
        id_ = (await client.comics.create("known")).id
        first = asyncio.create_task(client.comics.get(id_))
        await asyncio.sleep(1)
        second = asyncio.create_task(client.comics.get(id_))
        await asyncio.sleep(1)
        await client.aclose()
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ClientClosedError] * 2
        assert "nothing was sent" in str(outcomes[1])
        assert now() < 3
        assert not left_over()

    run(main())
    assert len(network.checks) == 1


def test_an_uncounted_read_that_is_refused_for_ever_is_given_up() -> None:
    """After nine refusals in a row the caller is told."""
    network = network_of(
        CREATES_ONLY,
        before=lambda sent: refusal(1.0) if sent.kind is RequestKind.STATUS else None,
    )

    async def main() -> None:
        async with network.client(CREATES_ONLY) as client:
            id_ = (await client.comics.create("known")).id
            with pytest.raises(RateLimitError):
                await client.comics.get(id_)
            assert client.stats().retries == 8
        assert len(network.checks) == 9
        assert not left_over()

    run(main())


def test_a_lost_uncounted_read_is_repeated_and_what_was_not_sent_is_not_counted() -> None:
    """It is retried as every read is."""
    losses = [APIConnectionError("no connection", request_sent=False), ServerError(500, None, "x")]
    network = network_of(
        CREATES_ONLY,
        before=lambda sent: (
            losses[sent.n] if sent.kind is RequestKind.STATUS and sent.n < len(losses) else None
        ),
    )
    reports: list[RequestReport] = []

    async def main() -> None:
        async with uncounted(network, reports) as client:
            id_ = await known_comic(client, reports)
            assert (await client.comics.get(id_)).id == id_
            assert [outcome for _, outcome in told(reports)] == ["not sent", "failed", "answered"]
            assert client.stats().requests == {"create": 1, "status": 2}

    run(main())


def test_an_uncounted_create_goes_on_when_its_caller_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is billed is never in its caller's hands, whether it counts or not."""
    plan = Plan("checks", limits=RateLimit(2, per=MINUTE), metered={"status"})
    network = network_of(plan, latency=4.0)

    async def main() -> None:
        async with network.client(plan) as client:
            gone = asyncio.create_task(client.comics.create("gone"))
            await asyncio.sleep(1)
            gone.cancel()
            await asyncio.wait([gone])
            await asyncio.sleep(9)
            assert client.stats().requests == {"create": 1}
            assert not left_over()
        assert network.accepted == 1

    with caplog.at_level(logging.WARNING, "llamagen_async"):
        run(main())
    (record,) = caplog.records
    assert accepted_id(network, "gone") in record.getMessage()


# --- refused ------------------------------------------------------------------------------------


def refused_once(retry_after: float | None) -> Network:
    return Network(
        minute(),
        before=lambda sent: refusal(retry_after) if sent.n == 1 else None,
    )


@pytest.mark.parametrize("retry_after", [7.5, 90.0])
def test_a_refused_create_is_sent_once_more_after_the_pause(retry_after: float) -> None:
    """It goes to the head of the queue, and `Retry-After` is obeyed in full by all."""
    network = refused_once(retry_after)

    async def main() -> ClientStats:
        async with network.client() as client:
            await asyncio.gather(
                *(client.comics.create(story) for story in ("a", "b")), return_exceptions=True
            )
            await client.comics.create("c")
            return client.stats()

    stats = run(main())
    assert network.order == ["create a", "create b", "create b", "create c"]
    assert network.sent[2].at == pytest.approx(retry_after)
    assert network.accepted == 3
    assert (stats.refused, stats.retries, stats.requests) == (1, 1, {"create": 4})


def test_a_refusal_puts_the_request_before_those_that_came_later() -> None:
    """Nobody overtakes a request by its being refused."""
    network = network_of(TWO, latency=1.0, after=lambda sent: refusal(5.0) if sent.n == 0 else None)

    async def main() -> None:
        async with network.client(TWO) as client:
            await asyncio.gather(*(client.comics.create(story) for story in "abc"))

    run(main())
    assert network.order == ["create a", "create b", "create a", "create c"]


def test_without_retry_after_pauses_become_longer() -> None:
    """A server that names no time is asked less and less often."""
    network = Network(minute(), before=lambda sent: refusal(None) if sent.n < 3 else None)

    async def main() -> None:
        async with network.client() as client:
            await client.comics.create("a")

    run(main())
    times = [sent.at for sent in network.sent]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[0] > 1


def test_a_server_that_refuses_for_ever_is_believed_in_the_end() -> None:
    """After nine refusals in a row the caller is told, and nothing was accepted."""
    network = Network(minute(), before=lambda _sent: refusal(1.0))

    async def main() -> None:
        async with network.client() as client:
            with pytest.raises(RateLimitError):
                await client.comics.create("a")
        assert not left_over()

    run(main())
    assert len(network.sent) == 9
    assert network.accepted == 0


def test_a_refused_caller_who_has_gone_is_not_sent_again() -> None:
    """A refusal of a cancelled create ends the matter."""
    network = Network(minute(), latency=2.0, after=lambda _sent: refusal(1.0))

    async def main() -> None:
        async with network.client() as client:
            gone = asyncio.create_task(client.comics.create("gone"))
            await asyncio.sleep(1)
            gone.cancel()
            await asyncio.sleep(30)
        assert len(network.sent) == 1

    run(main())


# --- lost ---------------------------------------------------------------------------------------


def test_without_a_connection_the_slot_is_given_back_and_the_create_repeated() -> None:
    """What provably did not arrive is not counted, and is sent again."""
    unsent = APIConnectionError("no connection", request_sent=False)
    network = network_of(ONE, before=lambda sent: unsent if sent.n < 3 else None)

    async def main() -> None:
        async with network.client(ONE) as client:
            await client.comics.create("a")
            assert now() < 10  # not the minute that a counted request would cost
            stats = client.stats()
            assert (stats.requests, stats.retries) == ({"create": 1}, 3)

    run(main())
    assert len(network.sent) == 4
    assert network.accepted == 1


def test_a_server_that_can_not_be_reached_is_given_up() -> None:
    """After the retries the caller is told that nothing was sent."""
    unsent = APIConnectionError("no connection", request_sent=False)
    network = Network(minute(), before=lambda _sent: unsent)

    async def main() -> None:
        async with network.client(max_retries=2) as client:
            with pytest.raises(APIConnectionError) as caught:
                await client.comics.create("a")
            assert not caught.value.request_sent
            assert (await client.limits()).windows[0].used == 0

    run(main())
    assert len(network.sent) == 3


LOSSES: list[Exception] = [
    APIConnectionError("the connection broke off"),
    ServerError(500, None, "broken"),
    ServerError(503, None, "overloaded"),
]


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("arrives", [True, False])
def test_a_create_whose_answer_is_lost_is_never_sent_again(
    loss: Exception, *, arrives: bool
) -> None:
    """Nobody knows whether it was accepted, so it is reported and not repeated."""
    network = Network(
        minute(),
        before=None if arrives else lambda _sent: loss,
        after=lambda _sent: loss,
    )
    request = ComicRequest("a", style="ink")

    async def main() -> None:
        async with network.client() as client:
            with pytest.raises(SubmissionUncertainError) as caught:
                await client.comics.create(request)
            assert caught.value.request is request
            assert caught.value.__cause__ is loss
            assert (await client.limits()).windows[0].used == 1

    run(main())
    assert len(network.sent) == 1
    assert network.accepted == int(arrives)


def test_an_answer_without_an_id_is_uncertain() -> None:
    """A 200 that can't be read may have been a billed acceptance."""
    network = Network(minute(), body=lambda _sent, _body: {"ok": True})

    async def main() -> None:
        async with network.client() as client:
            with pytest.raises(SubmissionUncertainError, match="no id"):
                await client.comics.create("a")

    run(main())
    assert len(network.sent) == 1


def test_what_the_server_refuses_is_final_and_certain() -> None:
    """A 404 to a create was not accepted, and its slot is spent."""
    network = Network(minute(), before=lambda _sent: NotFoundError(404, None, "gone"))

    async def main() -> None:
        async with network.client() as client:
            with pytest.raises(NotFoundError):
                await client.comics.create("a")
            assert (await client.limits()).windows[0].used == 1

    run(main())


def test_what_can_not_be_written_is_not_sent_and_costs_no_slot() -> None:
    """A field that JSON can't hold is the caller's mistake, found before a slot is spent."""
    network = network_of(ONE)

    async def main() -> None:
        async with network.client(ONE) as client:
            with pytest.raises(ValueError, match="JSON"):
                await client.comics.create("a", extra={"when": {1, 2}})
            await client.comics.create("b")
            assert now() == 0

    run(main())
    assert network.accepted == 1


# --- what is not metered ------------------------------------------------------------------------


def test_checks_that_do_not_count_never_wait_for_a_slot() -> None:
    """Where only creates count, a comic is collected while others wait for a create's slot."""
    network = network_of(CREATES_ONLY, seconds=20.0)

    async def main() -> None:
        async with network.client(CREATES_ONLY) as client:
            items = await collect(client, [f"s{n}" for n in range(6)])
            assert [item.state for item in items] == [BatchState.SUCCEEDED] * 6
            before = now()
            await client.comics.get(items[0].generation.id)
            assert now() == before

    run(main())
    assert [sent.at for sent in network.creates] == pytest.approx([0, 0, 60, 60, 120, 120])
    assert min(sent.at for sent in network.checks) < 60
    assert network.refused == 0
    assert len(network.checks) < 6 * 12


def test_the_demo_day_is_all_for_creates_where_checks_do_not_count() -> None:
    """A plan that meters creates only starts 15 comics a day, and collects all of them."""
    plan = Plan("day", limits=Plan.DEMO.limits, metered={"create"})
    network = network_of(plan)

    async def main() -> None:
        async with network.client(plan) as client:
            items = await collect(client, [f"s{n}" for n in range(17)])
            states = [item.state for item in items]
            assert states.count(BatchState.SUCCEEDED) == 15
            assert states.count(BatchState.QUEUED) == 2

    run(main())
    assert network.refused == 0


def test_creates_wait_for_tomorrow_where_checks_do_not_count() -> None:
    """With `wait_for_quota` such a plan goes on the next day, and checks go on meanwhile."""
    plan = Plan("day", limits=Plan.DEMO.limits, metered={"create"})
    network = network_of(plan)

    async def main() -> None:
        async with network.client(plan) as client:
            items = await collect(client, [f"s{n}" for n in range(17)], wait_for_quota=True)
            assert [item.state for item in items] == [BatchState.SUCCEEDED] * 17
            assert DAY < now() < DAY + 600

    run(main())
    assert network.refused == 0


# --- the day's quota ----------------------------------------------------------------------------


def demo() -> Network:
    return Network(minute(), key=DEMO_KEY)


def test_nothing_is_started_that_the_day_can_not_collect() -> None:
    """Eight comics need 16 requests; the eighth is refused at once, with the time it could go."""
    network = demo()

    async def main() -> None:
        async with network.client("demo") as client:
            results = await asyncio.gather(
                *(client.comics.create_and_wait(f"s{n}") for n in range(8)),
                return_exceptions=True,
            )
            assert all(isinstance(result, ComicGeneration) for result in results[:7])
            error = results[7]
            assert isinstance(error, QuotaExhaustedError)
            assert error.limit == RateLimit(15, per=DAY)
            assert error.wait == pytest.approx(DAY)
            ahead = (error.resets_at - datetime.now(UTC)).total_seconds()
            assert DAY - 60 < ahead <= DAY

    run(main())
    assert len(network.creates) == 7
    assert network.refused == 0


def test_a_read_needs_one_slot_of_the_day() -> None:
    """With one request left there is room for a look, and for nothing else; then for nothing."""
    network = demo()

    async def main() -> None:
        async with network.client("demo") as client:
            comic = await client.comics.create("a")
            for _ in range(13):
                await client.comics.get(comic.id)
            with pytest.raises(QuotaExhaustedError):
                await client.comics.create("b")
            await client.comics.get(comic.id)
            with pytest.raises(QuotaExhaustedError) as caught:
                await client.comics.get(comic.id)
            # The first of the 15 slots comes back a day after its answer, at 0.
            assert caught.value.wait == pytest.approx(DAY - now())

    run(main())
    assert len(network.sent) == 15
    assert network.refused == 0


def test_waiting_for_the_quota_ends_tomorrow() -> None:
    """With `wait_for_quota` the eighth comic is started when the day's slots come back."""
    network = demo()

    async def main() -> None:
        async with network.client("demo") as client:
            stories = [f"s{n}" for n in range(9)]
            items = await collect(client, stories, wait_for_quota=True)
            assert [item.state for item in items] == [BatchState.SUCCEEDED] * 9
            assert DAY < now() < 2 * DAY
            comic = await client.comics.create("interactive", wait_for_quota=True)
            assert comic.id

    run(main())
    assert network.refused == 0
    assert network.stories.total() == 10


def test_the_queue_is_told_when_checks_have_used_up_the_day() -> None:
    """A comic that was affordable when asked for, and no longer is, is given back unsent."""
    network = Network(minute(400.0), key=DEMO_KEY)  # so slow that each needs several checks

    async def main() -> list[Any]:
        async with network.client("demo") as client:
            return await collect(client, [f"s{n}" for n in range(7)])

    items = run(main())
    unsent = [item for item in items if item.state is BatchState.QUEUED]
    assert all(isinstance(item.error, QuotaExhaustedError) for item in unsent)
    assert len(network.creates) + len(unsent) == 7
    assert len(network.sent) <= 15
    assert network.refused == 0


def test_reads_may_use_up_what_a_batch_was_promised() -> None:
    """What was affordable when it was asked for, and no longer is, is given back unsent."""
    network = Network(minute(150), key=DEMO_KEY)

    async def main() -> None:
        async with network.client("demo") as client:
            reading = asyncio.create_task(collect(client, [f"s{n}" for n in range(7)]))
            await asyncio.sleep(1)
            ids = [accepted_id(network, f"s{n}") for n in range(4)]
            await asyncio.gather(*(client.comics.get(id_) for id_ in ids))
            items = await reading
            unsent = [item for item in items if item.state is BatchState.QUEUED]
            assert len(unsent) >= 1
            assert all(isinstance(item.error, QuotaExhaustedError) for item in unsent)
            assert len(items) == 7

    run(main())
    assert network.refused == 0
    assert len(network.sent) <= 15


def test_who_only_creates_is_not_stopped_by_what_nobody_waits_for() -> None:
    """A program that collects elsewhere (webhooks, another process) creates day after day.

    A comic that this client never waits for may keep a slot for its check for some time, but
    not for ever.
    """
    network = demo()

    async def main() -> None:
        async with network.client("demo") as client:
            for n in range(30):
                await client.comics.create(f"s{n}")
                await asyncio.sleep(4 * 3_600)

    run(main())
    assert network.accepted == 30
    assert network.refused == 0


def test_a_comic_that_was_done_when_it_was_accepted_keeps_no_slot() -> None:
    """What needs no check leaves the whole day to creates."""
    network = Network(
        minute(), key=DEMO_KEY, body=lambda _sent, body: {**body, "status": "SUCCEEDED"}
    )

    async def main() -> None:
        async with network.client("demo") as client:
            for n in range(14):
                await client.comics.create_and_wait(f"s{n}")

    run(main())
    assert network.accepted == 14


def test_a_comic_that_was_read_to_its_end_keeps_no_slot() -> None:
    """Whoever collects with `get` may start seven comics a day, one after the other."""
    network = demo()

    async def main() -> None:
        async with network.client("demo") as client:
            for n in range(7):
                comic = await client.comics.create(f"s{n}")
                await asyncio.sleep(61)
                assert (await client.comics.get(comic.id)).succeeded

    run(main())
    assert network.accepted == 7


# --- how long one may wait ----------------------------------------------------------------------


def test_a_wait_that_is_too_long_is_told_at_once() -> None:
    """Who may wait ten seconds for a slot that comes in sixty hears so now; nothing is sent."""
    network = network_of(ONE)

    async def main() -> None:
        async with network.client(ONE) as client:
            await fill(client, 1)
            await asyncio.sleep(1)
            with pytest.raises(QuotaExhaustedError) as caught:
                await client.comics.create("impatient", max_wait=10)
            assert now() == 1
            assert caught.value.limit == RateLimit(1, per=MINUTE)
            assert caught.value.wait == pytest.approx(59)
            await client.comics.create("patient", max_wait=59.5)
            assert now() == pytest.approx(60)

    run(main())
    assert network.order == ["create filler 0", "create patient"]


def test_a_place_in_the_queue_counts_for_the_wait() -> None:
    """The second in a queue of one a minute waits two minutes, and is told so."""
    network = network_of(ONE)

    async def main() -> None:
        async with network.client(ONE) as client:
            await fill(client, 1)
            results = await asyncio.gather(
                *(client.comics.create(f"s{n}", max_wait=90) for n in range(3)),
                return_exceptions=True,
            )
            refused = [isinstance(result, QuotaExhaustedError) for result in results]
            assert refused == [False, True, True]

    run(main())


def test_a_pause_is_a_wait_like_any_other() -> None:
    """Who may not wait as long as the server has asked for is told at once."""
    network = Network(minute(), before=lambda sent: None if sent.n else refusal(500.0))

    async def main() -> None:
        async with network.client() as client:
            first = asyncio.create_task(client.comics.create("first"))
            await asyncio.sleep(1)
            with pytest.raises(QuotaExhaustedError) as caught:
                await client.comics.create("second", max_wait=100)
            assert now() == 1
            assert caught.value.wait == pytest.approx(499)
            await first

    run(main())


def test_who_waits_for_a_comic_is_told_when_the_day_has_no_look_left() -> None:
    """With the day used up no check is sent before tomorrow: told soon, and the comic goes on."""
    network = demo()

    async def main() -> None:
        async with network.client("demo") as client:
            comic = await client.comics.create("a")
            for _ in range(14):
                await client.comics.get(comic.id)
            before = now()
            with pytest.raises(QuotaExhaustedError):
                await client.comics.wait_for_completion(comic.id)
            assert now() - before < 120
            patient = await client.comics.wait_for_completion(comic.id, timeout=2 * DAY)
            assert patient.succeeded

    run(main())
    assert network.refused == 0


def test_a_comic_that_the_day_can_not_collect_is_told_with_its_id() -> None:
    """It was accepted, so the error must not say that nothing was sent, and must hold the id."""
    network = Network(minute(3_000.0), key=DEMO_KEY)

    async def main() -> None:
        async with network.client("demo") as client:
            creating = asyncio.create_task(client.comics.create_and_wait("a", timeout=3_600))
            await asyncio.sleep(1)
            id_ = accepted_id(network, "a")
            for _ in range(14):
                await client.comics.get(id_)
            with pytest.raises(LlamaGenError) as caught:
                await creating
            assert id_ in f"{caught.value} {vars(caught.value)}"
            assert "nothing was sent" not in str(caught.value)

    run(main())


# --- when what was chosen is no longer worth it ------------------------------------------------


def test_a_slot_that_has_become_useless_is_given_back() -> None:
    """News of both comics comes while their check waits for a slot: nothing is sent in it."""
    network = network_of(TWO)

    async def main() -> None:
        async with network.client(TWO) as client:
            one, other = [await client.comics.create(story) for story in ("a", "b")]
            waits = [
                asyncio.create_task(client.comics.wait_for_completion(comic.id))
                for comic in (one, other)
            ]
            await asyncio.sleep(59.5)  # a check was chosen long ago and waits for its slot
            news = client._open().poller.deliver
            news(ComicGeneration.parse({"id": one.id, "status": "COMPLETED"}))
            news(ComicGeneration.parse({"id": other.id, "status": "PROCESSING"}))
            await asyncio.sleep(0.6)
            assert (await client.limits()).windows[0].free == 2
            await asyncio.gather(*waits)

    run(main())
    assert all(sent.at > 61 for sent in network.checks)


@pytest.mark.parametrize("error", [QuotaStoreError("the store is away"), OSError("disk full")])
def test_a_count_that_breaks_is_told_to_everyone(
    error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a count nothing may be sent, and nobody waits for ever."""
    network = Network(minute())

    async def broken(*_: Any, **__: Any) -> Any:
        raise error

    async def main() -> None:
        async with network.client() as client:
            comic = await client.comics.create("a")
            monkeypatch.setattr(Limiter, "acquire", broken)
            outcomes = await asyncio.gather(
                client.comics.wait_for_completion(comic.id),
                client.comics.create("b"),
                client.comics.create("c"),
                return_exceptions=True,
            )
            assert list(outcomes) == [error, error, error]
            assert not left_over()

    run(main())
    assert network.order == ["create a"]
    assert bool(caplog.records) is isinstance(error, OSError)


# --- closing ------------------------------------------------------------------------------------


def test_closing_tells_the_queue_and_leaves_no_task() -> None:
    """What was not sent hears that nothing was sent; nothing goes on."""
    network = network_of(ONE)

    async def main() -> None:
        client = network.client(ONE)
        await client.comics.create("a")
        queued = asyncio.gather(
            client.comics.create("b"), client.comics.create("c"), return_exceptions=True
        )
        await asyncio.sleep(1)
        await client.aclose()
        assert [type(error) for error in await queued] == [ClientClosedError] * 2
        assert not left_over()
        assert now() == 1
        with pytest.raises(ClientClosedError):
            await client.comics.create("d")
        await client.aclose()

    run(main())
    assert network.order == ["create a"]
    assert network.closed


def test_closing_tells_who_waits_for_a_comic() -> None:
    """Who waits for a generation does not wait on for the rest of the timeout."""
    network = Network(minute(600.0))

    async def main() -> None:
        client = network.client()
        comic = await client.comics.create("a")
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(1)
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await waiting
        assert now() < 5
        assert not left_over()

    run(main())


def test_closing_tells_who_reads() -> None:
    """A reader whose request was not sent hears that; it is not cancelled."""
    network = network_of(ONE)

    async def main() -> None:
        client = network.client(ONE)
        comic = await client.comics.create("a")
        reading = asyncio.create_task(client.comics.get(comic.id))
        await asyncio.sleep(1)
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await reading
        assert not left_over()

    run(main())


def test_closing_ends_a_create_between_two_attempts() -> None:
    """A create that waits for its next try at a connection hears that nothing was sent."""
    unsent = APIConnectionError("no connection", request_sent=False)
    network = Network(minute(), before=lambda _sent: unsent)

    async def main() -> None:
        client = network.client(max_retries=50)
        creating = asyncio.create_task(client.comics.create("a"))
        await asyncio.sleep(20)
        await client.aclose()
        sent = len(network.sent)
        with pytest.raises(ClientClosedError):
            await creating
        assert len(network.sent) == sent

    run(main())


def test_closing_while_a_machine_wakes_up_leaves_no_create_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its slot was slept through, so it would need another, which nobody gives any more."""
    network = Network(minute())
    wall = iter([1_000.0, 9_000.0])
    monkeypatch.setattr(
        "llamagen_async.scheduling.dispatcher.wall_time", lambda: next(wall, 9_000.0)
    )

    async def main() -> None:
        client = network.client()
        creating = asyncio.create_task(client.comics.create("a"))
        for _ in range(50):  # until it is chosen, and has not begun
            if client._open().poller.dispatcher._sending:
                break
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await client.aclose()
            with pytest.raises(ClientClosedError):
                await creating
        assert not left_over()

    run(main())
    assert network.sent == []


def test_closing_waits_a_moment_for_a_create_on_its_way() -> None:
    """A create whose answer comes within the grace is not lost."""
    network = Network(minute(), latency=0.5)

    async def main() -> None:
        client = network.client()
        creating = asyncio.create_task(client.comics.create("a"))
        await asyncio.sleep(0.1)
        await client.aclose()
        assert (await creating).id == accepted_id(network, "a")
        assert not left_over()

    run(main())


def test_closing_gives_up_a_create_that_takes_too_long() -> None:
    """Its outcome is uncertain; the error carries what was asked for."""
    network = Network(minute(), latency=20.0)
    request = ComicRequest("a")

    async def main() -> None:
        client = network.client()
        creating = asyncio.create_task(client.comics.create(request))
        reading = asyncio.create_task(client.comics.get("somewhere"))
        await asyncio.sleep(0.1)
        await client.aclose()
        with pytest.raises(SubmissionUncertainError) as caught:
            await creating
        with pytest.raises((ClientClosedError, asyncio.CancelledError)):
            await reading
        assert now() == pytest.approx(1.1)
        assert not left_over()
        assert caught.value.request is request

    run(main())
    assert len(network.creates) == 1


def test_a_refused_create_is_not_queued_in_a_client_that_closes() -> None:
    """The refusal that comes in the grace is the last word."""
    network = Network(minute(), latency=0.5, after=lambda _sent: refusal(1.0))

    async def main() -> None:
        client = network.client()
        creating = asyncio.create_task(client.comics.create("a"))
        await asyncio.sleep(0.1)
        await client.aclose()
        with pytest.raises((RateLimitError, ClientClosedError)):
            await creating
        assert not left_over()

    run(main())
    assert len(network.sent) == 1


def test_idle_is_idle() -> None:
    """With nothing to decide there is no task, also while the client is open."""
    network = Network(minute())

    async def main() -> None:
        async with network.client() as client:
            await client.comics.create_and_wait("a")
            await asyncio.sleep(0)
            assert not left_over()
            assert client.stats().finished == 1

    run(main())


def test_statistics_count_what_was_sent() -> None:
    """Requests by kind, and how many it took for each finished comic."""
    network = Network(minute())
    seen: list[Sent] = network.sent

    async def main() -> None:
        async with network.client() as client:
            assert client.stats().requests_per_finished is None
            await collect(client, ["a", "b"])
            stats = client.stats()
            assert stats.total == len(seen)
            assert stats.requests == {"create": 2, "status": len(seen) - 2}
            assert stats.requests_per_finished == len(seen) / 2

    run(main())
    assert len(network.of(RequestKind.CREATE)) == 2
