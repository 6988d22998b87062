"""The comics of a journal: each once, as it was last seen, whatever else is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.input import finished_comics as module
from llamagen_async.cli.input.finished_comics import FinishedComic, Unfinished, finished_comics
from llamagen_async.models import BatchState
from tests.support.comics_on_disk import add_comic
from tests.support.records import add_row, opened_journal


async def test_all_pages_of_a_journal_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    async with opened_journal(tmp_path / "j.db") as journal:
        for number in range(4):
            story = Story.parse("a", f"k{number}")
            await add_comic(journal, tmp_path, story, id=f"cmc_{number}", pages=(1,))
            await add_row(journal, Story.parse("b"), number)
    found = list(finished_comics(tmp_path / "j.db"))
    done = [one for one in found if isinstance(one, FinishedComic)]
    assert [(one.name, one.stem) for one in done] == [(f"k{n}", f"k{n}") for n in range(4)]
    assert [one.name for one in found if isinstance(one, Unfinished)] == [
        "a story without a key"
    ] * 4


async def test_a_comic_is_as_its_last_change_has_left_it(tmp_path: Path) -> None:
    async with opened_journal(tmp_path / "j.db") as journal:
        first = await add_comic(journal, tmp_path, Story.parse("a", "k"), pages=(1,))
        more = Story.parse({"type": "continue", "of": "k", "prompt": "b"}, "more")
        newest = await add_comic(journal, tmp_path, more, pages=(1, 1))
    for names in ((), ("k",), ("more",), ("cmc_1",), ("more", "k")):
        (comic,) = finished_comics(tmp_path / "j.db", names)
        assert isinstance(comic, FinishedComic)
        assert (comic.id, comic.key) == ("cmc_1", "k")
        assert (comic.first.id, comic.newest.id) == (first.id, newest.id)


async def test_a_key_goes_before_an_id(tmp_path: Path) -> None:
    async with opened_journal(tmp_path / "j.db") as journal:
        await add_comic(journal, tmp_path, Story.parse("a", "cmc_2"), id="cmc_1", pages=(1,))
        await add_comic(journal, tmp_path, Story.parse("b"), id="cmc_2", pages=(1,))
    (comic,) = finished_comics(tmp_path / "j.db", ["cmc_2"])
    assert comic.id == "cmc_1"
    stems = [
        one.stem for one in finished_comics(tmp_path / "j.db") if isinstance(one, FinishedComic)
    ]
    assert stems == ["cmc_2", "cmc_2-2"]


async def test_what_is_not_done_is_found_by_its_name(tmp_path: Path) -> None:
    async with opened_journal(tmp_path / "j.db") as journal:
        await add_row(journal, Story.parse("a", "k"), 0, BatchState.RUNNING, id="cmc_1")
        await add_row(journal, Story.parse("b", "other"), 1)
    for name in ("k", "cmc_1"):
        (story,) = finished_comics(tmp_path / "j.db", [name])
        assert story == Unfinished("cmc_1", "k", "it is not done (running)")
    with pytest.raises(CommandError, match="no story and no comic 'content:"):
        finished_comics(tmp_path / "j.db", ["content:x"])
