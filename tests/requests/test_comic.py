"""Requests are checked before they cost anything, and sent as they were given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.errors import InvalidRequestError
from llamagen_async.requests import SIZES, ComicFields, ComicRequest, Pagination

FULL: dict[str, Any] = {
    "prompt": "a story",
    "prompt_url": "https://stories/1",
    "model": "m",
    "preset": "render",
    "size": "1024x1024",
    "fix_panel_num": 4,
    "style": "ink",
    "language": "en",
    "upscale": "2K",
    "images": ["https://i/1.png"],
    "comic_roles": [{"name": "Cat", "age": "3"}],
    "comic_locations": [{"name": "City"}],
    "attachments": [{"url": "https://a/1.pdf", "type": "document"}],
}
PAYLOAD: dict[str, Any] = {
    "prompt": "a story",
    "promptUrl": "https://stories/1",
    "model": "m",
    "preset": "render",
    "size": "1024x1024",
    "fixPanelNum": 4,
    "style": "ink",
    "language": "en",
    "upscale": "2K",
    "images": ["https://i/1.png"],
    "comicRoles": [{"name": "Cat", "age": "3"}],
    "comicLocations": [{"name": "City"}],
    "attachments": [{"url": "https://a/1.pdf", "type": "document"}],
}
SIZES_NOT_THERE: tuple[object, ...] = ("1x1", "1024X1024", 1024, [])
UPSCALES_NOT_THERE: tuple[object, ...] = ("2k", 2, "8K", [])
COUNTS: tuple[object, ...] = (0, 21, -1, 1.5, "4", True, float("nan"))
TEXT = "text that is not empty"
URL = "https://"


@pytest.mark.parametrize(
    ("field", "value", "named", "allowed"),
    [
        *(("prompt", value, "prompt", TEXT) for value in ("", "  ", 5, ["x"])),
        *((name, "", name, TEXT) for name in ("model", "preset", "style", "language")),
        *((name, 7, name, TEXT) for name in ("model", "preset", "style", "language")),
        *(("fix_panel_num", value, "fix_panel_num", "1 to 20") for value in COUNTS),
        *(("size", value, "size", SIZES[0]) for value in SIZES_NOT_THERE),
        *(("upscale", value, "upscale", "'2K'") for value in UPSCALES_NOT_THERE),
        *(("prompt_url", value, "prompt_url", URL) for value in ("story.txt", "ftp://x", 3, "")),
        ("images", ["https://ok", "no"], "images[1]", URL),
        ("images", [None], "images[0]", URL),
        ("images", "here.png", "images[0]", URL),
        ("comic_roles", [{"name": "A"}, {}], "comic_roles[1].name", TEXT),
        ("comic_roles", ["Cat"], "comic_roles[0]", "a Character or a mapping with a name"),
        ("comic_roles", {"name": " "}, "comic_roles[0].name", TEXT),
        ("comic_locations", [{"name": 3}], "comic_locations[0].name", TEXT),
        ("attachments", ["https://a"], "attachments[0]", "a mapping with a url"),
        ("comic_roles", [{"name": "A", "age": True}], "comic_roles[0].age", "a number"),
        ("comic_roles", [{"name": "A", "age": float("nan")}], "comic_roles[0].age", "a number"),
        ("comic_roles", [{"name": "A", "image": "tom.png"}], "comic_roles[0].image", URL),
        ("comic_roles", [{"name": "A", "mood": {1}}], "comic_roles[0].mood", "JSON"),
        ("comic_roles", [{"name": "A", "extra": 5}], "comic_roles[0].extra", "a mapping"),
        ("attachments", [{}], "attachments[0].url", URL),
        ("attachments", {"url": "https://a", "type": "audio"}, "attachments[0].type", "video"),
        ("pagination", 4, "pagination", "a mapping"),
        ("pagination", {"total_pages": 2}, "pagination.panels_per_page", "1 to 20"),
        ("pagination", {"totalPages": 0, "panelsPerPage": 2}, "pagination.total_pages", "1 to 20"),
        ("fixPanelNum", 0, "fix_panel_num", "1 to 20"),
        ("pagination", {"pages": 2}, "pagination.pages", "the names total_pages, panels_per_page"),
        ("extra", [1], "extra", "a mapping"),
        ("images", 5, "images", URL),
        ("comic_roles", 5, "comic_roles", "mapping"),
        ("comic_locations", 5, "comic_locations", "mapping"),
        ("attachments", 5, "attachments", "mapping"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(
    field: str, value: object, named: str, allowed: str
) -> None:
    """A refusal names the field, repeats what was given and says what is allowed."""
    fields: dict[str, Any] = {"prompt": "x", field: value}
    with pytest.raises(InvalidRequestError) as caught:
        ComicRequest.parse(fields)
    assert caught.value.field == named
    assert allowed in caught.value.allowed
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [0, 21, "3", True, None])
@pytest.mark.parametrize("field", ["total_pages", "panels_per_page"])
def test_pagination_counts_from_1_to_20(field: str, value: Any) -> None:
    """Both numbers of a pagination are checked."""
    numbers: dict[str, Any] = {"total_pages": 1, "panels_per_page": 20, field: value}
    with pytest.raises(InvalidRequestError) as caught:
        Pagination(**numbers)
    assert caught.value.field == field
    assert caught.value.value is value


@pytest.mark.parametrize("fields", [{}, {"prompt": None}, {"style": "ink"}])
def test_a_story_is_required(fields: dict[str, Any]) -> None:
    """A request needs a prompt or the URL of one."""
    with pytest.raises(InvalidRequestError, match="prompt: got None") as caught:
        ComicRequest(**fields)
    assert "prompt_url" in caught.value.allowed


def test_a_prompt_url_is_enough() -> None:
    """A story may be somewhere else."""
    assert ComicRequest(prompt_url="https://s/1").to_payload() == {"promptUrl": "https://s/1"}


def test_panels_are_counted_one_way_only() -> None:
    """`fix_panel_num` and `pagination` exclude each other."""
    with pytest.raises(InvalidRequestError, match="when pagination is given"):
        ComicRequest("x", fix_panel_num=4, pagination=Pagination(1, 4))


def test_nothing_that_was_not_given_is_sent() -> None:
    """The server's defaults stay the server's."""
    assert ComicRequest("a story").to_payload() == {"prompt": "a story"}
    empty: list[Any] = []
    assert ComicRequest("a", images=empty, comic_roles=empty, upscale=None).to_payload() == {
        "prompt": "a"
    }


def test_false_is_something_that_was_given() -> None:
    """An explicit `False` is sent."""
    assert ComicRequest("a", upscale=False).to_payload() == {"prompt": "a", "upscale": False}


def test_the_payload_is_spelled_as_the_api_does() -> None:
    """Snake case is for Python; the API gets its own names."""
    assert ComicRequest(**FULL).to_payload() == PAYLOAD


def test_both_spellings_are_read() -> None:
    """A mapping in the API's spelling is the same request as one in Python's."""
    assert ComicRequest.parse(PAYLOAD) == ComicRequest.parse(FULL) == ComicRequest(**FULL)


@pytest.mark.parametrize(
    "given_as",
    [
        Pagination(2, 3),
        {"total_pages": 2, "panels_per_page": 3},
        {"totalPages": 2, "panelsPerPage": 3},
    ],
)
def test_pagination_is_given_as_a_mapping_or_as_itself(given_as: Any) -> None:
    """All three forms are sent alike."""
    request = ComicRequest("x", pagination=given_as)
    assert request.pagination == Pagination(2, 3)
    assert request.to_payload()["pagination"] == {"totalPages": 2, "panelsPerPage": 3}


def test_one_item_need_not_be_a_list() -> None:
    """A single URL or mapping is a list of one."""
    single: dict[str, Any] = {"comic_roles": {"name": "A"}, "attachments": {"url": "data:x"}}
    request = ComicRequest("x", images="https://i", **single)
    assert request.to_payload() == {
        "prompt": "x",
        "images": ["https://i"],
        "comicRoles": [{"name": "A"}],
        "attachments": [{"url": "data:x"}],
    }


@pytest.mark.parametrize(("levels", "fits"), [(50, True), (51, False), (9000, False)])
def test_extra_is_nested_in_fifty_levels_at_most_on_every_python(levels: int, fits: bool) -> None:
    deep: list[Any] = []
    for _ in range(levels - 1):
        deep = [deep]
    if fits:
        assert ComicRequest("x", extra={"mood": deep}).to_payload()["mood"] == deep
        return
    with pytest.raises(InvalidRequestError, match="mood"):
        ComicRequest("x", extra={"mood": deep})


def test_extra_wins_and_passes_anything_on() -> None:
    """Fields in `extra` are sent as they are, even in place of a known field."""
    request = ComicRequest("x", size="512x768", extra={"size": "4096x4096", "mood": {"dark": True}})
    assert request.to_payload() == {"prompt": "x", "size": "4096x4096", "mood": {"dark": True}}


@pytest.mark.parametrize(
    ("given_name", "meant"),
    [
        ("promt", "prompt"),
        ("fixPanelNumber", "fixPanelNum"),
        ("fix_panels_num", "fix_panel_num"),
        ("comicRole", "comicRoles"),
    ],
)
def test_a_misspelled_field_is_refused_with_the_right_name(given_name: str, meant: str) -> None:
    """An unknown field is refused with the name that was probably meant."""
    with pytest.raises(InvalidRequestError, match=f"did you mean {meant!r}") as caught:
        ComicRequest.parse({"prompt": "x", given_name: 4})
    assert caught.value.field == given_name


def test_a_field_like_no_other_gets_no_hint() -> None:
    """There is no suggestion where nothing is near; `extra` is pointed to."""
    with pytest.raises(InvalidRequestError) as caught:
        ComicRequest.parse({"prompt": "x", "zzzzzz": 1})
    assert "did you mean" not in str(caught.value)
    assert "extra" in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, ["a"], b"a"])
def test_a_request_is_text_a_mapping_or_itself(value: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidRequestError, match=r"^request: got"):
        ComicRequest.parse(value)


def test_parsing_a_request_or_a_prompt() -> None:
    """A request is returned as it is, and text becomes one."""
    request = ComicRequest("x")
    assert ComicRequest.parse(request) is request
    assert ComicRequest.parse("x") == request
    assert Pagination.parse(pagination := Pagination(1, 1)) is pagination


def test_a_long_value_is_not_repeated_whole() -> None:
    """A message stays readable whatever was given."""
    with pytest.raises(InvalidRequestError) as caught:
        ComicRequest("x", size="9" * 5000)
    assert len(str(caught.value)) < 400
    assert caught.value.value == "9" * 5000


def test_the_keyword_arguments_are_the_fields() -> None:
    """`create(**fields)` has the type of every field but the prompt."""
    fields = {field.name for field in attrs.fields(ComicRequest)}
    assert set(ComicFields.__annotations__) == fields - {"prompt"}


class Int64:
    """A whole number as numpy, pandas and databases have it."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


