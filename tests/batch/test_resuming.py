"""A batch that is run again with its journal goes on where it ended, and pays for nothing twice."""

from __future__ import annotations

import asyncio
from collections import Counter
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
from llamagen_async.batch.journal.story import Story
from llamagen_async.simulation import run
from tests.support.machine import Machine, Pictures, fetching, named, states
from tests.support.scripted import Sent, now

pytestmark = pytest.mark.virtual_time


async def test_what_is_done_costs_nothing_any_more(tmp_path: Path) -> None:
    """The second run yields the same items, from the journal alone."""
    machine = Machine(tmp_path)

    first = await machine.batch(named(5))
    sent = len(machine.sent)
    again = await machine.batch(named(5))
    assert len(machine.sent) == sent
    assert sorted(again, key=lambda item: item.index) == sorted(first, key=lambda item: item.index)
    assert states(again) == {BatchState.SUCCEEDED: 5}


async def test_what_runs_is_collected_and_what_waits_is_sent(tmp_path: Path) -> None:
    """Left in the middle, with some running and some unsent: no story is sent twice."""
    four = Plan("four", limits=RateLimit(4, per=60))
    machine = Machine(tmp_path, 400.0, plan=four)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(machine.batch(named(30)), 200)
    known = Counter(state for state, _ in machine.rows())
    assert known["running"]
    sent = len(machine.creates)
    assert 0 < sent < 30
    assert states(await machine.batch(named(30))) == {BatchState.SUCCEEDED: 30}
    assert len(machine.creates) == 30
    assert set(machine.stories.values()) == {1}


async def test_a_break_is_gone_on_from(tmp_path: Path) -> None:
    """Again and again, a few items at a time."""
    machine = Machine(tmp_path)

    for number in (1, 4, 4, 7):
        items = await machine.batch(named(12), leave_after=number)
        assert states(items) == {BatchState.SUCCEEDED: number}
    assert states(await machine.batch(named(12))) == {BatchState.SUCCEEDED: 12}
    assert set(machine.stories.values()) == {1}


@pytest.mark.once
async def test_what_runs_is_collected_though_nobody_asks_for_it(tmp_path: Path) -> None:
    """A comic that was paid for comes after the input's last story, whatever the input is now."""
    machine = Machine(tmp_path, 600.0)

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
    assert set(machine.stories.values()) == {1}


@pytest.mark.once
async def test_what_ended_while_the_input_was_read_is_told_too(tmp_path: Path) -> None:
    """An input that takes longer to read than what still ran takes to be collected."""
    machine = Machine(tmp_path, 600.0)

    async def slow() -> Any:
        await asyncio.sleep(5_000)
        yield "s1"

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(machine.batch(named(3)), 30)
    items = await machine.batch(slow())
    assert [(item.index, item.state) for item in sorted(items, key=lambda one: one.index)] == [
        (0, BatchState.SUCCEEDED),
        (1, BatchState.SUCCEEDED),
        (2, BatchState.SUCCEEDED),
    ]
    assert set(machine.stories.values()) == {1}


async def test_a_line_that_is_inserted_is_the_only_new_one(tmp_path: Path) -> None:
    """Stories are known by their content, not by their place; equal ones are counted."""
    machine = Machine(tmp_path)

    await machine.batch(["a", "b", "a"])
    items = await machine.batch(["new", "a", "a", "b", "a"])
    assert states(items) == {BatchState.SUCCEEDED: 5}
    assert len({item.generation.id for item in items if item.generation}) == 5
    assert machine.stories == {"a": 3, "b": 1, "new": 1}


async def test_the_users_own_key_is_the_story(tmp_path: Path) -> None:
    """One comic for one order: also if the order is in the input twice."""
    machine = Machine(tmp_path)
    order = {"prompt": "a", "key": "order-42"}

    items = await machine.batch([order, {"prompt": "a"}, order])
    assert states(items) == {BatchState.SUCCEEDED: 3}
    ids = {item.index: item.generation.id for item in items if item.generation}
    assert ids[0] == ids[2] != ids[1]
    assert {item.key for item in items if item.index != 1} == {"order-42"}
    (again,) = await machine.batch([order])
    assert again.generation is not None
    assert again.generation.id == ids[0]
    assert machine.stories == {"a": 2}


