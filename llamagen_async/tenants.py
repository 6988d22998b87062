"""Many tenants: clients of other keys that share a client's session, store and what it learned.

Each key has limits, a scheduler and a circuit of its own, so that a 429, a wrong key, an outage or
a flood of one tenant is no other's. Shared is what belongs to nobody: the HTTP session and its
connections, pictures' connections, the store's file or connection, and the forecasts of how long
the server takes.

A key that is asked for nothing is dropped by whoever is used after it: no task, timer or thread
waits for that. What it has spent stays known, in the store or, packed, in the process.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import attrs

from llamagen_async.core import ClientCore, Rooms
from llamagen_async.errors import ClientClosedError, InvalidRequestError
from llamagen_async.models import Animation, ComicGeneration
from llamagen_async.plans import DAY, Plan, RequestKind
from llamagen_async.ratelimit import Limiter, LimitsSnapshot, is_settled
from llamagen_async.scheduling import DispatchStats, GenerationWait
from llamagen_async.settings import ClientSettings
from llamagen_async.transport import APIRequest, Transport, check_key

__all__ = ["TenantCore", "Tenants"]

_T = TypeVar("_T")
_G = TypeVar("_G", ComicGeneration, Animation)

_WARM: Final = 32
"""Idle keys whose rooms are kept open, since one that was used is likely to be used again (chosen:
about half a megabyte)."""
_COUNTS: Final = struct.Struct(f"<{3 + len(RequestKind)}I")
"""The counts of a key whose rooms are closed, packed: there may be thousands of them."""
_MOST_PLANS: Final = 100_000
"""Detected plans that are remembered, at most (chosen: some megabytes)."""


class Tenants:
    """The clients of other keys that were made from one client.

    Args:
        lender: The core of that client, whose session and store they share.
        make: Makes the core of a key; a `TenantCore` if not given.
    """

    def __init__(
        self,
        lender: ClientCore,
        make: Callable[[Tenants, bytes, ClientSettings], TenantCore] | None = None,
    ) -> None:
        self.lender: Final = lender
        self._make: Final = make or TenantCore
        self.plans: Final[OrderedDict[bytes, tuple[Plan, float]]] = OrderedDict()
        """The plans that the server has told, and the wall times at which it did."""
        self._cores: Final = WeakValueDictionary[bytes, TenantCore]()
        self._idle: Final[OrderedDict[TenantCore, None]] = OrderedDict()
        """Cores that are open and asked for nothing; the one used last is the last."""
        self._resting: Final = set[asyncio.Task[None]]()
        """The tasks that let go of idle keys."""

    def core_of(self, api_key: object, plan: Plan | str | None) -> TenantCore:
        """Return the core of a key: the one that there is, or a new one.

        Raises:
            ClientClosedError: The lender is closed.
            InvalidRequestError: The key or the plan is not allowed, or the key is in use with
                another plan.
        """
        if self.lender.is_closed:
            raise ClientClosedError("the client is closed: make a new one")
        key = check_key(api_key)
        settings = self._settings(key, plan)
        # A hash: neither a table nor a name of this process holds a key that is not in use.
        name = hashlib.sha256(key.encode()).digest()
        core = self._cores.get(name)
        if core is None or core.is_closed:
            core = self._cores[name] = self._make(self, name, settings)
        elif (settings.plan, settings.detect_plan) != (core.asked.plan, core.asked.detect_plan):
            if core.calls:
                allowed = f"{core.plan.name!r}, with which this key is in use"
                raise InvalidRequestError("plan", settings.plan.name, allowed)
            core.change_plan(settings)
        return core

    def begin(self, core: TenantCore) -> None:
        """Note that a core is asked for something."""
        core.calls += 1
        self._idle.pop(core, None)

    def end(self, core: TenantCore) -> None:
        """Note that something that a core was asked for has ended."""
        core.calls -= 1
        if not core.calls:
            self.keep(core)

    def keep(self, core: TenantCore) -> None:
        """Keep an idle core open; in return, let go of others that were not used for long."""
        if core.calls or core.opened is None:
            return
        self._idle[core] = None
        for _ in range(min(2, len(self._idle) - _WARM)):
            oldest, _ = self._idle.popitem(last=False)
            if oldest.may_rest:
                self._rest(oldest)
            else:
                self._idle[oldest] = None

    def known_plan(self, name: bytes) -> Plan | None:
        """Return the plan that the server has told of a key in the last day."""
        plan, told_at = self.plans.get(name, (None, 0.0))
        return plan if time.time() - told_at < DAY else None

    def remember_plan(self, name: bytes, plan: Plan) -> None:
        """Remember the plan that the server has told of a key."""
        self.plans[name] = plan, time.time()
        self.plans.move_to_end(name)
        while len(self.plans) > _MOST_PLANS:
            self.plans.popitem(last=False)

    async def aclose(self, grace: float) -> None:
        """Close the clients of all keys; give billed requests on their way `grace` real seconds.

        Those of the lender are waited for at the same time; what it holds open is closed by itself.
        """
        closing = [core.aclose(grace) for core in list(self._cores.values())]
        closing.append(self._stop_lender(grace))
        loop = asyncio.get_running_loop()  # a process that was forked has tasks of another
        resting = [task for task in self._resting if task.get_loop() is loop]
        await asyncio.gather(*closing, *resting)

    async def _stop_lender(self, grace: float) -> None:
        if (rooms := self.lender.opened) is None:
            return
        async with rooms.closing:
            if not self.lender.is_released:
                await rooms.scheduler.aclose(grace)

    def forget(self, core: TenantCore) -> None:
        """Forget a core that is closed."""
        self._idle.pop(core, None)

    def _rest(self, core: TenantCore) -> None:
        task = asyncio.Task(core.rest(), context=Context())
        self._resting.add(task)
        task.add_done_callback(self._resting.discard)

    def _settings(self, api_key: str, plan: Plan | str | None) -> ClientSettings:
        settings = attrs.evolve(self.lender.settings, api_key=api_key)
        if plan is None:
            return settings
        if isinstance(plan, str):
            is_auto = plan.strip().lower() == "auto"
            # What is metered is the server's way, whoever asks.
            parsed = Plan.DEMO if is_auto else Plan.parse(plan)
            parsed = attrs.evolve(parsed, metered=settings.plan.metered)
            return attrs.evolve(settings, plan=parsed, detect_plan=is_auto)
        return attrs.evolve(settings, plan=Plan.parse(plan), detect_plan=False)


class TenantCore(ClientCore):
    """The core of a client of another key.

    Args:
        tenants: Those whose session it shares.
        name: A hash of the key.
        settings: The lender's, with the key and the plan.
    """

    def __init__(self, tenants: Tenants, name: bytes, settings: ClientSettings) -> None:
        self.asked: ClientSettings = settings
        """The settings as they were asked for, whatever plan the server has told since."""
        self.calls = 0
        """The number of calls that it has not answered."""
        self.tenants: Final = tenants
        self._name = name
        self._past = b""
        """The counts of what was sent and seen to end before its rooms were last closed, packed."""
        super().__init__(self._known(settings))

    def change_plan(self, settings: ClientSettings) -> None:
        """Keep the limits of another plan from now on; it is asked for nothing meanwhile."""
        self.asked = settings
        self.settings: ClientSettings = self._known(settings)
        self.is_ready: bool = False
        if (rooms := self.opened) is not None:
            rooms.limiter.change_plan(self.settings.plan)

    def counted(self) -> tuple[DispatchStats, int]:
        """Return what was sent, and how many generations were seen to end."""
        sent, finished = super().counted()
        if not self._past:
            return sent, finished
        past_finished, refused, retries, *past = _COUNTS.unpack(self._past)
        kinds = Counter(dict(zip(RequestKind, past, strict=True))) + sent.sent
        counted = DispatchStats(kinds, sent.refused + refused, sent.retries + retries)
        return counted, finished + past_finished

    @property
    def may_rest(self) -> bool:
        """Whether nothing would be lost if its rooms were closed and opened again."""
        rooms = self.opened
        return rooms is None or (rooms.scheduler.is_at_rest() and is_settled(rooms.limiter))

    async def send(self, request: APIRequest, parse: Callable[[object], _T], **how: Any) -> _T:
        """Send a request when its turn has come; see `ClientCore.send`."""
        self.tenants.begin(self)
        try:
            return await super().send(request, parse, **how)
        finally:
            self.tenants.end(self)

    async def read(
        self, name: str, request: APIRequest, parse: Callable[[object], _G], *, whole: bool = True
    ) -> _G:
        """Return a generation as it stands now; see `ClientCore.read`."""
        self.tenants.begin(self)
        try:
            return await super().read(name, request, parse, whole=whole)
        finally:
            self.tenants.end(self)

    async def wait(self, wait: GenerationWait[_G]) -> _G:
        """Return a generation when it has succeeded; see `ClientCore.wait`."""
        self.tenants.begin(self)
        try:
            return await super().wait(wait)
        finally:
            self.tenants.end(self)

    async def limits(self) -> LimitsSnapshot:
        """Return what the key may still send."""
        self.tenants.begin(self)
        try:
            return await super().limits()
        finally:
            self.tenants.end(self)

    async def rest(self) -> None:
        """Close the rooms of an idle key until it is used again."""
        rooms = self.opened
        if rooms is None:
            return
        await rooms.scheduler.settle()
        async with rooms.closing:
            if self.calls or self.opened is not rooms:
                return
            if not self.may_rest:  # what was on its way was accepted
                self.tenants.keep(self)
                return
            sent, finished = self.counted()
            counts = map(sent.sent.__getitem__, RequestKind)
            self._past = _COUNTS.pack(finished, sent.refused, sent.retries, *counts)
            self._rooms, self.settings = None, self._known(self.settings)
            self.is_ready = False
            vars(self).pop("uploads", None)
            await self._release(rooms, 0.0)

    async def aclose(self, grace: float) -> None:
        """Stop, for all clients of this key that were made from the same client."""
        await super().aclose(grace)
        self.tenants.forget(self)

    def _known(self, settings: ClientSettings) -> ClientSettings:
        """Return settings that need no detection if the server has told the plan lately."""
        known = self.tenants.known_plan(self._name) if settings.detect_plan else None
        return settings if known is None else attrs.evolve(settings, plan=known, detect_plan=False)

    def _wire(self, loop: asyncio.AbstractEventLoop) -> Rooms:
        lender = self.tenants.lender.open()
        lender.forecasts.load_once()
        transport = lender.transport
        with_key: Callable[[str], Transport] | None = getattr(transport, "with_key", None)
        if with_key is None:
            allowed = "one with a method `with_key`, for `client.with_key`"
            raise InvalidRequestError("transport", type(transport).__name__, allowed)
        keyed = with_key(self.settings.api_key)
        rooms = self._wired(loop, keyed, lender.assets, self.settings.on_request, lender)
        self.tenants.keep(self)
        return rooms

    async def _let_go(self, rooms: Rooms) -> None:
        """Do nothing: what it holds open is its lender's."""

    async def _detect_plan(self, limiter: Limiter, outage_timeout: float | None) -> None:
        await super()._detect_plan(limiter, outage_timeout)
        self.tenants.remember_plan(self._name, limiter.plan)
