"""A comic of a journal as something to read: its pages, its title, and what is missing of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.input.finished_comics import FinishedComic, finished_comics
from llamagen_async.cli.results.book import Book, NotMadeError, book_of, check_place
from tests.support.comics_on_disk import add_comic
from tests.support.records import opened_journal


async def finished(
    folder: Path, story: str | dict[str, Any], key: str | None = None, **more: Any
) -> Any:
    async with opened_journal(folder / "j.db") as journal:
        await add_comic(journal, folder, Story.parse(story, key), **more)
    (comic,) = finished_comics(folder / "j.db")
    assert isinstance(comic, FinishedComic)
    return comic


async def test_pages_are_those_of_the_comic(tmp_path: Path) -> None:
    request = {"prompt": "A cat\n\u202e&  more", "language": "zh-CN"}
    comic = await finished(tmp_path, request, "k", pages=(1, 2), captions=("a\tb", "", "c"))
    book = book_of(comic, tmp_path)
    assert [[path.name for path in page] for page in book.pages] == [
        ["cmc_1-p01-01.png"],
        ["cmc_1-p02-01.png", "cmc_1-p02-02.png"],
    ]
    assert (book.captions, book.language) == (("a b", "c"), "zh-CN")
    assert book.title == "A cat &  more"


async def test_a_title_is_the_beginning_of_a_prompt(tmp_path: Path) -> None:
    comic = await finished(tmp_path, "word " * 1_000)
    book = book_of(comic, tmp_path)
    assert len(book.title) <= 80
    assert book.title.endswith("…")
    assert len(book.prompt) > 4_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a named pipe")
async def test_a_pipe_in_the_place_of_a_picture_is_not_waited_for(tmp_path: Path) -> None:
    comic = await finished(tmp_path, "a")
    (tmp_path / "cmc_1-p01-02.png").unlink()
    os.mkfifo(tmp_path / "cmc_1-p01-02.png")
    with pytest.raises(NotMadeError, match="is missing"):
        book_of(comic, tmp_path)
    os.mkfifo(tmp_path / "book.cbz")
    with pytest.raises(NotMadeError, match="was not made by"):
        check_place(tmp_path / "book.cbz", Book("c", "t", ()))


async def test_fewer_files_than_panels_are_a_missing_picture(tmp_path: Path) -> None:
    comic = await finished(tmp_path, "a")
    newest = attrs.evolve(comic.newest, files_text='["cmc_1-p01-01.png"]')
    with pytest.raises(NotMadeError, match="panel 2 of page 1 has no picture"):
        book_of(attrs.evolve(comic, newest=newest), tmp_path)


async def test_a_comic_of_which_there_is_the_whole_alone(tmp_path: Path) -> None:
    comic = await finished(tmp_path, "a")
    (tmp_path / "whole.png").write_bytes(b"x")
    text = '{"id": "cmc_1", "status": "SUCCEEDED", "output": "https://example.org/x.png"}'
    newest = attrs.evolve(comic.newest, generation_text=text, files_text='["whole.png"]')
    book = book_of(attrs.evolve(comic, newest=newest), tmp_path)
    assert book.pages == ((tmp_path / "whole.png",),)
    none = attrs.evolve(newest, generation_text='{"id": "cmc_1", "status": "SUCCEEDED"}')
    with pytest.raises(NotMadeError, match="no pictures"):
        book_of(attrs.evolve(comic, newest=none), tmp_path)


def test_a_mark_is_plain_whatever_the_id_is() -> None:
    marks = {Book(id, "t", ()).mark for id in ("a", "b", "\udcff", "a\nb")}
    assert len(marks) == 4
    assert all(mark.isalnum() or b"-" in mark for mark in marks)
    assert all(mark.decode("ascii").isprintable() for mark in marks)
