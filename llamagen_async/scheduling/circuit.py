"""The circuit of a key: whether its server answers at all, as all requests together find out.

One request that fails says little; a few in a row, whoever sent them, say that the server is away.
Then nothing is sent but a probe, one at a time and further and further apart, until there is an
answer of any kind. So an outage of an hour costs no more creates than were needed to notice it, and
everyone goes on at once when it is over.

A create whose answer was lost is dear: it may have been charged, and it is never sent again. So
after the first one a read finds out whether the server is there, before another create follows.

A server may also take no creates and answer all reads. Creates then stop alone, and only another
create can find out that this is over: what a read is answered says nothing of it. Where each try is
free, because it was redirected or no connection was made, the end is noticed within half a minute,
and the batch is late by no more than a window. Else each may be one more story of which nobody
knows whether it was charged, and the longer the gaps between them, the later the end is noticed.
The gaps follow from how likely a charge is:

- The server says that it failed (a 5xx that is no gateway's timeout). Servers mostly fail before
  they charge, so these creates are two minutes apart, and later a tenth of the time that it has
  lasted. In an hour 26 are lost, and its end is noticed within six minutes; of a quarter of an hour
  within two. A minute apart, to be late by no more than a window, would lose 60 of them. If a 503
  names a time (`Retry-After`), none is sent before that.
- No answer came, or one that can't be read, such as a 2xx with a page in it. Such a create has most
  probably been accepted, so each gap is as long as it has lasted, up to half an hour, by which its
  end may be noticed later: ten in an hour.
- Where a try takes a slot of a long window, such as a day's, it is not free, whatever was said: the
  gaps are the same, so that an hour costs about ten of them.

What fails may also be one comic, whose status checks end in a 500 each time. So failures of one
generation alone are no outage: the next probe reads something else. If that is answered, what
failed is sick, and its failures count for nothing until it is answered, too.

The circuit is told the time, sends nothing, and waits for nobody. All clients of a key in one event
loop share it; other processes find out by themselves.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final, Protocol
from weakref import WeakKeyDictionary

import attrs

from llamagen_async.errors import APIConnectionError
from llamagen_async.plans import RequestKind
from llamagen_async.ratelimit import Limiter
from llamagen_async.transport import APIRequest, bounds

__all__ = [
    "SERVER",
    "TRIP",
    "Circuit",
    "CircuitListener",
    "CircuitState",
    "Failure",
    "Outage",
    "circuit_of",
    "subject_of",
]

TRIP: Final = 3
"""Failures in a row after which the server is taken to be away, and creates in a row that failed
after which no more are sent: as many stories at most are uncertain after an outage."""
SERVER: Final = ""
"""The subject of a failure that is nobody's but the server's."""
_FIRST_GAP: Final = 1.0
"""Seconds before the first probe; each further gap is twice as long."""
_LONGEST_GAP: Final = 30.0
"""Seconds of the longest gap: the end of an outage is noticed within half a minute."""
_LONGEST_COSTLY_GAP: Final = 1800.0
"""Seconds of the longest gap if each probe takes a slot of a long window such as a day's, or may be
a create that is charged and lost: an hour then costs about ten of them."""
_FIRST_CREATE_GAP: Final = 30.0
"""Seconds before the next create if those before it failed, and it may be lost like them or takes a
slot of a long window; the gap grows from there."""
_CREATE_GAP: Final = 120.0
"""Seconds of the longest gap between creates that the server says it failed of (chosen)."""
_LATE: Final = 0.1
"""Share of an outage by which its end may be noticed later than that."""
_LAST_RESORT: Final = 3600.0
"""Seconds after which a create is the probe where reads are not answered either: a read is the
better one, and a create is one only in case that reads are what is broken."""
_MOST_SICK: Final = 1_000
"""Generations that are remembered as sick, at most."""


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


class CircuitState(enum.StrEnum):
    """The state of a server, as those who watch it from outside name it."""

    CLOSED = "closed"
    """The server answers."""
    HALF_OPEN = "half_open"
    """The server may be away: only probes are sent."""
    OPEN = "open"
    """The server is away: an outage is going on."""
    READS_ONLY = "reads_only"
    """The server answers reads and takes no creates."""


@attrs.frozen
class Failure:
    """A request that was not answered, or only by what stands in for the server."""

    reason: str
    """The failure in words."""
    sent_at: float
    """When the request was sent: what was answered since is newer."""
    at: datetime
    """The time as users read it."""
    subject: str = SERVER
    """The one thing that may be what fails, such as the generation that was asked for."""
    may_have_arrived: bool = True
    """Whether the server may have the request."""
    is_create: bool = False
    """Whether it was a create, or something else that is billed."""
    is_lost: bool = False
    """Whether that may have been accepted, and charged."""
    is_told: bool = False
    """Whether the server itself says that it failed."""
    retry_after: float = 0.0
    """Seconds for which the server asks to wait."""
    is_costly: bool = False
    """Whether a probe takes a slot of a long window."""


@attrs.define(eq=False)
class Circuit:
    """The state of the server, as the requests of one key have found it."""

    outage: Outage | None = None
    """The outage that is going on; `None` if there is none."""
    is_silent: bool = False
    """Whether the server may answer nothing, so that only probes are sent."""
    failures: int = 0
    """Requests in a row that were not answered."""
    failed: set[str] = attrs.field(factory=set[str])
    """The subjects of these."""
    sick: dict[str, None] = attrs.field(factory=dict[str, None])
    """Subjects that failed while others were answered, the oldest first."""
    failed_creates: int = 0
    """Creates in a row that arrived and failed; several for one generation count once."""
    answered_at: float = -math.inf
    """When the latest answer came."""
    create_answered_at: float = -math.inf
    """When the latest answer to a create came."""
    may_have_arrived: bool = False
    """Whether the latest request that failed may have arrived."""
    probe: object | None = None
    """The probe that is on its way."""
    probes: int = 0
    """Probes that were sent since the latest answer."""
    probe_at: float = -math.inf
    """When the next probe is due."""
    resort_at: float = -math.inf
    """When a create may be the probe although it may be lost."""
    create_at: float = -math.inf
    """When a create may be sent although those before it failed."""
    opened_at: float = -math.inf
    """When the outage was noticed."""
    reason: str = ""
    """The latest failure, in words."""
    listeners: WeakKeyDictionary[CircuitListener, None] = attrs.field(
        factory=WeakKeyDictionary[CircuitListener, None]
    )
    """The clients that are told."""
    _since: datetime | None = None
    """Time of the first failure in a row."""
    _gaps: Iterator[float] | None = None
    _creates_since: datetime | None = None
    """Time of the first failed create in a row."""
    _creates_at: float = math.inf
    """Time of that one, by the clock of the server."""
    _create_of: str = SERVER
    """The subject of the latest failed create."""
    _has_lost: bool = False
    """Whether one of these creates may have been charged."""

    @property
    def state(self) -> CircuitState:
        """The state of the server in a word."""
        if self.outage is not None:
            is_up = self.outage.answers_reads
            return CircuitState.READS_ONLY if is_up else CircuitState.OPEN
        return CircuitState.HALF_OPEN if self.is_silent else CircuitState.CLOSED

    @property
    def silence(self) -> Outage | None:
        """The outage, or what may become one: told to those who have waited long enough."""
        if self.outage is None and self.is_silent and self._since is not None:
            return Outage(self._since, self.reason)
        return self.outage

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is remembered that an answer would change."""
        return not (self.failures or self.failed_creates or self.sick)

    @property
    def is_away(self) -> bool:
        """Whether the server answers nothing, as far as that can be known."""
        news = len(self.failed - self.sick.keys())  # the others have failed while it was there
        return self.failures >= TRIP and (SERVER in self.failed or news > 1)

    def may_create(self, now: float, unanswered: int, most: int) -> bool:
        """Whether a create may be sent now, as far as the server is concerned.

        Args:
            now: The time.
            unanswered: Creates that are on their way.
            most: How many may be on their way while all is well.
        """
        if self.failed_creates >= TRIP:
            return not unanswered and now >= self.create_at
        return unanswered + self.failed_creates < (TRIP if self.failed_creates else most)

    def begin_probe(self, probe: object) -> None:
        """Remember the probe that is about to be sent."""
        self.probe = probe
        self.probes += 1

    def record_answer(self, now: float, *, subject: str = SERVER, is_create: bool) -> None:
        """Learn that the server has answered a request, whatever it said.

        Args:
            now: The time.
            subject: The one thing that it was about, if a failure could have been that one's.
            is_create: Whether it was a create, or something else that is billed.
        """
        had_outage, was_away, was_silent = self.outage is not None, self.is_away, self.is_silent
        self.answered_at = now
        self.sick |= dict.fromkeys(self.failed - {SERVER})
        if was_away:
            # The server failed of all, and nobody has asked for the usage since.
            self.sick.pop(RequestKind.USAGE.value, None)
        self.sick.pop(subject, None)
        while len(self.sick) > _MOST_SICK:
            del self.sick[next(iter(self.sick))]
        self.failed.clear()
        self.failures = self.probes = 0
        self.is_silent, self._since, self._gaps, self.probe_at = False, None, None, -math.inf
        if is_create:
            self.create_answered_at = now
            self.failed_creates, self._has_lost = 0, False
            self._create_of, self._creates_since = SERVER, None
        elif was_away:
            # Whether it takes creates, too, is for one of them to find out, at once.
            self.failed_creates = min(self.failed_creates, TRIP - 1)
            self.create_at = -math.inf
        if self.failed_creates < TRIP:
            self.outage = None
        elif self.outage is not None:
            self.outage = attrs.evolve(self.outage, answers_reads=True)
        if had_outage and (self.outage is None or was_away):
            self._tell(lambda listener: listener.on_recovery())
        elif was_silent:
            self._tell(lambda listener: listener.wake())

    def record_failure(self, now: float, failure: Failure) -> None:
        """Learn that a request was not answered."""
        subject = failure.subject
        is_create = failure.is_create and failure.may_have_arrived
        is_create = is_create and failure.sent_at >= self.create_answered_at
        is_news = failure.sent_at >= self.answered_at
        # While only probes are sent, each of them counts: else the next one would follow at once.
        is_news = is_news and (self.is_silent or subject not in self.sick)
        # That it takes no creates is known by then, and says nothing of reads.
        is_news = is_news and not (is_create and self.state is CircuitState.READS_ONLY)
        if is_news:
            self._since, self.reason = self._since or failure.at, failure.reason
            self.failures += 1
            self.failed.add(subject)
            self.may_have_arrived = failure.may_have_arrived
            # A read that takes a slot of a day is not spent on the first doubt.
            is_doubt = is_create and failure.is_lost and not failure.is_costly
            if self.is_silent or is_doubt or self.failures >= TRIP:
                self._probe_only(now, failure, at_once=is_doubt)
        if is_create and not (subject and subject == self._create_of):
            self._count_create(now, failure)
        if not (self.is_away or self.failed_creates >= TRIP):
            return
        is_new = self.outage is None
        since = self._since if self.is_away else self._creates_since
        self.outage = Outage(since or failure.at, failure.reason, answers_reads=not self.is_away)
        if is_new:
            self.opened_at = now
            outage = self.outage
            self._tell(lambda listener: listener.on_outage(outage))
        self._tell(lambda listener: listener.wake())

    def _probe_only(self, now: float, failure: Failure, *, at_once: bool) -> None:
        """Send only probes from now on; if one was due and failed, the next one comes later."""
        if not self.is_silent:
            self.is_silent, self.resort_at = True, now + _LAST_RESORT
            if at_once:
                self.probe_at = now
                return
        if now >= self.probe_at:
            self._gaps = self._gaps or bounds(_FIRST_GAP, _LONGEST_COSTLY_GAP)
            gap = next(self._gaps)
            is_costly = failure.is_costly and failure.may_have_arrived
            self.probe_at = now + (gap if is_costly else min(gap, _LONGEST_GAP))

    def _count_create(self, now: float, failure: Failure) -> None:
        """Count a create that failed, and set when the next one may follow."""
        if not self.failed_creates:
            self._creates_since, self._creates_at = failure.at, now
        self.failed_creates += 1
        self._create_of = failure.subject
        self._has_lost |= failure.is_lost
        self.resort_at = now + _LAST_RESORT
        age = now - self._creates_at
        first, longest = _FIRST_CREATE_GAP, _LONGEST_COSTLY_GAP
        if not failure.is_costly and not self._has_lost:
            first, longest = _FIRST_GAP, _LONGEST_GAP
        elif not failure.is_costly and failure.is_told:
            longest = max(_CREATE_GAP, _LATE * age)
        gap = min(max(first, age), longest, _LONGEST_COSTLY_GAP)
        asked = min(failure.retry_after, _LONGEST_COSTLY_GAP)
        self.create_at = now + max(gap, asked)

    def _tell(self, tell: Callable[[CircuitListener], None]) -> None:
        for listener in list(self.listeners):
            tell(listener)


def subject_of(request: APIRequest) -> str:
    """Return the one thing that a server may fail of when it fails of a request.

    A create is no such thing: each is another one, so they are the server's.
    """
    if request.kind is RequestKind.CREATE:
        return SERVER
    return request.generation_id or request.kind.value


_circuits: Final[WeakKeyDictionary[Limiter, Circuit]] = WeakKeyDictionary()


def circuit_of(limiter: Limiter) -> Circuit:
    """Return the circuit of a limiter's key, which all of its clients share."""
    circuit = _circuits.get(limiter)
    if circuit is None:
        circuit = _circuits[limiter] = Circuit()
    return circuit
