"""Differences of two requests are said field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamagen_async import AnimationRequest, ComicRequest, UpdateRequest
from llamagen_async.requests.differences import differences

LONG = "A cat goes to the harbour. " * 4


def comic(prompt: str = "A cat", **fields: Any) -> ComicRequest:
    return ComicRequest(prompt, **fields)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (comic(), comic(), []),
        (comic(), comic("A dog"), ["prompt: 'A cat' is now 'A dog'"]),
        (comic(), comic(size="512x512"), ["size: nothing is now '512x512'"]),
        (comic(fix_panel_num=4), comic(), ["fix_panel_num: 4 is now nothing"]),
        (
            comic(pagination={"totalPages": 1, "panelsPerPage": 2}),
            comic(pagination={"totalPages": 3, "panelsPerPage": 2}),
            ["pagination.total_pages: 1 is now 3"],
        ),
        (
            comic(comic_roles=[{"name": "Tom", "age": 3}, {"name": "Ann"}]),
            comic(comic_roles=[{"name": "Ann"}, {"name": "Tom", "age": 4}]),
            ["comic_roles[Tom].age: 3 is now 4"],
        ),
        (
            comic(images=[Path("a.png")], extra={"new": {"x": [1]}}),
            comic(images=[Path("b.png")], extra={"new": {"x": [2]}}),
            ["images[0]: 'a.png' is now 'b.png'", "extra.new.x[0]: 1 is now 2"],
        ),
        (comic(), AnimationRequest("A cat"), ["type: comic is now animation"]),
        (
            UpdateRequest(panel=0, prompt="x"),
            UpdateRequest(panel=1, prompt="x"),
            ["panel: 0 is now 1"],
        ),
    ],
)
def test_each_field_that_changed_is_named(before: Any, after: Any, expected: list[str]) -> None:
    assert differences(before, after) == expected


def test_of_a_long_text_the_place_that_changed_is_shown() -> None:
    (phrase,) = differences(comic(f"{LONG}It rains."), comic(f"{LONG}It snows."))
    assert "It rains." in phrase
    assert "It snows." in phrase
    assert len(phrase) < 200
    (phrase,) = differences(comic(LONG), comic(f"{LONG}More."))
    assert "More." in phrase
