"""A comic as an archive: its pictures as they are, and what readers show of it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import attrs
import pytest

from llamagen_async.cli.results.book import Book, NotMadeError
from llamagen_async.cli.results.cbz import comic_info, write_cbz
from tests.support.comics_on_disk import picture


def book(folder: Path, *pages: tuple[bytes, ...]) -> Book:
    """Return a comic with these pictures, whose names say nothing."""
    numbers = iter(range(2_000))

    def written(content: bytes) -> Path:
        path = folder / f"{next(numbers)}.bin"
        path.write_bytes(content)
        return path

    return Book("cmc_1", "A cat", tuple(tuple(map(written, page)) for page in pages))


def archived(book: Book) -> tuple[bytes, zipfile.ZipFile]:
    file = io.BytesIO()
    write_cbz(book, file)
    return file.getvalue(), zipfile.ZipFile(io.BytesIO(file.getvalue()))


def test_pictures_stand_in_reading_order_as_they_are(tmp_path: Path) -> None:
    """Their names say what they are, whatever the files were called."""
    pictures = (
        picture("red"),
        picture("green", kind="JPEG"),
        picture("blue", kind="GIF"),
        picture("white", kind="WEBP"),
    )
    _, archive = archived(book(tmp_path, pictures[:1], pictures[1:]))
    assert archive.testzip() is None
    assert archive.namelist() == ["ComicInfo.xml", "001.png", "002.jpg", "003.gif", "004.webp"]
    assert tuple(map(archive.read, archive.namelist()[1:])) == pictures
    assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_names_sort_as_they_are_read(tmp_path: Path) -> None:
    one = book(tmp_path, (picture(size=(1, 1)),))
    _, archive = archived(attrs.evolve(one, pages=one.pages * 1_000))
    assert archive.namelist()[1:] == sorted(archive.namelist()[1:])
    assert archive.namelist()[1] == "0001.png"


def test_the_same_comic_gives_the_same_bytes(tmp_path: Path) -> None:
    one = book(tmp_path, (picture("red"), picture("blue")))
    first, _ = archived(one)
    for path in one.pictures:
        path.touch()
    assert archived(one)[0] == first


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture"),
        (b"\0\0\0\x18ftypmp42", "is a video"),
        (picture("red")[:-1], "is broken"),
        (picture("red", kind="JPEG")[:-2], "is broken"),
    ],
)
def test_what_is_no_whole_picture_is_told(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(NotMadeError, match=said):
        archived(book(tmp_path, (picture("red"), content)))


def test_a_picture_that_is_gone_is_told(tmp_path: Path) -> None:
    one = book(tmp_path, (picture("red"),))
    one.pictures[0].unlink()
    with pytest.raises(NotMadeError, match="can't be read"):
        archived(one)


def test_what_readers_show_stands_in_the_order_of_the_schema(tmp_path: Path) -> None:
    one = attrs.evolve(
        book(tmp_path, (picture("red"), picture("blue"))),
        title="Cats & <dogs>",
        captions=("One.", "Two."),
        language="zh-CN",
    )
    root = ElementTree.fromstring(comic_info(one))
    assert root.tag == "ComicInfo"
    assert [(child.tag, child.text) for child in root] == [
        ("Title", "Cats & <dogs>"),
        ("Summary", "One.\nTwo."),
        ("PageCount", "2"),
        ("LanguageISO", "zh-CN"),
    ]


def test_a_comic_without_captions_is_summed_up_by_its_prompt(tmp_path: Path) -> None:
    one = attrs.evolve(book(tmp_path, (picture("red"),)), prompt="A long story")
    assert ElementTree.fromstring(comic_info(one)).findtext("Summary") == "A long story"
    assert b"Summary" not in comic_info(attrs.evolve(one, prompt=""))
