"""The circuit of a key: whether its server answers at all, as all requests together find out.

One request that fails says little; a few in a row, whoever sent them, say that the server is away.
Then nothing is sent but a probe, one at a time and further and further apart, until there is an
answer of any kind. So an outage of an hour costs no more creates than were needed to notice it, and
everyone goes on at once when it is over. A server may also take no creates and answer everything
else: creates then stop alone.

The circuit is told the time, sends nothing, and waits for nobody. All clients of a key in one event
loop share it; other processes find out by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Final, Protocol
from weakref import WeakKeyDictionary

import attrs

from llamagen_async.errors import APIConnectionError
from llamagen_async.ratelimit import Limiter
from llamagen_async.transport import bounds

__all__ = ["TRIP", "Circuit", "CircuitListener", "Outage", "circuit_of"]

TRIP: Final = 3
"""Failures in a row after which the server is taken to be away, and creates in a row whose answers
were lost after which no more are sent: as many stories may be uncertain after an outage."""
_FIRST_GAP: Final = 1.0
"""Seconds before the first probe; each further gap is twice as long."""
_LONGEST_GAP: Final = 30.0
"""Seconds of the longest gap: the end of an outage is noticed within half a minute."""
_LONGEST_COSTLY_GAP: Final = 1800.0
"""Seconds of the longest gap if each probe takes a slot of a long window such as a day's, or may be
a create that is lost: an hour then costs about ten of them."""
_FIRST_CREATE_GAP: Final = 30.0
"""Seconds before a create is tried again although its answer may be lost like those before it."""
_LAST_RESORT: Final = 3600.0
"""Seconds of that gap at least while nothing else is answered either: a read is the better probe,
and a create is one only in case that reads are what is broken."""


@attrs.frozen
class Outage:
    """An outage of the server, as those who wait are told of it."""

    since: datetime
    """Time of the first failure, in UTC."""
    reason: str
    """The latest failure, in words."""
    answers_reads: bool = False
    """Whether the server answers everything but creates."""

    def __str__(self) -> str:
        what = "accepted a comic" if self.answers_reads else "answered"
        return f"the server has not {what} since {self.since:%H:%M:%S} UTC ({self.reason})"

    def error(self) -> APIConnectionError:
        """Return the error of a request that waits, or has waited, for the server."""
        return APIConnectionError(f"{self}; nothing was sent", request_sent=False)


class CircuitListener(Protocol):
    """A client of the key that acts on what becomes of the server."""

    def on_outage(self, outage: Outage) -> None:
        """Tell those who wait: the server is away."""
        ...

    def wake(self) -> None:
        """Decide again: the server is still away."""
        ...

    def on_recovery(self) -> None:
        """Go on at full speed: the server answers again."""
        ...


@attrs.define(eq=False)
class Circuit:
    """The state of the server, as the requests of one key have found it."""

    outage: Outage | None = None
    """The outage that is going on; `None` if there is none."""
    is_silent: bool = False
    """Whether the server answers nothing, so that only probes are sent."""
    failures: int = 0
    """Requests in a row that were not answered."""
    lost_creates: int = 0
    """Creates in a row whose answers were lost."""
    answered_at: float = -math.inf
    """When the latest answer came."""
    create_answered_at: float = -math.inf
    """When the latest answer to a create came."""
    may_have_arrived: bool = False
    """Whether the latest request that failed may have arrived."""
    probe: object | None = None
    """The probe that is on its way."""
    probes: int = 0
    """Probes that were sent in this outage."""
    probe_at: float = -math.inf
    """When the next probe is due."""
    create_at: float = -math.inf
    """When a create may be sent although those before it were lost."""
    opened_at: float = -math.inf
    """When the outage was noticed."""
    listeners: WeakKeyDictionary[CircuitListener, None] = attrs.field(
        factory=WeakKeyDictionary[CircuitListener, None]
    )
    """The clients that are told."""
    _since: datetime | None = None
    _gaps: Iterator[float] | None = None
    _create_gaps: Iterator[float] | None = None

    def may_create(self, now: float, unanswered: int, most: int) -> bool:
        """Whether a create may be sent now, as far as the server is concerned.

        Args:
            now: The time.
            unanswered: Creates that are on their way.
            most: How many may be on their way while all is well.
        """
        if self.lost_creates >= TRIP:
            return not unanswered and now >= self.create_at
        return unanswered + self.lost_creates < (TRIP if self.lost_creates else most)

    def begin_probe(self, probe: object) -> None:
        """Remember the probe that is about to be sent."""
        self.probe = probe
        self.probes += 1

    def record_answer(self, now: float, *, is_create: bool) -> None:
        """Learn that the server has answered a request, whatever it said."""
        had_outage, was_silent = self.outage is not None, self.is_silent
        self.answered_at = now
        self.failures = self.probes = 0
        self.is_silent, self._gaps, self.probe_at = False, None, -math.inf
        if is_create:
            self.create_answered_at = now
            self.lost_creates, self._create_gaps = 0, None
        elif was_silent:
            # Whether it takes creates, too, is for one of them to find out, at once.
            self.lost_creates = min(self.lost_creates, TRIP - 1)
            self.create_at = -math.inf
        if self.lost_creates < TRIP:
            self.outage = None
            if not self.lost_creates:
                self._since = None
        elif self.outage is not None:
            self.outage = attrs.evolve(self.outage, answers_reads=True)
        if had_outage and (self.outage is None or was_silent):
            for listener in list(self.listeners):
                listener.on_recovery()

    def record_failure(
        self,
        now: float,
        reason: str,
        *,
        sent_at: float,
        at: datetime,
        may_have_arrived: bool,
        is_lost_create: bool,
        is_costly: bool,
    ) -> None:
        """Learn that a request was not answered.

        Args:
            now: The time.
            reason: The failure in words.
            sent_at: When the request was sent: what was answered since is newer.
            at: The time as users read it.
            may_have_arrived: Whether the server may have the request.
            is_lost_create: Whether it may have been accepted, and charged.
            is_costly: Whether a probe takes a slot of a long window.
        """
        is_lost = is_lost_create and sent_at >= self.create_answered_at
        is_news = sent_at >= self.answered_at
        if not (is_lost or is_news):
            return
        self._since = self._since or at
        self.lost_creates += is_lost
        if is_news:
            self.failures += 1
            self.may_have_arrived = may_have_arrived
            if self.failures >= TRIP:
                self._widen(now, is_costly=is_costly and may_have_arrived)
        if is_lost and self.lost_creates >= TRIP:
            self._create_gaps = self._create_gaps or bounds(_FIRST_CREATE_GAP, _LONGEST_COSTLY_GAP)
            gap = next(self._create_gaps)
            self.create_at = now + (max(gap, _LAST_RESORT) if self.is_silent else gap)
        if self.is_silent or self.lost_creates >= TRIP:
            is_new = self.outage is None
            self.outage = Outage(self._since, reason, answers_reads=not self.is_silent)
            if is_new:
                self.opened_at = now
            for listener in list(self.listeners):
                if is_new:
                    listener.on_outage(self.outage)
                listener.wake()

    def _widen(self, now: float, *, is_costly: bool) -> None:
        """Send only probes from now on; if one was due and failed, the next one comes later."""
        if not self.is_silent:
            self.is_silent = True
            self.create_at = max(self.create_at, now + _LAST_RESORT)
        if now >= self.probe_at:
            self._gaps = self._gaps or bounds(_FIRST_GAP, _LONGEST_COSTLY_GAP)
            gap = next(self._gaps)
            self.probe_at = now + (gap if is_costly else min(gap, _LONGEST_GAP))


_circuits: Final[WeakKeyDictionary[Limiter, Circuit]] = WeakKeyDictionary()


def circuit_of(limiter: Limiter) -> Circuit:
    """Return the circuit of a limiter's key, which all of its clients share."""
    circuit = _circuits.get(limiter)
    if circuit is None:
        circuit = _circuits[limiter] = Circuit()
    return circuit
