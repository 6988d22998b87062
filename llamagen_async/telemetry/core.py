"""The core of a client with telemetry: what is asked for, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from llamagen_async.core import ClientCore, Rooms
from llamagen_async.errors import GenerationFailedError
from llamagen_async.models import Animation, AnyGeneration, ComicGeneration
from llamagen_async.observing import Observer
from llamagen_async.scheduling import GenerationWait, Load, RequestReport
from llamagen_async.settings import ClientSettings
from llamagen_async.telemetry.edges import TracedAssets, TracedTransport
from llamagen_async.telemetry.telemetry import Telemetry
from llamagen_async.tenants import TenantCore, Tenants
from llamagen_async.transport import APIRequest, AssetSource, Transport

__all__ = ["ObservedCore", "ObservedTenantCore"]

_T = TypeVar("_T")
_G = TypeVar("_G", ComicGeneration, Animation)


class ObservedCore(ClientCore):
    """Sends, reads and waits as a core does, and tells of it."""

    _telemetry: Telemetry

    def observe(self, telemetry: Telemetry) -> None:
        """Tell of everything from now on; called before the core is used.

        Args:
            telemetry: Where the spans and metrics go.
        """
        self._telemetry = telemetry
        self.observer: Observer | None = telemetry.operations

    def load(self) -> Load | None:
        """Return what the client has to do now; `None` if it is not open. Any thread may ask."""
        rooms = self._rooms
        if rooms is None or self.is_closed:
            return None
        return rooms.scheduler.load(rooms.loop.time() * self.settings.clock.speed)

    async def send(self, request: APIRequest, parse: Callable[[object], _T], **how: Any) -> _T:
        """Send a request as an operation of its own; the arguments are those of a core's `send`."""
        self.open()  # there is no clock without a loop
        now, telemetry = self.settings.clock.now, self._telemetry
        with telemetry.operations.operation(
            request.kind.value, generation_id=request.generation_id, queued_at=now()
        ) as running:
            answer: _T = await super().send(request, parse, **how)
            if isinstance(answer, AnyGeneration):
                running.tell(generation_id=answer.id, outcome="accepted")
                telemetry.started.begin(answer.id, now(), request.kind, how.get("story"), running)
                if answer.succeeded and request.generation_id is None:
                    telemetry.started.end(answer, now())
            return answer

    async def read(
        self, name: str, request: APIRequest, parse: Callable[[object], _G], *, whole: bool = True
    ) -> _G:
        """Read a generation as an operation of its own; the arguments are those of a core's."""
        self.open()
        with self._telemetry.operations.operation(
            "get", generation_id=request.generation_id, queued_at=self.settings.clock.now()
        ):
            return await super().read(name, request, parse, whole=whole)

    async def wait(self, wait: GenerationWait[_G]) -> _G:
        """Wait for a generation as an operation that goes on with the one that has started it."""
        started = self._telemetry.started
        with (
            self._telemetry.operations.operation(
                "wait", generation_id=wait.id, linked=started.of(wait.id)
            ) as running,
            started.waiting(wait.id, running),
        ):
            try:
                generation = await super().wait(wait)
            except GenerationFailedError as error:
                started.end(error.generation, self.settings.clock.now())
                raise
            running.tell(generation_id=wait.id, outcome=generation.status.value.lower())
            started.end(generation, self.settings.clock.now())
            return generation

    def _wired(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: Transport,
        assets: AssetSource,
        on_request: Callable[[RequestReport], None] | None,
        lender: Rooms | None = None,
    ) -> Rooms:
        settings, telemetry = self.settings, self._telemetry
        instruments = telemetry.instruments

        def count(report: RequestReport) -> None:
            instruments.count_request(report)
            if on_request is not None:
                on_request(report)

        transport = TracedTransport(transport, settings.base_url, settings.clock, telemetry)
        if lender is None:  # else they are traced already
            assets = TracedAssets(assets, telemetry)
        rooms = super()._wired(loop, transport, assets, count, lender)
        instruments.add(self)
        return rooms

    async def _release(self, rooms: Rooms, grace: float) -> None:
        self._telemetry.instruments.remove(self)
        await super()._release(rooms, grace)


class ObservedTenantCore(ObservedCore, TenantCore):
    """The observed core of a client of another key.

    Args:
        telemetry: Where the spans and metrics go.
        tenants: Those whose session it shares.
        name: A hash of the key.
        settings: The lender's, with the key and the plan.
    """

    def __init__(
        self, telemetry: Telemetry, tenants: Tenants, name: bytes, settings: ClientSettings
    ) -> None:
        TenantCore.__init__(self, tenants, name, settings)
        self.observe(telemetry)
