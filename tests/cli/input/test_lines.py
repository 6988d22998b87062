"""Lines of text out of bytes of all encodings and line ends."""

from __future__ import annotations

import os

import pytest

from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.input.lines import UNREADABLE, chunks_of, text_lines

STORIES = ["A cat", "Ein Hündchen \N{DOG FACE}", "漫画"]


def test_lines_come_as_soon_as_they_are_complete() -> None:
    reading, writing = os.pipe()
    with (
        os.fdopen(reading, "rb", buffering=0) as source,
        os.fdopen(writing, "wb", buffering=0) as sink,
    ):
        lines = text_lines(chunks_of(source))
        sink.write(b"one\ntw")
        assert next(lines) == "one"
        sink.write(b"o\rthr")  # who ends lines with CR alone is not kept waiting either
        assert next(lines) == "two"
        sink.write(b"ee\r")
        assert next(lines) == "three"
        sink.write(b"\nfour")
        sink.close()
        assert list(lines) == ["four"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-be"]
)
def test_three_stories_stay_three(encoding: str, end: str, size: int) -> None:
    mark = "\ufeff" if encoding.endswith("-be") else ""
    content = (mark + end.join(STORIES) + end).encode(encoding)
    chunks = [content[at : at + size] for at in range(0, len(content), size)]
    assert [line.removeprefix("\ufeff") for line in text_lines(chunks)] == STORIES


@pytest.mark.parametrize("inside", "\v\f\x1c\x1d\x1e\x85\u2028\u2029")
def test_what_is_no_line_end_splits_no_story(inside: str) -> None:
    assert list(text_lines([f"a{inside}b\nc".encode()])) == [f"a{inside}b", "c"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"caf\xe9\nok", [f"caf{UNREADABLE}", "ok"]),
        (b"\xed\xa0\x80\nok\n\xc3", [UNREADABLE * 3, "ok", UNREADABLE]),
        (b"\xff\xfea\0\n\0\0\xd8\n\0b\0\n\0c", ["\ufeffa", UNREADABLE, "b", UNREADABLE]),
        (b"\xff\xfe\0\0a\0\0\0\n\0\0\0\0\0\x11\0", ["\ufeffa", UNREADABLE]),
        (b"\xff\xfe", ["\ufeff"]),
        (b"\xff", [UNREADABLE]),
        (b"", []),
    ],
)
def test_what_can_not_be_decoded_stays_in_its_line(content: bytes, expected: list[str]) -> None:
    assert list(text_lines([content])) == expected
    assert list(text_lines(bytes([byte]) for byte in content)) == expected


def test_a_line_that_never_ends_is_given_up() -> None:
    with pytest.raises(CommandError, match="does not end"):
        for _ in text_lines(b"x" for _ in iter(int, 1)):
            pass
