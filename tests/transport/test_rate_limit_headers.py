"""An answer knows what its headers say about the limits, in any spelling."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.transport import decode


def rate_limit(headers: dict[str, str]) -> tuple[int | None, int | None]:
    return decode(200, headers, b"{}", now=datetime(2026, 1, 1, tzinfo=UTC)).rate_limit


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (None, None)),
        ({"Content-Type": "application/json"}, (None, None)),
        ({"RateLimit-Limit": "10", "RateLimit-Remaining": "3"}, (10, 3)),
        ({"X-RateLimit-Limit": "4", "x-ratelimit-remaining": "0"}, (4, 0)),
        ({"X-Rate-Limit-Remaining": "7"}, (None, 7)),
        ({"RateLimit-Limit": "10, 10;w=60", "RateLimit-Remaining": "9"}, (10, 9)),
        ({"RateLimit": "limit=10, remaining=4, reset=20"}, (10, 4)),
        ({"RateLimit": '"minute";r=5;t=30', "RateLimit-Policy": '"minute";q=10;w=60'}, (10, 5)),
        ({"RateLimit-Policy": '"minute";q=10;w=60'}, (None, None)),
        ({"RateLimit-Remaining": "plenty"}, (None, None)),
        ({"RateLimit-Remaining": "-1"}, (None, None)),
    ],
)
def test_every_spelling_is_read(
    headers: dict[str, str], expected: tuple[int | None, int | None]
) -> None:
    """The limit, and how many requests are left of it."""
    assert rate_limit(headers) == expected


@given(st.dictionaries(st.sampled_from(["RateLimit", "RateLimit-Remaining"]), st.text()))
def test_no_value_breaks_an_answer(headers: dict[str, str]) -> None:
    """Whatever text a proxy puts there, the numbers are counts or missing."""
    limit, left = rate_limit(headers)
    assert limit is None or limit >= 0
    assert left is None or left >= 0
