"""Jobs that have ended are forgotten after a while, as their time to live in a real Redis says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from taskiq import InMemoryBroker

from llamagen_async import BatchState, ComicGeneration, InvalidRequestError, LlamaGenError
from llamagen_async.batch.journal.codec import Row
from llamagen_async.batch.journal.story import Story
from llamagen_async.batch.outcomes import ORIGINS
from llamagen_async.plans import DAY
from llamagen_async.taskiq import register
from llamagen_async.taskiq.app import FORGET_AFTER
from llamagen_async.taskiq.store import RedisJobs
from tests.support.redis_server import RedisServer, connected
from tests.support.taskiq_app import fresh_prefix

ENDS = (BatchState.SUCCEEDED, BatchState.FAILED, BatchState.CANCELLED)
NEVER = -1
"""Redis's answer for a key without a time to live."""
SOON = 60.0
"""Seconds that a test takes at most."""


@attrs.frozen
class Desk:
    """The jobs, as a worker has them, and the Redis that they are in."""

    jobs: RedisJobs
    redis: Any
    prefix: str

    async def job(self, state: BatchState, key: str = "k", **more: Any) -> Row:
        """A job that has come to a state as those of workers do."""
        row = await self.jobs.add(Story.parse("a cat"), key=key, task="t")
        if state is BatchState.QUEUED:
            return row
        if state is BatchState.CANCELLED:
            cancelled = await self.jobs.cancel(key, LlamaGenError("no"))
            assert cancelled is not None
            return cancelled
        await self.jobs.claim(key, f"token of {key}")
        row = await self.change(row, BatchState.SENDING)
        if state not in (BatchState.SENDING, BatchState.UNCERTAIN):
            row = await self.change(row, BatchState.RUNNING, generation=comic(f"c-{key}"))
        if state not in (BatchState.SENDING, BatchState.RUNNING):
            row = await self.change(row, state, **more)
        await self.jobs.release(key)
        return row

    async def change(self, row: Row, state: BatchState, **more: Any) -> Row:
        return await self.jobs.change(row, state, origins=ORIGINS[state], **more)

    async def lives(self, key: str = "k") -> list[float]:
        """The seconds that a job's keys have to live."""
        names = [f"{self.prefix}:job:{key}", f"{self.prefix}:gid:c-{key}"]
        found = [await self.redis.pttl(name) for name in names]
        return [one if one == NEVER else one / 1_000 for one in found if one != -2]

    async def expire(self, key: str = "k") -> None:
        """Have the time come at which a job's life ends."""
        for name in ("job:", "gid:c-"):
            await self.redis.delete(f"{self.prefix}:{name}{key}")
        for entry in await self.redis.zrange(f"{self.prefix}:ended", 0, -1):
            await self.redis.zadd(f"{self.prefix}:ended", {entry: 0})

    async def mentions(self, key: str) -> list[str]:
        """The keys in Redis in which a job is still named."""
        found: list[str] = []
        async for name in self.redis.scan_iter(f"{self.prefix}:*"):
            kind = await self.redis.type(name)
            members: Any = []
            if kind == b"zset":
                members = await self.redis.zrange(name, 0, -1)
            elif kind == b"set":
                members = await self.redis.smembers(name)
            if name.endswith(key.encode()) or any(key.encode() in one for one in members):
                found.append(name.decode())
        return found


def comic(id_: str) -> ComicGeneration:
    return ComicGeneration.parse({"id": id_, "status": "PENDING"})


