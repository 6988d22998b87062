"""Changes of comics in a journal: which one is meant, whose turn it is, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchState, InvalidRequestError, JournalError
from llamagen_async.batch.journal.story import Story
from tests.support.journals import added, changed, comic, opened, raw

SENDING, RUNNING, SUCCEEDED = BatchState.SENDING, BatchState.RUNNING, BatchState.SUCCEEDED


def change(key: str, prompt: str = "and then", **of: str) -> Story:
    return Story.parse({"type": "continue", "prompt": prompt, "key": key, **of})


def keys(rows: list[Any]) -> list[str]:
    return [row.key for row in rows]


async def drawn(journal: Any, key: str, id_: str) -> Any:
    """Add a comic that has succeeded."""
    row = await added(journal, key, key)
    row = await changed(journal, row, SENDING, RUNNING, generation=comic(id_))
    return await changed(journal, row, SUCCEEDED, generation=comic(id_, "SUCCEEDED"))


async def test_a_change_waits_for_its_comic_and_then_has_its_id() -> None:
    async with opened(None) as journal:
        first = await added(journal, "a cat", "first")
        assert not journal.has_changes
        row, _ = await journal.add(change("second", of="first"))
        assert journal.has_changes
        assert (row.of, row.target) == ("first", None)
        assert keys(await journal.waiting(urgent=False, limit=9)) == ["first"]
        row = await changed(journal, first, SENDING, RUNNING, generation=comic("c1"))
        assert (await journal.get("second")).target is None, "it may still fail"
        await changed(journal, row, SUCCEEDED, generation=comic("c1", "SUCCEEDED"))
        assert (await journal.get("second")).target == "c1"
        assert keys(await journal.waiting(urgent=False, limit=9)) == ["second"]
        third, _ = await journal.add(change("third", of="first"))
        assert third.target == "c1", "what is there already is aimed at once"


async def test_the_changes_of_a_comic_are_sent_one_at_a_time_in_their_order() -> None:
    async with opened(None) as journal:
        for key in ("one", "two"):
            await journal.add(change(key, id="c1"))
        await journal.add(change("other", id="c2"))
        assert keys(await journal.waiting(urgent=False, limit=9)) == ["one", "other"]
        assert keys(await journal.waiting(urgent=False, limit=1)) == ["one"]
        assert await journal.waiting(urgent=True, limit=9) == []
        one = await journal.get("one")
        await changed(journal, one, SENDING)
        assert keys(await journal.waiting(urgent=False, limit=9)) == ["other"]
        uncertain = await changed(journal, one, BatchState.UNCERTAIN)
        assert keys(await journal.waiting(urgent=False, limit=9)) == ["other"]
        later = (uncertain.sent_at or 0.0) + 1
        assert keys(await journal.waiting(urgent=False, limit=9, since=later)) == ["two", "other"]


async def test_no_change_is_sent_while_its_comic_is_drawn() -> None:
    async with opened(None) as journal:
        row = await added(journal, "a cat", "cat")
        await journal.add(change("on", id="c1"))
        await changed(journal, row, SENDING, RUNNING, generation=comic("c1"))
        assert await journal.waiting(urgent=False, limit=9) == []


async def test_the_comic_that_is_to_be_changed_has_to_be_there() -> None:
    """A line of a file may name one below it, so only the last word on it counts."""
    async with opened(None) as journal:
        with pytest.raises(InvalidRequestError, match="the key of a story in the journal") as error:
            await journal.add(change("second", of="first"), is_last=True)
        assert (error.value.field, error.value.value) == ("of", "first")
        row, _ = await journal.add(change("second", of="first"))
        assert row.target is None


@pytest.mark.parametrize("state", [BatchState.FAILED, BatchState.CANCELLED])
async def test_a_comic_that_has_failed_is_not_changed(state: BatchState) -> None:
    async with opened(None) as journal:
        row = await added(journal, "a cat", "first")
        early, _ = await journal.add(change("early", of="first"))
        assert await journal.orphans() == []
        await changed(journal, row, state)
        assert keys(await journal.orphans()) == ["early"]
        with pytest.raises(InvalidRequestError, match="has not failed") as error:
            await journal.add(change("late", of="first"), is_last=True)
        assert (error.value.field, error.value.value) == ("of", "first")
        assert (await journal.add(change("line", of="first")))[1], "it may be drawn again"
        assert early.target is None


async def test_an_animation_is_not_changed() -> None:
    async with opened(None) as journal:
        await journal.add(
            Story.parse({"type": "animation", "prompt": "a", "videoOptions": {}, "key": "video"})
        )
        with pytest.raises(InvalidRequestError, match="an animation's") as error:
            await journal.add(change("on", of="video"))
        assert (error.value.field, error.value.value) == ("of", "video")


async def test_changes_that_wait_for_each_other_are_refused() -> None:
    async with opened(None) as journal:
        await journal.add(change("b", of="a"))
        await journal.add(change("c", of="b"))
        with pytest.raises(InvalidRequestError, match=r"'a' of 'c' of 'b' of 'a'") as error:
            await journal.add(change("a", of="c"))
        assert (error.value.field, error.value.value) == ("of", "c")
        assert (await journal.add(change("d", of="c")))[1], "a long chain is none"


async def test_the_newest_end_of_a_comic_is_found() -> None:
    async with opened(None) as journal:
        first = await drawn(journal, "first", "c1")
        assert (await journal.newest("c1")).key == "first"
        assert await journal.newest("c2") is None
        row, _ = await journal.add(change("second", id="c1"))
        row = await changed(journal, row, SENDING, RUNNING, generation=comic("c1"))
        assert (await journal.newest("c1")).key == "first"
        await changed(journal, row, BatchState.FAILED, generation=comic("c1", "FAILED"))
        assert (await journal.newest("c1")).key == "first"
        newest = await journal.newest("c1", failed=True)
        assert newest.key == "second"
        assert newest.ended_at >= first.ended_at


async def test_a_row_is_read_by_its_number_or_gone() -> None:
    async with opened(None) as journal:
        row = await added(journal, "a cat", "k")
        assert (await journal.at(row.id)).key == "k"
        await journal.forget(row)
        with pytest.raises(JournalError, match="a story is gone from it"):
            await journal.at(row.id)
        with pytest.raises(JournalError, match="a story is gone from it"):
            await changed(journal, row, SENDING)
        assert await journal.get("k") is None


async def test_one_comic_is_not_the_answer_to_two_creates() -> None:
    """Also if the first one's row was removed since; a change is answered with its comic's id."""
    async with opened(None) as journal:
        first = await drawn(journal, "first", "c1")
        second = await changed(journal, await added(journal, "second", "second"), SENDING)
        with pytest.raises(Exception, match="with generation c1, which is the comic of 'first'"):
            await changed(journal, second, RUNNING, generation=comic("c1"))
        row, _ = await journal.add(change("on", id="c1"))
        row = await changed(journal, row, SENDING, RUNNING, generation=comic("c1"))
        assert row.generation_id == "c1"
        await journal.forget(first)
        await journal.forget(row)
        with pytest.raises(Exception, match="which is the comic of 'first'"):
            await changed(journal, second, RUNNING, generation=comic("c1"))


async def test_rows_are_read_in_pages_and_by_state() -> None:
    async with opened(None) as journal:
        for number in range(401):
            await added(journal, f"story {number}")
        for number in (1, 201, 401):
            await changed(journal, await journal.at(number), SENDING)
        assert [row.id async for row in journal.rows(SENDING)] == [1, 201, 401]
        assert [row.id async for row in journal.rows()] == list(range(1, 402))
        queued = [row.id async for row in journal.rows(BatchState.QUEUED)]
        assert len(queued) == 398
        assert [row.id async for row in journal.rows(BatchState.QUEUED, SENDING)][:2] == [1, 2]


async def test_an_upload_is_known_for_as_long_as_asked() -> None:
    async with opened(None) as journal:
        await journal.keep_upload("d1", "https://x/1", 100.0)
        assert await journal.uploaded("d1", 100.0) == "https://x/1"
        assert await journal.uploaded("d1", 100.5) is None
        assert await journal.uploaded("d2", 0.0) is None
        await journal.keep_upload("d1", "https://x/2", 200.0)
        assert await journal.uploaded("d1", 150.0) == "https://x/2"


async def test_what_an_edited_story_may_replace() -> None:
    """Only one that was never sent, and only the first of its key in an input."""
    async with opened(None) as journal:
        first = await added(journal, "a cat", "k")
        assert await journal.seek(Story.parse("a dog", "k"), edit=True) is None
        row, is_new = await journal.add(Story.parse("a cow", "l"), edit=True)
        assert is_new
        with pytest.raises(InvalidRequestError, match="a key of its own"):
            await journal.add(Story.parse("a dog", "k"), edit=True)  # sought before: the second one
        await changed(journal, row, SENDING)
        with pytest.raises(InvalidRequestError, match="a key of its own"):
            await journal.add(Story.parse("a fox", "l"), edit=True)
        assert (await journal.get("k")).id == first.id


async def test_what_was_edited_is_said_if_this_version_can_read_it(tmp_path: Path) -> None:
    """A request of an older version may be none that this one allows."""
    path = tmp_path / "run.db"
    async with opened(path) as journal:
        for key in "kl":
            row = await changed(journal, await added(journal, "a cat", key), SENDING)
            sent = raw(path, "SELECT sent_at FROM job")
            await changed(journal, row, RUNNING, generation=comic(f"c-{key}"))
            assert raw(path, "SELECT sent_at FROM job") == sent
    raw(path, """UPDATE job SET request = '{"prompt": 5}' WHERE key = 'l'""")
    async with opened(path) as journal:
        with pytest.raises(InvalidRequestError, match=r"\(c-k\), and was another one \(prompt"):
            await journal.add(Story.parse("a dog", "k"), edit=True)
        with pytest.raises(InvalidRequestError, match=r"\(c-l\), and .* \(it was edited\)"):
            await journal.add(Story.parse("a dog", "l"), edit=True)


async def test_an_edit_takes_the_place_of_what_was_never_sent() -> None:
    async with opened(None) as journal:
        await added(journal, "a cat", "k")
        row, is_new = await journal.add(Story.parse("a dog", "k"), edit=True)
        assert is_new
        assert row.request.prompt == "a dog"
        assert await journal.counts() == {BatchState.QUEUED: 1}


async def test_defaults_that_change_are_those_of_what_was_not_sent() -> None:
    """Defaults are no part of a story's digest."""
    from llamagen_async.requests.defaults import Defaults

    def told(size: str) -> Story:
        defaults = Defaults.parse({"size": size})
        return Story.parse({"prompt": "a cat", "key": "k"}, defaults=defaults)

    async with opened(None) as journal:
        await journal.add(told("512x768"))
        row, is_new = await journal.add(told("768x512"))
        assert (is_new, row.request.size) == (False, "768x512")
        await changed(journal, row, SENDING)
        row, _ = await journal.add(told("512x768"))
        assert row.request.size == "768x512"
