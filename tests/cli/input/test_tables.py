"""Stories in a table: how spreadsheets write them, and what is told of a wrong cell."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.cli.exit_status import CommandError
from llamagen_async.cli.input.stories import InputStory, StoryFile, read_stories
from llamagen_async.requests import RequestType


def read(text: str) -> list[InputStory]:
    return list(read_stories(text.split("\n"), name="s.csv", form="csv"))


def fields(story: InputStory) -> dict[str, Any]:
    assert story.story is not None, story.problem
    found: dict[str, Any] = json.loads(story.story.text)
    return found


def problem(text: str) -> str:
    (story,) = read(text)
    assert story.story is None
    return f"{story.label}: {story.problem}"


def test_each_column_is_a_field() -> None:
    """Empty cells are absent fields; numbers, flags and JSON are read as such, text is not."""
    first, second, third, fourth = read(
        "key,type,of,prompt,fix_panel_num,upscale,panel,images,comicRoles,video_options\n"
        'a,,,"1, ""two""",4,TRUE,,"[""https://e.org/1.png""]","[{""name"": ""Tom""}]",\n'
        "007,redraw,a,5,,,0,https://e.org/2.png,,\n"
        'v,animation,,a dog,,,,,,"{""duration"": 5}"\n'
        "b,,,a cat,,2K,,,,"
    )
    assert first.story is not None
    assert (first.label, first.story.key, first.story.label) == ("s.csv:2", "a", "s.csv:2")
    assert fields(first) == {
        "prompt": '1, "two"',
        "fixPanelNum": 4,
        "upscale": True,
        "images": ["https://e.org/1.png"],
        "comicRoles": [{"name": "Tom"}],
    }
    assert second.story is not None
    assert (second.story.key, second.story.of, second.story.type) == (
        "007",
        "a",
        RequestType.UPDATE_PANEL,
    )
    assert fields(second)["prompt"] == "5"
    assert fields(second)["images"] == ["https://e.org/2.png"]
    assert fields(third)["videoOptions"] == {"duration": 5}
    assert fields(fourth)["upscale"] == "2K"


@pytest.mark.parametrize(
    "text",
    [
        "prompt,size\na cat,512x512",
        "\ufeffprompt,size\r\na cat,512x512\r\n".replace("\r\n", "\n"),
        "prompt;size\na cat;512x512",
        "prompt\tsize\na cat\t512x512",
        '"Prompt","Size"\n"a cat","512x512"',
        "\n \nprompt,size,,\n,,,\na cat,512x512,,\n\n",
        "size,prompt\n512x512,a cat",
    ],
)
def test_spreadsheets_write_tables_in_many_ways(text: str) -> None:
    (story,) = read(text)
    assert fields(story) == {"prompt": "a cat", "size": "512x512"}


def test_whole_numbers_may_be_written_as_data_frames_do() -> None:
    """A column with gaps has them as `3.0`; a prompt or a key is text, whatever stands in it."""
    first, redraw, third = read(
        "key,type,of,prompt,fix_panel_num,page,panel,video_options\n"
        "1.0,,,3.0,3.0,,,\n2.0,redraw,1.0,B,,0.0,2.0,\n"
        '3.0,animation,,C,,,,"{""duration"": 5.5}"\n'
    )
    assert first.story is not None
    assert first.story.key == "1.0"
    assert fields(first) == {"prompt": "3.0", "fixPanelNum": 3}
    assert (fields(redraw)["page"], fields(redraw)["panel"]) == (0, 2)
    assert fields(third)["videoOptions"]["duration"] == 5.5
    assert "got 3.5, allowed is a whole number" in problem("prompt,fix_panel_num\nA,3.5\n")


