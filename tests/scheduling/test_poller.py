"""Waiting for a comic: as few looks as useful, shared by all who wait, and an end to all of it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    ComicGeneration,
    GenerationFailedError,
    GenerationStatus,
    LlamaGenClient,
    NotFoundError,
    Plan,
    RateLimit,
    RateLimitError,
    ServerError,
    WaitTimeoutError,
)
from llamagen_async.clock import Clock
from llamagen_async.scheduling import Poller
from llamagen_async.simulation import run
from tests.support.scripted import Network, Sent, left_over, minute, now

ROOMY = Plan("roomy", limits=RateLimit(1_000, per=60))


def roomy(seconds: float = 60.0, **settings: Any) -> Network:
    """A network whose limit is never in the way."""
    return Network(minute(seconds, plans={"the-key": ROOMY}), key="the-key", **settings)


def poller(client: LlamaGenClient) -> Poller:
    return client._open().poller


def never(_sent: Sent, body: Any) -> Any:
    """An answer of a service that never gets done."""
    return {**body, "status": "PROCESSING"}


async def waited(client: LlamaGenClient, id_: str, timeout: float) -> Exception | None:
    try:
        await client.comics.wait_for_completion(id_, timeout=timeout)
    except WaitTimeoutError as error:
        return error
    return None


def test_a_comic_is_collected_soon_after_it_is_done() -> None:
    """It is there within seconds of its end, for a handful of looks."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create_and_wait("a")
            assert comic.succeeded
            assert 60 <= now() < 75

    run(main())
    assert 1 <= len(network.checks) < 20


def test_two_who_wait_for_one_comic_share_its_looks() -> None:
    """One look tells everybody, however many wait."""
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


def test_a_timeout_is_kept_and_the_other_goes_on() -> None:
    """Who waits no longer gets the id and leaves the comic to the others."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create("a")
            patient = asyncio.create_task(client.comics.wait_for_completion(comic.id))
            with pytest.raises(WaitTimeoutError) as caught:
                await client.comics.wait_for_completion(comic.id, timeout=10)
            assert now() == pytest.approx(10)
            assert (caught.value.id, caught.value.waited) == (comic.id, 10)
            assert (await patient).succeeded

    run(main())


def test_who_waits_again_has_lost_nothing() -> None:
    """After a timeout the same id is waited for with what is known of its age."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create("a")
            assert isinstance(await waited(client, comic.id, 5), WaitTimeoutError)
            before = len(network.checks)
            await client.comics.wait_for_completion(comic.id)
            assert now() < 75
            assert len(network.checks) - before < 20

    run(main())


def test_a_cancelled_waiter_leaves_the_other_alone() -> None:
    """One goes away, the other gets the comic, nothing is left."""
    network = roomy()

    async def main() -> None:
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

    run(main())


def test_when_nobody_waits_nobody_looks() -> None:
    """The last waiter takes the looks with it."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create("a")
            await waited(client, comic.id, 5)
            seen = len(network.checks)
            await asyncio.sleep(600)
            assert len(network.checks) == seen
            assert not left_over()

    run(main())


def test_a_comic_of_another_program_that_is_done_takes_one_look() -> None:
    """An id that this client knows nothing of is looked at soon, and that is enough."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create("a")
            await asyncio.sleep(600)
            async with network.client(ROOMY) as other:
                before = now()
                assert (await other.comics.wait_for_completion(comic.id)).succeeded
                assert now() - before < 5

    run(main())
    assert len(network.checks) == 1


def test_failure_is_told_with_the_generation() -> None:
    """A failed comic raises, and what the server said is in the error."""
    network = Network(minute(failure_rate=1.0))

    async def main() -> None:
        async with network.client() as client:
            with pytest.raises(GenerationFailedError) as caught:
                await client.comics.create_and_wait("a")
            assert caught.value.generation.status is GenerationStatus.FAILED
            assert caught.value.generation.failure_reason

    run(main())


@pytest.mark.parametrize(
    "error",
    [
        ServerError(500, None, "broken"),
        APIConnectionError("broke off"),
        APIConnectionError("no connection", request_sent=False),
    ],
    ids=str,
)
def test_a_look_that_fails_is_repeated_later(error: Exception) -> None:
    """Trouble of the server or the network is waited out; the waiter hears nothing of it."""
    network = roomy(
        before=lambda sent: error if sent.kind == "status" and sent.n in (1, 2, 3) else None
    )

    async def main() -> None:
        async with network.client(ROOMY) as client:
            assert (await client.comics.create_and_wait("a")).succeeded

    run(main())
    assert len(network.checks) < 25


