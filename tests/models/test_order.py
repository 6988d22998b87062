"""Pages and panels stand at the places that their numbers say, in whatever order they come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.downloads.download import asset_names
from llamagen_async.models import ComicGeneration


def panel(number: object) -> dict[str, Any]:
    return {"panel": number, "assetUrl": f"https://cdn.example/{number}.png"}


def names(*panels: dict[str, Any], page: object = 0) -> list[tuple[str, str]]:
    comics = [{"page": page, "panels": list(panels)}]
    read = ComicGeneration.parse({"id": "c", "status": "SUCCEEDED", "comics": comics})
    return [
        (url.rpartition("/")[2].removesuffix(".png"), name.removeprefix("c-p01-"))
        for url, name in asset_names(read)
    ]


@pytest.mark.parametrize(
    ("numbers", "places"),
    [
        ([0, 1, 2], [("0", "01"), ("1", "02"), ("2", "03")]),
        ([1, 2, 3], [("1", "01"), ("2", "02"), ("3", "03")]),
        ([2, 0, 1], [("0", "01"), ("1", "02"), ("2", "03")]),
        (["3", "1", "2"], [("1", "01"), ("2", "02"), ("3", "03")]),
        ([0, 3], [("0", "01"), ("3", "04")]),
        ([3, 1], [("1", "01"), ("3", "03")]),
        ([1, 0, 1, 2], [("0", "01"), ("1", "02"), ("2", "03")]),
        ([6, 4, 5], [("4", "01"), ("5", "02"), ("6", "03")]),
        ([20, 10, 0], [("0", "01"), ("10", "02"), ("20", "03")]),
        ([0, 10**9], [("0", "01"), ("1000000000", "02")]),
        ([1, None, 0], [("1", "01"), ("None", "02"), ("0", "03")]),
        ([5], [("5", "01")]),
        ([], []),
    ],
)
def test_a_picture_is_named_by_its_place(
    numbers: list[object], places: list[tuple[str, str]]
) -> None:
    """Else the second panel's picture has the first one's name once they come in another order."""
    assert names(*map(panel, numbers)) == places


def test_two_of_one_number_are_both_kept_where_they_are() -> None:
    """Nobody knows which of them is the newer one, and both may be paid for."""
    other = {"panel": 1, "assetUrl": "https://cdn.example/new.png"}
    read = names(panel(2), panel(1), other)
    assert [picture for picture, _ in read] == ["2", "1", "new"]


def test_pages_are_in_their_order_and_a_missing_panel_is_told() -> None:
    pages = [{"page": n, "panels": [panel(10 * n), panel(10 * n + 2)]} for n in (2, 0)]
    read = ComicGeneration.parse({"id": "c", "status": "SUCCEEDED", "comics": pages})
    assert [(one.page, len(one.panels)) for one in read.pages] == [(0, 3), (1, 0), (2, 2)]
    assert read.missing_pictures == ("comics[0].panels[1].assetUrl: None",)
    assert [name for _, name in asset_names(read)] == [
        *("c-p01-01", "c-p01-03", "c-p03-01", "c-p03-02"),
    ]


@given(st.lists(st.integers(0, 6) | st.none() | st.text(max_size=2), max_size=8))
def test_no_picture_is_lost_and_no_name_is_given_twice(numbers: list[object]) -> None:
    given_urls = {panel(number)["assetUrl"] for number in numbers}
    read = ComicGeneration.parse({"id": "c", "comics": [{"panels": list(map(panel, numbers))}]})
    assert set(read.asset_urls) == given_urls
    assert len({name for _, name in asset_names(read)}) == len(given_urls)
