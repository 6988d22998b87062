"""The tree is as drawn, survives a process boundary, and says what happened."""

from __future__ import annotations

import copy
import pickle
import re
from datetime import UTC, datetime

import pytest

import llamagen_async
from llamagen_async import errors
from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BudgetReachedError,
    ClientClosedError,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    InvalidResponseError,
    JournalError,
    LlamaGenError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    QuotaStoreError,
    RateLimitError,
    ServerError,
    SubmissionUncertainError,
    WaitTimeoutError,
    WebhookSignatureError,
)
from llamagen_async.models import Animation, ComicGeneration
from llamagen_async.plans import DAY, RateLimit
from llamagen_async.requests import ComicRequest

FAILED = ComicGeneration.parse({"id": "c9", "status": "FAILED", "failureReason": "too scary"})
RESETS = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

SAMPLES: list[tuple[LlamaGenError, tuple[str, ...]]] = [
    (InvalidRequestError("size", "1x1", "one of 9"), ("size", "'1x1'", "one of 9")),
    (APIError(409, None, "busy", {"a": 1}), ("HTTP 409", "busy")),
    (BadRequestError(422, "bad_size", "no such size"), ("HTTP 422", "bad_size", "no such size")),
    (
        AuthenticationError(401, None, "key", None, "r1", {"x": "y"}, "check the key"),
        ("HTTP 401", "key", "[request r1]", "(check the key)"),
    ),
    (InsufficientCreditsError(429, "credits", "none left"), ("HTTP 429", "none left")),
    (PermissionDeniedError(403, None, "no"), ("HTTP 403", "no")),
    (NotFoundError(404, None, "gone"), ("HTTP 404", "gone")),
    (RateLimitError(429, None, "slow", None, 12.5), ("HTTP 429", "slow")),
    (ServerError(503, None, "down"), ("HTTP 503", "down")),
    (InvalidResponseError(200, None, "not JSON", "<html>"), ("HTTP 200", "not JSON")),
    (APIConnectionError("no connection to x", request_sent=False), ("no connection to x",)),
    (APITimeoutError("no answer within 30 s"), ("no answer within 30 s",)),
    (
        QuotaExhaustedError(RateLimit(15, per=DAY), 90.4, RESETS),
        ("15 per day", "nothing was sent", "2026-01-02 03:04:05 UTC", "90 s", "wait_for_quota"),
    ),
    (
        QuotaExhaustedError(None, 7200.0, RESETS),
        ("the server asked to wait", "nothing was sent", "7200 s", "wait_for_quota"),
    ),
    (
        QuotaExhaustedError(None, 7200.0, RESETS, "c5"),
        ("the server asked to wait", "c5", "goes on", "wait_for_completion('c5')"),
    ),
    (
        SubmissionUncertainError(ComicRequest("x"), "timeout"),
        ("timeout", "may have been accepted and charged", "not sent again", "usage"),
    ),
    (QuotaStoreError("the store is away; nothing was sent"), ("away", "nothing was sent")),
    (JournalError("run.db: the disk is full; make room"), ("run.db", "full", "make room")),
    (GenerationFailedError(FAILED), ("c9", "FAILED", "too scary")),
    (WaitTimeoutError("c7", 1800.0), ("c7", "1800 s", "goes on", "wait_for_completion('c7')")),
    (
        WaitTimeoutError("c7", 60.0, "HTTP 500: broken"),
        ("c7", "60 s", "again. Its last status check has failed: HTTP 500: broken"),
    ),
    (BudgetReachedError(900.0, 600.0, 450.0), ("900", "450", "600", "nothing was sent")),
    (BudgetReachedError(900.0, 600.0, None), ("900", "not known", "nothing was sent")),
    (ClientClosedError("the client is closed"), ("the client is closed",)),
    (WebhookSignatureError("the timestamp is old"), ("the timestamp is old",)),
]


def drawn() -> dict[str, str]:
    """Return child -> parent, as the module's docstring draws them."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").split("```")[1].strip().splitlines():
        found = re.match(r"^([│├└─ ]*)(\w+Error)", line)
        assert found, line
        depth = len(found[1]) // 4
        path[depth:] = [found[2]]
        if depth:
            parents[found[2]] = path[depth - 1]
    return parents


def test_the_tree_is_as_drawn() -> None:
    """Every class has the parent that the docstring draws, and no class is missing there."""
    parents = drawn()
    assert {*parents, "LlamaGenError"} == set(errors.__all__)
    for child, parent in parents.items():
        assert getattr(errors, child).__mro__[1] is getattr(errors, parent)


def test_the_root_catches_everything() -> None:
    """`except LlamaGenError` is enough, and a wrong argument is a `ValueError`, too."""
    assert LlamaGenError.__mro__[1] is Exception
    assert all(issubclass(getattr(errors, name), LlamaGenError) for name in errors.__all__)
    assert issubclass(InvalidRequestError, ValueError)


def test_every_error_has_a_sample() -> None:
    """The tests below are about all classes of the tree."""
    assert {type(error).__name__ for error, _ in SAMPLES} == set(errors.__all__) - {"LlamaGenError"}


@pytest.mark.parametrize(
    ("error", "parts"), SAMPLES, ids=[type(error).__name__ for error, _ in SAMPLES]
)
def test_the_message_says_what_happened(error: LlamaGenError, parts: tuple[str, ...]) -> None:
    """The text holds what was the matter and, where it helps, what to do now."""
    for part in parts:
        assert part in str(error)


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize("error", [error for error, _ in SAMPLES], ids=lambda e: type(e).__name__)
def test_errors_survive_a_process_boundary(error: LlamaGenError, again: object) -> None:
    """A copy or a pickled error has the same class, fields and text."""
    assert callable(again)
    other = again(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


def test_an_error_is_itself_only() -> None:
    """Equal content does not make two errors one, so that they can be kept in a set."""
    assert ServerError(500, None, "x") != ServerError(500, None, "x")
    assert len({ServerError(500, None, "x"), ServerError(500, None, "x")}) == 2


def test_a_failure_without_a_reason_is_still_a_sentence() -> None:
    """Nothing dangles where the server gives no reason."""
    animation = Animation.parse({"id": "a1", "status": "CANCELLED"})
    assert str(GenerationFailedError(animation)) == "generation a1 ended as CANCELLED"


def test_whether_a_request_was_sent_is_assumed() -> None:
    """A request counts as sent unless it is known that it was not, because it may be charged."""
    assert APIConnectionError("x").request_sent
    assert APITimeoutError("x").request_sent


def test_all_errors_are_at_the_top_level() -> None:
    """Each error can be imported from the package itself."""
    assert set(errors.__all__) <= set(llamagen_async.__all__)