@pytest.fixture
async def desk(redis_server: RedisServer, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    """Jobs whose pictures are fetched if the test says so."""
    given: dict[str, Any] = {"forget_after": FORGET_AFTER, "fetches": False}
    given |= getattr(request, "param", {})
    prefix = fresh_prefix()
    jobs = RedisJobs(redis_server.url, prefix=prefix, lease=30.0, timeout=1_800.0, **given)
    async with connected(redis_server.url) as redis:
        yield Desk(jobs, redis, prefix)
    await jobs.disconnect()


@pytest.mark.parametrize("state", ENDS)
async def test_a_job_that_has_ended_has_thirty_days_to_live(desk: Desk, state: BatchState) -> None:
    row = await desk.job(state)
    assert row.state is state
    lives = await desk.lives()
    assert len(lives) == (1 if state is BatchState.CANCELLED else 2)
    assert all(FORGET_AFTER - SOON < one <= FORGET_AFTER for one in lives)


@pytest.mark.parametrize("state", [one for one in BatchState if one not in ENDS])
async def test_what_is_not_ended_or_uncertain_is_never_forgotten(
    desk: Desk, state: BatchState
) -> None:
    row = await desk.job(state)
    assert row.state is state
    await desk.jobs.sweep()
    assert set(await desk.lives()) == {NEVER}


@pytest.mark.parametrize("desk", [{"fetches": True}], indirect=True, ids=["fetching"])
async def test_a_comic_is_not_forgotten_before_its_pictures_are_here(desk: Desk) -> None:
    """Also if that was given up: somebody may ask for them again."""
    row = await desk.job(BatchState.SUCCEEDED)
    assert await desk.lives() == [NEVER, NEVER]
    row = await desk.change(row, BatchState.SUCCEEDED, error=LlamaGenError("no room"))
    assert await desk.lives() == [NEVER, NEVER]
    await desk.change(row, BatchState.SUCCEEDED, files=["1.png"])
    assert all(one > FORGET_AFTER - SOON for one in await desk.lives())


async def test_a_comic_whose_wait_was_given_up_is_not_forgotten(desk: Desk) -> None:
    row = await desk.job(BatchState.RUNNING)
    await desk.change(row, BatchState.RUNNING, error=LlamaGenError("it takes too long"))
    assert await desk.lives() == [NEVER, NEVER]


async def test_a_job_that_goes_on_after_all_is_kept(desk: Desk) -> None:
    """A job that was taken for failed runs, as the server says."""
    row = await desk.job(BatchState.FAILED)
    assert NEVER not in await desk.lives()
    row = await desk.change(row, BatchState.RUNNING, generation=comic("c-k"))
    assert await desk.lives() == [NEVER, NEVER]
    assert await desk.redis.zcard(f"{desk.prefix}:ended") == 0
    await desk.change(row, BatchState.SUCCEEDED)
    assert NEVER not in await desk.lives()


@pytest.mark.parametrize("desk", [{"forget_after": None}], indirect=True, ids=["never"])
async def test_jobs_can_be_kept_for_ever(desk: Desk) -> None:
    await desk.job(BatchState.SUCCEEDED)
    assert await desk.lives() == [NEVER, NEVER]


@pytest.mark.parametrize("state", ENDS)
async def test_nothing_is_left_of_a_job_that_is_forgotten(desk: Desk, state: BatchState) -> None:
    """Lists are whole before a worker has tidied up, and after it; the key is a new order."""
    await desk.job(state)
    await desk.job(BatchState.QUEUED, "other")
    await desk.expire()
    assert await desk.jobs.get("k") is None
    for _ in range(2):
        rows = await desk.jobs.newest_first((), None, 10)
        assert [row.key for row in rows] == ["other"]
        assert await desk.jobs.newest_first((state,), None, 10) == []
        assert await desk.jobs.newest("c-k", failed=True) is None
        await desk.jobs.sweep()
    assert await desk.mentions("k") == []
    assert (await desk.job(BatchState.QUEUED)).state is BatchState.QUEUED


async def test_a_key_that_has_a_new_job_is_not_forgotten_with_the_old_one(desk: Desk) -> None:
    await desk.job(BatchState.FAILED)
    await desk.expire()
    row = await desk.job(BatchState.RUNNING)
    await desk.jobs.sweep()
    assert [one.id for one in await desk.jobs.newest_first((), None, 10)] == [row.id]
    assert await desk.jobs.newest_first((BatchState.FAILED,), None, 10) == []
    assert await desk.lives() == [NEVER, NEVER]


async def test_changes_that_were_forgotten_are_in_nobodys_way(desk: Desk) -> None:
    """One change of a comic has expired while another one waits, and while the comic is made."""
    await desk.job(BatchState.RUNNING, "comic")
    for key in ("old", "k"):
        fields = {"type": "continue", "of": "comic", "prompt": "more"}
        await desk.jobs.add(Story.parse(fields), key=key, task=f"task of {key}")
    await desk.jobs.cancel("old", LlamaGenError("no"))
    await desk.expire("old")
    made = await desk.jobs.get("comic")
    assert made is not None
    await desk.change(made, BatchState.SUCCEEDED)
    waiting = await desk.jobs.get("k")
    assert waiting is not None
    assert waiting.target == "c-comic"
    assert (await desk.jobs.claim("k", "token")).outcome == "mine"


async def test_the_url_of_a_content_is_kept_for_as_long_as_it_is_used_again(desk: Desk) -> None:
    """For a day; Redis would be full of them else, and drops nothing."""
    await desk.jobs.keep_upload("digest", "https://cdn.example/a.png", 5.0)
    assert await desk.jobs.uploaded("digest", 5.0) == "https://cdn.example/a.png"
    assert await desk.jobs.uploaded("digest", 6.0) is None
    (name,) = [one async for one in desk.redis.scan_iter(f"{desk.prefix}:upload*")]
    assert DAY < await desk.redis.ttl(name) <= 2 * DAY


@pytest.mark.parametrize("value", [0, -1, 3_600, "a month", True], ids=repr)
def test_a_time_that_is_too_short_is_refused(redis_server: RedisServer, value: Any) -> None:
    """A task that is delivered late, or a customer's second attempt, has to find the job."""
    with pytest.raises(InvalidRequestError, match="forget_after"):
        register(InMemoryBroker(), redis=redis_server.url, forget_after=value)
