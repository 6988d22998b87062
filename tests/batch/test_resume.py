"""A batch with a journal goes on where the last one ended, however that was."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    BatchState,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    JournalError,
    NotFoundError,
    Plan,
    RateLimit,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.batch.journal.database import Database
from llamagen_async.simulation import VirtualTimeLoop, run
from tests.support.machine import Machine, Pictures, fetching, named, states
from tests.support.scripted import Sent, left_over, now

# --- what is done, what runs, what waits --------------------------------------------------------


def test_what_is_done_costs_nothing_any_more(tmp_path: Path) -> None:
    """The second run yields the same items, from the journal alone."""
    machine = Machine(tmp_path)

    async def main() -> None:
        first = await machine.batch(named(5))
        sent = len(machine.sent)
        again = await machine.batch(named(5))
        assert len(machine.sent) == sent
        assert sorted(again, key=lambda item: item.index) == sorted(
            first, key=lambda item: item.index
        )
        assert states(again) == {BatchState.SUCCEEDED: 5}

    run(main())


def test_what_runs_is_collected_and_what_waits_is_sent(tmp_path: Path) -> None:
    """Left in the middle, with some running and some unsent: no story is sent twice."""
    four = Plan("four", limits=RateLimit(4, per=60))
    machine = Machine(tmp_path, 400.0, plan=four)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(machine.batch(named(30)), 200)
        known = Counter(state for state, _ in machine.rows())
        assert known["running"]
        sent = len(machine.creates)
        assert 0 < sent < 30
        assert states(await machine.batch(named(30))) == {BatchState.SUCCEEDED: 30}
        assert len(machine.creates) == 30

    run(main())
    assert set(machine.stories.values()) == {1}


def test_a_break_is_gone_on_from(tmp_path: Path) -> None:
    """Again and again, a few items at a time."""
    machine = Machine(tmp_path)

    async def main() -> None:
        for number in (1, 4, 4, 7):
            items = await machine.batch(named(12), leave_after=number)
            assert states(items) == {BatchState.SUCCEEDED: number}
        assert states(await machine.batch(named(12))) == {BatchState.SUCCEEDED: 12}

    run(main())
    assert set(machine.stories.values()) == {1}


def test_what_runs_is_collected_though_nobody_asks_for_it(tmp_path: Path) -> None:
    """It was paid for: it comes after the input's last, whatever the input is now."""
    machine = Machine(tmp_path, 600.0)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(machine.batch(named(3)), 30)
        items = await machine.batch(["other", "s1"])
        assert sorted((item.index, item.request and item.request.prompt) for item in items) == [
            (0, "other"),
            (1, "s1"),
            (2, "s0"),
            (3, "s2"),
        ]
        assert states(items) == {BatchState.SUCCEEDED: 4}

    run(main())
    assert set(machine.stories.values()) == {1}


def test_what_ended_while_the_input_was_read_is_told_too(tmp_path: Path) -> None:
    """An input that takes longer to read than what still ran takes to be collected."""
    machine = Machine(tmp_path, 600.0)

    async def slow() -> Any:
        await asyncio.sleep(5_000)
        yield "s1"

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(machine.batch(named(3)), 30)
        items = await machine.batch(slow())
        assert [(item.index, item.state) for item in sorted(items, key=lambda one: one.index)] == [
            (0, BatchState.SUCCEEDED),
            (1, BatchState.SUCCEEDED),
            (2, BatchState.SUCCEEDED),
        ]
        assert set(machine.stories.values()) == {1}

    run(main())


def test_a_line_that_is_inserted_is_the_only_new_one(tmp_path: Path) -> None:
    """Stories are known by their content, not by their place; equal ones are counted."""
    machine = Machine(tmp_path)

    async def main() -> None:
        await machine.batch(["a", "b", "a"])
        items = await machine.batch(["new", "a", "a", "b", "a"])
        assert states(items) == {BatchState.SUCCEEDED: 5}
        assert len({item.generation.id for item in items if item.generation}) == 5

    run(main())
    assert machine.stories == {"a": 3, "b": 1, "new": 1}


