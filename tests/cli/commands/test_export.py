"""The export command: what is made of a batch's comics, what is not, and what is told of it."""

from __future__ import annotations

import importlib.util
import json
import signal
import zipfile
from pathlib import Path
from typing import BinaryIO

import pytest
from PIL import Image

from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.commands import export
from llamagen_async.cli.results import cbz, raster
from llamagen_async.cli.results.book import Book
from llamagen_async.models import Animation, BatchState
from tests.support.cli import Call
from tests.support.comics_on_disk import add_comic, comic_of, picture
from tests.support.records import add_row, opened_journal

CBZ = ("--format", "cbz")


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A batch's folder with two comics that are done, and stories of which there is nothing."""
    place = tmp_path / "comics"
    async with opened_journal(place / "journal.db") as journal:
        await add_comic(journal, place, Story.parse("A cat", "order-1"), captions=("One.", "Two."))
        await add_comic(journal, place, Story.parse("A dog"), id="cmc_2", pages=(3, 2))
        await add_row(journal, Story.parse("C", "order-3"), 2, BatchState.RUNNING, id="cmc_3")
        await add_row(journal, Story.parse("D", "order-4"), 3)
        video = {"type": "animation", "prompt": "A cat runs"}
        row = await add_row(journal, Story.parse(video, "order-5"), 4)
        animation = Animation.parse(
            {"id": "anm_5", "status": "SUCCEEDED", "videoUrl": "https://example.org/5.mp4"}
        )
        states = tuple(BatchState)
        await journal.change(row, BatchState.SUCCEEDED, origins=states, generation=animation)
    return place


def made(folder: Path, pattern: str = "*") -> set[str]:
    """Return the names of what was made in a folder, also in part."""
    return {path.name for path in folder.glob(pattern)}


@pytest.mark.parametrize(("form", "extension"), [("cbz", "cbz"), ("pdf", "pdf"), ("strip", "png")])
def test_each_comic_that_is_done_becomes_a_file(
    form: str, extension: str, call: Call, folder: Path
) -> None:
    done = call("export", "comics", "--format", form, "--out", "books")
    assert (done.returncode, done.stderr) == (0, "")
    assert made(Path("books")) == {f"order-1.{extension}", f"cmc_2.{extension}"}
    assert done.stdout.splitlines() == [
        f"order-1  books/order-1.{extension}  2 panels",
        f"cmc_2  books/cmc_2.{extension}  5 panels on 2 pages",
        "order-3  left out: it is not done (running)",
        "order-4  left out: it is not done (not sent)",
        "order-5  left out: it is an animation: a video has no panels",
        "2 files in books, 3 left out.",
    ]


def test_only_what_is_named_is_made_beside_the_pictures(call: Call, folder: Path) -> None:
    before = made(folder)
    done = call("export", "comics/journal.db", "cmc_2", "cmc_2", *CBZ)
    assert (done.returncode, done.stderr) == (0, "")
    assert made(folder) - before == {"cmc_2.cbz"}
    assert done.stdout.splitlines()[-1] == "1 file in comics."


def test_a_journal_elsewhere_is_named(call: Call, folder: Path) -> None:
    (folder / "journal.db").rename(folder.parent / "run.db")
    assert call("export", "comics", *CBZ).returncode == 2
    assert call("export", "nowhere", *CBZ, "--journal", "run.db").returncode == 2
    assert call("export", "comics", "order-1", *CBZ, "--journal", "run.db").returncode == 0
    assert made(folder, "*.cbz") == {"order-1.cbz"}


def test_what_was_named_and_is_not_done_is_a_failure(call: Call, folder: Path) -> None:
    done = call("export", "comics", "order-3", "order-5", "order-1", *CBZ)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "llamagen-async export: order-3: it is not done (running)",
        "llamagen-async export: order-5: it is an animation: a video has no panels",
    ]
    assert done.stdout.splitlines()[-1] == "1 file in comics, 2 failed."


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("oder-1", "did you mean 'order-1'"),
        ("cmc_22", "did you mean 'cmc_2'"),
        ("nothing like it", "llamagen-async journal"),
        ("\udcff\x1b", "llamagen-async journal"),
        ("%", "llamagen-async journal"),
    ],
)
def test_a_key_that_there_is_not_is_told(key: str, said: str, call: Call, folder: Path) -> None:
    done = call("export", "comics", "order-1", key, *CBZ)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr
    assert made(folder, "*.cbz") == set()


