"""Generations that were started here: how long each takes, what it costs, and who waits for it.

All clients with the same telemetry share this, so that a key that is not used takes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import attrs
from opentelemetry.trace import SpanContext

from llamagen_async.models import AnyGeneration
from llamagen_async.plans import RequestKind
from llamagen_async.prices import Prices
from llamagen_async.requests import AnyRequest
from llamagen_async.telemetry.metrics import Instruments
from llamagen_async.telemetry.operations import RunningOperation

__all__ = ["Started"]

_MOST: Final = 10_000
"""Generations whose acceptance is remembered until they end, at most: those that nobody waits for
are forgotten, the oldest first."""


@attrs.frozen
class _Accepted:
    """A billed request that was accepted, and whose generation has not ended yet."""

    at: float
    """When its answer came, in seconds of the server's clock."""
    kind: RequestKind
    story: AnyRequest | None
    span: SpanContext


class Started:
    """The generations that were started with one telemetry, until they end.

    Args:
        instruments: The metrics.
    """

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._accepted: OrderedDict[str, _Accepted] = OrderedDict()
        self._waits: dict[str, list[RunningOperation]] = {}
        """The waits for each generation, the first one first."""

    def begin(
        self,
        id_: str,
        now: float,
        kind: RequestKind,
        story: AnyRequest | None,
        operation: RunningOperation,
    ) -> None:
        """Take note of a billed request that was accepted."""
        self._accepted[id_] = _Accepted(now, kind, story, operation.context)
        self._accepted.move_to_end(id_)
        if len(self._accepted) > _MOST:
            self._accepted.popitem(last=False)

    def of(self, id_: str) -> list[SpanContext]:
        """Return the span of the operation that has started a generation, if one did so here."""
        accepted = self._accepted.get(id_)
        return [] if accepted is None else [accepted.span]

    @contextmanager
    def waiting(self, id_: str, operation: RunningOperation) -> Generator[None]:
        """Count an operation among those that wait for a generation while this is entered."""
        waits = self._waits.setdefault(id_, [])
        waits.append(operation)
        try:
            yield
        finally:
            waits.remove(operation)
            if not waits:
                self._waits.pop(id_, None)

    def sharing(self, id_: str, but: RunningOperation | None) -> list[SpanContext]:
        """Return the spans of all who wait for a generation, but for one."""
        return [one.context for one in self._waits.get(id_, ()) if one is not but]

    def end(self, generation: AnyGeneration, now: float) -> None:
        """Measure a generation that has ended, once, if it was started here."""
        accepted = self._accepted.pop(generation.id, None)
        if accepted is None:
            return
        state = generation.status.value.lower()
        self._instruments.measure_generation(now - accepted.at, accepted.kind, state)
        if charged := Prices().charged(accepted.story, generation):
            self._instruments.count_credits(charged, accepted.kind)
