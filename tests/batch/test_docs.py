"""The stories in `docs/batches.md` are what it says they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from llamagen_async.batch.journal.story import Story
from llamagen_async.cli.input.stories import read_stories
from llamagen_async.requests import RequestType

TEXT = (Path(__file__).parent.parent.parent / "docs/batches.md").read_text(encoding="utf-8")
TYPES = [
    RequestType.COMIC,
    RequestType.CONTINUE,
    RequestType.UPDATE_PANEL,
    RequestType.ANIMATION,
]


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(("language", "form"), [("json", "jsonl"), ("text", "csv")])
def test_files_are_read(language: str, form: Any) -> None:
    stories = list(read_stories(block(language).splitlines(), name="s", form=form))
    assert [one.problem for one in stories] == [None] * len(stories)
    assert [one.story.type for one in stories if one.story] == TYPES[: len(stories)]


def test_objects_are_stories() -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)  # the documentation's own
    assert [Story.parse(one).type for one in names["stories"]] == TYPES