def test_machines_get_a_line_for_each_and_one_for_all(call: Call, folder: Path) -> None:
    (folder / "cmc_2-p02-01.png").unlink()
    done = call("export", "comics", *CBZ, "--json")
    first, second, running, *_, sums = map(json.loads, done.stdout.splitlines())
    assert first == {
        "key": "order-1",
        "id": "cmc_1",
        "file": str(Path("comics", "order-1.cbz")),
        "pages": 1,
        "pictures": 2,
        "error": None,
    }
    assert (second["file"], running["error"]) == (None, "it is not done (running)")
    assert "cmc_2-p02-01.png is missing (panel 1 of page 2)" in second["error"]
    assert sums == {"out": "comics", "made": 1, "failed": 1, "left_out": 3}


@pytest.mark.parametrize("form", ["cbz", "pdf", "strip"])
@pytest.mark.parametrize("content", [b"", picture("red")[:-40], b"<html>", b"\0\0\0\x18ftypmp42"])
def test_a_broken_picture_fails_its_own_comic_alone(
    form: str, content: bytes, call: Call, folder: Path
) -> None:
    (folder / "cmc_1-p01-02.png").write_bytes(content)
    done = call("export", "comics", "--format", form, "--out", "books")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "order-1: " in line
    assert "cmc_1-p01-02.png" in line
    assert {name.partition(".")[0] for name in made(Path("books"))} == {"cmc_2"}


async def test_pictures_that_were_not_fetched_are_told(call: Call, tmp_path: Path) -> None:
    async with opened_journal(tmp_path / "journal.db") as journal:
        await add_comic(journal, tmp_path, Story.parse("a", "k"), fetched=False)
    done = call("export", ".", *CBZ)
    assert done.returncode == 1
    assert "k: its pictures are not here: the same batch again fetches them" in done.stderr


def test_a_batch_of_which_nothing_is_done_is_a_failure(call: Call, folder: Path) -> None:
    for name in ("order-1", "cmc_2"):
        (folder / f"{name}.cbz").mkdir()
    done = call("export", "comics", *CBZ)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        1,
        "0 files in comics, 3 left out, 2 failed.",
    )


def test_the_same_again_replaces_its_own_files_and_nothing_else(call: Call, folder: Path) -> None:
    for form, name in (("cbz", "order-1.cbz"), ("pdf", "order-1.pdf"), ("strip", "order-1.png")):
        argv = ("export", "comics", "order-1", "--format", form, "--out", "books")
        assert call(*argv).returncode == 0
        path = Path("books", name)
        first = path.read_bytes()
        done = call(*argv)
        assert (done.returncode, done.stderr) == (0, "")
        assert path.read_bytes() == first
        path.write_bytes(b"a letter")
        done = call(*argv)
        assert done.returncode == 1
        assert f"books/{name} was not made by llamagen-async export" in done.stderr
        assert path.read_bytes() == b"a letter"


def test_another_comics_file_is_not_written_over(call: Call, folder: Path) -> None:
    """Two batches may have the same keys, and be made files of in one folder."""
    books = Path("books")
    assert call("export", "comics", "cmc_2", *CBZ, "--out", "books").returncode == 0
    (books / "cmc_2.cbz").rename(books / "order-1.cbz")
    done = call("export", "comics", "order-1", *CBZ, "--out", "books")
    assert done.returncode == 1
    assert "books/order-1.cbz is another comic's" in done.stderr


async def test_names_that_collide_are_told_apart_whatever_is_chosen(
    call: Call, tmp_path: Path
) -> None:
    """A disk may ignore case; keys may be paths, and devices of Windows."""
    keys = ("a", "A", "../../a", "nul", "-x", "a\u202e\n", "x" * 300)
    async with opened_journal(tmp_path / "journal.db") as journal:
        for number, key in enumerate(keys):
            story = Story.parse(f"story {number}", key)
            await add_comic(journal, tmp_path, story, id=f"cmc_{number}", pages=(1,))
    done = call("export", ".", *CBZ, "--out", "all")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\u202e" not in done.stdout
    names = made(Path("all"))
    assert len({name.casefold() for name in names}) == len(keys)
    assert {"a.cbz", "A-2.cbz"} < names
    assert not any(name.startswith("-") or name == "nul.cbz" for name in names)
    assert call("export", ".", "A", *CBZ, "--out", "one").returncode == 0
    assert made(Path("one")) == {"A-2.cbz"}


async def test_a_comic_that_was_changed_is_made_once_as_it_is_now(call: Call, folder: Path) -> None:
    """A redraw and a continuation are stories of their own, and no comics of their own."""
    states = tuple(BatchState)
    async with opened_journal(folder / "journal.db") as journal:
        given = {"type": "continue", "id": "cmc_1", "prompt": "And then"}
        more = Story.parse(given, "more")
        await add_comic(journal, folder, more, pages=(2, 1), captions=("1", "2", "3"))
        redraw = {"type": "update_panel", "id": "cmc_2", "panel": 0, "prompt": "Smile"}
        row = await add_row(journal, Story.parse(redraw, "again"), 7)
        await journal.change(
            row, BatchState.RUNNING, origins=states, generation=comic_of("cmc_2", ())
        )
    done = call("export", "comics", *CBZ)
    assert done.returncode == 0
    assert "order-1  comics/order-1.cbz  3 panels on 2 pages" in done.stdout
    assert "again  left out: it is not done (running); its comic is as it was before" in done.stdout
    assert made(folder, "*.cbz") == {"order-1.cbz", "cmc_2.cbz"}
    done = call("export", "comics", "more", *CBZ)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 file in comics.")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, without SQLite's list of who reads."""
    paths = [path for path in folder.iterdir() if not path.name.endswith("-shm")]
    return {path.name: path.read_bytes() for path in paths}


