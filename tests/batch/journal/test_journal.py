"""The rows of a journal: each story as it was given, and how far it has come."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from llamagen_async import (
    BatchState,
    ComicRequest,
    InvalidRequestError,
    JournalError,
    SubmissionUncertainError,
)
from llamagen_async.batch.journal.story import Story
from llamagen_async.prices import Charge, Prices
from tests.support.journals import ORIGIN, added, changed, comic, opened, raw


@pytest.mark.parametrize("lasting", [True, False])
async def test_a_story_is_remembered(tmp_path: Path, *, lasting: bool) -> None:
    """Content, key, state, id, times, pictures and attempts, as they were given."""
    request = ComicRequest("a cat", size="512x768", extra={"mood": "dark", "style": 3})
    async with opened(tmp_path / "run.db" if lasting else None) as journal:
        row, is_new = await journal.add(Story.parse(request, "order-42"), urgent=True)
        assert (is_new, row.key, row.state, row.attempts) == (True, "order-42", "queued", 0)
        assert row.request == request
        assert row.urgent
        row = await changed(journal, row, BatchState.SENDING)
        assert row.sent_at is not None
        row = await changed(journal, row, BatchState.RUNNING, generation=comic())
        assert (row.generation_id, row.generation) == ("c1", comic())
        accepted_at = row.accepted_at
        done = comic("c1", "SUCCEEDED")
        row = await changed(journal, row, BatchState.SUCCEEDED, generation=done)
        row = await changed(journal, row, BatchState.SUCCEEDED, files=["a.png", "b/c.png"])
        again, is_new = await journal.add(Story.parse(request, "order-42"))
        assert not is_new
        assert again.state is BatchState.SUCCEEDED
        assert (again.generation, again.files) == (done, ("a.png", "b/c.png"))
        assert (again.attempts, again.accepted_at) == (1, accepted_at)
        assert again.ended_at is not None
        assert again.queued_at <= again.ended_at
        assert again.error(request, done) is None
        assert await journal.counts() == {BatchState.SUCCEEDED: 1}


async def test_label_and_position_are_those_of_the_newest_run() -> None:
    """A label or position that a later run does not give is kept, in any state."""
    async with opened(None) as journal:
        story = Story.parse({"prompt": "a cat", "key": "k"}, label="stories.jsonl:7")
        row, _ = await journal.add(story, position=6)
        assert (row.label, row.position) == ("stories.jsonl:7", 6)
        await changed(journal, row, BatchState.RUNNING, generation=comic())
        row, is_new = await journal.add(Story.parse("a cat", "k"))
        assert (is_new, row.label, row.position) == (False, "stories.jsonl:7", 6)
        moved = Story.parse(Story.parse("a cat"), "k", label="ignored: it was labelled before")
        row, _ = await journal.add(moved, position=0)
        assert (row.label, row.position) == ("stories.jsonl:7", 0)
        row, _ = await journal.add(Story.parse("a cat", "k", "new.txt:2"), position=1)
        assert (row.label, row.position, row.state) == ("new.txt:2", 1, BatchState.RUNNING)
        row, _ = await journal.add(Story.parse("a cat", "k", "renamed.txt:2"), position=1)
        assert (row.label, row.position) == ("renamed.txt:2", 1)


async def test_a_row_is_found_by_key_or_generation() -> None:
    """The key goes first where both are known; what is not known is not found."""
    async with opened(None) as journal:
        cat = await added(journal, "a cat", "cat")
        await changed(journal, cat, BatchState.RUNNING, generation=comic("c1"))
        dog = await added(journal, "a dog", "dog")
        await changed(journal, dog, BatchState.RUNNING, generation=comic("c2"))

        async def key_of(**names: str) -> str | None:
            row = await journal.find(**names)
            return None if row is None else row.key

        assert await key_of(key="dog") == "dog"
        assert await key_of(generation_id="c1") == "cat"
        assert await key_of(key="dog", generation_id="c1") == "dog"
        assert await key_of(key="cow", generation_id="c1") == "cat"
        assert await key_of(key="cow", generation_id="c3") is None
        assert await key_of() is None


async def test_it_survives_being_closed(tmp_path: Path) -> None:
    """A file that is opened again is as it was; a closed journal is one file."""
    path = tmp_path / "new folder" / "run.db"
    async with opened(path) as journal:
        row = await added(journal, key="k")
        await changed(journal, row, BatchState.RUNNING, generation=comic())
    assert sorted(file.name for file in path.parent.iterdir()) == ["run.db", "run.db-owner"]
    async with opened(path) as journal:
        found = await journal.get("k")
        assert found is not None
        assert (found.state, found.generation_id) == (BatchState.RUNNING, "c1")
        assert await journal.get("another") is None


async def test_what_was_being_sent_is_uncertain(tmp_path: Path) -> None:
    """After a crash nobody knows what came of it; it says when it was sent."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        await changed(journal, await added(journal, key="k"), BatchState.SENDING)
    async with opened(path) as journal:
        row = await journal.get("k")
        assert row is not None
        assert (row.state, row.attempts) == (BatchState.UNCERTAIN, 1)
        error = row.error(row.request, None)
        assert isinstance(error, SubmissionUncertainError)
        assert error.request == ComicRequest("a cat")
        assert "it was sent at 20" in error.reason