def test_whole_numbers_of_other_libraries_are_numbers() -> None:
    """A data frame's are, and what is sent are Python's own."""
    number: Any = Int64(4)
    request = ComicRequest("x", fix_panel_num=number)
    assert json.dumps(request.to_payload()) == '{"prompt": "x", "fixPanelNum": 4}'
    pages = Pagination(number, Int64(2))
    assert pages == Pagination(4, 2)
    with pytest.raises(InvalidRequestError, match="fix_panel_num"):
        ComicRequest("x", fix_panel_num=Int64(21))


def test_requests_can_be_kept_in_sets() -> None:
    requests = [
        ComicRequest("x", comic_roles=[{"name": "A"}], extra={"a": [1]}, images=["https://x"])
        for _ in range(2)
    ]
    assert len(set(requests)) == 1
    assert len({*requests, ComicRequest("x"), ComicRequest("y")}) == 3


class Rows(list[str]):
    """A value that compares like numpy's arrays do: to no truth."""

    def __eq__(self, other: object) -> Any:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None


@pytest.mark.parametrize("field", ["size", "upscale", "model", "prompt"])
def test_an_array_is_refused_by_name(field: str) -> None:
    with pytest.raises(InvalidRequestError, match=field):
        ComicRequest.parse({"prompt": "x", field: Rows(["a"])})


