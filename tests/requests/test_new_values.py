"""Values that may be new at the API are sent, with one warning; only nonsense is refused."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from llamagen_async import SIZES, ComicRequest, InvalidRequestError, VideoOptions
from llamagen_async.requests.fields import warn_once


@pytest.fixture(autouse=True)
def _nothing_was_said() -> None:
    warn_once.cache_clear()


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (ComicRequest, "size", "2048x2048"),
        (ComicRequest, "preset", "a-new-preset"),
        (ComicRequest, "model", "a-new-model"),
        (ComicRequest, "language", "jp"),
        (VideoOptions, "resolution", "8k"),
        (VideoOptions, "aspect_ratio", "21:9"),
    ],
)
def test_an_unknown_value_is_sent_with_one_warning(
    make: Any, field: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names field and value, and comes once for each value."""
    fields = {"prompt": "x"} if make is ComicRequest else {}
    for _ in range(3):
        assert value in make(**fields, **{field: value}).to_payload().values()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"{field}: {value!r}")


@pytest.mark.parametrize(
    "fields",
    [
        *({"size": size} for size in (*SIZES, "512x512", "1792x1024")),
        *({"preset": preset} for preset in ("render", "neutral", "japanese_manga")),
        *({"language": code} for code in ("en", "de", "zh-CN", "pt_BR", "EN")),
        {"model": "auto"},
    ],
)
def test_a_known_value_is_no_news(fields: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    ComicRequest.parse({"prompt": "x", **fields})
    assert not caplog.records


def test_an_unknown_field_of_a_role_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        ComicRequest("x", comic_roles=[{"name": "Tom", "mood": "dark"}])
    assert [record.getMessage()[:18] for record in caplog.records] == ["Character: 'mood' "]


@pytest.mark.parametrize("size", ["large", "1024", "1024x", "0x1024", "1024x1024px", "1e3x1e3"])
def test_what_is_no_size_is_refused(size: str) -> None:
    """The refusal says what a size looks like."""
    with pytest.raises(InvalidRequestError, match=r"^size: got .* allowed is WIDTHxHEIGHT"):
        ComicRequest("x", size=size)


def test_warnings_take_bounded_memory() -> None:
    """A program that sends ever new values fills no memory."""
    for number in range(3000):
        warn_once("preset", f"p{number}")
    assert warn_once.cache_info().currsize <= 1000
