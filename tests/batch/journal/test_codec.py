"""Requests, keys and errors as text: what is read back is what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import (
    BadRequestError,
    BatchState,
    ComicGeneration,
    ComicRequest,
    GenerationStatus,
    InvalidRequestError,
    SubmissionUncertainError,
)
from llamagen_async.batch.journal.codec import dump_error, dump_generation
from llamagen_async.batch.journal.story import Story
from llamagen_async.errors import LlamaGenError, ServerError
from tests.support.journals import added, changed, opened


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BadRequestError(422, "bad_size", "no such size", {"a": 1}), "HTTP 422 bad_size: no such"),
        (InvalidRequestError("prompt", 3, "text"), "prompt: got '3', allowed is text"),
        (SubmissionUncertainError(None, "a timeout"), "the answer to a billed request was lost"),
        (KeyError("odd"), "'odd'"),
        (
            ServerError(503, None, "down", None, "r1", {"x": "y"}, "repeat it"),
            "HTTP 503: down [request r1] (repeat it)",
        ),
    ],
)
async def test_errors_survive_in_kind_and_words(error: Exception, words: str) -> None:
    """The error after a restart is the error before it."""
    async with opened(None) as journal:
        row = await changed(journal, await added(journal), BatchState.FAILED, error=error)
        kept = row.error(None, None)
        assert isinstance(kept, type(error) if isinstance(error, LlamaGenError) else LlamaGenError)
        assert str(kept).startswith(words)


def test_what_is_kept_of_an_error_is_short_and_clean() -> None:
    """A server's megabytes, and what would steer a terminal, are not written down."""
    for error in (
        KeyError("\x1b[2J" * 10**6),
        InvalidRequestError("prompt", "\x1b" * 10**6, "text"),
        ServerError(500, None, "down", {"x": "y" * 10**6}),
    ):
        text = dump_error(error)
        assert len(text) < 4000
        assert "\\u001b" not in text


async def test_content_is_what_is_sent(tmp_path: Path) -> None:
    """The spelling of a field and the order of fields make no other story."""
    same: list[Any] = [
        ComicRequest("a", fix_panel_num=3, size="512x768"),
        {"size": "512x768", "fixPanelNum": 3, "prompt": "a"},
        {"prompt": "a", "fix_panel_num": 3, "size": "512x768"},
    ]
    other: list[Any] = [{"prompt": "a", "fix_panel_num": 3}, {"prompt": "a", "size": "512x768"}]
    assert len({Story.parse(given).digest for given in same}) == 1
    assert len({Story.parse(given).digest for given in [*other, same[0]]}) == 3


@pytest.mark.parametrize("bad", ["", " ", True, 1.5, ["x"], "x" * 501, "\ud800"])
def test_a_key_is_text_or_a_number(bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^key: got"):
        Story.parse({"prompt": "a", "key": bad})


def test_a_key_is_not_sent() -> None:
    """The key is the user's, and no field of the API."""
    story = Story.parse({"prompt": "a", "key": 42})
    assert (story.key, story.request.to_payload()) == ("42", {"prompt": "a"})
    assert Story.parse({"prompt": "a", "key": None}).key is None


@pytest.mark.parametrize(
    "request_",
    [
        ComicRequest("\t\v \u2028 ü 🐈"),
        ComicRequest("a", extra={"size": "9x9", "b": {1: 2, "c": 3}}),
        ComicRequest("a", pagination={"total_pages": 1, "panels_per_page": 2}, images="data:x"),
        ComicRequest(prompt_url="https://x", comic_roles=[{"name": "x", "age": 3}], upscale=True),
    ],
)
async def test_odd_stories_come_back_as_they_were(request_: ComicRequest) -> None:
    async with opened(None) as journal:
        row, _ = await journal.add(Story.parse(request_))
        assert row.request.to_payload() == Story.parse(row.request).request.to_payload()
        assert Story.parse(row.request).digest == row.digest


def test_an_error_of_many_words_is_kept_short() -> None:
    """A server's page does not fill the journal; the beginning says what it was."""
    kept = dump_error(LlamaGenError("x" * 5_000))
    assert len(kept) < 1_200
    assert "x" * 900 in kept


@pytest.mark.parametrize(("levels", "is_whole"), [(100, True), (101, False)])
def test_an_answer_is_kept_whole_unless_it_is_nested_very_deeply(
    levels: int, *, is_whole: bool
) -> None:
    """However many short lists it has: only its depth could not be read back."""
    inner: object = []
    for _ in range(levels - 2):
        inner = [inner]
    raw = {"id": "c1", "status": "SUCCEEDED", "deep": inner, "wide": [[]] * 200}
    text = dump_generation(ComicGeneration("c1", GenerationStatus.SUCCEEDED, raw=raw))
    assert json.loads(text) == (raw if is_whole else {"id": "c1", "status": "SUCCEEDED"})
