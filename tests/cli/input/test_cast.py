"""A cast is read and checked before anything is sent; stories are read together with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.input.cast import StoryContext, open_cast
from llamagen_async.cli.input.stories import open_stories

CAST: dict[str, Any] = {"preset": "neutral", "comicRoles": [{"name": "Tom", "image": "tom.png"}]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a cast whose picture is beside it; the working directory is another one."""
    folder = tmp_path / "stories"
    folder.mkdir()
    (folder / "tom.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "cast.json").write_text(json.dumps(CAST), "utf-8")
    monkeypatch.chdir(tmp_path)
    return folder


def test_paths_begin_in_the_folder_of_their_file(folder: Path) -> None:
    cast = open_cast("stories/cast.json")
    assert cast.fields["comic_roles"][0].image == folder / "tom.png"
    stories = folder / "s.jsonl"
    stories.write_text('{"prompt": "A cat", "images": ["tom.png", "https://i"]}\n', "utf-8")
    (story,) = open_stories(str(stories), cast).checked or ()
    assert story.story is not None
    request: Any = story.story.request
    assert request.images == (folder / "tom.png", "https://i")
    assert (request.preset, request.comic_roles[0].name) == ("neutral", "Tom")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_cast_may_have_any_encoding_that_says_what_it_is(folder: Path, encoding: str) -> None:
    (folder / "cast.json").write_text(json.dumps({"style": "größer"}), encoding)
    assert open_cast("stories/cast.json").fields == {"style": "größer"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"presett": "x"}', "presett: got 'x', allowed is one of the names prompt, "),
        ('{"prompt": "A cat"}', "prompt: got 'A cat', allowed is nothing: each story has its own"),
        ('{"size": "big"}', "size: got 'big'"),
        ('{"size": "a", "size": "b"}', "size stands twice"),
        ('{"comicRoles": [{"name": "T", "image": "no.png"}]}', "No such file"),
        ('{"comicRoles": [{"name": "T", "image": "ftp://x/no.png"}]}', "comic_roles[0].image: got"),
        ('{"comicRoles": [{"age": 3}]}', "comic_roles[0].name: got None"),
        ('{"fixPanelNum": 1, "pagination": {"totalPages": 1, "panelsPerPage": 1}}', "pagination"),
        ("[]", "it holds no object"),
        ('{"a": ', "it is not JSON"),
        ("", "it is not JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"seed": NaN}', "seed"),
    ],
)
def test_what_is_wrong_in_a_cast_is_named_with_its_file(
    folder: Path, content: str, words: str
) -> None:
    (folder / "cast.json").write_text(content, "utf-8")
    with pytest.raises(CommandError) as caught:
        open_cast("stories/cast.json")
    assert str(caught.value).startswith("stories/cast.json: ")
    assert words in str(caught.value)
    assert str(caught.value).endswith("; nothing was sent")


@pytest.mark.parametrize("name", ["none.json", "stories", "stories/\x7f.json"])
def test_a_cast_that_cant_be_read_is_named(folder: Path, name: str) -> None:
    with pytest.raises(CommandError, match=r"^--with"):
        open_cast(name)


def test_a_cast_is_utf_8(folder: Path) -> None:
    (folder / "cast.json").write_bytes(b'{"style": "\xff"}')
    with pytest.raises(CommandError, match="not UTF-8"):
        open_cast("stories/cast.json")


def test_a_story_whose_file_is_not_there_is_wrong(folder: Path) -> None:
    """The line is named before anything is sent."""
    stories = folder / "s.jsonl"
    stories.write_text('{"prompt": "A cat"}\n{"prompt": "x", "images": ["no.png"]}\n', "utf-8")
    with pytest.raises(CommandError, match=r"s\.jsonl:2: images\[0\]: got '.*no\.png', .*No such"):
        open_stories(str(stories))


def test_what_arrives_on_stdin_has_paths_from_the_working_directory(folder: Path) -> None:
    story = StoryContext().story({"prompt": "x", "images": ["stories/tom.png"]}, "stdin:1")
    assert story.request.images == (folder / "tom.png",)  # type: ignore[union-attr]  # it is a comic
