"""The core of a client with telemetry: what is asked for, and what becomes of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs
from opentelemetry.trace import SpanContext

from llamagen_async.core import ClientCore
from llamagen_async.errors import GenerationFailedError
from llamagen_async.models import Animation, AnyGeneration, ComicGeneration
from llamagen_async.plans import RequestKind
from llamagen_async.prices import Prices
from llamagen_async.requests import AnyRequest
from llamagen_async.scheduling import GenerationWait, Load, RequestReport
from llamagen_async.settings import ClientSettings
from llamagen_async.telemetry.edges import TracedAssets, TracedTransport
from llamagen_async.telemetry.operations import RunningOperation
from llamagen_async.telemetry.telemetry import Telemetry
from llamagen_async.transport import APIRequest, AssetSource, Transport

__all__ = ["ObservedCore"]

_MOST_ACCEPTED: Final = 10_000
"""Generations whose acceptance is remembered until they end, at most: those that nobody waits for
are forgotten, the oldest first."""

_T = TypeVar("_T")
_G = TypeVar("_G", ComicGeneration, Animation)


@attrs.frozen
class _Accepted:
    """A billed request that was accepted, and whose generation has not ended yet."""

    at: float
    """When its answer came, in seconds of the server's clock."""
    kind: RequestKind
    story: AnyRequest | None
    span: SpanContext


class ObservedCore(ClientCore):
    """Sends, reads and waits as a core does, and tells of it.

    Args:
        settings: The client's checked arguments.
        telemetry: Where the spans and metrics go.
    """

    def __init__(self, settings: ClientSettings, telemetry: Telemetry) -> None:
        super().__init__(settings)
        self.telemetry: Final = telemetry
        """Where the spans and metrics go."""
        self.observer = self._operations = telemetry.operations
        self._instruments = telemetry.instruments
        self._accepted: OrderedDict[str, _Accepted] = OrderedDict()
        self._waits: dict[str, list[RunningOperation]] = {}
        """The waits for each generation, the first one first."""
        telemetry.instruments.add(self)

    def load(self) -> Load | None:
        """Return what the client has to do now; `None` if it is not open. Any thread may ask."""
        rooms = self._rooms
        if rooms is None or self.is_closed:
            return None
        return rooms.scheduler.load(rooms.loop.time() * self.settings.clock.speed)

    async def send(self, request: APIRequest, parse: Callable[[object], _T], **how: Any) -> _T:
        """Send a request as an operation of its own; the arguments are those of a core's `send`."""
        kind, clock = request.kind, self.settings.clock
        self.open()  # there is no clock without a loop
        with self._operations.operation(
            kind.value, generation_id=request.generation_id, queued_at=clock.now()
        ) as running:
            answer: _T = await super().send(request, parse, **how)
            if isinstance(answer, AnyGeneration):
                running.tell(generation_id=answer.id, outcome="accepted")
                accepted = _Accepted(clock.now(), kind, how.get("story"), running.context)
                self._accepted[answer.id] = accepted
                if answer.succeeded and request.generation_id is None:
                    self._end(answer)
                elif len(self._accepted) > _MOST_ACCEPTED:
                    self._accepted.popitem(last=False)
            return answer

    async def read(
        self, name: str, request: APIRequest, parse: Callable[[object], _G], *, whole: bool = True
    ) -> _G:
        """Read a generation as an operation of its own; the arguments are those of a core's."""
        self.open()
        with self._operations.operation(
            "get", generation_id=request.generation_id, queued_at=self.settings.clock.now()
        ):
            return await super().read(name, request, parse, whole=whole)

    async def wait(self, wait: GenerationWait[_G]) -> _G:
        """Wait for a generation as an operation that goes on with the one that has started it."""
        accepted = self._accepted.get(wait.id)
        with self._operations.operation(
            "wait", generation_id=wait.id, linked=[accepted.span] if accepted else []
        ) as running:
            waits = self._waits.setdefault(wait.id, [])
            waits.append(running)
            try:
                generation = await super().wait(wait)
            except GenerationFailedError as error:
                self._end(error.generation)
                raise
            finally:
                waits.remove(running)
                if not waits:
                    self._waits.pop(wait.id, None)
            running.tell(generation_id=wait.id, outcome=generation.status.value.lower())
            self._end(generation)
            return generation

    def _carriers(self) -> tuple[Transport, AssetSource, Callable[[RequestReport], None]]:
        transport, assets, on_request = super()._carriers()
        operations, instruments = self._operations, self._instruments

        def count(report: RequestReport) -> None:
            instruments.count_request(report)
            if on_request is not None:
                on_request(report)

        return (
            TracedTransport(
                transport,
                self.settings.base_url,
                self.settings.clock,
                operations,
                instruments,
                sharing=self._sharing,
            ),
            TracedAssets(assets, operations, instruments),
            count,
        )

    def _sharing(self, id_: str) -> list[SpanContext]:
        """Return the spans of all who wait for a generation, and share its checks."""
        return [running.context for running in self._waits.get(id_, ())]

    def _end(self, generation: AnyGeneration) -> None:
        """Measure a generation that has ended, once, if this client has started it."""
        accepted = self._accepted.pop(generation.id, None)
        if accepted is None:
            return
        seconds, state = self.settings.clock.now() - accepted.at, generation.status.value.lower()
        self._instruments.measure_generation(seconds, accepted.kind, state)
        charged = Prices().charged(accepted.story, generation)
        if charged:
            self._instruments.count_credits(charged, accepted.kind)
