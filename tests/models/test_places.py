"""Answers that have their pictures, ids and words at other places than usual."""

from __future__ import annotations

from typing import Any

import pytest

from llamagen_async.models import (
    Animation,
    ComicGeneration,
    GenerationStatus,
    Usage,
)


@pytest.mark.parametrize(
    ("answer", "urls"),
    [
        (
            {"panels": [{"assetUrl": "https://a"}, {"image": "https://b"}]},
            ("https://a", "https://b"),
        ),
        ({"panel": {"panel": 2, "assetUrl": "https://a"}, "page": 1}, ("https://a",)),
        ({"panel": 2, "page": 1, "assetUrl": "https://a"}, ("https://a",)),
        ({"page": {"page": 1, "panels": [{"panel": 2, "assetUrl": "https://a"}]}}, ("https://a",)),
        ({"pages": [{"panels": [{"assetUrl": "https://a"}]}]}, ("https://a",)),
        ({"comics": [{"panels": [{"assetUrl": "https://a"}]}], "panels": [{}]}, ("https://a",)),
        ({"panel": 2, "page": 1}, ()),
        ({"panels": "none", "panel": [], "page": 5}, ()),
    ],
)
def test_pictures_are_found_at_every_place(answer: dict[str, Any], urls: tuple[str, ...]) -> None:
    """Answers about one page or one panel, and older ones, have them elsewhere."""
    comic = ComicGeneration.parse({"id": "x", "status": "SUCCEEDED", **answer})
    assert comic.asset_urls == urls
    assert comic.raw == {"id": "x", "status": "SUCCEEDED", **answer}


def test_one_panel_keeps_its_numbers() -> None:
    """A part of a comic is numbered as in the whole."""
    for answer in ({"panel": {"panel": 2}}, {"panel": 2, "assetUrl": "https://a"}):
        (page,) = ComicGeneration.parse({"id": "x", "page": 1, **answer}).pages
        assert (page.page, [panel.panel for panel in page.panels]) == (1, [2])


@pytest.mark.parametrize("model", [ComicGeneration, Animation])
@pytest.mark.parametrize("around", ["artwork", "data"])
def test_an_id_is_found_one_level_deeper(model: Any, around: str) -> None:
    """An old create answers with the generation within another object."""
    inner = {"id": "x", "status": "FAILED", "error": {"code": "no_credits"}}
    found = model.parse({"ok": True, around: inner})
    assert (found.id, found.status) == ("x", GenerationStatus.FAILED)
    assert found.failure_reason == "no_credits"
    assert found.raw == {"ok": True, around: inner}
    assert model.parse({"id": "y", around: inner}).id == "y"


@pytest.mark.parametrize(
    ("word", "status"),
    [("QUEUED", GenerationStatus.PENDING), ("error", GenerationStatus.FAILED)],
)
def test_words_that_others_have_seen_are_known(word: str, status: GenerationStatus) -> None:
    assert GenerationStatus.parse(word) is status


@pytest.mark.parametrize("name", ["credits", "creditBalance", "remaining"])
@pytest.mark.parametrize(("given", "read"), [(12, 12), (0, 0), ("7.5", 7.5)])
def test_the_credits_that_are_left_have_three_names(name: str, given: object, read: float) -> None:
    """The first one that has a number counts."""
    assert Usage.parse({name: given}).credits == read
    assert Usage.parse({"credits": None, name: given}).credits == read
    assert Usage.parse({"credits": "many", "remaining": 3}).credits == 3


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (True, True),
        (1, True),
        ("true", True),
        ("True", True),
        ("1", True),
        (0, False),
        ("false", False),
        ("yes", None),
        (2, None),
        ([], None),
        (None, None),
    ],
)
def test_a_paid_plan_may_be_said_in_other_words(given: object, *, read: bool | None) -> None:
    """Else a paid key is kept to the demo plan's fifteen requests a day."""
    assert Usage.parse({"isPaidPlan": given}).is_paid_plan is read


def test_an_animation_tells_how_it_is_made() -> None:
    options = {"duration": 5, "new": [1]}
    assert Animation.parse({"id": "x", "videoOptions": options}).video_options == options
    assert Animation.parse({"id": "x", "videoOptions": "5 s"}).video_options == {}


def test_text_that_holds_json_is_bounded_like_an_answer() -> None:
    """Deep parts of it are left out, and every URL in it can be stored."""
    deep = '{"pages":' * 900 + "[]" + "}" * 900
    assert ComicGeneration.parse({"id": "x", "comicData": deep}).pages == ()
    half = '{"panels": [{"assetUrl": "https://a/\\ud83d"}]}'
    (url,) = ComicGeneration.parse({"id": "x", "comicData": half}).asset_urls
    assert url.encode() == b"https://a/\\ud83d"