def test_the_users_own_key_is_the_story(tmp_path: Path) -> None:
    """One comic for one order: also if the order is in the input twice."""
    machine = Machine(tmp_path)
    order = {"prompt": "a", "key": "order-42"}

    async def main() -> None:
        items = await machine.batch([order, {"prompt": "a"}, order])
        assert states(items) == {BatchState.SUCCEEDED: 3}
        ids = {item.index: item.generation.id for item in items if item.generation}
        assert ids[0] == ids[2] != ids[1]
        assert {item.key for item in items if item.index != 1} == {"order-42"}
        (again,) = await machine.batch([order])
        assert again.generation is not None
        assert again.generation.id == ids[0]

    run(main())
    assert machine.stories == {"a": 2}


def test_a_key_with_another_story_is_refused(tmp_path: Path) -> None:
    """Nothing is sent for it, the field is named, and the others go on."""
    machine = Machine(tmp_path)

    async def main() -> None:
        stories = [{"prompt": "a", "key": "k"}, {"prompt": "b", "key": "k"}, "c"]
        items = {item.index: item for item in await machine.batch(stories)}
        assert items[1].state is BatchState.FAILED
        assert isinstance(items[1].error, InvalidRequestError)
        assert items[1].error.field == "key"
        assert items[2].state is BatchState.SUCCEEDED

    run(main())
    assert machine.stories == {"a": 1, "c": 1}


# --- what went wrong ----------------------------------------------------------------------------


def test_what_is_uncertain_is_told_and_not_sent_again(tmp_path: Path) -> None:
    """In this run and in every further one, until somebody says so."""
    machine = Machine(
        tmp_path,
        after=lambda sent: APIConnectionError("lost") if sent.n == 0 else None,
    )

    async def main() -> None:
        for _ in range(2):
            first, second = sorted(
                await machine.batch(["lost", "fine"]), key=lambda item: item.index
            )
            assert first.state is BatchState.UNCERTAIN
            assert isinstance(first.error, SubmissionUncertainError)
            assert first.error.request == first.request
            assert "lost" in first.error.reason
            assert second.state is BatchState.SUCCEEDED
        assert machine.stories == {"lost": 1, "fine": 1}
        items = await machine.batch(["lost", "fine"], resend_uncertain=True)
        assert states(items) == {BatchState.SUCCEEDED: 2}
        assert machine.rows("state, attempts, error") == [
            ("succeeded", 2, None),
            ("succeeded", 1, None),
        ]

    run(main())
    assert machine.stories == {"lost": 2, "fine": 1}


def test_what_failed_for_good_stays_failed(tmp_path: Path) -> None:
    """A comic that was not drawn, and a story that the server does not accept."""

    def body(sent: Sent, answer: Any) -> Any:
        return {**answer, "status": "FAILED"} if answer["prompt"] == "fails" else answer

    machine = Machine(
        tmp_path,
        body=body,
        before=lambda sent: (
            BadRequestError(422, "bad", "no such thing") if sent.prompt == "bad" else None
        ),
    )

    async def main() -> None:
        for _ in range(2):
            fails, bad = sorted(await machine.batch(["fails", "bad"]), key=lambda one: one.index)
            assert fails.state is bad.state is BatchState.FAILED
            assert isinstance(fails.error, GenerationFailedError)
            assert fails.error.generation == fails.generation
            assert isinstance(bad.error, BadRequestError)
            assert bad.error.status == 422
            assert bad.generation is None
        assert len(machine.creates) == 2

    run(main())


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError(401, None, "x"),
        InsufficientCreditsError(402, None, "x"),
        NotFoundError(404, None, "a proxy's mood"),
        APIConnectionError("no connection", request_sent=False),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_end_otherwise_the_next_time_waits(tmp_path: Path, error: Exception) -> None:
    """Nothing was spent on it: it is queued, and sent by the next run."""
    down = True
    machine = Machine(tmp_path, before=lambda sent: error if down else None)

    async def main() -> None:
        nonlocal down
        items = await machine.batch(named(3))
        assert states(items) == {BatchState.QUEUED: 3}
        assert all(type(item.error) is type(error) for item in items)
        assert {state for state, _ in machine.rows()} == {"queued"}
        down = False
        assert states(await machine.batch(named(3))) == {BatchState.SUCCEEDED: 3}

    run(main())
    assert set(machine.stories.values()) == {1}