def test_a_value_that_is_huge_or_deep_is_shown_in_short() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    values: list[Any] = ["\ud800" * 10**6, {"x": "y" * 10**6}]
    values += [deep, list(range(10**6)), 10**4000, 10**9000]
    for value in values:
        with pytest.raises(InvalidRequestError, match="size") as caught:
            ComicRequest("x", size=value)
        assert len(str(caught.value)) < 400


@given(
    st.dictionaries(
        st.sampled_from([*FULL, "pagination", "extra"]) | st.text(max_size=8),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.lists(st.text(max_size=5) | st.dictionaries(st.text(max_size=4), st.text()))
        | st.dictionaries(st.sampled_from(["name", "url", "totalPages"]), st.integers()),
    )
)
def test_bad_input_is_always_an_invalid_request(fields: Mapping[str, Any]) -> None:
    """Whatever is given is accepted or refused by name; no other error comes out."""
    payload: dict[str, Any] = {}
    refusals: list[InvalidRequestError] = []
    try:
        payload = ComicRequest.parse(fields).to_payload()
    except InvalidRequestError as error:
        refusals.append(error)
    assert all(refusal.field and refusal.allowed for refusal in refusals)
    extra = fields.get("extra") or {}
    assert all(value is not None for name, value in payload.items() if name not in extra)