async def test_a_journal_is_read_and_left_as_it_is_also_while_it_is_worked_with(
    call: Call, folder: Path
) -> None:
    before = contents(folder)
    assert call("export", "comics", *CBZ, "--out", "books").returncode == 0
    assert contents(folder) == before
    async with opened_journal(folder / "journal.db"):
        before = contents(folder)
        assert call("export", "comics", *CBZ, "--out", "books").returncode == 0
        assert contents(folder) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("form", ["cbz", "pdf", "strip"])
def test_an_interrupt_leaves_whole_files_alone(
    form: str, number: signal.Signals, call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(write: object) -> object:
        def work(book: Book, file: BinaryIO) -> None:
            write(book, file)  # type: ignore[operator]  # one of the writers
            if book.id == "cmc_2":
                signal.raise_signal(number)

        return work

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cbz, "write_cbz", interrupted(cbz.write_cbz))
    monkeypatch.setattr(raster, "write_pdf", interrupted(raster.write_pdf))
    monkeypatch.setattr(raster, "write_strip", interrupted(raster.write_strip))
    done = call("export", "comics", "--format", form, "--out", "books")
    assert done.returncode == 130
    assert "interrupted: 1 file in books" in done.stderr
    assert {name.partition(".")[0] for name in made(Path("books"), "*")} == {"order-1"}
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_ends_it_and_is_told_once(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(book: Book, file: BinaryIO) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cbz, "write_cbz", full)
    done = call("export", "comics", *CBZ, "--out", "books")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "books/order-1.cbz can't be written: No space left on device" in line
    assert made(Path("books")) == set()


@pytest.mark.parametrize("form", ["pdf", "strip"])
def test_without_pillow_the_extra_is_named(
    form: str, call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = call("export", "comics", "--format", form)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'llamagen-async[cli,export]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert call("export", "comics", *CBZ).returncode == 0


@pytest.mark.parametrize("place", ["nowhere", "empty", "other.db"])
def test_what_is_no_journal_is_told(place: str, call: Call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.db").write_bytes(b"x")
    done = call("export", place, *CBZ)
    assert (done.returncode, done.stdout) == (2, "")
    assert "journal" in done.stderr


def test_a_damaged_journal_is_told_in_a_line(call: Call, folder: Path) -> None:
    import sqlite3

    with sqlite3.connect(folder / "journal.db") as connection:
        connection.execute("UPDATE job SET generation = '{}' WHERE generation_id = 'cmc_1'")
    connection.close()
    done = call("export", "comics", *CBZ)
    assert done.returncode == 1
    assert "order-1: the journal is damaged" in done.stderr
    with sqlite3.connect(folder / "journal.db") as connection:
        connection.execute("UPDATE job SET state = 'odd' WHERE generation_id = 'cmc_1'")
    connection.close()
    done = call("export", "comics", *CBZ)
    assert done.returncode == 1
    assert "it is damaged" in done.stderr


async def test_a_hostile_prompt_is_a_title(call: Call, tmp_path: Path) -> None:
    prompt = "]]></Title><x>&\u202e\t (a) \\ \U0001f431 " + "long " * 100
    async with opened_journal(tmp_path / "journal.db") as journal:
        await add_comic(
            journal, tmp_path, Story.parse(prompt, "k"), captions=("\x1b[2J</Summary>", "\0")
        )
    for form in ("cbz", "pdf", "strip"):
        assert call("export", ".", "--format", form).returncode == 0
    with zipfile.ZipFile("k.cbz") as archive:
        assert b"\x1b" not in archive.read("ComicInfo.xml")
    with Image.open("k.png") as strip:
        title = strip.info["Title"]
    assert title.startswith("]]></Title><x>& (a) \\ \U0001f431 long")
    assert len(title) <= 80
    assert f"\ufeff{title}".encode("utf-16-be").hex().encode() in contents(tmp_path)["k.pdf"]


def test_every_format_has_an_extension_and_the_help_has_every_format() -> None:
    from llamagen_async.cli.declarations.export import FORMATS

    assert tuple(export._EXTENSIONS) == FORMATS
