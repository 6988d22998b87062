"""What all resources share: send safely, read, wait. The seam between resources and rooms below.

A billed request is repeated only if it provably did not arrive or a rate limit refused it; any
other loss of its answer is a `SubmissionUncertainError`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from llamagen_async.clock import Clock
from llamagen_async.errors import (
    APIConnectionError,
    ClientClosedError,
    GenerationFailedError,
    InvalidResponseError,
    LlamaGenError,
    RateLimitError,
    SubmissionUncertainError,
)
from llamagen_async.forecasting.saved import ForecastStore
from llamagen_async.models import Animation, ComicGeneration, Usage
from llamagen_async.plans import DAY, Plan, RateLimit, RequestKind
from llamagen_async.ratelimit import Limiter, LimitsSnapshot, Slot
from llamagen_async.requests import ComicRequest
from llamagen_async.scheduling import Poller, RequestReport
from llamagen_async.transport import (
    APIRequest,
    AssetSource,
    Transport,
    as_uncertain,
    retrying,
)

__all__ = ["ClientCore", "plan_for"]

_logger = logging.getLogger(__name__)
_USAGE: Final = APIRequest(RequestKind.USAGE, "GET", "/comics/usage")
_T = TypeVar("_T")
_G = TypeVar("_G", ComicGeneration, Animation)


class ClientCore:
    """One client's way to the API, in one event loop.

    Args:
        transport: Carries one request.
        assets: Opens pictures; the transport itself, over the network.
        limiter: Hands out the slots.
        clock: The server's clock.
        max_retries: How often a failed request is repeated, where that is safe.
        polling: Seconds between two checks of the same generation, at least.
        announced: Whether the ends of generations are announced by webhook events.
        detect_plan: Ask the server for the plan before anything else is sent.
        on_request: Told of each request once it has ended.
    """

    def __init__(
        self,
        transport: Transport,
        limiter: Limiter,
        clock: Clock,
        *,
        assets: AssetSource,
        max_retries: int,
        polling: float | None = None,
        announced: bool = False,
        detect_plan: bool = False,
        on_request: Callable[[RequestReport], None] | None = None,
    ) -> None:
        self.transport = transport
        self.assets = assets
        self.limiter = limiter
        self.clock = clock
        self.max_retries = max_retries
        self.poller = Poller(
            limiter,
            clock,
            max_retries=max_retries,
            polling=polling,
            announced=announced,
            on_request=on_request,
        )
        self._note = ForecastStore(
            limiter.ledger, self.poller.forecasts, loaded=self.poller.dispatcher.wake
        )
        self._detection: asyncio.Task[None] | None = None
        self._plan_known = not detect_plan

    async def send(
        self,
        request: APIRequest,
        parse: Callable[[object], _T],
        *,
        submitted: ComicRequest | None = None,
        urgent: bool = True,
        max_wait: float | None = None,
        wait_for_quota: bool = False,
        sending: Callable[[], Awaitable[None]] | None = None,
        unsent: Callable[[], Awaitable[None]] | None = None,
        accepted: Callable[[_T], Awaitable[None]] | None = None,
    ) -> _T:
        """Send a request when its turn has come and return its parsed answer.

        Args:
            request: What to send.
            parse: Reads the decoded body.
            submitted: What an uncertain submission is reported with.
            urgent: Whether somebody waits for it interactively.
            max_wait: Seconds that it may wait for a slot; `None` is any time within the short
                windows.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            sending: Awaited right before the request leaves; if it raises, nothing is sent.
            unsent: Awaited when it did not leave after all, did not arrive or was refused by a
                rate limit: it waits again, unless the caller is gone.
            accepted: Awaited with the parsed answer before anything else happens with it, even if
                the caller was cancelled meanwhile.

        Raises:
            SubmissionUncertainError: It was billed, and its answer was lost.
            QuotaExhaustedError: A long window has no room for it; nothing was sent.
            LlamaGenError: It failed for good.
        """
        await self._know_plan()
        dispatcher = self.poller.dispatcher
        once = self._attempt(request, parse, unsent, accepted)
        attempts = 0

        async def submit() -> _T:
            nonlocal attempts
            dispatcher.stats.retries += attempts > 0
            attempts += 1
            answer: _T = await dispatcher.submit(
                request.kind,
                once,
                urgent=urgent,
                max_wait=max_wait,
                wait_for_quota=wait_for_quota,
                prepare=sending,
                retract=unsent,
                orphaned=partial(_say_orphaned, request.kind),
                lost=partial(_say_lost, request.kind),
            )
            return answer

        send = retrying(
            submit, kind=request.kind, max_retries=self.max_retries, speed=self.clock.speed
        )
        try:
            return await send()
        except SubmissionUncertainError as error:
            raise SubmissionUncertainError(submitted, error.reason) from error
        except LlamaGenError as error:
            uncertain = as_uncertain(error, submitted, kind=request.kind)
            if uncertain is None:
                raise
            raise uncertain from error

    async def read(
        self, name: str, request: APIRequest, parse: Callable[[object], _G], *, whole: bool = True
    ) -> _G:
        """Return a generation as it stands now; failures are retried."""
        await self._know_plan()
        fetch = partial(self._parsed, request, parse)
        read_on = retrying(
            partial(self.poller.read, name, fetch, whole=whole),
            kind=RequestKind.STATUS,
            max_retries=self.max_retries,
            speed=self.clock.speed,
        )
        generation: Any = await read_on()
        result: _G = generation
        return result

    async def wait(
        self,
        id_: str,
        request: APIRequest,
        parse: Callable[[object], _G],
        *,
        timeout: float,
        urgent: bool = True,
    ) -> _G:
        """Return the generation when it has succeeded.

        Args:
            id_: Its id.
            request: Reads it.
            parse: Reads the decoded body.
            timeout: Seconds of the server's clock to wait at most.
            urgent: Whether somebody waits interactively.

        Raises:
            GenerationFailedError: It ended otherwise; the error carries it.
            WaitTimeoutError: It has not ended within `timeout` seconds.
            QuotaExhaustedError: No check can be sent within `timeout` seconds; it goes on.
        """
        await self._know_plan()
        fetch = partial(self._parsed, request, parse)
        generation: Any = await self.poller.wait(id_, fetch, timeout=timeout, urgent=urgent)
        self._note.save_now_and_then()
        if not generation.succeeded:
            raise GenerationFailedError(generation)
        result: _G = generation
        return result

    async def usage(self) -> Usage:
        """Ask the server what the key has used; this is a request like any other."""
        return await self.send(_USAGE, Usage.parse)

    async def limits(self) -> LimitsSnapshot:
        """Return what the key may still send."""
        await self._know_plan()
        return await self.limiter.snapshot()

    async def aclose(self, grace: float) -> None:
        """Stop; give billed requests on their way `grace` real seconds to return."""
        await self.poller.aclose(grace)
        if self._detection is not None:
            self._detection.cancel()  # it may be waiting to try again
            await asyncio.gather(self._detection, return_exceptions=True)
        try:
            await self.transport.aclose()
            await self.assets.aclose()  # often the same object: closing twice is fine
        finally:
            await self._note.aclose()

    async def _know_plan(self) -> None:
        """Detect the plan if that was asked for: once, whoever asks first; again if it failed.

        What was learned before is read meanwhile; nothing waits for that.
        """
        self._note.begin()
        if self._plan_known or asyncio.current_task() is self._detection:
            return
        if self._detection is None or self._detection.done():
            self._detection = asyncio.create_task(self._detect_plan())
        try:
            await asyncio.shield(self._detection)
        except asyncio.CancelledError:
            if self._detection.cancelled():
                raise ClientClosedError("the client was closed; nothing was sent") from None
            raise

    async def _detect_plan(self) -> None:
        usage = await self.usage()
        plan = plan_for(usage)
        self.limiter.change_plan(plan)
        self._plan_known = True
        _logger.info("the plan is %s", plan.name)
        if plan.quotas and usage.api_usage_count is not None:
            windows = (await self.limiter.snapshot()).windows
            known = min(window.used for window in windows if window.limit in plan.quotas)
            # The server counts what other programs have sent, too.
            await self.limiter.ledger.record(max(0, usage.api_usage_count - known))

    def _attempt(
        self,
        request: APIRequest,
        parse: Callable[[object], _T],
        unsent: Callable[[], Awaitable[None]] | None,
        accepted: Callable[[_T], Awaitable[None]] | None,
    ) -> Callable[[Slot], Awaitable[_T]]:
        """Return what sends `request` once and tells how it went."""

        async def once(slot: Slot) -> _T:
            try:
                answer = await self._parsed(request, parse, slot)
            except (RateLimitError, APIConnectionError) as error:
                arrived = isinstance(error, APIConnectionError) and error.request_sent
                if unsent is not None and not arrived:
                    await unsent()
                raise
            if accepted is not None:
                await accepted(answer)
            return answer

        return once

    async def _parsed(self, request: APIRequest, parse: Callable[[object], _T], slot: Slot) -> _T:
        response = await self.transport.send(request)
        slot.observe(response.headers)
        try:
            return parse(response.body)
        except ValueError as error:
            message = f"the answer is not what was asked for: {error}"
            raise InvalidResponseError(response.status, None, message, response.body) from None


def _say_orphaned(kind: RequestKind, answer: object) -> None:
    if kind.is_billed:
        id_ = getattr(answer, "id", None)
        _logger.warning("cancelled, but already accepted: %s %s goes on", kind.value, id_)


def _say_lost(kind: RequestKind, error: BaseException) -> None:
    if as_uncertain(error, kind=kind) is not None:
        _logger.warning("cancelled, and its answer was lost: %s may be accepted (%s)", kind, error)


def plan_for(usage: Usage) -> Plan:
    """Return the plan of a key from what the usage endpoint says.

    Only `isPaidPlan: true` is the paid plan: taking a demo key for a paid one would be refused.
    Where the server names another daily limit than the documented one, the smaller one holds.
    """
    if usage.is_paid_plan:
        return Plan.PAID
    daily = usage.api_max_usage
    short, day = Plan.DEMO.limits
    if daily is None or not 0 < daily < day.limit:
        return Plan.DEMO
    return Plan("demo", limits=(short, RateLimit(daily, per=DAY)))
