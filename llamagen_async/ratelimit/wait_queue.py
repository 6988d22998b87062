"""The wait queue of one key: its clients, what each of them waits for, and who goes first.

Every client has one entry. It says when the client was last heard of, the priority of the request
that it asks a slot for, how many others it has that wait, and what else it has told. A request's
position is the number of requests of other clients that go before it: those of a better priority,
and those of the same one that have waited longer; of two that have waited as long, the one of the
client that is known for longer. The times are a little off, since clients tell how long they have
waited, and telling takes time. So of a request that is told of again, the time that was told first
is kept: if the order of two changed while they wait, both would ask for the slot of one.

While overdue checks wait, every second slot at least is one of theirs. What waits behind its own
client's claim goes before nobody whom that claim does not go before, so one of the claims always
has the position 0, and no slot is left unused.

Nobody starves as long as what goes before leaves a slot: of any two slots one is granted to an
overdue check if one waits, or else to the best of the others. So a request waits for the slots of
those that go before it, and as many again if overdue checks wait. Only a batch has no bound if
requests that somebody waits for want more slots than there are, without end. A bound by time would
be none: the requests of a long batch have all waited long, and would hold up whoever waits.

An entry also holds the client's share: the slots of the tightest short window that are its own
while the store is away. Shares never add up to more than there is. A client that joins gets what
the others leave, and that is what they know to be no longer theirs: a client that was told of less
keeps what it had until it says that it knows, because the answer may have been lost. A share is
whole slots, because clients with less than a slot in a window could send all at once; one slot is
nobody's, so that a client that knows nothing of an outage gets one when it ends.

Nothing here reads a clock, waits or does I/O: every call is told `now`, in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import attrs

from llamagen_async.ratelimit.protocol import Claim, PeerReport, Priority, WaitingRequests, Workload
from llamagen_async.stored_values import StateReader

__all__ = ["WaitQueue"]

_MOST_WAITING: Final = 1_000_000
"""Requests that a client may have waiting: more than that would be a wait for months."""


class _Waiting(NamedTuple):
    """Requests that wait, as they are kept."""

    priority: int
    """Their priority."""
    number: int
    """How many they are."""
    first: float
    """Time since which the first of them waits."""
    last: float
    """Time since which the last of them waits; the others lie evenly between."""

    @classmethod
    def load(cls, entry: Sequence[Any], read: StateReader) -> _Waiting:
        """Return what JSON has made of requests that wait."""
        priority, number, first, last = entry
        number = read.whole(number, at_most=_MOST_WAITING)
        return cls(int(Priority(priority)), number, read.past(first), read.past(last))


class _ClientEntry(NamedTuple):
    """The entry of one client."""

    seen_at: float = 0.0
    """Time at which it was last heard of."""
    share: int = 0
    """Slots of the tightest short window that are its own while the store is away."""
    believed: int = 0
    """Slots of that window that it may take for its own: more, until it knows of a smaller one."""
    claim: str = ""
    """The id of the claim that waits for a slot; empty if none does."""
    claimed: _Waiting | None = None
    """The request that the claim is for; `None` if none waits."""
    repeated_by: float = 0.0
    """Time after which the claim no longer counts."""
    waiting: Sequence[_Waiting] = ()
    """The other requests that wait."""
    until: float = 0.0
    """Time after which they count only as long as the claim does."""
    text: str = ""
    """The text of its workload."""

    def requests(self, now: float) -> Sequence[_Waiting]:
        """Return all requests that wait, the one of the claim first."""
        if self.claimed is not None and now < self.repeated_by:
            return [self.claimed, *self.waiting]
        return self.waiting if now < self.until else ()

    def told(self, now: float) -> tuple[WaitingRequests, ...]:
        """Return all requests that wait, as others are told of them."""
        return tuple(
            WaitingRequests(Priority(kind), number, max(0.0, now - first), max(0.0, now - last))
            for kind, number, first, last in self.requests(now)
        )


@attrs.define(eq=False)
class WaitQueue:
    """The clients of one key, and the requests that wait."""

    _client_lease: float
    """Seconds after which a client that is not heard of no longer shares the key."""
    shares: int
    """Slots that are shared out among the clients."""
    _tolerance: float = 0.0
    """Seconds by which two times may differ that a client has told of one request."""
    last_was_check: bool = False
    """Whether the last slot was granted for a check."""
    _clients: dict[str, _ClientEntry] = attrs.Factory(dict[str, _ClientEntry])

    def report(self, client: str, workload: Workload, now: float, *, until: float) -> None:
        """Replace what is known of a client, which has just been heard of; its claim stays.

        `until` is the time after which its requests no longer count, if no claim of it waits.
        """
        one = self._clients.setdefault(client, _ClientEntry())
        others = sum(other.believed for other in self._clients.values()) - one.believed
        fair = max(1, self.shares // len(self._clients))
        share = max(0, min(fair, self.shares - others))
        self._clients[client] = one._replace(
            seen_at=now,
            share=share,
            believed=max(share, workload.share),
            waiting=[
                _Waiting(
                    int(each.priority),
                    each.count,
                    self._told_first(client, each.priority, now - each.oldest),
                    self._told_first(client, each.priority, now - each.newest),
                )
                for each in workload.waiting
            ],
            until=until,
            text=workload.text,
        )

    def wait(self, claim: Claim, since: float, *, until: float) -> None:
        """Let a claim that waits since a time wait until it is asked for again, or a time is past.

        The client has been heard of, see `report`.
        """
        self._clients[claim.client] = self._clients[claim.client]._replace(
            claim=claim.id,
            claimed=_Waiting(int(claim.priority), 1, since, since),
            repeated_by=until,
        )

    def withdraw(self, claim: str, client: str, *, leaves: bool = False) -> None:
        """Let a claim wait no longer; forget the client if it leaves."""
        if leaves:
            self._clients.pop(client, None)
        elif client in self._clients and self._clients[client].claim == claim:
            self._clients[client] = self._clients[client]._replace(claim="", claimed=None)

    def since(self, claim: Claim, now: float) -> float:
        """Return the time since which the request of a claim waits."""
        since = self._told_first(claim.client, claim.priority, now - claim.waited)
        one = self._clients.get(claim.client, _ClientEntry())
        if one.claimed and (one.claim, one.claimed.priority) == (claim.id, claim.priority):
            return min(since, one.claimed.first)
        return since

    def position(self, claim: Claim, now: float) -> int:
        """Return how many requests of other clients go before the one of a claim."""
        mine, since, ties = claim.priority, self.since(claim, now), True
        overdue = others = 0
        for name, other in self._clients.items():
            if name == claim.client:
                ties = False  # it goes before those that follow
                continue
            for priority, number in self._before(other, mine, since, now, ties=ties):
                if priority == Priority.OVERDUE:
                    overdue += number
                else:
                    others += number
        if mine > Priority.OVERDUE:
            return overdue + others
        # An overdue check and another request take turns.
        if mine == Priority.OVERDUE:
            return overdue + min(others, overdue + self.last_was_check)
        return others + min(overdue, others + (not self.last_was_check))

    def expire(self, now: float) -> None:
        """Forget the clients that were not heard of for long."""
        over = now - self._client_lease
        for name in [name for name, one in self._clients.items() if one.seen_at <= over]:
            del self._clients[name]

    def share_of(self, client: str) -> int:
        """Return the share of a client."""
        return self._clients.get(client, _ClientEntry()).share

    def unheard(self, client: str, since: float) -> int:
        """Return what all other clients have that were not heard of since a time."""
        return sum(
            one.believed
            for name, one in self._clients.items()
            if name != client and one.seen_at < since
        )

    def __len__(self) -> int:
        """Return how many clients share the key."""
        return len(self._clients)

    def peers(self, client: str, now: float) -> tuple[PeerReport, ...]:
        """Return what all clients but one have reported."""
        return tuple(
            PeerReport(name, now - one.seen_at, one.told(now), one.text)
            for name, one in self._clients.items()
            if name != client
        )

    def waiting(self, now: float) -> dict[Priority, int]:
        """Return how many requests of all clients wait, by priority."""
        found: dict[Priority, int] = {}
        for one in self._clients.values():
            for each in one.told(now):
                found[each.priority] = found.get(each.priority, 0) + each.count
        return dict(sorted(found.items()))

    def dump(self) -> dict[str, Any]:
        """Return all that changes, as JSON can hold it."""
        return {"last_was_check": self.last_was_check, "clients": self._clients}

    def load(self, state: Mapping[str, Any], read: StateReader) -> None:
        """Take over what `dump` returned."""
        self.last_was_check = bool(state["last_was_check"])
        for name, entry in state["clients"].items():
            seen_at, share, believed, claim, claimed, repeated_by, waiting, until, text = entry
            self._clients[name] = _ClientEntry(
                read.past(seen_at),
                read.whole(share),
                read.whole(believed),
                read.text(claim),
                None if claimed is None else _Waiting.load(claimed, read),
                read.time(repeated_by),
                [_Waiting.load(one, read) for one in waiting],
                read.time(until),
                read.text(text),
            )

    def _told_first(self, client: str, priority: Priority, since: float) -> float:
        """Return the time that a client has told first of a request that waits since about then."""
        one = self._clients.get(client, _ClientEntry())
        known = [*one.waiting, one.claimed] if one.claimed else one.waiting
        told = (t for each in known if each.priority == priority for t in (each.first, each.last))
        first = min(told, key=lambda time: abs(time - since), default=since)
        return first if abs(first - since) <= self._tolerance else since

    def _before(
        self, other: _ClientEntry, mine: Priority, since: float, now: float, *, ties: bool
    ) -> Iterator[tuple[int, int]]:
        """Yield the priorities and numbers of a client's requests that go before one of another.

        That one has the priority `mine` and waits since a time; `ties` says whether those go
        before it that wait since the same time.
        """
        requests = other.requests(now)
        if requests and requests[0] is other.claimed:
            priority, _, first, _ = requests[0]
            theirs, ours = (priority, first, not ties), (mine, since, False)
            if theirs > ours or (self._rank(priority), first) > (self._rank(mine), since):
                requests = requests[:1]  # the others wait behind the claim
        for priority, number, first, last in requests:
            if priority == mine:
                yield priority, _longer(since, number, first, last, ties=ties)
            elif priority < mine or priority == Priority.OVERDUE:
                yield priority, number

    def _rank(self, priority: int) -> int:
        """Return the place of a priority in the order that holds for the next slot."""
        return -1 if priority == Priority.OVERDUE and not self.last_was_check else priority


def _longer(since: float, count: int, first: float, last: float, *, ties: bool) -> int:
    """Return how many of `count` requests have waited longer than since a time.

    The first of them waits since `first`, the last since `last`, and the others lie evenly between;
    `ties` says whether those count that wait since the same time.
    """
    if last < since or (ties and last == since):
        return count
    if first > since or (first == since and not ties):
        return 0
    place = (count - 1) * (since - first) / (last - first)
    return math.floor(place) + 1 if ties else math.ceil(place)
