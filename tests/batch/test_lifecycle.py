"""The steps of a story are in the journal before anything else happens, however a batch ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    AuthenticationError,
    Batch,
    BatchState,
    ClientClosedError,
    ComicGeneration,
    ComicRequest,
    JournalError,
    Plan,
    RateLimit,
    SubmissionUncertainError,
)
from llamagen_async.batch.journal.codec import AccountId
from llamagen_async.batch.journal.database import Database
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.scheduling.submission import SubmissionHooks
from llamagen_async.simulation import VirtualTimeLoop, run
from tests.support.machine import Machine, named, states
from tests.support.scripted import left_over, now

pytestmark = pytest.mark.virtual_time


@pytest.mark.once
@pytest.mark.parametrize("fails_at", [1, 2, 3, 4, 5, 6, 7, 9, 12])
def test_a_disk_that_is_full_stops_creating_and_what_runs_is_collected(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fails_at: int,
) -> None:
    """Nothing is sent that can't be recorded; ids that came all the same are logged and told."""
    two = Plan("two", limits=RateLimit(2, per=60))
    machine = Machine(tmp_path, plan=two)
    transact = Database._transact
    writes = 0

    def full(self: Database, operations: Any, *, write: bool) -> list[Any]:
        nonlocal writes
        writes += write
        if write and writes > fails_at:
            raise JournalError("database or disk is full; make room on the disk")
        return transact(self, operations, write=write)

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Database, "_transact", full)
            items = await machine.batch(named(6))
            assert len(items) == 6
            assert states(items).keys() <= {BatchState.SUCCEEDED, BatchState.QUEUED}
            for item in items:
                if item.state is BatchState.QUEUED:
                    assert isinstance(item.error, JournalError)
                    assert item.request is not None
                    assert machine.stories[item.request.prompt or ""] == 0
                else:
                    assert item.generation is not None
                    assert item.generation.succeeded
        accepted = {one["id"] for one in machine.service.stats(0)["generations"]}
        on_disk = {id_ for _, id_ in machine.rows() if id_}
        assert all(id_ in caplog.text for id_ in accepted - on_disk)
        for _ in range(2):
            again = await machine.batch(named(6))
        assert states(again) == {BatchState.SUCCEEDED: 6}  # what has an id is not uncertain

    with caplog.at_level(logging.WARNING):
        run(main())
    assert set(machine.stories.values()) == {1}


@pytest.mark.once
@pytest.mark.parametrize("when", [0.2, 1.0, 1.4, 61.2, 62.0, 100.0])
@pytest.mark.parametrize("how", ["break", "cancel", "group"])
async def test_who_leaves_finds_every_id_in_the_journal(
    tmp_path: Path, how: str, when: float
) -> None:
    """Creates that are on their way are waited for a moment: no id is lost, no task is left."""
    three = Plan("three", limits=RateLimit(3, per=60))
    machine = Machine(tmp_path, 40.0, plan=three, latency=1.5)

    async def leave() -> None:
        async with (
            machine.open() as client,
            client.comics.batch(named(9), journal=machine.journal) as batch,
        ):
            items = aiter(batch)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(when):
                    while True:
                        await anext(items)

    async def in_a_group() -> None:
        async def fail() -> None:
            await asyncio.sleep(when)
            raise KeyError("something else")

        with contextlib.suppress(ExceptionGroup):
            async with machine.open() as client, asyncio.TaskGroup() as group:
                group.create_task(fail())
                async with client.comics.batch(named(9), journal=machine.journal) as batch:
                    async for _item in batch:
                        pass

    async def cancelled() -> None:
        reading = asyncio.create_task(machine.batch(named(9)))
        await asyncio.sleep(when)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert reading.cancelled()

    await {"break": leave, "group": in_a_group, "cancel": cancelled}[how]()
    assert not left_over()
    accepted = {one["id"] for one in machine.service.stats(0)["generations"]}
    assert {id_ for _, id_ in machine.rows() if id_} == accepted
    assert not any(state in ("sending", "uncertain") for state, _ in machine.rows())
    sent = len(machine.sent)
    await asyncio.sleep(120)
    assert len(machine.sent) == sent
    async with machine.open() as client:
        assert (await client.limits()).in_flight == 0
    assert states(await machine.batch(named(9))) == {BatchState.SUCCEEDED: 9}
    assert set(machine.stories.values()) == {1}