async def test_label_and_position_are_those_of_the_newest_run(tmp_path: Path) -> None:
    """A story that was parsed and labelled before is taken as it is; its number is written."""
    machine = Machine(tmp_path)
    stories = [Story.parse(f"s{n}", label=f"stories.txt:{n + 1}") for n in range(3)]
    await machine.batch(stories)
    columns = "label, position"
    assert machine.rows(columns) == [(f"stories.txt:{n + 1}", n) for n in range(3)]
    items = await machine.batch([stories[2], "s0"])
    assert [item.request for item in items] == [story.request for story in (stories[2], stories[0])]
    assert machine.rows(columns) == [
        ("stories.txt:1", 1),
        ("stories.txt:2", 1),
        ("stories.txt:3", 0),
    ]
    assert len(machine.creates) == 3


async def test_a_key_with_another_story_is_refused(tmp_path: Path) -> None:
    """Nothing is sent for it, the field is named, and the others go on."""
    machine = Machine(tmp_path)

    stories = [{"prompt": "a", "key": "k"}, {"prompt": "b", "key": "k"}, "c"]
    items = {item.index: item for item in await machine.batch(stories)}
    assert items[1].state is BatchState.FAILED
    assert isinstance(items[1].error, InvalidRequestError)
    assert items[1].error.field == "key"
    assert items[2].state is BatchState.SUCCEEDED
    assert machine.stories == {"a": 1, "c": 1}


async def test_what_is_uncertain_is_told_and_not_sent_again(tmp_path: Path) -> None:
    """In this run and in every further one, until somebody says so."""
    machine = Machine(
        tmp_path,
        after=lambda sent: APIConnectionError("lost") if sent.n == 0 else None,
    )

    for _ in range(2):
        first, second = sorted(await machine.batch(["lost", "fine"]), key=lambda item: item.index)
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
    assert machine.stories == {"lost": 2, "fine": 1}


