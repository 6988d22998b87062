"""Reading STORIES, and lines that arrive one by one."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamagen_async.cli.errors import CommandError
from llamagen_async.cli.input.stdin import in_thread, lines_of
from llamagen_async.cli.input.stories import StoryFile, read_stories


def prompts(content: bytes, form: str | None) -> list[tuple[str, str | None]]:
    stories = read_stories(content.splitlines(keepends=True), name="s", form=form)  # type: ignore[arg-type]
    return [(story.place, story.request.prompt if story.request else None) for story in stories]


def test_text_has_a_prompt_a_line() -> None:
    assert prompts(b"a cat\r\n\n  # note\n a dog \n", "txt") == [("s:1", "a cat"), ("s:4", "a dog")]


def test_json_lines_have_fields_in_either_spelling() -> None:
    content = b'\xef\xbb\xbf{"prompt": "a", "fixPanelNum": 2}\r\n\r\n'
    content += b'{"prompt": "b", "fix_panel_num": 3}\n'
    stories = list(read_stories(content.splitlines(), name="s", form="jsonl"))
    assert [story.request and story.request.fix_panel_num for story in stories] == [2, 3]
    assert [story.number for story in stories] == [0, 1]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a cat\n{not json}\n", [("s:1", "a cat"), ("s:2", "{not json}")]),
        (b'# x\n{"prompt": "a cat"}\na dog\n', [("s:2", "a cat"), ("s:3", None)]),
    ],
)
def test_of_an_unnamed_format_the_first_story_decides(
    content: bytes, expected: list[tuple[str, str | None]]
) -> None:
    assert prompts(content, None) == expected


def test_a_line_may_have_a_key_which_is_no_field_of_the_request() -> None:
    content = b'{"prompt": "a", "key": "order-42"}\n{"prompt": "b", "key": 7}\n'
    content += b'{"prompt": "c"}\n{"prompt": "d", "key": ""}\n'
    first, second, third, wrong = read_stories(content.splitlines(), name="s", form="jsonl")
    assert (first.given, second.key) == ({"prompt": "a", "key": "order-42"}, "7")
    assert third.given == third.request
    assert wrong.problem is not None
    assert wrong.problem.startswith("key: got ''")


def test_a_checked_file_is_read_again_and_must_be_the_same(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_text("a\n\nb\n", encoding="utf-8")
    stories = StoryFile(path, "txt")
    assert len(stories) == 2
    assert [story.place for story in stories] == [f"{path}:1", f"{path}:3"]
    path.write_text("a\n\nb\nc\n", encoding="utf-8")
    with pytest.raises(CommandError, match="was changed while it was read"):
        list(stories)


def test_a_number_too_long_for_python_is_just_not_json() -> None:
    assert prompts(b'{"prompt": ' + b"9" * 10_000 + b"}", "jsonl") == [("s:1", None)]


def test_lines_come_as_soon_as_they_are_complete() -> None:
    reading, writing = os.pipe()
    source = os.fdopen(reading, "rb", buffering=0)
    with os.fdopen(writing, "wb", buffering=0) as sink:
        lines = lines_of(source)
        sink.write(b"one\ntw")
        assert next(lines) == b"one"
        sink.write(b"o\nthree")
        assert next(lines) == b"two"
    assert list(lines) == [b"three"]
    assert source.closed


async def test_a_thread_reads_no_further_than_asked() -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    items = in_thread(numbers())
    assert [await anext(items), await anext(items)] == [0, 1]
    assert len(read) <= 4


async def test_what_the_thread_meets_is_raised_here() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError(5, "read error")

    items = in_thread(broken())
    assert await anext(items) == 1
    with pytest.raises(OSError, match="read error"):
        await anext(items)


async def test_a_reader_that_waits_for_ever_can_be_left() -> None:
    reading, writing = os.pipe()
    items = in_thread(lines_of(io.FileIO(reading)))
    waiting = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    os.close(writing)
