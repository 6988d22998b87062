"""Rows: what is no row of ours is refused, and a row says how far its story has come."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from llamagen_async import (
    Animation,
    APIConnectionError,
    APIError,
    APITimeoutError,
    BatchState,
    ComicGeneration,
    GenerationFailedError,
    InvalidRequestError,
    LlamaGenError,
    RateLimitError,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.batch.journal.codec import (
    COLUMNS,
    AccountId,
    Row,
    dump_error,
    dump_generation,
    load_error,
)
from llamagen_async.batch.journal.story import Story
from llamagen_async.errors import InvalidResponseError, ServerError
from llamagen_async.requests import RequestType
from tests.support.journals import comic

STORY = Story.parse("a cat", key="k")
AT = 1_700_000_000.0


def row(**given: Any) -> Row:
    """Return a queued story, or one of which some columns are given."""
    columns: dict[str, Any] = {
        "serial": 1,
        "id": 7,
        "key": "k",
        "digest": STORY.digest,
        "request_text": STORY.text,
        "type": "comic",
        "of": None,
        "target": None,
        "urgent": 0,
        "label": "a:1",
        "position": 0,
        "state": "queued",
        "attempts": 0,
        "generation_id": None,
        "generation_text": None,
        "error_text": None,
        "files_text": None,
        "queued_at": AT,
        "sent_at": None,
        "accepted_at": None,
        "ended_at": None,
        "credits": None,
        "worker": None,
    }
    return Row(**columns | given)


def test_the_columns_are_the_fields_of_a_row() -> None:
    renamed = {"request": "request_text", "generation": "generation_text", "error": "error_text"}
    renamed |= {"files": "files_text", "of_key": "of"}
    names = [renamed.get(name, name) for name in COLUMNS.split(", ")]
    assert names == [field.name for field in attrs.fields(Row)][1:-1]


@pytest.mark.parametrize(
    "name",
    [
        *("key", "request_text", "label", "of", "target", "generation_id", "generation_text"),
        *("error_text", "files_text", "worker", "digest"),
    ],
)
@pytest.mark.parametrize("value", [5, 1.5])
def test_a_text_that_is_none_is_refused(name: str, value: object) -> None:
    with pytest.raises(TypeError, match="a text or a digest"):
        row(**{name: value})
    if name != "digest":
        with pytest.raises(TypeError, match="a text or a digest"):
            row(**{name: b"bytes"})


@pytest.mark.parametrize("name", ["queued_at", "sent_at", "accepted_at", "ended_at"])
@pytest.mark.parametrize("value", [-0.001, 1e11, 1e300, float("nan"), float("inf")])
def test_what_is_no_time_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="is no time"):
        row(**{name: value})


@pytest.mark.parametrize("value", [-0.001, 1e16, float("nan")])
def test_what_is_no_number_of_credits_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="is no number of credits"):
        row(credits=value)


def test_the_least_and_the_most_are_allowed() -> None:
    for time in (0, 99_999_999_999):
        assert row(queued_at=time, sent_at=time, accepted_at=time, ended_at=time).sent_at == time
    assert row(credits=0).credits == 0
    assert row(credits=1e16 - 2).credits == 1e16 - 2


@pytest.mark.parametrize(("value", "read"), [(0, False), (1, True)])
def test_a_flag_is_0_or_1(value: object, *, read: bool) -> None:
    assert row(urgent=value).urgent is read
    for other in (2, -1, "yes", None):
        with pytest.raises(ValueError, match="is neither 0 nor 1"):
            row(urgent=other)


def test_a_story_comes_back_as_it_was_given() -> None:
    given = Story.parse(
        {"type": "continue", "of": "first", "prompt": "on"}, key="k", label="stories.jsonl:7"
    )
    columns = {"request_text": given.text, "digest": given.digest, "type": given.type}
    waits = row(**columns, of="first", label=given.label)
    assert waits.story == given
    assert row(**columns, of="first", label=given.label, target="c1").story == given, "aimed since"
    named = row(**columns, target="c9").story
    assert (named.of, named.target) == (None, "c9")


def test_an_answer_is_read_as_what_it_is_about() -> None:
    assert row().generation is None
    text = dump_generation(comic("c1", "PROCESSED"))
    assert row(generation_text=text).generation == comic("c1", "PROCESSED")
    assert isinstance(row(generation_text=text, type="animation").generation, Animation)


@pytest.mark.parametrize("state", ["running", "succeeded"])
def test_the_parts_of_a_row_have_to_agree(state: str) -> None:
    one = comic("c1")
    row(state=state, generation_id="c1").check(one)
    row(state="queued").check(None)
    for wrong, answer in (
        (row(state=state), None),
        (row(state=state, generation_id="c2"), one),
        (row(state=state, generation_id="c1"), None),
        (row(state="queued"), one),
    ):
        with pytest.raises(ValueError, match=r"^generation \w+ has an answer about \w+$"):
            wrong.check(answer)


@pytest.mark.parametrize(
    "files", ["5", "{}", "[5]", '[""]', '["../a"]', '["a/../../b"]', '["/etc/passwd"]', "[null]"]
)
def test_pictures_outside_of_the_folder_are_refused(files: str) -> None:
    broken = row(files_text=files)
    with pytest.raises((TypeError, ValueError), match=r"no list|is no file in the folder"):
        assert broken.files
    with pytest.raises((TypeError, ValueError)):
        broken.check(None)


def test_pictures_are_paths_in_the_folder() -> None:
    assert row().files == ()
    assert row(files_text='["a.png", "b/c..png"]').files == ("a.png", "b/c..png")


NOTHING = dict.fromkeys(
    ("generation_id", "generation", "error", "files", "accepted_at", "ended_at", "credits")
)


def test_a_change_that_says_nothing_keeps_what_was_known() -> None:
    known = row(
        state="running",
        generation_id="c1",
        generation_text='{"id": "c1"}',
        files_text='["a.png"]',
        error_text='{"type": "KeyError", "message": "x"}',
        accepted_at=AT,
        ended_at=AT + 1,
        credits=3,
    )
    after = known.changed(BatchState.SUCCEEDED, NOTHING)
    assert after == attrs.evolve(known, serial=2, state=BatchState.SUCCEEDED, error_text=None)


def test_a_change_brings_what_is_new_but_no_second_acceptance() -> None:
    news = {
        "generation_id": "c2",
        "generation": '{"id": "c2"}',
        "error": "{}",
        "files": "[]",
        "accepted_at": AT + 5,
        "ended_at": AT + 6,
        "credits": 0,
    }
    after = row(credits=3).changed(BatchState.FAILED, news)
    assert (after.generation_id, after.generation_text) == ("c2", '{"id": "c2"}')
    assert (after.error_text, after.files_text) == ("{}", "[]")
    assert (after.accepted_at, after.ended_at, after.credits) == (AT + 5, AT + 6, 0)
    assert row(accepted_at=AT).changed(BatchState.RUNNING, news).accepted_at == AT


def test_what_is_written_of_a_row_is_how_far_it_has_come() -> None:
    known = row(
        state="running",
        attempts=3,
        generation_id="c1",
        generation_text='{"id": "c1"}',
        error_text="{}",
        files_text="[]",
        sent_at=AT,
        accepted_at=AT + 1,
        ended_at=AT + 2,
        credits=4,
        worker="w",
    )
    assert known.values() == {
        "id": 7,
        "state": "running",
        "attempts": 0,
        "generation_id": "c1",
        "generation": '{"id": "c1"}',
        "error": "{}",
        "files": "[]",
        "sent_at": None,
        "accepted_at": AT + 1,
        "ended_at": AT + 2,
        "credits": 4,
        "worker": "w",
    }


def test_a_failure_without_an_error_is_the_generations() -> None:
    failed = comic("c1", "FAILED")
    error = row(state="failed").error(None, failed)
    assert isinstance(error, GenerationFailedError)
    assert error.generation == failed
    assert row(state="failed").error(None, None) is None
    assert row(state="running").error(None, failed) is None


@pytest.mark.parametrize(
    "error",
    [
        APIError(409, "c", "x"),
        RateLimitError(429, None, "x", request_id="r1", advice="wait"),
        InvalidResponseError(200, None, "x"),
        ServerError(500, "c", "x"),
        WaitTimeoutError("c1", 300.0, "HTTP 500"),
        InvalidRequestError("size", 9, "one of these"),
        SubmissionUncertainError(None, "a timeout"),
        SubmissionUncertainError(None, "HTTP 500: broken").about("c7"),
        APIError(409, None, "one of them is enough").about("c7"),
        APIConnectionError("broke off", request_sent=True),
        APIConnectionError("nobody there", request_sent=False),
        APITimeoutError("too slow", request_sent=True),
    ],
)
def test_an_error_is_read_back_as_what_it_was(error: LlamaGenError) -> None:
    request = STORY.request
    kept = load_error(dump_error(error), request, None)
    assert type(kept) is type(error)
    assert kept.id == error.id
    assert str(kept) == str(error).replace("got 9", "got '9'")
    if isinstance(kept, SubmissionUncertainError):
        assert kept.request is request
    if isinstance(error, APIConnectionError):
        assert isinstance(kept, APIConnectionError)
        assert kept.request_sent is error.request_sent
    if isinstance(error, APIError):
        assert isinstance(kept, APIError)
        assert (kept.status, kept.code) == (error.status, error.code)
        assert (kept.request_id, kept.advice) == (error.request_id, error.advice)


def test_a_failed_generation_is_read_back_with_its_generation() -> None:
    failed = comic("c1", "FAILED")
    text = dump_error(GenerationFailedError(failed))
    kept = load_error(text, None, failed)
    assert isinstance(kept, GenerationFailedError)
    assert kept.generation == failed
    assert type(load_error(text, None, None)) is LlamaGenError, "the answer was not kept"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "5", '{"type": "WaitTimeoutError", "message": 1}']
)
def test_what_is_no_error_of_ours_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # a JSON error, or our own
        load_error(text, None, None)


@pytest.mark.parametrize(("depth", "is_kept"), [(99, True), (100, False), (5_000, False)])
def test_an_answer_that_is_too_deep_is_kept_by_its_id(depth: int, *, is_kept: bool) -> None:
    inner: object = "x"
    for _ in range(depth):
        inner = [inner]
    kept = json.loads(
        dump_generation(ComicGeneration.parse({"id": "c1", "status": "FAILED", "new": inner}))
    )
    assert ("new" in kept) is is_kept
    assert (kept["id"], kept["status"]) == ("c1", "FAILED")


def test_many_lists_beside_each_other_are_not_deep() -> None:
    wide = ComicGeneration.parse({"id": "c1", "new": [[]] * 200})
    assert json.loads(dump_generation(wide))["new"] == [[]] * 200


def test_an_account_is_told_by_key_and_server_and_shows_no_key() -> None:
    one = AccountId.of("the-key", "https://a.example")
    assert one == AccountId.of("the-key", "https://a.example")
    assert one.base_url == "https://a.example"
    assert len(one.account) == 32
    assert "the-key" not in repr(one)
    others = [AccountId.of("the-kez", "https://a.example"), AccountId.of("the-key", "https://b.x")]
    assert len({one.account, *(other.account for other in others)}) == 3


def test_a_type_that_nobody_knows_is_refused() -> None:
    assert row(type="animation").type is RequestType.ANIMATION
    with pytest.raises(ValueError, match="paused"):
        row(state="paused")
    with pytest.raises(ValueError, match="poem"):
        row(type="poem")
