"""A key is taken out of texts in every spelling that encoders know, and nothing else is."""

from __future__ import annotations

import base64
import html
import json
import re
import urllib.parse
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.transport.secret import Secret
from tests.support.spellings import spellings

KEY = "sk/live/CANARY-12+\"\\'&<0>~5678"
SECRET = Secret(KEY)

SPELLINGS = spellings(KEY)


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_each_spelling_is_taken_out(spelling: str) -> None:
    assert SECRET.removed_from(f"bad key {spelling}, sorry") == "bad key [key], sorry"


@pytest.mark.parametrize("before", ["", "Bearer ", "user:", "x:", "ab"])
@pytest.mark.parametrize("after", ["", ":", "\n", "more"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_taken_out_wherever_the_key_stands_in_it(
    before: str, after: str, encode: Any
) -> None:
    text = encode(f"{before}{KEY}{after}".encode()).decode()
    for written in (text, text.replace("/", "\\/"), urllib.parse.quote(text, safe="")):
        cleaned = SECRET.removed_from(f"<{written}>")
        assert "[key]" in cleaned
        assert len(cleaned) <= len("<[key]>") + len(before) * 2 + len(after) * 2 + 12


WAYS = ["", "\\u{:04x}", "\\\\u{:04X}", "%{:02x}", "%25{:02X}", "&#{};", "&#x0{:x};", "\\x{:02x}"]


@pytest.mark.once
@given(
    st.lists(
        st.tuples(st.sampled_from("abc-_09Z/+"), st.sampled_from(WAYS)), min_size=8, max_size=40
    )
)
def test_any_mixture_of_escapes_is_taken_out(characters: list[tuple[str, str]]) -> None:
    """A server that means to hide the key may write each character in its own way."""
    key = "".join(character for character, _ in characters)
    written = "".join(way.format(ord(character)) or character for character, way in characters)
    assert Secret(key).removed_from(f"<{written}>") == "<[key]>"


@given(st.text())
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert SECRET.removed_from(text) == text


def test_decoded_json_is_searched_as_a_whole() -> None:
    body = {KEY: [KEY, {"a": f"x{KEY}", "b": 3}], "n": None}
    assert SECRET.removed_from(body) == {"[key]": ["[key]", {"a": "x[key]", "b": 3}], "n": None}


OTHERS = {
    "in capitals": KEY.upper(),
    "in small letters": KEY.lower(),
    "in the other case": KEY.swapcase(),
    "in HTML in HTML": html.escape(html.escape(KEY)),
    "in entities in HTML": "".join(f"&amp;#{ord(one)};" for one in KEY),
    "in entities without an end": "".join(f"&#{ord(one)}" for one in KEY),
    "cut": KEY[:-5] + "...",
    "cut in JSON": json.dumps(KEY)[1:-6] + "\u2026",
    "cut in hexadecimal": KEY.encode().hex()[:-12] + "***",
}


@pytest.mark.parametrize("written", OTHERS.values(), ids=OTHERS.keys())
def test_what_no_encoder_does_is_taken_out_as_well(written: str) -> None:
    cleaned = SECRET.removed_from(f"bad key {written}, sorry")
    assert re.fullmatch(r"bad key \[key\][!-~]{0,12}(\.\.\.|\u2026|\*\*\*)?, sorry", cleaned)


def test_what_is_shown_of_a_key_that_is_hidden_stays() -> None:
    for shown in (f"{KEY[:9]}...{KEY[-4:]}", f"****{KEY[-6:]}", f"{KEY[:8]}\u2026"):
        assert SECRET.removed_from(shown) == shown


def test_a_short_key_could_be_any_word() -> None:
    secret = Secret("status")
    assert secret.removed_from({"status": "x status \\u0073"}) == {"status": "x status \\u0073"}


def test_it_does_not_show_the_key() -> None:
    assert "CANARY" not in repr(SECRET)
    assert "CANARY" not in str(SECRET)


def test_hostile_texts_without_the_key_are_read_once() -> None:
    """A text that begins like the key at every place, or is full of escapes, ends all the same."""
    for text in (KEY[:-1], "\\u0073\\", "%2525", "&#", "\\"):
        assert "[key]" not in SECRET.removed_from(text * 20_000)
