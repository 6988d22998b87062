"""Reading STORIES: files, stdin and the journal itself."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from llamagen_async import ComicRequest, JournalError
from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.input.lines import text_lines
from llamagen_async.cli.input.stories import (
    Format,
    Stories,
    StoryFile,
    open_stories,
    read_stories,
)
from tests.support.records import add_row, opened_journal


def prompts(content: bytes, form: Format | None) -> list[tuple[str, str | None]]:
    stories = read_stories(text_lines([content]), name="s", form=form)
    return [(story.label, story.story.request.prompt if story.story else None) for story in stories]


def test_text_has_a_prompt_a_line() -> None:
    assert prompts(b"a cat\r\n\n  # note\n a dog \n", "txt") == [("s:1", "a cat"), ("s:4", "a dog")]


def test_json_lines_have_fields_in_either_spelling() -> None:
    content = b'\xef\xbb\xbf{"prompt": "a", "fixPanelNum": 2}\r\n\r\n'
    content += b'{"prompt": "b", "fix_panel_num": 3}\n'
    stories = list(read_stories(text_lines([content]), name="s", form="jsonl"))
    requests = [story.story.request for story in stories if story.story]
    assert requests == [ComicRequest("a", fix_panel_num=2), ComicRequest("b", fix_panel_num=3)]
    assert [story.number for story in stories] == [0, 1]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a cat\n{not json}\n", [("s:1", "a cat"), ("s:2", "{not json}")]),
        (b'# x\n{"prompt": "a cat"}\na dog\n', [("s:2", "a cat"), ("s:3", None)]),
        (b'\n"Prompt";Size\na cat;512x768\n"a; dog";\n', [("s:3", "a cat"), ("s:4", "a; dog")]),
        (b"\xef\xbb\xbfkey\tprompt\nk\ta cat\n", [("s:2", "a cat")]),
        (b'prompt\n"a cat, a dog"\na cat, a dog\n', [("s:2", "a cat, a dog"), ("s:3", None)]),
        (b"size\na cat\n", [("s:1", "size"), ("s:2", "a cat")]),
        (b"a cat, style\n", [("s:1", "a cat, style")]),
        (b"prompt, sighs\n", [("s:1", "prompt, sighs")]),
        (b"[Noir] a cat\n", [("s:1", "[Noir] a cat")]),
        (b"- a cat\n", [("s:1", "- a cat")]),
        (b"- mood: dark\n", [("s:1", "- mood: dark")]),
        (b'[{"prompt": "a cat"}]\n', [("s:1", None)]),
        (b'[\n  "a cat"\n]\n', [("s:1", None), ("s:2", "a cat"), ("s:3", None)]),
        (b"", []),
        (b"\n \n", []),
    ],
)
def test_of_an_unnamed_format_the_first_story_decides(
    content: bytes, expected: list[tuple[str, str | None]]
) -> None:
    assert prompts(content, None) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- prompt: a cat\n  size: 512x768\n", "s:1: it looks like YAML"),
        (b"# mine\n- key: k\n", "s:2: it looks like YAML"),
        (b"# mine\nkey,prompt\nk,a cat\n", "s:2: it looks like a table"),
    ],
)
def test_a_pipe_of_what_is_not_read_is_no_pipe_of_prompts(content: bytes, said: str) -> None:
    """Each line would be paid for."""
    with pytest.raises(CommandError, match=f"{said}, not like a prompt: .*nothing was sent"):
        prompts(content, None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('\ufeff{"prompt": "a cat"}\n{"prompt": "a dog"}\n', "1: it looks like JSON"),
        ('[\n  {"prompt": "a cat"}\n]\n', "1: it looks like JSON"),
        ('\n# mine\n{"prompt": "a cat",}\n', "3: it looks like JSON"),
        ("Prompt;Size\na cat;512x768\n", "1: it looks like a table"),
        ("- prompt: a cat\n", "1: it looks like YAML"),
    ],
)
def test_a_text_file_of_something_else_is_refused_unless_it_is_said_to_be_text(
    tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "s.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CommandError, match=f"s.txt:{said}, not like a prompt: .*nothing was sent"):
        open_stories(str(path))
    assert open_stories(str(path), form="txt").checked
    path.write_text("{A} cat\n[Noir] a dog\n", encoding="utf-8")
    assert len(open_stories(str(path)).checked or ()) == 2


def test_a_name_that_stands_twice_is_refused() -> None:
    """One of the two stories would be lost, and the other one paid for."""
    content = b'{"prompt": "a cat", "prompt": "a dog"}\n'
    (one,) = read_stories(text_lines([content]), name="s", form="jsonl")
    assert one.problem == "the line is not JSON: prompt stands twice in one object"


def test_a_table_may_be_meant_as_text() -> None:
    """The format that is said counts."""
    assert prompts(b"prompt, size\n", "txt") == [("s:1", "prompt, size")]


def test_the_first_line_is_read_as_soon_as_it_comes() -> None:
    """A pipe may stay open for hours: nothing waits for what comes after a story."""
    came: list[str] = []

    def lines() -> Iterator[str]:
        for line in ("", "a cat", "a dog"):
            came.append(line)
            yield line

    next(read_stories(lines(), name="s", form=None))
    assert came == ["", "a cat"]


def test_a_line_may_have_a_key_which_is_no_field_of_the_request() -> None:
    content = b'{"prompt": "a", "key": "order-42"}\n{"prompt": "b", "key": 7}\n'
    content += b'{"prompt": "c"}\n{"prompt": "d", "key": ""}\n'
    first, second, third, wrong = read_stories(text_lines([content]), name="s", form="jsonl")
    given = [one.story for one in (first, second, third)]
    assert [one and one.key for one in given] == ["order-42", "7", None]
    assert [one and json.loads(one.text) for one in given] == [{"prompt": text} for text in "abc"]
    assert [one and one.label for one in given] == ["s:1", "s:2", "s:3"]
    assert wrong.problem is not None
    assert wrong.problem.startswith("key: got ''")


def test_a_checked_file_is_read_again_and_must_be_the_same(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_text("a\n\nb\n", encoding="utf-8")
    stories = StoryFile(path, "txt")
    assert len(stories) == 2
    assert [story.label for story in stories] == [f"{path}:1", f"{path}:3"]
    path.write_text("a\n\nb\nc\n", encoding="utf-8")
    with pytest.raises(CommandError, match="was changed while it was read"):
        list(stories)


def test_a_number_too_long_for_python_is_just_not_json() -> None:
    assert prompts(b'{"prompt": ' + b"9" * 10_000 + b"}", "jsonl") == [("s:1", None)]


async def test_the_stories_of_a_journal_keep_their_keys_and_labels(tmp_path: Path) -> None:
    cat, dog = Story.parse("a cat", label="s:1"), Story.parse("a dog", "dog")
    async with opened_journal(tmp_path / "j.db") as journal:
        for position, one in enumerate((cat, dog)):
            await add_row(journal, one, position)
        stories = [story async for story in Stories("the journal").read(journal)]
    found = [one.story for one in stories]
    assert found == [attrs.evolve(cat, key=f"content:{cat.digest.hex()}/1"), dog]
    assert [(one.number, one.label) for one in stories] == [(0, "s:1"), (1, "")]


async def test_a_story_of_a_journal_that_is_not_allowed_any_more_is_wrong(tmp_path: Path) -> None:
    async with opened_journal(tmp_path / "j.db") as journal:
        await add_row(journal, Story.parse("a cat", "cat"), 0)
    change_request(tmp_path / "j.db", '{"prompt": ""}')
    async with opened_journal(tmp_path / "j.db") as journal:
        (story,) = [story async for story in Stories("the journal").read(journal)]
    assert (story.label, story.story) == ("key cat", None)
    assert (story.problem or "").startswith("prompt: got ''")
    change_request(tmp_path / "j.db", "no json")
    async with opened_journal(tmp_path / "j.db") as journal:
        with pytest.raises(JournalError, match="damaged at 'cat'"):
            [story async for story in Stories("the journal").read(journal)]


def change_request(path: Path, text: str) -> None:
    """Put another request into all rows of a journal."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE job SET request = ?", (text,))


def test_a_line_that_is_no_text_says_what_to_do() -> None:
    content = "a cat\n".encode("utf-16-le") + b"caf\xe9\n\xef\xbb\xbfan owl\n"
    first, second, third = read_stories(text_lines([content]), name="s", form=None)
    assert (first.label, first.problem) == (
        "s:1",
        "the line has NUL characters in it, as UTF-16 has: save it as UTF-8",
    )
    assert "not UTF-8: save it" in (second.problem or "")
    assert third.story is not None
    assert third.story.request.prompt == "an owl"
