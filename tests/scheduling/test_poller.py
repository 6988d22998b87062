"""The poller: a wait needs few checks, all waiters share them, and every wait ends."""

from __future__ import annotations

import asyncio
import itertools
from itertools import pairwise
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    ComicGeneration,
    GenerationFailedError,
    GenerationStatus,
    LlamaGenClient,
    NotFoundError,
    PermissionDeniedError,
    Plan,
    RateLimit,
    RateLimitError,
    ServerError,
    WaitTimeoutError,
)
from llamagen_async.clock import Clock
from llamagen_async.scheduling.poller import Poller
from llamagen_async.simulation import run
from tests.support.scripted import Network, Sent, left_over, minute, now

pytestmark = pytest.mark.virtual_time

ROOMY = Plan("roomy", limits=RateLimit(1_000, per=60))


def roomy(seconds: float = 60.0, **settings: Any) -> Network:
    """Return a network whose limit is never in the way."""
    return Network(minute(seconds, plans={"the-key": ROOMY}), key="the-key", **settings)


def poller(client: LlamaGenClient) -> Poller:
    return client._core.open().scheduler._poller


def never(_sent: Sent, body: Any) -> Any:
    """Return the answer of a service that never finishes a comic."""
    return {**body, "status": "PROCESSING"}


async def waited(client: LlamaGenClient, id_: str, timeout: float) -> Exception | None:
    try:
        await client.comics.wait_for_completion(id_, timeout=timeout)
    except WaitTimeoutError as error:
        return error
    return None


async def test_a_comic_is_collected_soon_after_it_is_done() -> None:
    """A comic is collected within seconds of its end, with a handful of checks."""
    network = roomy()
    async with network.client(ROOMY) as client:
        comic = await client.comics.create_and_wait("a")
        assert comic.succeeded
        assert 60 <= now() < 75
    assert 1 <= len(network.checks) < 20


def test_waiters_for_one_comic_share_its_checks() -> None:
    """Five waiters cause the same requests as one."""
    alone, together = roomy(), roomy()

    async def main(network: Network, number: int) -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create("a")
            comics = await asyncio.gather(
                *(client.comics.wait_for_completion(comic.id) for _ in range(number))
            )
            assert all(comic.succeeded for comic in comics)
            assert client.stats().finished == 1

    run(main(alone, 1))
    run(main(together, 5))
    assert together.order == alone.order


async def test_a_wait_that_times_out_does_not_end_another() -> None:
    """The error of a timeout holds the id, and the other waiter gets the comic."""
    network = roomy()
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        patient = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        with pytest.raises(WaitTimeoutError) as caught:
            await client.comics.wait_for_completion(comic.id, timeout=10)
        assert now() == pytest.approx(10)
        assert (caught.value.id, caught.value.waited) == (comic.id, 10)
        assert (await patient).succeeded


async def test_a_second_wait_for_a_comic_knows_its_age() -> None:
    """A wait after a timeout plans its checks with what is known of the comic's age."""
    network = roomy()
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        assert isinstance(await waited(client, comic.id, 5), WaitTimeoutError)
        before = len(network.checks)
        await client.comics.wait_for_completion(comic.id)
        assert now() < 75
        assert len(network.checks) - before < 20


async def test_a_wait_that_is_cancelled_does_not_end_another() -> None:
    """The other waiter gets the comic, and no task is left."""
    network = roomy()
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        gone = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        patient = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(5)
        gone.cancel()
        assert (await patient).succeeded
        assert gone.cancelled()
        await asyncio.sleep(0)
        assert not left_over()


async def test_a_comic_that_nobody_waits_for_is_not_checked() -> None:
    """Checks end with the last wait."""
    network = roomy()
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        await waited(client, comic.id, 5)
        seen = len(network.checks)
        await asyncio.sleep(600)
        assert len(network.checks) == seen
        assert not left_over()