async def test_credits_are_kept_and_what_may_have_been_accepted_counts(tmp_path: Path) -> None:
    """The estimate until the server has said; nothing for what was provably not accepted."""
    path = tmp_path / "run.db"
    sending, queued, uncertain = BatchState.SENDING, BatchState.QUEUED, BatchState.UNCERTAIN

    async def spent() -> float:
        async with opened(path) as journal:
            return float(journal.spent)

    async with opened(path) as journal:
        assert journal.spent == 0
        rows = [await added(journal, prompt, prompt) for prompt in "abcd"]
        told = await changed(journal, rows[0], sending, credits_=4.0)
        assert told.credits == 4.0
        told = await changed(journal, told, BatchState.RUNNING, generation=comic(), credits_=6.0)
        assert told.credits == 6.0
        assert (await changed(journal, told, BatchState.RUNNING)).credits == 6.0
        back = await changed(journal, rows[1], sending, credits_=10.0)
        assert (await changed(journal, back, queued)).credits is None
        lost = await changed(journal, rows[2], sending, uncertain, credits_=100.0)
        assert lost.credits == 100.0
        failed = await changed(journal, rows[3], sending, credits_=1000.0)
        failed = await changed(journal, failed, BatchState.FAILED, error=ValueError("no"))
        assert failed.credits is None
    assert await spent() == 106.0
    async with opened(path) as journal:
        again = await changed(journal, await journal.get("c"), queued)
        assert again.credits is None
        await changed(journal, again, sending, BatchState.RUNNING, generation=comic("c3"))
        kept = await changed(journal, await journal.get("a"), BatchState.FAILED)
        assert kept.credits == 6.0, "it was accepted, and so it was paid for"
    assert await spent() == 106.0, "what may have been accepted counts beside the second attempt"


async def test_late_news_change_nothing(tmp_path: Path) -> None:
    """A row that is not in one of the expected states stays as it is, and is returned."""
    async with opened(None) as journal:
        row = await added(journal)
        row = await changed(journal, row, BatchState.RUNNING, generation=comic())
        late = await journal.change(row, BatchState.UNCERTAIN, origins=(BatchState.SENDING,))
        assert late.state is BatchState.RUNNING


async def test_equal_stories_are_counted_and_others_do_not_move_them(tmp_path: Path) -> None:
    """A line that is inserted above does not make other stories of those below it."""
    path = tmp_path / "run.db"
    before = ["a", "b", "a", "a"]
    after = ["new", "a", "a", "b", "a", "a"]
    async with opened(path) as journal:
        first = [(await added(journal, prompt)).id for prompt in before]
        assert len(set(first)) == 4
    async with opened(path) as journal:
        rows = [await journal.add(Story.parse(prompt)) for prompt in after]
        assert [is_new for _, is_new in rows] == [True, False, False, False, False, True]
        assert {row.id for row, is_new in rows if not is_new} == set(first)


async def test_a_key_belongs_to_one_story() -> None:
    """Another content under the same key is refused; the field is named."""
    async with opened(None) as journal:
        await added(journal, "a", "k")
        with pytest.raises(InvalidRequestError, match=r"^key: got 'k', allowed is a key of its"):
            await added(journal, "b", "k")
        assert (await added(journal, "a", "k")).id == 1
        with pytest.raises(InvalidRequestError, match=r"^key"):
            await journal.seek(Story.parse("b", "k"))
        one = Prices().estimate({Charge.of(ComicRequest("b")): 1})
        with pytest.raises(InvalidRequestError) as caught:
            await added(journal, "b", "k")
        assert f"it is a new story, and is paid for: {one}. To have" in caught.value.allowed


async def test_a_damaged_row_is_told(tmp_path: Path) -> None:
    """Damage is an error that says where, and not a crash or a guess."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        await added(journal, "a", "k")
    raw(path, "UPDATE job SET state = 'dancing'")
    async with opened(path) as journal:
        with pytest.raises(JournalError, match=r"run\.db: it is damaged"):
            await journal.get("k")


async def test_nothing_is_said_of_the_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with opened(tmp_path / "run.db") as journal:
            assert "the-key" not in repr(vars(journal))
    assert "the-key" not in caplog.text
    assert "the-key" not in repr(ORIGIN)
