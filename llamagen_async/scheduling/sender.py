"""The sender: sends one submission in its slot and tells everyone concerned what became of it.

Its owner keeps a record, its caller gets the answer, its slot is spent or given back, and whoever
keeps metrics hears of it. What is sent when, and what is sent again when, is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from time import time as wall_time
from typing import Any, Final

import attrs

from llamagen_async.clock import Clock
from llamagen_async.errors import (
    APIError,
    ClientClosedError,
    InvalidResponseError,
    LlamaGenError,
    RateLimitError,
)
from llamagen_async.foreign import beginning_of
from llamagen_async.observing import about, logger_of
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import ANSWERED, Outcome, Slot
from llamagen_async.scheduling.circuit import SERVER, Circuit, Failure, subject_of
from llamagen_async.scheduling.failures import (
    fail,
    has_not_left,
    interrupted,
    provably_not_accepted,
)
from llamagen_async.scheduling.key_view import KeyView
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.request_report import RequestReport, outcome_of
from llamagen_async.scheduling.submission import Submission, tell_accepted
from llamagen_async.transport import (
    AnsweredCancelledError,
    APIResponse,
    Transport,
    as_uncertain,
    asked_wait,
    delays,
    is_outage,
    is_retriable,
    is_told,
)

__all__ = ["DispatchStats", "Sender"]

_logger = logger_of(__name__)

_SLEPT: Final = 10.0
"""Real seconds by the wall clock that writing down an intent takes only if the machine slept."""
_MAX_REFUSALS: Final = 8
"""Answers with 429 in all after which the caller of a submission is told of the last one."""


@attrs.define
class DispatchStats:
    """Counts of what one client has sent."""

    sent: Counter[RequestKind] = attrs.field(factory=Counter[RequestKind])
    """Requests by kind, repeated ones included."""
    refused: int = 0
    """Answers that were 429."""
    retries: int = 0
    """Requests that were sent again, after a refusal or a failure."""


class Sender:
    """Sends the submissions of one client.

    Args:
        transport: Carries one request.
        polls: Told of each generation that was accepted.
        view: Words what other clients of the key are told.
        circuit: Told of what was answered and what was not.
        clock: The server's clock.
        max_retries: How often a submission that failed may be sent again, where that is safe.
        on_request: Told of each request once it has ended.
    """

    def __init__(
        self,
        transport: Transport,
        polls: PollSet,
        view: KeyView,
        circuit: Circuit,
        clock: Clock,
        *,
        max_retries: int,
        on_request: Callable[[RequestReport], None] | None,
    ) -> None:
        self.stats: DispatchStats = DispatchStats()
        self.unanswered: set[Submission[Any]] = set()
        """The billed submissions that are on their way and have no answer yet."""
        self._transport = transport
        self._polls = polls
        self._view = view
        self._circuit = circuit
        self._clock = clock
        self.max_retries = max_retries
        self._on_request = on_request

    async def send(self, submission: Submission[Any], slot: Slot) -> float | None:
        """Send a submission in its slot and report what became of both.

        Returns:
            The real seconds after which it is to be sent again; `None` if its caller was told.
        """
        kind = submission.request.kind
        if submission.hooks is not None and not await self._prepare(submission, slot):
            return None if submission.future.done() else 0.0
        self.stats.sent[kind] += 1
        sent_at = self._clock.now()
        again: float | None = None
        failure: BaseException | None = None
        rate_limit: tuple[int | None, int | None] = (None, None)
        # A caller does not wait for a store that may be slow: it is told before the slot is.
        try:
            response = await self._transport.send(submission.request)
            rate_limit = response.rate_limit
            await self._succeed(submission, response)
        except asyncio.CancelledError as error:
            failure = error
            if isinstance(error, AnsweredCancelledError):
                failure = await self._take(submission, error.outcome)
            elif submission in self.unanswered or not kind.is_billed:
                fail(submission, interrupted(submission, error))
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is belongs to the caller
            failure = error
            again = await self._fail(submission, error)
        finally:
            await self._report(submission, slot, failure, rate_limit, sent_at)
        return again

    async def _prepare(self, submission: Submission[Any], slot: Slot) -> bool:
        """Have the owner write down the intent; return whether it may be sent in this slot."""
        assert submission.hooks is not None
        began, is_ready = wall_time(), False
        try:
            await submission.hooks.before_send()
            has_slept = abs(wall_time() - began) > _SLEPT
            is_ready = not (has_slept or submission.future.done())
            if not is_ready:
                await submission.hooks.not_sent()
        except asyncio.CancelledError:
            fail(submission, ClientClosedError("the client was closed; nothing was sent"))
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is belongs to the caller
            fail(submission, error)
        else:
            if has_slept:
                # Its lease may be over: it is spent, and another is needed.
                await self._commit(slot, ANSWERED)
        finally:
            if not is_ready:
                self.unanswered.discard(submission)
                slot.give_back()
        return is_ready

    async def _succeed(self, submission: Submission[Any], response: APIResponse) -> None:
        try:
            answer = submission.parse(response.body)
        except ValueError as error:
            instead = f"; it is {beginning_of(response.body)}" if response.body else ""
            message = f"the answer is not what was asked for: {error}{instead}"
            raise InvalidResponseError(response.status, None, message, response.body) from None
        asked = submission.request.generation_id
        kind = submission.request.kind
        # Of what was paid for, whatever id came is the one to know.
        if asked is not None and answer.id != asked and not kind.is_billed:
            message = f"the answer is about generation {answer.id!r:.80}, and {asked} was asked for"
            raise InvalidResponseError(response.status, None, message, response.body)
        self.unanswered.discard(submission)
        if (profile := submission.profile) is not None:
            now, will_wait = self._clock.now(), submission.will_wait
            if answer.id == asked:
                self._polls.remember_changed(answer, now, profile=profile, will_wait=will_wait)
            elif not answer.status.is_final:
                self._polls.remember_accepted(answer.id, now, profile=profile, will_wait=will_wait)
        try:
            if submission.hooks is not None:
                await submission.hooks.accepted(answer)
        except asyncio.CancelledError:
            self._deliver(submission, answer)
            raise
        except LlamaGenError:
            raise
        except Exception:  # it was paid for: its id is worth more than what the owner met
            id_ = getattr(answer, "id", None)
            known = about(generation_id=id_)
            text = "%s %s was accepted, and its owner failed"
            _logger.exception(text, kind.value, id_, extra=known)
        self._deliver(submission, answer)

    async def _take(
        self, submission: Submission[Any], outcome: APIResponse | APIError
    ) -> Exception | None:
        """Tell everyone of the outcome of a submission that was cancelled; return its failure."""
        failure: Exception | None = None
        if isinstance(outcome, APIError):
            failure = outcome
        else:
            try:
                await self._succeed(submission, outcome)
            except Exception as error:  # noqa: BLE001  # whatever it is belongs to the caller
                failure = error
        if failure is not None and await self._fail(submission, failure) is not None:
            fail(submission, failure)  # it is not sent again
        return failure

    def _deliver(self, submission: Submission[Any], answer: Any) -> None:
        """Give an answer to its caller, or say that the caller is gone."""
        if not submission.future.done():
            submission.future.set_result(answer)
            return
        if (kind := submission.request.kind).is_billed:
            tell_accepted(kind, answer)
        if submission.hooks is not None:
            submission.hooks.abandoned(answer)

    async def _fail(self, submission: Submission[Any], error: Exception) -> float | None:
        """Tell the owner and, unless it is to be sent again, the caller."""
        try:
            kind = submission.request.kind
            if submission.hooks is not None and provably_not_accepted(error, kind):
                await submission.hooks.not_sent()
        except Exception as broken:  # noqa: BLE001  # the record can't be kept: nothing is repeated
            error = broken
        again = self._next_attempt(submission, error)
        if again is None:
            fail(submission, error)
        else:
            self.stats.retries += 1
        return again

    def _next_attempt(self, submission: Submission[Any], error: Exception) -> float | None:
        """Return in how many real seconds it is to be sent again; `None` if it is not."""
        if submission.is_check:
            return None
        given = submission.outage_timeout
        left = math.inf if given is None else given - (self._clock.now() - submission.since)
        holds_out = given is not None and left > 0
        if isinstance(error, RateLimitError):
            submission.refusals += 1
            return 0.0 if holds_out or submission.refusals <= _MAX_REFUSALS else None
        submission.failures += 1
        kind = submission.request.kind
        if holds_out and is_outage(error):
            is_repeated = not kind.is_billed or provably_not_accepted(error, kind)
        else:
            is_repeated = submission.failures <= self.max_retries and is_retriable(error, kind)
        if not is_repeated or left <= 0:  # its caller has waited for as long as it wanted
            return None
        if submission.delays is None:
            submission.delays = delays(self._clock.speed)
        delay = next(submission.delays)
        return min(delay, self._clock.real(left)) if holds_out else delay

    def _learn(
        self,
        submission: Submission[Any],
        failure: BaseException | None,
        sent_at: float,
        now: float,
    ) -> None:
        """Tell the circuit whether the server has answered."""
        circuit = self._circuit
        before = circuit.outage
        kind = submission.request.kind
        if failure is not None and is_outage(failure):
            has_left = not has_not_left(failure)
            circuit.record_failure(
                now,
                Failure(
                    failure.summary if isinstance(failure, APIError) else str(failure),
                    sent_at,
                    datetime.now(UTC),
                    subject_of(submission.request) if has_left else SERVER,
                    may_have_arrived=has_left,
                    is_create=kind.is_billed,
                    is_lost=as_uncertain(failure, kind=kind) is not None,
                    is_told=is_told(failure),
                    retry_after=asked_wait(failure),
                    is_costly=self._view.quota_left is not None,
                ),
            )
        elif failure is None or isinstance(failure, APIError):
            subject = subject_of(submission.request)
            circuit.record_answer(now, subject=subject, is_create=kind.is_billed)
        if before is None and circuit.outage is not None:
            _logger.warning("%s; waiting for it", circuit.outage, extra=about(failure))
        elif before is not None and circuit.outage is None:
            _logger.warning("%s; it is back", before)

    async def _report(
        self,
        submission: Submission[Any],
        slot: Slot,
        failure: BaseException | None,
        rate_limit: tuple[int | None, int | None],
        sent_at: float,
    ) -> None:
        """Count one request that has ended, spend its slot or give it back, and report it."""
        kind, now = submission.request.kind, self._clock.now()
        self.unanswered.discard(submission)
        outcome = "answered" if failure is None else outcome_of(failure, kind)
        if failure is not None or not self._circuit.is_quiet:
            self._learn(submission, failure, sent_at, now)
        else:
            self._circuit.answered_at = now
            if kind.is_billed:
                self._circuit.create_answered_at = now
        try:
            if isinstance(failure, RateLimitError):
                outcome = "refused"
                self.stats.refused += 1
                refused = Outcome(refused=True, retry_after=failure.retry_after)
                await self._commit(slot, refused)
            elif failure is not None and has_not_left(failure):
                outcome = "not sent"
                self.stats.sent[kind] -= 1
                slot.give_back()
            else:
                limit, left = rate_limit
                is_usual = left is None
                answered = ANSWERED if is_usual else Outcome(server_limit=limit, server_left=left)
                try:
                    if submission.is_check or self._view.is_shared:
                        # The poller hears of the answer first, and who has waited for it may have
                        # the next request: other clients are told of both.
                        await asyncio.sleep(0)
                finally:
                    await self._commit(slot, answered)
        finally:
            if self._on_request is not None:
                now = self._clock.now()
                waited = max(0.0, sent_at - submission.since)
                report = RequestReport(kind, outcome, waited, now - sent_at)
                try:
                    self._on_request(report)
                except (Exception, asyncio.CancelledError):  # as of a future that it asks
                    _logger.exception(
                        "on_request raised",
                        extra=about(generation_id=submission.request.generation_id),
                    )

    async def _commit(self, slot: Slot, outcome: Outcome) -> None:
        """Spend a slot, tell the other clients what has changed, and hear what they say."""
        state = await slot.commit(outcome, self._view.workload(self._clock.now()))
        if state is not None:
            self._view.update(state, self._clock.now())
