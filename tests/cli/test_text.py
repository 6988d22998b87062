"""Durations, numbers, limits and foreign text, as people read them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from llamagen_async import RateLimit
from llamagen_async.cli.text import (
    clock_time,
    columns,
    fitted,
    format_duration,
    format_limit,
    format_time,
    one_line,
    pluralize,
    shortened,
    wrapped,
)


def test_values_are_formatted_for_people() -> None:
    assert [format_duration(s) for s in (0, 44.6, 90, 150, 3590, 7800)] == [
        "0 s",
        "45 s",
        "2 min",
        "3 min",
        "1 h",
        "2 h 10 min",
    ]
    assert [clock_time(s) for s in (7, 750, 3723)] == ["0:07", "12:30", "1:02:03"]
    assert [pluralize(1, "story"), pluralize(2, "story"), pluralize(0, "comic")] == [
        "1 story",
        "2 stories",
        "0 comics",
    ]
    assert format_limit(RateLimit(10, 60)) == "10 requests per minute"
    assert one_line("a\x1b[31m\nb\u202e c") == "a [31m b c"
    assert shortened("a long story", 7) == "a long…"


@pytest.mark.parametrize(
    "word", ["\u0645\u06cc\u200c\u062e\u0648", "क्\u200dष", "\U0001f408\u200d\u2b1b"]
)
def test_what_joins_letters_is_kept(word: str) -> None:
    """A space in its place makes two words of one, and two animals of a black cat."""
    assert one_line(f"{word}\u200b {word}\x1b") == f"{word} {word}"


def test_a_name_that_is_no_text_is_shown_with_escapes() -> None:
    """Without them another file's name would be shown."""
    assert one_line("a\udcff b\n/c") == "a\\udcff b /c"


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("a cat", 5, "a cat"),
        ("a cat meets", 8, "a cat m…"),
        ("一只猫遇见了龙", 14, "一只猫遇见了龙"),
        ("一只猫遇见了龙", 8, "一只猫…"),
        ("一只猫遇见了龙", 7, "一只猫…"),
        ("e\u0301" * 9, 9, "e\u0301" * 9),
        ("e\u0301" * 9, 3, "e\u0301" * 2 + "…"),
        ("\u2764\ufe0f" * 3, 5, "\u2764\ufe0f" * 2 + "…"),
        ("猫", 1, "…"),
    ],
)
def test_a_line_fits_columns_and_not_letters(text: str, width: int, shown: str) -> None:
    """Chinese takes two columns a letter, an accent none."""
    assert fitted(text, width) == shown
    assert columns(shown) <= width


def test_prose_is_broken_on_a_terminal_of_hardly_any_columns() -> None:
    path = "/a-long-folder/of-mine/quota.db"
    assert wrapped(f"it is {path} now", 0).splitlines() == ["it is", path, "now"]


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("UTC0", "2026-11-28 02:20:05 UTC"),
        ("XYZ-3", "2026-11-28 05:20:05 (2026-11-28T02:20:05Z)"),
    ],
)
def test_a_time_is_said_once(monkeypatch: pytest.MonkeyPatch, zone: str, said: str) -> None:
    if not hasattr(time, "tzset"):
        zone = ""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        getattr(time, "tzset", lambda: None)()
        text = format_time(datetime(2026, 11, 28, 2, 20, 4, 500_000, tzinfo=UTC))
    getattr(time, "tzset", lambda: None)()
    assert text == said or not zone