async def test_a_finished_comic_of_another_program_takes_one_check() -> None:
    """A comic that this client did not create is checked soon, and once is enough."""
    network = roomy()
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        await asyncio.sleep(600)
        async with network.client(ROOMY) as other:
            before = now()
            assert (await other.comics.wait_for_completion(comic.id)).succeeded
            assert now() - before < 5
    assert len(network.checks) == 1


async def test_the_error_of_a_failed_comic_holds_the_generation() -> None:
    """The wait for a failed comic raises an error that holds the server's reason."""
    network = Network(minute(failure_rate=1.0))
    async with network.client() as client:
        with pytest.raises(GenerationFailedError) as caught:
            await client.comics.create_and_wait("a")
        assert caught.value.generation.status is GenerationStatus.FAILED
        assert caught.value.generation.failure_reason


@pytest.mark.parametrize(
    "error",
    [
        ServerError(500, None, "broken"),
        APIConnectionError("broke off"),
        APIConnectionError("no connection", request_sent=False),
    ],
    ids=str,
)
async def test_a_check_that_fails_is_repeated_later(error: Exception) -> None:
    """An error of the server or the network is waited out and does not reach the waiter."""
    network = roomy(
        before=lambda sent: error if sent.kind == "status" and sent.n in (1, 2, 3) else None
    )
    async with network.client(ROOMY) as client:
        assert (await client.comics.create_and_wait("a")).succeeded
    assert len(network.checks) < 25


