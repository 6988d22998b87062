"""The meaning of a failure for a submission: paid for or not, and who is told of it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from llamagen_async import ComicGeneration, ComicRequest
from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    BadRequestError,
    ClientClosedError,
    InvalidResponseError,
    RateLimitError,
    ServerError,
    SubmissionUncertainError,
)
from llamagen_async.plans import RequestKind
from llamagen_async.scheduling.failures import (
    fail,
    has_not_left,
    interrupted,
    provably_not_accepted,
)
from llamagen_async.scheduling.submission import Submission
from llamagen_async.transport import APIRequest, UnsentCancelledError

STORY = ComicRequest("a cat")
UNSENT = APIConnectionError("refused", request_sent=False)
LOST = APIConnectionError("lost")
DOWN = ServerError(503, None, "down")


class Owner:
    """Somebody who keeps a record of a submission."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def abandoned(self, outcome: object) -> None:
        self.told.append(outcome)


def submission(kind: RequestKind = RequestKind.CREATE, id_: str | None = None) -> Any:
    request = APIRequest(kind, "POST", "/x", generation_id=id_)
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    parse = ComicGeneration.parse
    return Submission(request, parse, 0.0, future, hooks=Owner(), story=STORY)  # type: ignore[arg-type]  # only what is told


async def test_the_caller_is_told_that_a_create_may_have_been_accepted() -> None:
    one = submission()
    fail(one, LOST)
    error = one.future.exception()
    assert isinstance(error, SubmissionUncertainError)
    assert error.__cause__ is LOST
    assert error.request is STORY
    assert error.id is None
    assert one.hooks.told == [], "the caller knows"


async def test_what_is_certain_is_told_as_it_is() -> None:
    for kind, failure in ((RequestKind.CREATE, UNSENT), (RequestKind.STATUS, DOWN)):
        one = submission(kind)
        fail(one, failure)
        assert one.future.exception() is failure


async def test_a_change_that_is_uncertain_names_its_comic() -> None:
    one = submission(RequestKind.UPDATE, "c1")
    fail(one, LOST)
    assert one.future.exception().id == "c1"


@pytest.mark.parametrize(
    ("body", "id_"),
    [
        ({"id": "c7", "status": "PENDING"}, "c7"),
        ({"error": "broken", "data": {"id": "c7", "status": "PENDING"}}, "c7"),
        ({"id": "c7"}, None),  # an error may have an id of its own
        ({"id": "c7", "status": 5}, None),
        ({"status": "PENDING"}, None),
        (["c7"], None),
        (None, None),
    ],
)
async def test_a_failure_may_name_the_generation_that_was_paid_for(
    body: Any, id_: str | None
) -> None:
    for failure in (ServerError(500, None, "x", body), InvalidResponseError(200, None, "x", body)):
        one = submission()
        fail(one, failure)
        assert one.future.exception().id == id_


async def test_a_refusal_may_name_a_generation() -> None:
    """Such as the one that a create would be a second one of."""
    one, refusal = submission(), APIError(409, None, "x", {"id": "c7", "status": "PENDING"})
    fail(one, refusal)
    error = one.future.exception()
    assert isinstance(error, APIError)
    assert (error.status, error.id, refusal.id) == (409, "c7", None)
    assert "c7" in str(error)
    for body in ({"id": "req_9", "status": "error"}, {"status": "PENDING"}, {"id": "c7"}, None):
        other = submission()
        fail(other, APIError(409, None, "x", body))
        assert other.future.exception().id is None
    read = submission(RequestKind.STATUS)
    fail(read, refusal)
    assert read.future.exception() is refusal


@pytest.mark.parametrize(("status", "kind"), [(302, RequestKind.CREATE), (303, "update")])
async def test_a_redirect_to_a_comic_names_it(status: int, kind: str) -> None:
    headers = {"location": "/v1/comics/generations/c7"}
    one = submission(RequestKind(kind), "c1" if kind == "update" else None)
    error = InvalidResponseError(status, None, "elsewhere", "", None, headers)
    assert not provably_not_accepted(error, RequestKind(kind))
    fail(one, error)
    uncertain = one.future.exception()
    assert isinstance(uncertain, SubmissionUncertainError)
    assert uncertain.id == ("c1" if kind == "update" else "c7")


async def test_the_owner_is_told_if_the_caller_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    one = submission()
    one.future.cancel()
    fail(one, UNSENT)
    assert one.hooks.told == [UNSENT]
    assert caplog.records == [], "nothing was spent"
    fail(one, ServerError(500, None, "x", {"id": "c7", "status": "PENDING"}))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "create may be accepted" in record.getMessage()
    assert "c7" in record.getMessage()
    assert vars(record)["generation_id"] == "c7"
    assert isinstance(one.hooks.told[1], SubmissionUncertainError)
    caplog.clear()
    error = interrupted(one, asyncio.CancelledError())
    fail(one, error)
    assert "create may be accepted (the client was closed" in caplog.text
    assert one.hooks.told[2] is error
    one.hooks = None
    fail(one, UNSENT)  # there is nobody to tell


@pytest.mark.parametrize("error", [UNSENT, UnsentCancelledError()])
def test_what_has_not_left(error: BaseException) -> None:
    assert has_not_left(error)


@pytest.mark.parametrize("error", [LOST, DOWN, asyncio.CancelledError(), ValueError()])
def test_what_may_have_left(error: BaseException) -> None:
    assert not has_not_left(error)


@pytest.mark.parametrize(
    "error", [UNSENT, RateLimitError(429, None, "x"), InvalidResponseError(302, None, "x", "")]
)
def test_what_the_server_has_not_accepted(error: Exception) -> None:
    assert provably_not_accepted(error)


@pytest.mark.parametrize("error", [LOST, DOWN, BadRequestError(400, None, "x"), ValueError()])
def test_what_the_server_may_have_accepted_or_said_no_to(error: Exception) -> None:
    assert not provably_not_accepted(error)


async def test_a_client_that_closes_says_what_became_of_its_requests() -> None:
    unsent = interrupted(submission(), UnsentCancelledError())
    assert isinstance(unsent, ClientClosedError)
    assert "nothing was sent" in str(unsent)
    read = interrupted(submission(RequestKind.STATUS, "c1"), asyncio.CancelledError())
    assert isinstance(read, ClientClosedError)
    assert "before the answer came" in str(read)
    change = interrupted(submission(RequestKind.UPDATE, "c1"), asyncio.CancelledError())
    assert isinstance(change, SubmissionUncertainError)
    assert (change.request, change.id) == (STORY, "c1")
    assert "before the answer came" in change.reason
