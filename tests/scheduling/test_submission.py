"""A submission whose caller leaves in the very turn in which its outcome came."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    InsufficientCreditsError,
    LlamaGenError,
    RequestReport,
    SubmissionUncertainError,
)
from llamagen_async.models import ComicGeneration
from llamagen_async.plans import RequestKind
from llamagen_async.scheduling.request_report import outcome_of
from llamagen_async.scheduling.submission import Submission
from llamagen_async.transport import AnsweredCancelledError, APIRequest
from tests.support.scheduling import ONE, accepted_id, network_of

pytestmark = pytest.mark.virtual_time

COMIC = ComicGeneration.parse({"id": "c1", "status": "PENDING"})


def submission(kind: RequestKind = RequestKind.CREATE) -> Submission[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    request = APIRequest(kind, "POST", "/comics/generations")
    return Submission[Any](request, ComicGeneration.parse, 0.0, future)


async def test_the_id_of_what_was_accepted_is_logged_and_noted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On what ended the call, which is all that its caller sees."""
    one, reason = submission(), asyncio.CancelledError()
    one.future.set_result(COMIC)
    one.leave(reason)
    assert reason.__notes__ == ["create c1 was accepted, and goes on"]
    (record,) = caplog.records
    assert "create c1 goes on" in record.getMessage()
    assert record.__dict__["generation_id"] == "c1"


async def test_a_caller_who_leaves_as_the_answer_comes_hears_of_it() -> None:
    """Cancelled in that very turn, its call ends with the id of what was accepted."""
    network = network_of(ONE)
    noted: list[str] = []

    class Owner:
        since = None

        async def before_send(self) -> None: ...

        async def not_sent(self) -> None: ...

        def held_up(self, error: LlamaGenError) -> None:
            raise error

        async def accepted(self, answer: ComicGeneration) -> None:
            asyncio.get_running_loop().call_soon(creating.cancel, answer.id)

        def abandoned(self, outcome: object) -> None:
            raise AssertionError(outcome)

        async def written(self) -> None: ...

    async def create() -> None:
        try:
            await client.comics.create("a", hooks=Owner())
        except asyncio.CancelledError as reason:
            noted.extend(getattr(reason, "__notes__", []))
            raise

    async with network.client(ONE) as client:
        creating = asyncio.create_task(create())
        await asyncio.wait([creating])
    assert creating.cancelled()
    assert noted == [f"create {accepted_id(network, 'a')} was accepted, and goes on"]


async def test_a_create_that_may_be_accepted_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Other failures tell of nothing that was paid for."""
    one = submission()
    uncertain = SubmissionUncertainError(None, "no answer")
    uncertain.id = "cmc_1"
    one.future.set_exception(uncertain)
    one.leave(asyncio.CancelledError())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.__dict__["generation_id"] == "cmc_1"
    assert "create may be accepted" in record.getMessage()
    caplog.clear()
    failed = submission()
    failed.future.set_exception(APIConnectionError("no network", request_sent=False))
    failed.leave(asyncio.CancelledError())
    assert not caplog.records


async def test_a_refusal_that_has_come_is_told_though_sending_was_cancelled() -> None:
    """A client that closes has heard that much, and the caller is no worse informed."""
    refusal = InsufficientCreditsError(402, None, "no credits")
    network = network_of(ONE, after=lambda _sent: AnsweredCancelledError(refusal))
    async with network.client(ONE) as client:
        with pytest.raises(InsufficientCreditsError, match="no credits"):
            await client.comics.create("a")
    assert len(network.creates) == 1


async def test_whoever_sends_it_finds_a_caller_gone_that_left_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor is there anything to say of a read, or of what was cancelled in the queue."""
    waits, cancelled, read = submission(), submission(), submission(RequestKind.STATUS)
    cancelled.future.cancel()
    read.future.set_result(COMIC)
    for one in (waits, cancelled, read):
        reason = asyncio.CancelledError()
        one.leave(reason)
        assert not hasattr(reason, "__notes__")
    assert not caplog.records


async def test_a_probe_that_fails_is_nobodys_error() -> None:
    """Nobody asked for it, so its context is empty."""
    probe = Submission[Any].probe(APIRequest(RequestKind.USAGE, "GET", "/comics/usage"), str, 3.0)
    assert (probe.is_check, probe.since, len(probe.context)) == (True, 3.0, 0)
    probe.future.set_exception(APIConnectionError("no network"))
    await asyncio.sleep(0)
    other = Submission[Any].probe(probe.request, str, 3.0)
    other.future.cancel()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("failure", "kind", "outcome"),
    [
        (APIConnectionError("broke off"), RequestKind.CREATE, "uncertain"),
        (APIConnectionError("broke off"), RequestKind.STATUS, "failed"),
        (APIConnectionError("nobody there", request_sent=False), RequestKind.CREATE, "failed"),
        (asyncio.CancelledError(), RequestKind.CREATE, "uncertain"),
        (asyncio.CancelledError(), RequestKind.STATUS, "failed"),
        (ValueError("odd"), RequestKind.STATUS, "failed"),
    ],
)
def test_the_outcome_of_a_request_that_failed(
    failure: BaseException, kind: RequestKind, outcome: str
) -> None:
    """As whoever keeps metrics is told of it."""
    assert outcome_of(failure, kind) == outcome
    assert RequestReport(kind, outcome, 0.0, 1.0).outcome == outcome
