"""Values that are not Python's own, that can't be sent, or that their owner goes on changing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from llamagen_async.errors import InvalidRequestError
from llamagen_async.requests import (
    AnimationRequest,
    Character,
    ComicRequest,
    UpdateRequest,
    VideoOptions,
)
from llamagen_async.requests.defaults import Defaults
from llamagen_async.sandbox import SandboxService
from llamagen_async.simulation import simulated_client


class Float64(float):
    """A number like numpy's, as a data frame has them: it compares like an array of one."""

    def __eq__(self, other: object) -> Any:
        if isinstance(other, int | float):
            return float(self) == other
        raise ValueError("the truth value of an empty array is ambiguous")

    __ne__ = __eq__
    __hash__ = float.__hash__


class NoArray:
    """An array of no dimension, which says that it has items."""

    def __iter__(self) -> Iterator[str]:
        raise TypeError("iteration over a 0-d array")


@pytest.mark.parametrize("number", [Float64(3.5), Decimal("3.5"), Fraction(7, 2)])
def test_numbers_of_other_libraries_are_sent_as_pythons_own(number: Any) -> None:
    comic = ComicRequest("x", comic_roles=[{"name": "Tom", "age": number}])
    assert comic.to_payload()["comicRoles"] == [{"name": "Tom", "age": 3.5}]
    assert comic.comic_roles == (Character("Tom", age=3.5),)
    assert {type(role.age) for role in comic.comic_roles} == {float}
    video = AnimationRequest("x", video_options={"duration": number})
    assert json.dumps(video.to_payload()["videoOptions"]) == '{"duration": 3.5}'


def test_a_cast_takes_numbers_of_other_libraries() -> None:
    defaults = Defaults.parse({"comic_roles": [{"name": "Tom", "dress": "red"}]})
    story = {"prompt": "x", "comic_roles": [{"name": "tom", "age": Float64(3)}]}
    assert defaults.merged(story).comic_roles == (Character("tom", age=3.0, dress="red"),)


@pytest.mark.parametrize("number", [Decimal("NaN"), Decimal("sNaN"), Fraction(10**400)], ids="abc")
def test_numbers_that_are_none_are_refused_by_name(number: Any) -> None:
    for field in ("age", "duration"):
        with pytest.raises(InvalidRequestError) as caught:
            Character("x", age=number) if field == "age" else VideoOptions(duration=number)
        assert caught.value.field == field


@pytest.mark.parametrize("number", [10**400, 10**5000, -(10**5000)], ids=["a", "b", "c"])
def test_whole_numbers_that_can_not_be_sent_are_refused_by_name(number: int) -> None:
    cases: list[tuple[type[Any], str, dict[str, Any]]] = [
        (Character, "age", {"name": "x"}),
        (VideoOptions, "duration", {}),
        (VideoOptions, "seed", {}),
        (UpdateRequest, "panel", {"prompt": "x"}),
        (UpdateRequest, "page", {"prompt": "x", "panel": 0}),
    ]
    for cls, field, others in cases:
        with pytest.raises(InvalidRequestError) as caught:
            cls(**{**others, field: number})
        assert caught.value.field == field


def test_a_large_seed_is_one() -> None:
    assert VideoOptions(seed=2**128).to_payload() == {"seed": 2**128}


@pytest.mark.parametrize("field", ["images", "comic_roles", "comic_locations", "attachments"])
def test_what_has_no_items_is_no_list(field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ComicRequest.parse({"prompt": "x", field: NoArray()})
    assert caught.value.field == field


@pytest.mark.parametrize(
    "url",
    [
        "https://x/1.png https://x/2.png",  # a cell of a table
        "https://x/1.png;https://x/2.png",
        "https://x/1.png?a=1,http://x/2.png",
        "https://x/1.png|data:image/png;base64,AA==",
        "https://x/1.png\nhttps://x/2.png",
        "https://x/1.png\n",  # a line of a file
        "https://x/1.png ",
        "https://x/1.png data:image/png;base64,AA",
        *("https://", "http:///1.png", "https://?x"),
    ],
)
def test_what_is_no_url_or_several_is_refused_by_name(url: str) -> None:
    """A comic without its reference image would be paid for all the same."""
    cases: list[tuple[dict[str, Any], str]] = [
        ({"images": [url]}, "images[0]"),
        ({"prompt_url": url}, "prompt_url"),
        ({"comic_roles": [{"name": "Tom", "image": url}]}, "comic_roles[0].image"),
        ({"attachments": [{"url": url}]}, "attachments[0].url"),
    ]
    for fields, name in cases:
        with pytest.raises(InvalidRequestError) as caught:
            ComicRequest.parse({"prompt": "x", **fields})
        assert caught.value.field == name


@pytest.mark.parametrize(
    "url",
    [
        *("https://x/my cat.png", "http://x/?a=b c#d", "https://x/https://y/1.png"),
        *("https://b\u00fccher.example/1", "data:image/png;base64,AA\nBB"),
    ],
)
def test_urls_that_browsers_take_are_urls(url: str) -> None:
    assert ComicRequest("x", images=[url]).to_payload()["images"] == [url]


def test_fields_that_are_passed_on_are_those_of_the_time_of_the_request() -> None:
    extra: dict[Any, Any] = {"mood": {"words": ["glad"]}, 1: (2,)}
    given: dict[str, Any] = {"prompt": "x", "extra": extra}
    requests: list[ComicRequest | Character] = [
        ComicRequest("x", extra=extra),
        ComicRequest.parse(given),
        Character("x", extra=extra),
    ]
    sent = [json.dumps(one.to_payload()) for one in requests]
    extra["mood"]["words"].append("sad")
    extra["new"] = object()
    assert [json.dumps(one.to_payload()) for one in requests] == sent
    assert requests[0].extra == {"mood": {"words": ["glad"]}, "1": [2]}


@pytest.mark.virtual_time
async def test_stories_made_of_one_mapping_are_each_their_own() -> None:
    """A batch reads ahead, so that the mapping has changed when an earlier story is sent."""

    def stories() -> Iterator[ComicRequest]:
        extra: dict[str, Any] = {}
        for number in range(8):
            extra["seed"] = number
            yield ComicRequest("x", extra=extra)

    async with simulated_client(SandboxService(seed=1), plan="demo") as client:
        items = [item async for item in client.comics.batch(stories())]
    assert sorted(item.request.extra["seed"] for item in items if item.request) == [*range(8)]
