"""Durations, numbers, limits and foreign text, as people read them."""

from __future__ import annotations

from llamagen_async import RateLimit
from llamagen_async.cli.text import (
    clock_time,
    format_duration,
    format_limit,
    one_line,
    pluralize,
    shortened,
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