@contextlib.contextmanager
def slow_disk(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """Let whatever is written be on disk at once, and be told so many seconds later."""

    def run_in_executor(
        loop: VirtualTimeLoop, _executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        done = at_once(loop, _executor, func, *args)
        future: asyncio.Future[Any] = loop.create_future()

        def tell() -> None:
            error = done.exception()
            if future.cancelled():
                return
            if error is None:
                future.set_result(done.result())
            else:
                future.set_exception(error)

        loop.call_later(seconds, tell)
        return future

    at_once = VirtualTimeLoop.run_in_executor
    with monkeypatch.context() as patch:
        patch.setattr(VirtualTimeLoop, "run_in_executor", run_in_executor)
        yield


async def test_what_is_being_written_when_the_batch_is_left_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An intent that is on disk by then is taken back."""
    machine = Machine(tmp_path)

    with slow_disk(monkeypatch, 1.0), pytest.raises(TimeoutError):
        # It is opened, looked through for what runs, taken up, and then its intent.
        await asyncio.wait_for(machine.batch(["a"]), 4.5)
    assert machine.rows("state, attempts") == [("queued", 1)]
    assert not machine.sent


async def test_an_id_that_is_being_written_when_the_client_closes_is_not_uncertain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id that the server has given counts more than a later doubt."""
    machine = Machine(tmp_path)

    with slow_disk(monkeypatch, 4.0):
        async with machine.open() as client:
            batch = client.comics.batch(["a"], journal=machine.journal)
            reading = asyncio.ensure_future(anext(aiter(batch)))
            await asyncio.sleep(22)
            assert len(machine.sent) == 1
            ((state, id_),) = machine.rows()
            assert (state, id_ is None) == ("running", False)
        item = await reading
        assert item.state is BatchState.RUNNING
        assert item.generation is not None
        assert item.generation.id == id_
        await batch.aclose()
    assert machine.rows() == [("running", id_)]


async def test_a_create_that_takes_long_is_recorded_when_it_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The batch is left after a few seconds; the journal stays open for it, and then closes."""
    machine = Machine(tmp_path, latency=20.0)

    async with machine.open() as client:
        batch = client.comics.batch(["slow"], journal=machine.journal)
        reading = asyncio.ensure_future(anext(aiter(batch)))
        await asyncio.sleep(1)
        await batch.aclose()
        await asyncio.gather(reading, return_exceptions=True)
        assert now() == pytest.approx(6, abs=0.1)
        assert batch.progress.sending == (0,)
        await asyncio.sleep(30)
        assert not left_over()
        assert batch.progress.running
    ((state, id_),) = machine.rows()
    assert (state, id_) == ("running", batch.progress.running[0][1])
    assert "1 creates are still in flight" in caplog.text


async def test_a_create_that_does_not_end_is_uncertain_when_the_client_closes(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path, latency=(25.0, 25.0))

    async with machine.open() as client:
        batch = client.comics.batch(["slow"], journal=machine.journal)
        reading = asyncio.ensure_future(anext(aiter(batch)))
        await asyncio.sleep(1)
        await batch.aclose()
        await asyncio.gather(reading, return_exceptions=True)
    await asyncio.sleep(1)
    assert not left_over()
    assert machine.rows("state") == [("uncertain",)]


@pytest.mark.parametrize("when", [0.0, 0.3, 1.0, 1.3, 2.0, 30.0, 61.5])
def test_a_create_and_wait_that_is_cancelled_leaves_its_id_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, when: float
) -> None:
    """No task and no slot is left; a comic that was started is named."""
    machine = Machine(tmp_path, latency=1.2)

    async def main() -> None:
        async with machine.open() as client:
            task = asyncio.create_task(client.comics.create_and_wait("x"))
            await asyncio.sleep(when)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            await asyncio.sleep(10)
            assert not left_over()
            assert (await client.limits()).in_flight == 0

    with caplog.at_level(logging.INFO):
        run(main())
    for one in machine.service.stats(0)["generations"]:
        assert one["id"] in caplog.text


class Abandoning:
    """Comics whose creates are accepted when their callers are gone."""

    outage = None
    observer = None

    async def create(
        self,
        prompt: ComicRequest,
        *,
        urgent: bool,
        wait_for_quota: bool,
        hooks: SubmissionHooks[ComicGeneration],
    ) -> ComicGeneration:
        await hooks.before_send()
        comic = ComicGeneration.parse({"id": f"c-{prompt.prompt}", "status": "SUCCEEDED"})
        await hooks.accepted(comic)
        hooks.abandoned(comic)
        hooks.abandoned(SubmissionUncertainError(prompt, "no answer"))
        hooks.abandoned(ClientClosedError("nothing was sent"))
        hooks.abandoned(AuthenticationError(401, "unauthorized", "refused"))
        return comic

    async def wait_for_completion(
        self, id: str, *, timeout: float, urgent: bool
    ) -> ComicGeneration:
        raise AssertionError("nothing is left to wait for")

    async def download(
        self, comic: ComicGeneration, folder: Any, *, timeout: float, urgent: bool
    ) -> list[Path]:
        raise AssertionError("nobody asked for pictures")


async def test_an_id_whose_caller_is_gone_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The id was paid for, and the one who cancelled the batch does not know it."""
    account = AccountId.of("the-key", "https://api.example/v1")
    comics: Any = Abandoning()
    batch = Batch([{"prompt": "cat", "key": "k"}], comics, Journal(None, account))
    assert [item.state async for item in batch] == [BatchState.SUCCEEDED]
    assert "left while k was in flight: k is running as generation c-cat" in caplog.text
    assert re.search("left while k was in flight: .*no answer", caplog.text)
    assert "nothing was sent" not in caplog.text
    assert "refused" not in caplog.text