def test_what_takes_too_long_is_collected_later(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 900.0)

    async def main() -> None:
        items = await machine.batch(named(2), timeout=300)
        assert states(items) == {BatchState.RUNNING: 2}
        assert all(isinstance(item.error, WaitTimeoutError) for item in items)
        assert states(await machine.batch(named(2))) == {BatchState.SUCCEEDED: 2}

    run(main())
    assert set(machine.stories.values()) == {1}


def test_bad_input_is_not_in_the_journal(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    async def main() -> None:
        items = await machine.batch(["", {"prompt": "a", "size": "1x1"}, "fine"])
        assert [item.key is None for item in sorted(items, key=lambda one: one.index)] == [
            True,
            True,
            False,
        ]

    run(main())
    assert len(machine.rows()) == 1


# --- pictures -----------------------------------------------------------------------------------


def test_only_pictures_that_are_missing_are_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal names them relative to the folder, which may be another one by then."""
    pictures = Pictures()
    machine = Machine(tmp_path)
    monkeypatch.setattr("llamagen_async.comics.Comics.download", fetching(pictures))

    async def main() -> None:
        out = tmp_path / "out"
        items = await machine.batch(["a", "b"], out=out)
        assert len(pictures.fetched) == 2
        checks = len(machine.checks)
        for item in await machine.batch(["a", "b"], out=out):
            assert sorted(file.name for file in item.files) == sorted(
                f"{item.generation.id}-{n}.png" for n in range(2) if item.generation
            )
        assert len(pictures.fetched) == 2
        items[0].files[1].unlink()
        await machine.batch(["a", "b"], out=out)
        assert items[0].generation is not None
        assert pictures.fetched[2:] == [items[0].generation.id]
        out.rename(tmp_path / "moved")
        moved = await machine.batch(["a", "b"], out=tmp_path / "moved")
        assert len(pictures.fetched) == 3
        assert all(file.parent == tmp_path / "moved" for item in moved for file in item.files)
        assert len(machine.checks) == checks

    run(main())


def test_pictures_whose_address_is_too_old_are_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comic that is done is looked at once more, for nothing, to get new addresses."""
    pictures = Pictures(OSError("no room"), NotFoundError(404, None, "expired"))
    machine = Machine(tmp_path)
    monkeypatch.setattr("llamagen_async.comics.Comics.download", fetching(pictures))

    async def main() -> None:
        (item,) = await machine.batch(["a"], out=tmp_path / "out")
        assert item.state is BatchState.SUCCEEDED
        assert isinstance(item.error, OSError)
        checks = len(machine.checks)
        (item,) = await machine.batch(["a"], out=tmp_path / "out")
        assert (item.state, item.error, len(item.files)) == (BatchState.SUCCEEDED, None, 2)
        assert len(machine.checks) == checks + 1

    run(main())
    assert machine.stories == {"a": 1}


# --- a journal that can't be used ---------------------------------------------------------------


def test_a_second_batch_on_the_same_journal_is_refused(tmp_path: Path) -> None:
    """Whoever iterates is told; nothing was sent, and the first goes on."""
    machine = Machine(tmp_path)

    async def main() -> None:
        async with machine.open() as client:
            async for _item in client.comics.batch(named(2), journal=machine.journal):
                with pytest.raises(JournalError, match="works with this journal"):
                    await machine.batch(["other"])

    run(main())
    assert machine.stories == {"s0": 1, "s1": 1}


@pytest.mark.parametrize("file", ["", "a folder"])
def test_a_journal_that_can_not_be_opened_sends_nothing(tmp_path: Path, file: str) -> None:
    machine = Machine(tmp_path)
    machine.journal = tmp_path / file

    async def main() -> None:
        machine.journal.mkdir(exist_ok=True)
        with pytest.raises(JournalError, match="name a file, not a folder"):
            await machine.batch(named(2))

    run(main())
    assert not machine.sent


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
    together = Database._together
    writes = 0

    def full(self: Database, operations: Any, *, write: bool) -> list[Any]:
        nonlocal writes
        writes += write
        if write and writes > fails_at:
            raise JournalError("database or disk is full; make room on the disk")
        return together(self, operations, write=write)

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Database, "_together", full)
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
        assert states(again).keys() <= {BatchState.SUCCEEDED, BatchState.UNCERTAIN}

    with caplog.at_level(logging.ERROR):
        run(main())
    assert set(machine.stories.values()) == {1}


