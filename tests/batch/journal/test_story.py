"""Stories: what stands beside a request's fields, and the names that a story has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchStory, ComicRequest, InvalidRequestError
from llamagen_async.batch.journal.story import (
    Story,
    checked_key,
    content_key,
    given_key,
    request_in,
)
from llamagen_async.requests import RequestType


def test_a_story_has_the_names_that_stand_beside_it() -> None:
    story = Story.parse({"type": "continue", "prompt": "on", "key": 7, "of": 6}, label="a.jsonl:2")
    assert (story.key, story.of, story.target, story.label) == ("7", "6", None, "a.jsonl:2")
    assert story.type is RequestType.CONTINUE
    assert set(story.request.to_payload()) & {"key", "of", "id", "type"} == set()
    by_id = Story.parse({"type": "continue", "prompt": "on", "id": "c1"}, "k")
    assert (by_id.key, by_id.of, by_id.target, by_id.label) == ("k", None, "c1", "")
    assert len({story.digest, by_id.digest, Story.parse("on").digest}) == 3


def test_the_apis_own_word_for_a_change_is_a_type() -> None:
    story = Story.parse({"action": "continueWrite", "prompt": "on", "of": "first"})
    assert story.type is RequestType.CONTINUE
    with pytest.raises(InvalidRequestError, match=r"^action: got 'regeneratePanel'"):
        Story.parse({"type": "continue", "action": "regeneratePanel", "prompt": "on", "of": "x"})


def test_a_batch_story_says_the_same() -> None:
    request = Story.parse({"type": "continue", "prompt": "on", "of": "x"}).request
    assert Story.parse(BatchStory(request, key="k", of="first")).of == "first"
    assert Story.parse(BatchStory(request, key="k", of="first")).key == "k"
    assert Story.parse(BatchStory(request, id="c1")).target == "c1"
    twice = BatchStory({"type": "continue", "prompt": "on", "key": "l"}, key="k", of="x")
    with pytest.raises(InvalidRequestError, match=r"^key: got 'l', allowed is given once"):
        Story.parse(twice)


def test_a_parsed_story_is_taken_as_it_is_under_a_key_if_one_is_given() -> None:
    story = Story.parse({"prompt": "a", "key": "k"})
    assert Story.parse(story) is story
    assert Story.parse(story, 8).key == "8"
    assert Story.parse(story, 8).digest == story.digest


def test_the_order_of_fields_makes_no_other_story() -> None:
    """Neither that of a story's own fields nor that of what the API may know beside them."""
    one = {"prompt": "a", "preset": "manga", "extra": {"b": {"d": 1, "c": 2}, "a": 3}}
    other = {"extra": {"a": 3, "b": {"c": 2, "d": 1}}, "preset": "manga", "prompt": "a"}
    assert Story.parse(one).digest == Story.parse(other).digest
    assert Story.parse(one).digest != Story.parse({**one, "extra": {"a": 3}}).digest


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"type": "continue", "prompt": "a"}, "of", "or id: that comic's own id"),
        ({"type": "continue", "prompt": "a", "of": "x", "id": "c"}, "id", "of or id, not both"),
        ({"type": "continue", "prompt": "a", "of": "k", "key": "k"}, "of", "another story"),
        ({"type": "continue", "prompt": "a", "of": " "}, "of", "text or a whole number"),
        ({"type": "continue", "prompt": "a", "id": ""}, "id", ""),
        ({"prompt": "a", "of": "x"}, "of", "only a change names a comic"),
        ({"prompt": "a", "id": "c"}, "id", "only a change names a comic"),
        (7, "request", "a prompt, a mapping of fields, a request or a BatchStory"),
    ],
)
def test_what_is_to_be_changed_is_said_once(given: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        Story.parse(given)
    assert error.value.field == field
    assert words in error.value.allowed
    said = given.get(field) if isinstance(given, dict) else given
    assert error.value.value == said, "what was given is shown"


def test_a_path_in_a_file_is_meant_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"x")
    story = Story.parse({"prompt": "a", "images": "cat.png"}, folder=tmp_path)
    assert str(tmp_path / "cat.png") in str(story.request)
    assert "cat.png" in story.text
    assert request_in(json.loads(story.text)) == story.request, "a path is one when it is read back"


@pytest.mark.parametrize(
    ("key", "text"), [("a", "a"), (7, "7"), (0, "0"), ("x" * 500, "x" * 500), ("\ufeffa", "a")]
)
def test_keys_are_text(key: object, text: str) -> None:
    assert checked_key(key) == text


def test_a_key_that_is_none_names_its_field() -> None:
    for bad in ("x" * 501, True, 10**501):
        with pytest.raises(InvalidRequestError, match=r"^of: got .+up to 500 characters$"):
            checked_key(bad, "of")


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"prompt": 5, "key": 7}, "7"),
        ({"prompt": 5, "key": ""}, None),
        ({"prompt": 5}, None),
        (BatchStory({"prompt": 5}, key="k"), "k"),
        (Story.parse("a", "k"), "k"),
        ("a prompt", None),
        (None, None),
    ],
)
def test_a_refused_story_is_named_if_it_has_a_good_name(given: object, key: str | None) -> None:
    assert given_key(given) == key


def test_a_name_made_of_content_counts_from_one() -> None:
    story = Story.parse("a")
    assert content_key(story, 2) == f"content:{story.digest.hex()}/2"
    assert len(story.digest) == 16


def test_what_a_journal_keeps_is_the_request() -> None:
    assert request_in({"prompt": "a", "fixPanelNum": 3}) == ComicRequest("a", fix_panel_num=3)
    with pytest.raises(InvalidRequestError, match=r"^prompt"):
        request_in({"prompt": 5})
