"""Text and data from outside are bounded and cleaned; short and plain ones stay as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.foreign import (
    MOST_DEPTH,
    MOST_LETTERS,
    bounded,
    clean_text,
    is_nested_deeper,
    storable,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def depth_of(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth_of, inner)) if inner else int(isinstance(value, dict | list))


def levels_of(value: object) -> int:
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(levels_of, inner), default=0)


def nested(levels: int) -> Any:
    value: Any = "bottom"
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@given(st.text(), st.integers(1, 50))
def test_foreign_text_becomes_one_short_printable_line(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)
    assert cleaned.isprintable()
    assert len(cleaned) <= limit


def test_control_characters_are_shown_escaped() -> None:
    assert clean_text("a\x1b[31m\nb\u202e\ud800") == "a\\x1b[31m b\\u202e\\ud800"


@pytest.mark.once
@given(JSON, st.integers(0, 6))
def test_the_levels_of_nested_lists_and_objects_are_counted(value: Any, levels: int) -> None:
    assert is_nested_deeper(value, levels) == (levels_of(value) > levels)


@pytest.mark.once
@given(JSON)
def test_what_is_short_is_kept_as_it_is(value: Any) -> None:
    """Only what can't be stored is changed in an answer of a usual size."""
    kept = bounded(value)
    assert depth_of(kept) <= MOST_DEPTH
    json.dumps(kept, ensure_ascii=False).encode()
    if json.dumps(value, ensure_ascii=False).isprintable():
        assert kept == value


def test_half_a_character_is_written_as_escape() -> None:
    assert bounded({"a\ud800": ["x\udfff", "🐈"]}) == {"a\\ud800": ["x\\udfff", "🐈"]}
    assert storable("caf\u00e9") == "caf\u00e9"


@pytest.mark.parametrize("levels", [MOST_DEPTH, MOST_DEPTH + 1, 900])
def test_what_is_nested_too_deep_is_nothing(levels: int) -> None:
    kept = bounded(nested(levels))
    assert depth_of(kept) == MOST_DEPTH
    assert ("bottom" in str(kept)) is (levels == MOST_DEPTH)
    assert ("None" in str(kept)) is (levels != MOST_DEPTH)


def test_a_long_text_is_cut_and_says_so() -> None:
    kept = bounded({"failureReason": "x" * 4_000_000, "output": "https://x/y"})
    assert kept["failureReason"] == "x" * 32_767 + "…"
    assert kept["output"] == "https://x/y"


def test_json_in_a_text_is_not_cut() -> None:
    """Old answers have their pictures in it."""
    data = json.dumps({"panels": [{"assetUrl": "https://x/" + "y" * 500}] * 400})
    assert bounded({"images": ["x" * 99_999] * 20, "comicData": data})["comicData"] == data
    assert len(bounded({"comicData": "x" * 9_000_000})["comicData"]) <= MOST_LETTERS


def test_long_texts_do_not_use_up_the_room_for_urls() -> None:
    """The pictures are the last in the answer, after pictures that were given as data URLs."""
    url = "https://x/" + "y" * 4000
    kept = bounded({"images": ["data:" + "x" * 100_000] * 99, "comics": [url] * 99})
    assert kept["comics"] == [url] * 99
    assert len(json.dumps(kept)) < MOST_LETTERS


@pytest.mark.parametrize(
    "hostile",
    [
        ["x" * 4000] * 10_000,
        [[]] * 300_000,
        {str(number): number for number in range(300_000)},
        {"x" * 10_000 + str(number): 1 for number in range(3000)},
        [["x" * 40_000] * 100] * 100,
    ],
)
def test_no_answer_keeps_more_than_is_stated(hostile: Any) -> None:
    kept = bounded(hostile)
    # The last part may be longer than the room that was left for it.
    assert len(json.dumps(kept)) <= MOST_LETTERS + 40_000
