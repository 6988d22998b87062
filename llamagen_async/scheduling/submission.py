"""A submission: one API request on its way through the scheduler, and who is told of each step.

It is made where a request is asked for, waits in the queue, is sent in a slot, and carries its
answer, or what went wrong, back to whoever asked. It does nothing by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from typing import Any, Generic, Protocol, TypeVar

import attrs

from llamagen_async.errors import SubmissionUncertainError
from llamagen_async.forecasting import Profile
from llamagen_async.observing import about, logger_of
from llamagen_async.plans import RequestKind
from llamagen_async.requests import AnyRequest
from llamagen_async.transport import APIRequest
from llamagen_async.validation import LlamaGenError

__all__ = ["Submission", "SubmissionHooks", "tell_accepted"]

_logger = logger_of(__name__)

_T = TypeVar("_T")
_T_contra = TypeVar("_T_contra", contravariant=True)


class SubmissionHooks(Protocol[_T_contra]):
    """The owner of a submission that has to keep a record of it, such as a batch's journal."""

    @property
    def since(self) -> float | None:
        """Time of the event loop's clock since which it waits, if it waited elsewhere before."""
        ...

    async def before_send(self) -> None:
        """Write down that it is about to be sent; if this raises, nothing is sent."""
        ...

    async def not_sent(self) -> None:
        """Write down that it has to wait again.

        It did not leave after all, provably did not arrive, or was refused by a rate limit.
        """
        ...

    def held_up(self, error: LlamaGenError) -> None:
        """Take the reason for which it waits longer than for its turn."""
        ...

    async def accepted(self, answer: _T_contra) -> None:
        """Write down the answer, before anything else is done with it."""
        ...

    def abandoned(self, outcome: object) -> None:
        """Take the answer or the error that came when its caller was gone."""
        ...

    async def written(self) -> None:
        """Return once all is written down of it that will be, as the client is being closed."""
        ...


@attrs.define(eq=False, repr=False)
class Submission(Generic[_T]):
    """One API request that somebody waits for."""

    request: APIRequest
    """The request as it is sent."""
    parse: Callable[[object], _T]
    """Reads the decoded body of its answer; raises `ValueError` if it is something else."""
    since: float
    """Time at which the request was asked for, in seconds of the server's clock; in this process or
    in another one."""
    future: asyncio.Future[_T]
    """The answer, as its caller waits for it."""
    urgent: bool = True
    """Whether somebody waits for it interactively."""
    max_wait: float | None = None
    """Seconds that it may wait for a slot; `None` is any time within the short windows."""
    wait_for_quota: bool = False
    """Whether it may wait for a long window, such as until tomorrow."""
    outage_timeout: float | None = None
    """Seconds since it was asked for in which an outage is held out, infinite for a batch; `None`
    is as long as `max_retries` take."""
    hooks: SubmissionHooks[_T] | None = None
    """The owner that keeps a record of it, if there is one."""
    story: AnyRequest | None = None
    """The user's request, to report an uncertain outcome with."""
    profile: Profile | None = None
    """Features of the generation that is started; `None` if none is."""
    will_wait: bool = False
    """Whether the generation that it starts will be waited for at once."""
    is_check: bool = False
    """Whether it is a status check, which is chosen again instead of being queued again."""
    context: Context = attrs.field(factory=copy_context)
    """The context variables of whoever asked for it, in which it is sent."""

    priority: int = 0
    """Rank in the queue: the lowest is served first."""
    number: int = 0
    """Position among the submissions of its rank; 0 until it is queued for the first time."""
    is_queued: bool = False
    """Whether it waits in the queue for a slot."""
    refusals: int = 0
    """How often in all the server refused it with a 429."""
    failures: int = 0
    """How often in all it failed in a way that allows another attempt."""
    delays: Iterator[float] | None = None
    """Real seconds to wait before each further attempt, once one has failed."""

    @classmethod
    def check(
        cls, request: APIRequest, parse: Callable[[object], _T], now: float, context: Context
    ) -> Submission[_T]:
        """Return a read that is sent at once."""
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        return cls(request, parse, now, future, is_check=True, context=context)

    @classmethod
    def probe(
        cls, request: APIRequest, parse: Callable[[object], _T], now: float
    ) -> Submission[_T]:
        """Return a read that nobody waits for."""
        probe = cls.check(request, parse, now, Context())
        probe.future.add_done_callback(_retrieve)
        return probe

    def leave(self, reason: asyncio.CancelledError) -> None:
        """Log what nobody else hears of: an outcome in the very turn in which its caller left."""
        if not self.request.kind.is_billed or not self.future.done() or self.future.cancelled():
            return  # whoever sends it will find the caller gone
        error = self.future.exception()
        if error is None:
            tell_accepted(self.request.kind, self.future.result(), reason)
        elif isinstance(error, SubmissionUncertainError):
            known = about(error, generation_id=self.request.generation_id)
            _logger.warning(
                "cancelled, and %s may be accepted: %s", self.request.kind, error, extra=known
            )


def tell_accepted(kind: RequestKind, answer: object, error: BaseException | None = None) -> None:
    """Log the id of what was paid for and whose caller is gone; note it on what ended the call."""
    id_ = getattr(answer, "id", None)
    known = about(generation_id=id_)
    _logger.warning("cancelled, but already accepted: %s %s goes on", kind.value, id_, extra=known)
    if error is not None:
        error.add_note(f"{kind.value} {id_} was accepted, and goes on")


def _retrieve(outcome: asyncio.Future[Any]) -> None:
    """Take note of an error: nobody waits for a probe."""
    if not outcome.cancelled():
        outcome.exception()
