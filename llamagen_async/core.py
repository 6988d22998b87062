"""The core of a client: what its resources share, in the event loop in which it is first used.

It wires the rooms below, binds them to one event loop, and sends, reads and waits through the
scheduler. A resource says what is sent and how the answer is read, and nothing about when.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
from collections.abc import Callable
from typing import Final, TypeVar, cast

import attrs

from llamagen_async.batch.journal.codec import AccountId
from llamagen_async.errors import (
    APIConnectionError,
    APIError,
    ClientClosedError,
    GenerationFailedError,
    LlamaGenError,
    QuotaExhaustedError,
    WaitTimeoutError,
)
from llamagen_async.forecasting import Profile
from llamagen_async.forecasting.saved import ForecastStore
from llamagen_async.models import Animation, ComicGeneration, GenerationStatus, Usage
from llamagen_async.observing import Observer
from llamagen_async.plan_detection import take_over
from llamagen_async.plans import Plan
from llamagen_async.quota import MEMORY, writable_default
from llamagen_async.ratelimit import Identity, Limiter, LimitsSnapshot, close_limiter, open_limiter
from llamagen_async.requests import AnyRequest
from llamagen_async.scheduling import (
    PROBE,
    DispatchStats,
    GenerationWait,
    Outage,
    RequestReport,
    Scheduler,
    Submission,
    SubmissionHooks,
)
from llamagen_async.settings import ClientSettings
from llamagen_async.transport import APIRequest, AssetSource, HTTPAssets, HTTPTransport, Transport
from llamagen_async.uploads import Uploads
from llamagen_async.waiting import result_for_all

__all__ = ["ClientCore", "Rooms"]

_T = TypeVar("_T")
_G = TypeVar("_G", ComicGeneration, Animation)


@attrs.frozen(eq=False)
class Rooms:
    """The rooms below a client that is open, all of one event loop."""

    loop: asyncio.AbstractEventLoop
    transport: Transport
    assets: AssetSource
    identity: Identity
    limiter: Limiter
    scheduler: Scheduler
    forecasts: ForecastStore
    process: int = attrs.field(factory=os.getpid)
    """The id of the process that opened them."""
    closing: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    """Held by the one who closes them; others wait for that."""


_inherited: Final[list[Rooms]] = []
"""The rooms of processes from which this one was forked. They are kept, since closing their
connections here would disturb those processes."""


_OTHER_LOOP: Final = (
    "the client belongs to another event loop: make one client in each loop (clients of the same "
    "key share their limits), or give that loop the call (asyncio.run_coroutine_threadsafe)"
)


class ClientCore:
    """Sends, reads and waits for the resources of one client.

    Args:
        settings: The client's checked arguments.
    """

    observer: Observer | None = None
    """An observer that is told what the client does, if there is one."""
    is_released: bool = False
    """Whether all that was opened is closed; of the class, as thousands of idle cores are kept."""
    _is_disconnected: bool = False

    def __init__(self, settings: ClientSettings) -> None:
        self.settings: ClientSettings = settings
        self._rooms: Rooms | None = None
        self._detections: dict[bool, asyncio.Task[None]] | None = None
        """The detection of the plan that holds out an outage, and the one that gives up."""
        self.is_ready: bool = False
        """Whether the plan is known and what was learned before is being read."""
        self.is_closed: bool = False

    @functools.cached_property
    def uploads(self) -> Uploads:
        """The uploads of files that requests name."""
        return Uploads(self.send)

    @property
    def opened(self) -> Rooms | None:
        """The rooms below; `None` until the client is used for the first time in this process."""
        if self._rooms is not None and self._rooms.process != os.getpid():
            _inherited.append(self._rooms)
            self._rooms = None
            self._detections = None
            self.is_ready = self.is_released = self._is_disconnected = False
        return self._rooms

    @property
    def account(self) -> AccountId:
        """The key and the server, named without telling the key."""
        return AccountId.of(self.settings.api_key, self.settings.base_url)

    @property
    def outage(self) -> Outage | None:
        """The outage of the server that is going on; `None` if there is none."""
        rooms = self.opened
        return None if rooms is None else rooms.scheduler.outage

    @property
    def plan(self) -> Plan:
        """The plan whose limits are kept."""
        rooms = self.opened
        return self.settings.plan if rooms is None else rooms.limiter.plan

    def open(self) -> Rooms:
        """Return the rooms below, made for the running event loop when it is used first.

        Raises:
            ClientClosedError: The client is closed, or belongs to another event loop.
        """
        if self.is_closed:
            raise ClientClosedError("the client is closed: make a new one")
        try:
            loop, rooms = asyncio.get_running_loop(), self._rooms
        except RuntimeError:
            raise ClientClosedError("no event loop runs here: call it in a coroutine") from None
        if rooms is not None and rooms.loop is loop:
            return rooms
        if self.opened is not None:  # a process that was forked opens its own
            raise ClientClosedError(_OTHER_LOOP)
        self._rooms = self._wire(loop)
        return self._rooms

    def at_home(self) -> Rooms | None:
        """Return the rooms below, if any; raise an error if another loop is at work in them."""
        rooms = self.opened
        if rooms and rooms.loop is not asyncio.get_running_loop() and rooms.loop.is_running():
            raise ClientClosedError(_OTHER_LOOP)
        return rooms

    async def send(
        self,
        request: APIRequest,
        parse: Callable[[object], _T],
        *,
        urgent: bool = True,
        max_wait: float | None = None,
        wait_for_quota: bool = False,
        outage_timeout: float | None = None,
        hooks: SubmissionHooks[_T] | None = None,
        story: AnyRequest | None = None,
        profile: Profile | None = None,
        will_wait: bool = False,
    ) -> _T:
        """Send a request when its turn has come and return its parsed answer.

        The arguments are those of a `Submission`, which is made here.

        Raises:
            SubmissionUncertainError: It was billed, and its answer was lost.
            QuotaExhaustedError: It would wait too long; nothing was sent.
            LlamaGenError: It failed for good.
        """
        rooms, id_, clock = self.open(), request.generation_id, self.settings.clock
        submission = Submission(
            request,
            parse,
            clock.now() if hooks is None or hooks.since is None else hooks.since * clock.speed,
            rooms.loop.create_future(),
            urgent=urgent,
            max_wait=max_wait,
            wait_for_quota=wait_for_quota,
            outage_timeout=outage_timeout,
            hooks=hooks,
            story=story,
            profile=profile,
            will_wait=will_wait,
        )
        try:
            if not self.is_ready:
                await self._prepare(rooms, outage_timeout)
            return await rooms.scheduler.submit(submission)
        except QuotaExhaustedError:
            raise  # nothing was sent: with an id, it would speak of a generation that goes on
        except LlamaGenError as error:
            if id_ is None or error.id is not None:
                raise
            raise error.about(id_) from error

    async def read(
        self, name: str, request: APIRequest, parse: Callable[[object], _G], *, whole: bool = True
    ) -> _G:
        """Return a generation as it stands now; those who ask at the same time share the answer.

        Args:
            name: Tells what is read from what else is read.
            request: The status check.
            parse: Reads the decoded body of its answer.
            whole: Whether it is the whole generation, and so news for those who wait for it.
        """
        rooms = self.open()
        if not self.is_ready:
            await self._prepare(rooms)
        return cast("_G", await rooms.scheduler.read(name, request, parse, whole=whole))

    async def wait(self, wait: GenerationWait[_G]) -> _G:
        """Return a generation when it has succeeded.

        Raises:
            GenerationFailedError: It ended otherwise; the error carries it.
            WaitTimeoutError: It has not ended in time.
            QuotaExhaustedError: No check can be sent in time; it goes on.
        """
        try:
            rooms = self.open()
            if not self.is_ready:
                wait = await self._prepare_to_wait(rooms, wait)
            generation = cast("_G", await rooms.scheduler.wait(wait))
        except LlamaGenError as error:
            if error.id is not None:
                raise
            raise error.about(wait.id, goes_on=not isinstance(error, APIError)) from error
        if rooms.loop.time() >= rooms.forecasts.save_at:
            rooms.forecasts.save_soon()
        if generation.status is not GenerationStatus.SUCCEEDED:
            raise GenerationFailedError(generation)
        return generation

    async def usage(self, *, outage_timeout: float | None = None) -> Usage:
        """Ask the server what the key has used; an outage is held out for so many seconds."""
        return await self.send(PROBE, Usage.parse, outage_timeout=outage_timeout)

    async def limits(self) -> LimitsSnapshot:
        """Return what the key may still send."""
        rooms = self.open()
        if not self.is_ready:
            await self._prepare(rooms)
        return await rooms.limiter.ledger.snapshot()

    def counted(self) -> tuple[DispatchStats, int]:
        """Return what was sent, and how many generations were seen to end."""
        scheduler = self.opened.scheduler if self.opened else None
        return (scheduler.stats, scheduler.finished) if scheduler else (DispatchStats(), 0)

    async def aclose(self, grace: float) -> None:
        """Stop; give billed requests on their way `grace` real seconds to return.

        If this is cut short, calling it again releases what is not released yet.
        """
        rooms = self.at_home()
        self.is_closed = True
        if rooms is None:
            return
        async with rooms.closing:
            if not self.is_released:
                await self._release(rooms, grace)
                self.is_released = True

    async def _release(self, rooms: Rooms, grace: float) -> None:
        await rooms.scheduler.aclose(grace)
        detections = (self._detections or {}).values()
        for detection in detections:
            detection.cancel()  # it may be waiting to try again
        await asyncio.gather(*detections, return_exceptions=True)
        try:
            await self._let_go(rooms)
        finally:
            await close_limiter(rooms.identity, rooms.limiter, user=rooms.scheduler)

    async def _let_go(self, rooms: Rooms) -> None:
        """Close what is this client's own."""
        try:
            if not self._is_disconnected:
                await rooms.assets.aclose()  # first, as its connections are the transport's
                await rooms.transport.aclose()
                self._is_disconnected = True
        finally:
            await rooms.forecasts.aclose()

    def _wire(self, loop: asyncio.AbstractEventLoop) -> Rooms:
        one = self.settings
        http = HTTPTransport(
            one.base_url, one.api_key, timeout=one.timeout, session=one.session, proxy=one.proxy
        )
        assets = one.assets or HTTPAssets(http)
        return self._wired(loop, one.transport or http, assets, one.on_request)

    def _wired(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: Transport,
        assets: AssetSource,
        on_request: Callable[[RequestReport], None] | None,
        lender: Rooms | None = None,
    ) -> Rooms:
        """Return rooms over a transport; `lender` lends what was learned of the server."""
        settings = self.settings
        identity = settings.identity(self._quota_for(loop))
        limiter = open_limiter(
            identity,
            settings.plan,
            timeout=settings.timeout,
            on_store_failure=settings.on_store_failure,
        )
        scheduler = Scheduler(
            transport,
            limiter,
            settings.clock,
            max_retries=settings.max_retries,
            polling=settings.polling,
            announced=settings.webhooks,
            on_request=on_request,
            forecasts=None if lender is None else lender.scheduler.forecasts,
        )
        limiter.users.add(scheduler)
        learned, loaded = scheduler.forecasts, scheduler.start_learning
        forecasts = ForecastStore(limiter.ledger, learned, loaded=loaded)
        if lender is not None:
            forecasts = lender.forecasts
            scheduler.start_learning()
        return Rooms(loop, transport, assets, identity, limiter, scheduler, forecasts)

    def _quota_for(self, loop: asyncio.AbstractEventLoop) -> str:
        """Return the URL of the store of spent requests, or `MEMORY`."""
        quota = self.settings.quota
        if quota is None:
            # What was not sent to the API, or not in real time, is no business of later programs.
            is_real = self.settings.transport is None and not getattr(loop, "is_virtual", False)
            quota = writable_default() if is_real else MEMORY
        return quota

    async def _prepare_to_wait(self, rooms: Rooms, wait: GenerationWait[_G]) -> GenerationWait[_G]:
        """Detect the plan in the time given for a wait, and return the wait with what is left."""
        clock = self.settings.clock
        until = clock.now() + wait.timeout
        try:
            await self._prepare(rooms, wait.timeout)
        except APIConnectionError:
            raise WaitTimeoutError(wait.id, wait.timeout) from None
        return attrs.evolve(wait, timeout=max(0.0, until - clock.now()))

    async def _prepare(self, rooms: Rooms, outage_timeout: float | None = None) -> None:
        """Detect the plan if that was asked for: once, whoever asks first; again if it failed.

        Those who hold out an outage share one detection, the others another, which gives up. What
        was learned before is read meanwhile; nothing waits for that.
        """
        rooms.forecasts.load_once()
        if not self.settings.detect_plan:
            self.is_ready = True
            return
        detections = self._detections = self._detections or {}
        if asyncio.current_task() in detections.values():
            return
        holds_out = outage_timeout is not None
        detection = detections.get(holds_out)
        if detection is None or detection.done():
            detecting = self._detect_plan(rooms.limiter, math.inf if holds_out else None)
            # Where tasks begin at once (`asyncio.eager_task_factory`), it would ask before it is
            # known here that it does, and so for ever.
            detection = detections[holds_out] = asyncio.Task(detecting, loop=rooms.loop)
        real = None if outage_timeout is None else self.settings.clock.real(outage_timeout)
        try:
            async with asyncio.timeout(real if real != math.inf else None):
                await result_for_all(detection, "the client was closed; nothing was sent")
        except TimeoutError:
            message = f"{self.outage or 'the server is slow'}; nothing was sent"
            raise APIConnectionError(message, request_sent=False) from None

    async def _detect_plan(self, limiter: Limiter, outage_timeout: float | None) -> None:
        usage = await self.usage(outage_timeout=outage_timeout)
        if self.is_ready:
            return  # another detection was faster
        self.is_ready = True
        await take_over(usage, limiter)