async def test_checks_that_always_fail_end_no_wait_before_its_time() -> None:
    """Each waiter is told when its own time is up, however often the checks have failed."""
    error = ServerError(500, None, "broken")
    network = roomy(before=lambda sent: error if sent.kind == "status" else None)
    async with network.client(ROOMY, max_retries=0) as client:
        comic = await client.comics.create("a")
        began = now()
        for seconds in (100, 600):
            with pytest.raises(WaitTimeoutError):
                await client.comics.wait_for_completion(comic.id, timeout=seconds)
        assert now() == pytest.approx(began + 700)
        await asyncio.sleep(0)
        assert not left_over()
    assert len(network.checks) < 90


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError(401, None, "x"),
        PermissionDeniedError(403, None, "x"),
        BadRequestError(400, None, "x"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_can_not_change_ends_every_wait_at_once(error: Exception) -> None:
    network = roomy(before=lambda sent: error if sent.kind == "status" else None)
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        with pytest.raises(type(error)):
            await client.comics.wait_for_completion(comic.id)
    assert len(network.checks) == 1


async def test_a_comic_whose_checks_fail_does_not_hold_up_the_others() -> None:
    """One comic that the server can't show takes few slots, and its wait lasts its time."""
    bad: list[str] = []
    broken = ServerError(500, None, "broken")
    network = roomy(before=lambda sent: broken if sent.target in bad else None)
    async with network.client(ROOMY) as client:
        bad.append((await client.comics.create("bad")).id)
        waiting = asyncio.create_task(client.comics.wait_for_completion(bad[0], timeout=1_000))
        for n in range(10):
            assert (await client.comics.create_and_wait(f"s{n}")).succeeded
        assert now() < 700
        with pytest.raises(WaitTimeoutError):
            await waiting
    assert len([sent for sent in network.checks if sent.target in bad]) < 90


async def test_an_unknown_id_ends_the_wait_at_once() -> None:
    """A 404 is final, so the id is checked once."""
    network = roomy()
    async with network.client(ROOMY) as client:
        with pytest.raises(NotFoundError):
            await client.comics.wait_for_completion("nobody")
        assert now() < 5
    assert len(network.checks) == 1


@pytest.mark.parametrize("plan", [ROOMY, Plan.DEMO])
@pytest.mark.parametrize("unknown", [range(1), range(2), range(1, 2), range(1, 3)], ids=str)
async def test_a_comic_that_the_server_has_known_may_be_unknown_to_it_for_a_while(
    plan: Plan, unknown: range
) -> None:
    """A copy of its data may be behind: what was paid for is not given up for that."""
    number = itertools.count()

    def answer(sent: Sent) -> Exception | None:
        is_unknown = sent.kind == "status" and next(number) in unknown
        return NotFoundError(404, None, "no such comic") if is_unknown else None

    network = roomy(200.0, before=answer)
    async with network.client(plan) as client:
        assert (await client.comics.create_and_wait("a")).succeeded
    assert len(network.checks) > len(unknown)


@pytest.mark.parametrize("plan", [ROOMY, Plan.DEMO])
async def test_a_comic_that_stays_unknown_is_gone(plan: Plan) -> None:
    network = roomy(
        before=lambda sent: NotFoundError(404, None, "gone") if sent.kind == "status" else None
    )
    async with network.client(plan) as client:
        comic = await client.comics.create("a")
        with pytest.raises(NotFoundError) as caught:
            await client.comics.wait_for_completion(comic.id)
        assert caught.value.id == comic.id
    assert 2 <= len(network.checks) <= (4 if plan is Plan.DEMO else 30)
    assert 120 <= network.checks[-1].at - network.checks[0].at < 240


async def test_a_refused_check_is_no_failed_check() -> None:
    """A 429 to a check pauses the client; it does not use up the retries."""
    network = roomy(
        before=lambda sent: (
            RateLimitError(429, None, "slow", None, 3.0)
            if sent.kind == "status" and sent.n < 6
            else None
        )
    )
    async with network.client(ROOMY, max_retries=0) as client:
        assert (await client.comics.create_and_wait("a")).succeeded
        assert client.stats().refused == 6
    times = [sent.at for sent in network.checks]
    assert all(later - earlier >= 3 for earlier, later in pairwise(times[:7]))


# --- ends that no check finds -------------------------------------------------------------------


def done(id_: str) -> ComicGeneration:
    return ComicGeneration.parse({"id": id_, "status": "SUCCEEDED", "output": "https://x"})


async def test_a_comic_that_is_delivered_ends_the_wait_without_a_check() -> None:
    """A webhook event with the finished comic saves the status check."""
    network = roomy()
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(5)
        poller(client).deliver(done(comic.id), now())
        assert (await waiting).output == "https://x"
        assert now() == 5
        assert client.stats().finished == 1
    assert not network.checks


async def test_a_comic_that_is_delivered_and_not_waited_for_changes_nothing() -> None:
    """An event about an unknown comic is no error, and no end is counted."""
    network = roomy()
    async with network.client(ROOMY) as client:
        poller(client).deliver(done("nobody"), now())
        assert client.stats().finished == 0


async def test_an_end_that_event_and_check_both_report_is_counted_once() -> None:
    """The event comes while a check is on its way: the comic has ended once."""
    network = roomy(seconds=1.0, latency=20.0)
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(40)  # the first check is on its way
        assert len(network.checks) == 1
        poller(client).deliver(done(comic.id), now())
        await waiting
        await asyncio.sleep(60)
        assert client.stats().finished == 1


async def test_a_read_that_finds_the_comic_done_ends_the_wait() -> None:
    """The comic that a read brings is handed to those who wait for it."""
    network = roomy(seconds=30.0)
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(31)
        read = await client.comics.get(comic.id)
        if read.succeeded and not waiting.done():
            assert await waiting == read
        await waiting


async def test_a_read_of_one_page_does_not_end_the_wait_for_the_comic() -> None:
    """A waiter gets the whole comic, though somebody else reads a page of it meanwhile."""
    network = roomy(seconds=20.0)
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a", pagination={"total_pages": 3, "panels_per_page": 2})
        waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        await asyncio.sleep(20.5)
        page = await client.comics.get(comic.id, page=1)
        assert len(page.pages) == 1
        assert len((await waiting).pages) == 3


async def test_simultaneous_reads_share_one_request() -> None:
    """Ten reads at the same time cost one request; a later read costs another."""
    network = roomy(latency=1.0)
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        same = await asyncio.gather(*(client.comics.get(comic.id) for _ in range(10)))
        assert len(set(map(id, same))) == 1
        assert len(network.checks) == 1
        await client.comics.get(comic.id)
        assert len(network.checks) == 2
        with pytest.raises(NotFoundError):
            await asyncio.gather(client.comics.get("other"), client.comics.get(comic.id))
        await asyncio.sleep(5)
        assert len(network.checks) == 4


async def test_a_reader_that_is_cancelled_does_not_end_another() -> None:
    """The shared request goes on for the reader that is left."""
    network = roomy(latency=1.0)
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        gone = asyncio.create_task(client.comics.get(comic.id))
        stays = asyncio.create_task(client.comics.get(comic.id))
        await asyncio.sleep(0.5)
        gone.cancel()
        assert (await stays).id == comic.id
        assert gone.cancelled()
    assert len(network.checks) == 1


async def test_failed_reads_are_repeated() -> None:
    """Reading again is safe, so errors of the server are waited out."""
    network = roomy(
        before=lambda sent: (
            ServerError(502, None, "x") if sent.kind == "status" and sent.n < 3 else None
        )
    )
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        assert (await client.comics.get(comic.id)).id == comic.id
    assert len(network.checks) == 4


async def test_waits_that_have_ended_take_no_memory() -> None:
    """A backend that gives up hundreds of waits for one comic keeps those that go on."""
    network = roomy(seconds=600.0)
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        patient = asyncio.create_task(client.comics.wait_for_completion(comic.id))
        for _ in range(300):
            gone = asyncio.create_task(client.comics.wait_for_completion(comic.id))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            assert gone.cancelled()
        assert len(poller(client)._ends) < 100
        assert (await patient).succeeded


# --- without end --------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.no_cover
@pytest.mark.parametrize("word", ["PROCESSING", "DREAMING", None])
@pytest.mark.parametrize(("timeout", "most"), [(1_800.0, 100), (21_600.0, 250)])
async def test_a_comic_that_never_ends_is_checked_rarely(
    word: str | None, timeout: float, most: int
) -> None:
    """The timeout is kept, and checks stay rare for hours, whatever status the service names."""
    network = roomy(body=lambda _sent, body: {"id": body["id"], "status": word})
    async with network.client(ROOMY) as client:
        comic = await client.comics.create("a")
        assert isinstance(await waited(client, comic.id, timeout), WaitTimeoutError)
        assert now() == pytest.approx(timeout)
    assert timeout / 600 < len(network.checks) <= most


@pytest.mark.once
@pytest.mark.no_cover
async def test_comics_that_never_end_do_not_delay_a_new_one() -> None:
    """A new comic is created within a window's time while ten others hang."""
    hanging = {f"s{n}" for n in range(10)}
    network = Network(
        minute(), body=lambda _s, body: never(_s, body) if body["prompt"] in hanging else body
    )
    async with network.client() as client:
        waits = [
            asyncio.create_task(client.comics.create_and_wait(story, timeout=3_600))
            for story in sorted(hanging)
        ]
        await asyncio.sleep(1_200)
        before = now()
        assert (await client.comics.create_and_wait("good", timeout=600)).succeeded
        assert network.creates[-1].at - before <= 60
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(outcome, WaitTimeoutError) for outcome in outcomes)
    assert network.refused == 0


async def test_only_the_latest_acceptances_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program that only creates does not need more memory for every comic."""
    monkeypatch.setattr("llamagen_async.scheduling.poll_set._MAX_REMEMBERED", 3)
    network = roomy()
    async with network.client(ROOMY) as client:
        for n in range(10):
            await client.comics.create(f"s{n}")
        assert len(poller(client)._polls.accepted) == 3
        assert poller(client)._clock == Clock()