def test_line_ends_in_quotes_belong_to_the_cell() -> None:
    """A story is labelled with the line in which its row begins."""
    stories = read('prompt,key\n"one\ntwo\n\nthree",1\nfour,2')
    assert [(one.label, fields(one)["prompt"]) for one in stories] == [
        ("s.csv:2", "one\ntwo\n\nthree"),
        ("s.csv:6", "four"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompt,siez\na,1", "s.csv:1: column 2: there is no field 'siez'; did you mean 'size'?"),
        ("a cat in space\na dog", "s.csv:1: column 1: there is no field 'a cat in space' (the"),
        ("prompt,fixPanelNum,fix_panel_num\na,1,1", "column 3: column 2 is fix_panel_num, too"),
        ("prompt,size\na,big", "s.csv:2: column 2, size: got 'big'"),
        ("size,fix_panel_num,prompt\n,30,a", "s.csv:2: column 2, fix_panel_num: got 30"),
        ("prompt,comic_roles\na,[{}", "s.csv:2: column 2, comic_roles: got '[{}', which is not"),
        ("prompt,comic_roles\na,[{}]", "s.csv:2: column 2, comic_roles"),
        ("size,prompt\n512x512,", "s.csv:2: column 2, prompt: got None"),
        ("prompt\na,b", "s.csv:2: column 2 has 'b', and no name in the first row"),
        ("prompt,type\na,film", "s.csv:2: column 2, type: got 'film'"),
        ("prompt,type\na,continue", "s.csv:2: of: got None"),
        ('prompt\n"a"b', "s.csv:2: the row is not CSV"),
        ('prompt\n"a', "s.csv:2: the row is not CSV"),
        ("prompt,caf\ud800\na,b", "s.csv:1: the line is not UTF-8"),
        ("PK\x03\x04\x14\0\ud800", "s.csv:1: this is a workbook or another ZIP file: export"),
        ('prompt,extra\na,"{""x"": 1, ""x"": 2}"', 'column 2, extra: got \'{"x": 1, "x": 2}\', '),
        ('prompt,extra\na,"{""x"": 1, ""x"": 2}"', "can be read: x stands twice in one object"),
        ("prompt\na\ud800", "s.csv:2: the line is not UTF-8"),
        ("prompt\na\0", "s.csv:2: the line has NUL"),
    ],
)
def test_a_wrong_cell_is_told_with_line_and_column(text: str, said: str) -> None:
    assert said in problem(text)


def test_a_wrong_row_keeps_its_key_and_what_was_given() -> None:
    (story,) = read("key,prompt,size\nk,a,big")
    assert (story.key, story.given) == ("k", {"key": "k", "prompt": "a", "size": "big"})


def test_a_row_that_is_not_csv_does_not_hide_the_others() -> None:
    assert [one.story is None for one in read('prompt\n"a"b\nc')] == [True, False]


@given(st.lists(st.text(st.characters(exclude_categories=["C"]), min_size=1), min_size=1))
def test_what_a_spreadsheet_wrote_is_read_back(prompts: list[str]) -> None:
    """Quotes, delimiters and line ends in a story are the story's."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["prompt", "key"])
    rows.writerows([f"a {prompt}", number] for number, prompt in enumerate(prompts))
    assert [fields(one)["prompt"] for one in read(file.getvalue())] == [f"a {p}" for p in prompts]


# --- keys that changes name ---------------------------------------------------------------------


def lines(tmp_path: Path, *stories: dict[str, Any]) -> StoryFile:
    path = tmp_path / "s.jsonl"
    path.write_text("".join(f"{json.dumps(story)}\n" for story in stories))
    return StoryFile(path, "jsonl")


def more(of: str, key: str | None = None) -> dict[str, Any]:
    return {"type": "continue", "of": of, "prompt": "p", **({"key": key} if key else {})}


def test_a_key_may_stand_after_the_change(tmp_path: Path) -> None:
    stories = lines(tmp_path, more("b"), more("a", "b"), {"prompt": "p", "key": "a"})
    assert len(stories) == 3


@pytest.mark.parametrize(
    ("stories", "said"),
    [
        ([more("b", "a"), more("a", "b")], "('a' of 'b' of 'a')"),
        ([more("b"), more("c", "b"), more("b", "c")], "('b' of 'c' of 'b')"),
        ([{"type": "animation", "prompt": "p", "key": "v"}, more("v")], "s.jsonl:2: of: got 'v'"),
        ([more("a", "a")], "s.jsonl:1: of: got 'a', allowed is the key of another story"),
    ],
)
def test_what_can_not_be_changed_is_refused(
    stories: list[dict[str, Any]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(CommandError) as caught:
        lines(tmp_path, *stories)
    assert said in str(caught.value)
    assert "nothing was sent" in str(caught.value)
