"""What all resources share: send safely, read, wait. The seam between resources and rooms below.

A billed request is repeated only if it provably did not arrive or a rate limit refused it; any
other loss of its answer is a `SubmissionUncertainError`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from llamagen_async.clock import Clock
from llamagen_async.errors import GenerationFailedError, InvalidResponseError, LlamaGenError
from llamagen_async.models import Animation, ComicGeneration
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Limiter, Slot
from llamagen_async.requests import ComicRequest
from llamagen_async.scheduling import Poller
from llamagen_async.transport import (
    APIRequest,
    AssetSource,
    Transport,
    as_uncertain,
    retrying,
)

__all__ = ["Operations"]

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_G = TypeVar("_G", ComicGeneration, Animation)


class Operations:
    """One client's way to the API, in one event loop.

    Args:
        transport: Carries one request.
        assets: Opens pictures; the transport itself, over the network.
        limiter: Hands out the slots.
        clock: The server's clock.
        max_retries: How often a failed request is repeated, where that is safe.
    """

    def __init__(
        self,
        transport: Transport,
        limiter: Limiter,
        clock: Clock,
        *,
        assets: AssetSource,
        max_retries: int,
    ) -> None:
        self.transport = transport
        self.assets = assets
        self.limiter = limiter
        self.clock = clock
        self.max_retries = max_retries
        self.poller = Poller(limiter, clock, max_retries=max_retries)

    async def send(
        self,
        request: APIRequest,
        parse: Callable[[object], _T],
        *,
        submitted: ComicRequest | None = None,
        urgent: bool = True,
        wait_for_quota: bool = False,
        sending: Callable[[], None] | None = None,
        accepted: Callable[[_T], None] | None = None,
    ) -> _T:
        """Send a request when its turn has come and return its parsed answer.

        Args:
            request: What to send.
            parse: Reads the decoded body.
            submitted: What an uncertain submission is reported with.
            urgent: Whether somebody waits for it interactively.
            wait_for_quota: Wait for tomorrow's quota instead of raising.
            sending: Told right before the request leaves.
            accepted: Told the parsed answer before anything else happens with it, even if the
                caller was cancelled meanwhile.

        Raises:
            SubmissionUncertainError: It was billed, and its answer was lost.
            QuotaExhaustedError: A long window has no room for it; nothing was sent.
            LlamaGenError: It failed for good.
        """
        dispatcher = self.poller.dispatcher
        kind = request.kind

        async def once(slot: Slot) -> _T:
            if sending is not None:
                sending()
            answer = await self._parsed(request, parse, slot)
            if accepted is not None:
                accepted(answer)
            return answer

        def orphaned(answer: _T) -> None:
            if kind.is_billed:
                id_ = getattr(answer, "id", None)
                _logger.warning("cancelled, but already accepted: %s %s goes on", kind.value, id_)

        attempts = 0

        async def submit() -> _T:
            nonlocal attempts
            dispatcher.stats.retries += attempts > 0
            attempts += 1
            answer: _T = await dispatcher.submit(
                kind, once, urgent=urgent, wait_for_quota=wait_for_quota, orphaned=orphaned
            )
            return answer

        send = retrying(submit, kind=kind, max_retries=self.max_retries, speed=self.clock.speed)
        try:
            return await send()
        except LlamaGenError as error:
            uncertain = as_uncertain(error, submitted, kind=kind)
            if uncertain is None:
                raise
            raise uncertain from error

    async def read(self, id_: str, request: APIRequest, parse: Callable[[object], _G]) -> _G:
        """Return a generation as it stands now; failures are retried."""

        async def fetch(slot: Slot) -> _G:
            return await self._parsed(request, parse, slot)

        async def read() -> Any:
            return await self.poller.read(id_, fetch)

        read_on = retrying(
            read, kind=RequestKind.STATUS, max_retries=self.max_retries, speed=self.clock.speed
        )
        generation: _G = await read_on()
        return generation

    async def wait(
        self, id_: str, request: APIRequest, parse: Callable[[object], _G], *, timeout: float
    ) -> _G:
        """Return the generation when it has succeeded.

        Raises:
            GenerationFailedError: It ended otherwise; the error carries it.
            WaitTimeoutError: It has not ended within `timeout` seconds.
        """

        async def fetch(slot: Slot) -> _G:
            return await self._parsed(request, parse, slot)

        generation: Any = await self.poller.wait(id_, fetch, timeout=timeout)
        if not generation.succeeded:
            raise GenerationFailedError(generation)
        result: _G = generation
        return result

    async def aclose(self, grace: float) -> None:
        """Stop; give billed requests on their way `grace` real seconds to return."""
        await self.poller.aclose(grace)
        await self.transport.aclose()
        await self.assets.aclose()  # often the same object: closing twice is fine

    async def _parsed(self, request: APIRequest, parse: Callable[[object], _T], slot: Slot) -> _T:
        response = await self.transport.send(request)
        slot.observe(response.headers)
        try:
            return parse(response.body)
        except ValueError as error:
            message = f"the answer is not what was asked for: {error}"
            raise InvalidResponseError(response.status, None, message, response.body) from None