# --- leaving early ------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [0.2, 1.0, 1.4, 61.2, 62.0, 100.0])
@pytest.mark.parametrize("how", ["break", "cancel", "group"])
def test_who_leaves_finds_every_id_in_the_journal(tmp_path: Path, how: str, when: float) -> None:
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

    async def main() -> None:
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

    run(main())
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


def test_what_is_being_written_when_the_batch_is_left_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An intent that is on disk by then is taken back."""
    machine = Machine(tmp_path)

    async def main() -> None:
        with slow_disk(monkeypatch, 1.0), pytest.raises(TimeoutError):
            # It is opened, looked through for what runs, taken up, and then its intent.
            await asyncio.wait_for(machine.batch(["a"]), 4.5)
        assert machine.rows("state, attempts") == [("queued", 1)]
        assert not machine.sent

    run(main())


def test_an_id_that_is_being_written_when_the_client_closes_is_not_uncertain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server has said is worth more than what is feared later."""
    machine = Machine(tmp_path)

    async def main() -> None:
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

    run(main())


def test_a_create_that_takes_long_is_recorded_when_it_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The batch is left after a few seconds; the journal stays open for it, and then closes."""
    machine = Machine(tmp_path, latency=20.0)

    async def main() -> None:
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

    run(main())
    assert "1 creates are still on their way" in caplog.text


def test_a_create_that_does_not_end_is_uncertain_when_the_client_closes(tmp_path: Path) -> None:
    machine = Machine(tmp_path, latency=(25.0, 25.0))

    async def main() -> None:
        async with machine.open() as client:
            batch = client.comics.batch(["slow"], journal=machine.journal)
            reading = asyncio.ensure_future(anext(aiter(batch)))
            await asyncio.sleep(1)
            await batch.aclose()
            await asyncio.gather(reading, return_exceptions=True)
        await asyncio.sleep(1)
        assert not left_over()
        assert machine.rows("state") == [("uncertain",)]

    run(main())


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


# --- long batches -------------------------------------------------------------------------------


@pytest.mark.once
def test_a_batch_of_a_thousand_takes_as_long_as_its_schedule(tmp_path: Path) -> None:
    """A journal on a disk costs no virtual time, and two requests a comic set the pace."""
    ten = Plan("ten", limits=RateLimit(10, per=60))
    took: list[float] = []

    async def main(journal: Path | None, machine: Machine) -> None:
        async with machine.open() as client:
            batch = client.comics.batch(named(1_000), journal=journal)
            items = [item async for item in batch]
            assert states(items) == {BatchState.SUCCEEDED: 1_000}
            took.append(now())

    for journal in (None, tmp_path / "run.db"):
        run(main(journal, Machine(tmp_path, plan=ten)))
    assert took[1] == pytest.approx(took[0], abs=1)
    assert took[1] < 1_000 * 2 / 10 * 60 * 1.05
