"""Signed URLs say in several ways until when they are valid."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.models.expiry import expires_at

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("query", "until"),
    [
        ("X-Amz-Date=20260101T110000Z&X-Amz-Expires=3600&X-Amz-Signature=s", NOON),
        ("X-Goog-Expires=3600&X-Goog-Date=20260101T110000Z", NOON),
        ("x-oss-date=20260101T110000Z&x-oss-expires=3600", NOON),
        (f"Expires={NOON:.0f}&Signature=s&Key-Pair-Id=k", NOON),
        ("sv=2024&se=2026-01-01T12%3A00%3A00Z&sig=s", NOON),
        ("se=2026-01-01&sig=s", NOON - 43_200),
        ("se=sweden", None),
        ("X-Amz-Expires=3600", None),
        ("X-Amz-Date=yesterday&X-Amz-Expires=3600", None),
        ("Expires=never", None),
        ("expires=", None),
        ("width=1024", None),
        ("", None),
    ],
)
def test_a_url_says_until_when_it_is_valid(query: str, until: float | None) -> None:
    assert expires_at(f"https://files.example/a.png?{query}") == until


@given(st.text(), st.text(), st.sampled_from(["expires", "se", "sig", "x-a-date", "x-a-expires"]))
def test_any_text_is_read(begin: str, value: str, name: str) -> None:
    for url in (begin, f"https://f.example/{begin}?{name}={value}&sig=x&x-a-expires={value}"):
        assert expires_at(url) is None or isinstance(expires_at(url), float)