async def test_what_failed_for_good_stays_failed(tmp_path: Path) -> None:
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

    for _ in range(2):
        fails, bad = sorted(await machine.batch(["fails", "bad"]), key=lambda one: one.index)
        assert fails.state is bad.state is BatchState.FAILED
        assert isinstance(fails.error, GenerationFailedError)
        assert fails.error.generation == fails.generation
        assert isinstance(bad.error, BadRequestError)
        assert bad.error.status == 422
        assert bad.generation is None
    assert len(machine.creates) == 2


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError(401, None, "x"),
        InsufficientCreditsError(402, None, "x"),
        NotFoundError(404, None, "a proxy's mood"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_may_end_otherwise_the_next_time_waits(tmp_path: Path, error: Exception) -> None:
    """Nothing was spent on it: it is queued, and sent by the next run."""
    down = True
    machine = Machine(tmp_path, before=lambda sent: error if down else None)

    items = await machine.batch(named(3))
    assert states(items) == {BatchState.QUEUED: 3}
    assert all(type(item.error) is type(error) for item in items)
    assert {state for state, _ in machine.rows()} == {"queued"}
    down = False
    assert states(await machine.batch(named(3))) == {BatchState.SUCCEEDED: 3}
    assert set(machine.stories.values()) == {1}


@pytest.mark.once
async def test_what_takes_too_long_is_collected_later(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 900.0)

    items = await machine.batch(named(2), timeout=300)
    assert states(items) == {BatchState.RUNNING: 2}
    assert all(isinstance(item.error, WaitTimeoutError) for item in items)
    assert states(await machine.batch(named(2))) == {BatchState.SUCCEEDED: 2}
    assert set(machine.stories.values()) == {1}


async def test_bad_input_is_not_in_the_journal(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    items = await machine.batch(["", {"prompt": "a", "size": "1x1"}, "fine"])
    assert [item.key is None for item in sorted(items, key=lambda one: one.index)] == [
        True,
        True,
        False,
    ]
    assert len(machine.rows()) == 1


async def test_only_pictures_that_are_missing_are_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal names them relative to the folder, which may be another one by then."""
    pictures = Pictures()
    machine = Machine(tmp_path)
    monkeypatch.setattr("llamagen_async.comics.Comics.download", fetching(pictures))

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


async def test_a_second_batch_on_the_same_journal_is_refused(tmp_path: Path) -> None:
    """The second iteration raises; nothing was sent, and the first batch goes on."""
    machine = Machine(tmp_path)

    async with machine.open() as client:
        async for _item in client.comics.batch(named(2), journal=machine.journal):
            with pytest.raises(JournalError, match="works with this journal"):
                await machine.batch(["other"])
    assert machine.stories == {"s0": 1, "s1": 1}


@pytest.mark.parametrize("file", ["", "a folder"])
async def test_a_journal_that_can_not_be_opened_sends_nothing(tmp_path: Path, file: str) -> None:
    machine = Machine(tmp_path)
    machine.journal = tmp_path / file

    machine.journal.mkdir(exist_ok=True)
    with pytest.raises(JournalError, match="name a file, not a folder"):
        await machine.batch(named(2))
    assert not machine.sent


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


async def refused_by_budget(machine: Machine, *stories: Any) -> list[BatchState]:
    """Run a batch that sends nothing, because it has no credits."""
    items = await machine.batch(list(stories), budget=0)
    return [item.state for item in sorted(items, key=lambda item: item.index)]


async def test_a_story_that_was_never_sent_may_be_edited_under_its_key(tmp_path: Path) -> None:
    """Nothing was paid for it, so the input says what it is."""
    machine = Machine(tmp_path)
    keyed = {"key": "k", "prompt": "A cat", "fix_panel_num": 1}
    follows = {"type": "continue", "of": "k", "prompt": "then rain", "key": "f"}
    queued = [BatchState.QUEUED] * 2
    assert await refused_by_budget(machine, keyed, follows) == queued
    edited = {**keyed, "prompt": "A dog", "fix_panel_num": 2}
    assert await refused_by_budget(machine, edited, follows) == queued
    items = await machine.batch([edited, follows, {"prompt": "A bird"}])
    assert states(items) == {BatchState.SUCCEEDED: 3}
    assert set(machine.stories) == {"A dog\nthen rain", "A bird"}
    (again, *_) = await machine.batch([keyed])
    assert isinstance(again.error, InvalidRequestError)
    assert "prompt: 'A dog' is now 'A cat'" in str(again.error)


async def test_a_story_that_was_sent_can_not_be_edited(tmp_path: Path) -> None:
    """Neither one whose answer was lost, nor one that is sent again on request."""
    machine = Machine(tmp_path, before=lambda _: APIConnectionError("broke off"))
    await machine.batch([{"key": "k", "prompt": "A cat"}])
    assert machine.rows()[0][0] == "uncertain"
    machine.before = None
    edited = [{"key": "k", "prompt": "A dog"}]
    for resend in (False, True):
        (item,) = await machine.batch(edited, resend_uncertain=resend)
        assert isinstance(item.error, InvalidRequestError)
    assert not machine.stories


async def test_of_two_stories_with_one_key_the_first_one_is_meant(tmp_path: Path) -> None:
    """Also where neither was sent yet: both stand in the input, and one would be lost."""
    machine = Machine(tmp_path)
    two = [{"key": "k", "prompt": "A cat"}, {"key": "k", "prompt": "A dog"}]
    for _ in range(2):
        items = sorted(await machine.batch(two, budget=0), key=lambda item: item.index)
        assert items[0].state is BatchState.QUEUED
        assert isinstance(items[1].error, InvalidRequestError)
    assert len(machine.rows()) == 1
