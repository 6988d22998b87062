"""Checks that several rooms share: text that nobody meant, ids and paths that can't be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async.batch.journal.codec import AccountId
from llamagen_async.batch.journal.journal import Journal
from llamagen_async.batch.journal.story import Story
from llamagen_async.errors import InvalidRequestError
from llamagen_async.quota import check_quota
from llamagen_async.requests import ComicRequest
from llamagen_async.validation import (
    checked_id,
    checked_path,
    seconds,
    shown,
    text_problem,
    whole_number,
)

UNMEANT = ["\0", "\x08", "\x1b", "\x7f", "\x80", "\x9b", "\ud83d", "\udce9", "\ufffe", "\U0010ffff"]
MEANT = [
    "\t\n\v\f\r\x85\u2028\u2029",
    "\N{ZERO WIDTH JOINER}\u202e",
    "e\u0301 \ue000 漫 🐈",
    "\ufffd",
]


@pytest.mark.parametrize("bad", UNMEANT)
@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("prompt", ComicRequest),
        ("prompt", lambda text: Story.parse({"prompt": text, "key": "k"})),
        ("key", lambda text: Story.parse({"prompt": "a", "key": text})),
        ("prompt_url", lambda text: ComicRequest(prompt_url=f"https://x/{text}")),
        ("style", lambda text: ComicRequest("a", style=text)),
        ("images[1]", lambda text: ComicRequest("a", images=["https://x", f"https://x/{text}"])),
        ("comic_roles[0].name", lambda text: ComicRequest("a", comic_roles=[{"name": text}])),
        ("comic_roles[0].age", lambda x: ComicRequest("a", comic_roles=[{"name": "A", "age": x}])),
        ("new.a[0]", lambda text: ComicRequest("a", extra={"new": {"a": [text]}})),
        ("a name in new", lambda text: ComicRequest("a", extra={"new": {text: 1}})),
        ("id", lambda text: checked_id("id", text)),
    ],
)
def test_text_that_nobody_meant_is_refused_by_its_field(field: str, make: Any, bad: str) -> None:
    """A request with it in it would be paid for."""
    with pytest.raises(InvalidRequestError) as caught:
        make(f"caf{bad}")
    assert str(caught.value).startswith(f"{field}: got ")
    assert f"{ord(bad):04X}" in str(caught.value) or "0xE9" in str(caught.value)


@pytest.mark.parametrize("text", MEANT)
def test_text_of_all_scripts_is_sent_as_it_is(text: str) -> None:
    prompt = f"a{text}b"
    request = ComicRequest(prompt, extra={"new": [prompt, {prompt: ""}]})
    assert request.to_payload() == {"prompt": prompt, "new": [prompt, {prompt: ""}]}


@given(st.text(st.characters()))
def test_what_is_let_through_is_utf8_and_steers_no_terminal(text: str) -> None:
    if text_problem(text) is None:
        assert text.encode("utf-8").decode("utf-8") == text
        assert not set(text) & set("\0\x07\x1b\x9b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "\ufeff",
        "\u200b\u200d ",
        "\u2028",
        "\u2800 \u2800",
        "\u3164",
        "\ufe0f",
        "\U000e0100",
    ],
)
def test_text_that_shows_nothing_is_empty(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="text that is not empty"):
        ComicRequest(text)
    assert ComicRequest(f"\u2764{text}").to_payload()["prompt"][0] == "\u2764"


def test_the_message_says_where() -> None:
    with pytest.raises(InvalidRequestError, match=r"U\+0000 at character 201"):
        ComicRequest("x" * 200 + "\0")
    with pytest.raises(InvalidRequestError, match=r"not UTF-8 .0xE9 at character 4"):
        ComicRequest("caf\udce9")


def test_a_mark_of_byte_order_makes_no_other_story() -> None:
    assert Story.parse("\ufeffa cat", key="\ufeff7") == Story.parse("a cat", key="7")


@pytest.mark.parametrize("bad", ["", " ", "..", ".", "a\n", " a", "\ufeffa", "a\u200bb", 7, None])
def test_an_id_has_nothing_around_it(bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^id: got .*, allowed is "):
        checked_id("id", bad)


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", 7, b"a"])
def test_a_path_that_can_not_be_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^out: got"):
        checked_path("out", bad)
    with pytest.raises(InvalidRequestError, match=r"^journal: got"):
        Journal(bad, AccountId("http://127.0.0.1", "x"))
    if isinstance(bad, str):
        with pytest.raises(InvalidRequestError, match=r"^quota: got"):
            check_quota(f"sqlite:///{bad}")


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_a_path_may_have_bytes_in_it_that_are_no_text() -> None:
    assert checked_path("out", "caf\udce9") == Path("caf\udce9")


@pytest.mark.parametrize(
    "name", ["/tmp/" + "x" * 300 + "/cast.json", "/" + "\u20ac\0" * 99 + ".json"]
)
def test_of_a_long_path_the_end_is_shown_too(name: str) -> None:
    """A message that names half of the folders and no file helps nobody."""
    text = shown(name)
    assert len(text) == 80
    assert text.startswith("'/")
    assert text.endswith(".json'")


def test_a_number_too_long_to_be_shown_is_still_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ComicRequest("a", fix_panel_num=10**5000)
    assert str(caught.value).startswith("fix_panel_num: got a large int")


@pytest.mark.parametrize("number", [2**63, 10**40])
def test_a_whole_number_that_no_database_holds_is_refused_with_its_bound(number: int) -> None:
    with pytest.raises(InvalidRequestError, match=r"at least 1, up to 9223372036854775807$"):
        whole_number("limit", number, at_least=1)
    assert whole_number("limit", 2**63 - 1, at_least=1) == 2**63 - 1


@pytest.mark.parametrize("value", [0, -1, True, "2", None, float("inf"), float("nan"), 10**400])
def test_seconds_are_a_finite_number_greater_than_0(value: Any) -> None:
    """Anything else is refused, with the argument's name and what is allowed."""
    with pytest.raises(InvalidRequestError, match=r"^timeout: got .* number of seconds") as caught:
        seconds("timeout", value)
    assert caught.value.value is value


def test_seconds_may_have_a_bound() -> None:
    """A value up to the bound is returned as a float; a larger one is refused with the bound."""
    assert seconds("timeout", 60, at_most=60) == 60.0
    assert type(seconds("timeout", 60)) is float
    with pytest.raises(InvalidRequestError, match=r"up to 60$"):
        seconds("timeout", 60.5, at_most=60)