def test_a_look_that_always_fails_is_told_in_the_end() -> None:
    """After the retries in a row whoever waits is told, all of them."""
    error = ServerError(500, None, "broken")
    network = roomy(before=lambda sent: error if sent.kind == "status" else None)

    async def main() -> None:
        async with network.client(ROOMY, max_retries=3) as client:
            comic = await client.comics.create("a")
            outcomes = await asyncio.gather(
                *(client.comics.wait_for_completion(comic.id) for _ in range(2)),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [ServerError, ServerError]
            await asyncio.sleep(0)
            assert not left_over()

    run(main())
    assert len(network.checks) == 4


def test_an_unknown_id_is_told_at_once() -> None:
    """A 404 does not become better by asking again."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            with pytest.raises(NotFoundError):
                await client.comics.wait_for_completion("nobody")
            assert now() < 5

    run(main())
    assert len(network.checks) == 1


def test_refused_looks_are_no_failures() -> None:
    """A 429 to a look pauses; it does not use up the retries."""
    network = roomy(
        before=lambda sent: (
            RateLimitError(429, None, "slow", None, 3.0)
            if sent.kind == "status" and sent.n < 6
            else None
        )
    )

    async def main() -> None:
        async with network.client(ROOMY, max_retries=0) as client:
            assert (await client.comics.create_and_wait("a")).succeeded
            assert client.stats().refused == 6

    run(main())
    looks = [sent.at for sent in network.checks]
    assert all(later - earlier >= 3 for earlier, later in pairwise(looks[:7]))


# --- learned otherwise --------------------------------------------------------------------------


def done(id_: str) -> ComicGeneration:
    return ComicGeneration.parse({"id": id_, "status": "SUCCEEDED", "output": "https://x"})


def test_what_is_delivered_ends_the_wait_without_a_look() -> None:
    """A webhook's news saves the status check."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create("a")
            waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
            await asyncio.sleep(5)
            poller(client).deliver(done(comic.id))
            assert (await waiting).output == "https://x"
            assert now() == 5
            assert client.stats().finished == 1

    run(main())
    assert not network.checks


def test_news_of_what_nobody_waits_for_is_no_news() -> None:
    """It is no error, and no end is counted."""
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            poller(client).deliver(done("nobody"))
            assert client.stats().finished == 0

    run(main())


def test_news_that_overtakes_a_look_is_counted_once() -> None:
    """The end of one comic is one end, though both the webhook and a look tell it."""
    network = roomy(seconds=1.0, latency=20.0)

    async def main() -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create("a")
            waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
            await asyncio.sleep(40)  # the first look is on its way
            assert len(network.checks) == 1
            poller(client).deliver(done(comic.id))
            await waiting
            await asyncio.sleep(60)
            assert client.stats().finished == 1

    run(main())


def test_a_read_that_finds_it_done_ends_the_wait() -> None:
    """Whoever reads the comic tells those who wait for it."""
    network = roomy(seconds=30.0)

    async def main() -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create("a")
            waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
            await asyncio.sleep(31)
            read = await client.comics.get(comic.id)
            if read.succeeded and not waiting.done():
                assert await waiting == read
            await waiting

    run(main())


def test_a_read_of_one_page_does_not_take_the_place_of_the_comic() -> None:
    """Who waits gets the whole comic, though somebody else reads a page of it meanwhile."""
    network = roomy(seconds=20.0)

    async def main() -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create(
                "a", pagination={"total_pages": 3, "panels_per_page": 2}
            )
            waiting = asyncio.create_task(client.comics.wait_for_completion(comic.id))
            await asyncio.sleep(20.5)
            page = await client.comics.get(comic.id, page=1)
            assert len(page.pages) == 1
            assert len((await waiting).pages) == 3

    run(main())


def test_simultaneous_reads_share_one_request() -> None:
    """Ten who ask at the same time cost one request; who asks later costs another."""
    network = roomy(latency=1.0)

    async def main() -> None:
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

    run(main())


def test_one_reader_who_goes_away_does_not_take_the_others_answer() -> None:
    """The shared request goes on for who is left."""
    network = roomy(latency=1.0)

    async def main() -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create("a")
            gone = asyncio.create_task(client.comics.get(comic.id))
            stays = asyncio.create_task(client.comics.get(comic.id))
            await asyncio.sleep(0.5)
            gone.cancel()
            assert (await stays).id == comic.id
            assert gone.cancelled()

    run(main())
    assert len(network.checks) == 1


def test_failed_reads_are_repeated() -> None:
    """Reading is safe, so trouble is waited out."""
    network = roomy(
        before=lambda sent: (
            ServerError(502, None, "x") if sent.kind == "status" and sent.n < 3 else None
        )
    )

    async def main() -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create("a")
            assert (await client.comics.get(comic.id)).id == comic.id

    run(main())
    assert len(network.checks) == 4


# --- without end --------------------------------------------------------------------------------


@pytest.mark.no_cover
@pytest.mark.parametrize("word", ["PROCESSING", "DREAMING", None])
@pytest.mark.parametrize(("timeout", "most"), [(1_800.0, 100), (21_600.0, 250)])
def test_a_comic_that_never_ends_is_not_looked_at_all_the_time(
    word: str | None, timeout: float, most: int
) -> None:
    """The timeout is kept, and looks stay rare for hours, whatever word the service has for it."""
    network = roomy(body=lambda _sent, body: {**body, "status": word})

    async def main() -> None:
        async with network.client(ROOMY) as client:
            comic = await client.comics.create("a")
            assert isinstance(await waited(client, comic.id, timeout), WaitTimeoutError)
            assert now() == pytest.approx(timeout)

    run(main())
    assert timeout / 600 < len(network.checks) <= most


@pytest.mark.no_cover
def test_many_that_never_end_do_not_keep_one_from_being_created() -> None:
    """With ten comics that hang, a new one is still created in a window's time."""
    hanging = {f"s{n}" for n in range(10)}
    network = Network(
        minute(), body=lambda _s, body: never(_s, body) if body["prompt"] in hanging else body
    )

    async def main() -> None:
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

    run(main())
    assert network.refused == 0


def test_acceptances_that_nobody_waits_for_are_not_kept_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program that only creates does not grow by every comic."""
    monkeypatch.setattr("llamagen_async.scheduling.poll_set._MOST_REMEMBERED", 3)
    network = roomy()

    async def main() -> None:
        async with network.client(ROOMY) as client:
            for n in range(10):
                await client.comics.create(f"s{n}")
            assert len(poller(client)._watches._accepted) == 3
            assert poller(client)._clock == Clock()

    run(main())
