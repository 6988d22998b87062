"""The generations that are waited for, and which of them is worth a look.

They stand in groups whose members differ in nothing but their age: the same kind, last seen not
done at about the same age. The oldest of a group is the one to look at first, whatever the
forecast says by then, so that a decision costs as many steps as there are groups. Told the time;
sends nothing and wakes nobody.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import attrs

from llamagen_async.forecasting.forecasts import ANY, Forecasts, Profile
from llamagen_async.forecasting.slot_price import PollGroup
from llamagen_async.ratelimit import Slot
from llamagen_async.scheduling.policy import ALMOST_CERTAIN
from llamagen_async.scheduling.poll_target import (
    Generation,
    Poll,
    PollTarget,
    PollThreshold,
    times_of,
)

__all__ = ["PollSet"]

_LEAST_INTERVAL: Final = 1.0
"""Seconds between two looks at the same generation, at least."""
_LEAST_SHARE: Final = 0.01
"""The same, as a share of its age: what takes long is not looked at all the time."""
_LAST_CALL: Final = 10.0
"""Seconds before a wait ends in which a last look is due."""
_MOMENT: Final = 60.0
"""Seconds from acceptance in which whoever means to wait has begun to."""
_MOST_REMEMBERED: Final = 10_000
"""How many acceptances are remembered for generations that nobody waits for yet."""
_PUNCTUAL: Final = 0.95
"""An announced end was no earlier than this share of the age at which it is heard of."""
_SCOUTS: Final = 5
"""While fewer generations of a kind were seen to end, each look teaches about the next one."""
_ANSWER: Final = 3.0
"""Seconds that the answer to such a look is waited for."""
_SAMPLES: Final = 16
"""Members of a group whose ages stand for all of them."""
_GROWTH: Final = 1.05
"""Ages of which one is less than so many times the other are about the same."""


_Entry = tuple[float, int, PollTarget]
_GroupName = tuple[Profile, bool, bool, bool, int]


@attrs.define(eq=False, repr=False)
class _Group:
    """PollSet of one kind, last seen not done at about the same age, by age."""

    urgent: bool
    announced: bool
    has_ended: bool
    kind: Profile
    heap: list[_Entry] = attrs.field(factory=list[_Entry])
    size: int = 0

    def oldest(self) -> PollTarget | None:
        """Return the member that was accepted first."""
        heap = self.heap
        while heap and heap[0][2].place != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][2] if heap else None

    def sample(self) -> Iterator[PollTarget]:
        """Yield some members, spread over all ages."""
        for _, place, watch in self.heap[:: max(1, len(self.heap) // _SAMPLES)]:
            if watch.place == place:
                yield watch


class PollSet:
    """All generations of one client that are waited for.

    Args:
        forecasts: How long they take.
        least_interval: Seconds between two looks at the same generation, at least.
    """

    def __init__(self, forecasts: Forecasts, *, least_interval: float | None = None) -> None:
        self.forecasts = forecasts
        self._least_interval = _LEAST_INTERVAL if least_interval is None else least_interval
        self._watches: dict[str, PollTarget] = {}
        self._urgent = 0
        self.in_flight = 0
        """How many looks are on their way."""
        self._groups: dict[_GroupName, _Group] = {}
        self._resting: list[_Entry] = []
        self._deadlines: list[_Entry] = []
        self._scouts: dict[Profile, float] = {}
        """When the latest look at each kind was sent, while its answer has not come."""
        self._places = itertools.count(1)
        self._accepted: dict[str, tuple[float, Profile]] = {}
        """When each generation that nobody waits for yet was accepted, and what was asked for."""
        self._expected: dict[str, float] = {}
        """Those of them that will be waited for in a moment."""

    def __len__(self) -> int:
        return len(self._watches)

    def __iter__(self) -> Iterator[PollTarget]:
        return iter(self._watches.values())

    @property
    def urgent(self) -> int:
        """How many of them somebody waits for interactively."""
        return self._urgent

    def get(self, id_: str) -> PollTarget | None:
        """Return the watch of a generation, if it is waited for."""
        return self._watches.get(id_)

    def to_collect(self, now: float) -> int:
        """Return how many generations are waited for, or will be in a moment."""
        while self._expected and now - next(iter(self._expected.values())) >= _MOMENT:
            del self._expected[next(iter(self._expected))]
        return len(self._watches) + len(self._expected)

    def accept(self, id_: str, now: float, *, kind: Profile = ANY, expected: bool = False) -> None:
        """Take note that the server has accepted a generation.

        Args:
            id_: Its id.
            now: The time.
            kind: What was asked for.
            expected: Whether it will be waited for in a moment, so that it needs a check.
        """
        if expected:
            self._expected[id_] = now
        self._accepted[id_] = (now, kind)
        while len(self._accepted) > _MOST_REMEMBERED:
            del self._accepted[next(iter(self._accepted))]

    def begin(
        self,
        id_: str,
        fetch: Callable[[Slot], Awaitable[Generation]],
        now: float,
        *,
        urgent: bool = True,
        announced: bool = False,
    ) -> None:
        """Wait for a generation from now on.

        If nobody knows when it was accepted, it is taken to be half way through.
        """
        known = self._accepted.get(id_)
        accepted_at, kind = known or (now - self.forecasts.overall.forecast.quantile(0.5), ANY)
        self.add(PollTarget(id_, fetch, accepted_at, kind, urgent=urgent, announced=announced))

    def add(self, watch: PollTarget) -> None:
        """Wait for the generation of `watch` from now on."""
        self.remove(watch.id)
        self._watches[watch.id] = watch
        self._urgent += watch.urgent
        self._put(watch)
        self.set_deadline(watch, watch.deadline)

    def set_deadline(self, watch: PollTarget, deadline: float) -> None:
        """Note when the last of those who wait for it gives up."""
        watch.deadline = deadline
        if deadline < math.inf:
            entry = (deadline - _LAST_CALL, next(self._places), watch)
            heapq.heappush(self._deadlines, entry)
            if len(self._deadlines) > 64 + 4 * len(self._watches):
                self._deadlines = [
                    (one.deadline - _LAST_CALL, next(self._places), one)
                    for one in self
                    if one.deadline < math.inf
                ]
                heapq.heapify(self._deadlines)

    def set_urgent(self, watch: PollTarget) -> None:
        """Note that somebody waits for it interactively."""
        if not watch.urgent:
            self._take(watch)
            watch.urgent = True
            self._urgent += 1
            self._put(watch)

    def leave(self, id_: str) -> None:
        """Wait for it no longer; it goes on."""
        watch = self._watches.get(id_)
        if watch is not None:
            self.remove(id_)
            self.accept(id_, watch.accepted_at, kind=watch.kind)

    def remove(self, id_: str) -> None:
        """Forget a generation: its end was seen, or it can't be looked at."""
        watch = self._watches.pop(id_, None)
        if watch is not None:
            self._urgent -= watch.urgent
            self._take(watch)
        self._accepted.pop(id_, None)
        self._expected.pop(id_, None)

    def send(self, watch: PollTarget, now: float) -> None:
        """Note that a check of it is on its way."""
        watch.in_flight = True
        self.in_flight += 1
        self._scouts[watch.kind] = now
        self._take(watch)

    def back(self, watch: PollTarget, *, not_before: float | None = None) -> None:
        """Note that the check has come back, and when the next one makes sense."""
        watch.in_flight = False
        self.in_flight -= 1
        self._scouts.pop(watch.kind, None)
        if not_before is not None:
            watch.not_before = max(watch.not_before, not_before)
        if self._watches.get(watch.id) is watch:
            self._take(watch)
            self._put(watch)

    def ended(self, watch: PollTarget) -> None:
        """Note that its end was announced: the next look collects it."""
        self._take(watch)
        watch.announced, watch.has_ended = False, True
        self._put(watch)

    def seen(
        self, watch: PollTarget, *, done: bool, looked_at: float, now: float, told: bool = False
    ) -> None:
        """Learn from a look at a generation.

        Args:
            watch: What was looked at.
            done: Whether it has ended.
            looked_at: When the check was sent: what it saw is not older.
            now: When the answer came: what it saw is not newer.
            told: Whether the end was announced, and so has just come.
        """
        watch.failures = 0
        if done:
            end = max(watch.age(now), watch.not_done_at)
            start = max(watch.not_done_at, _PUNCTUAL * end) if told else watch.not_done_at
            self.forecasts.observe(watch.kind, start, end)
            return
        watch.has_ended = False
        age = watch.age(looked_at)
        self._take(watch)
        if age > watch.not_done_at:
            self.forecasts.not_done(watch.kind, watch.not_done_at, age)
            watch.not_done_at = age
        pause = max(self._least_interval, _LEAST_SHARE * watch.not_done_at)
        watch.not_before = max(watch.not_before, looked_at + pause)
        self._put(watch)

    def look(self, now: float, bar: PollThreshold, batch_bar: PollThreshold) -> Poll:
        """Return the look that is worth most.

        Args:
            now: The time.
            bar: When a look is due for somebody who waits interactively.
            batch_bar: The same for a batch.
        """
        last_call = self._last_call(now)
        if last_call is not None:
            return Poll(last_call, 1.0, overdue=True, next_at=now)
        self._wake_resting(now)
        best: PollTarget | None = None
        rank = (False, False, 0.0, 0.0)
        next_at = self._next_event()
        priced = bar.chance is None
        for name, group in list(self._groups.items()):
            watch = group.oldest()
            if watch is None:
                del self._groups[name]
                continue
            learned = self.forecasts.of(group.kind)
            due_at, late_at = times_of(watch, learned, bar if group.urgent else batch_bar)
            if now < due_at:
                next_at = min(next_at, due_at)
                continue
            chance = 1.0
            if not group.has_ended:
                age = watch.age(now)
                chance = learned.forecast.chance_done(age, not_done_at=watch.not_done_at)
            answer_at = self._scouts.get(group.kind, -math.inf) + _ANSWER
            is_scouted = learned.forecast.observed < _SCOUTS and now < answer_at
            if is_scouted and chance < ALMOST_CERTAIN and now < late_at:
                next_at = min(next_at, answer_at)
                continue
            price = 0.0
            if priced and not group.has_ended:
                price = learned.highest_price(watch.age(now), watch.not_done_at)
            its_rank = (now >= late_at, group.urgent, price, chance)
            if best is None or its_rank > rank:
                best, rank = watch, its_rank
        if best is None:
            return Poll(None, 0.0, overdue=False, next_at=next_at)
        return Poll(best, rank[3], overdue=rank[0], next_at=now)

    def answer_at(self, now: float) -> float:
        """Return until when it is worth waiting for an answer that teaches much; `now` if not."""
        if self.forecasts.observed >= _SCOUTS or not self._scouts:
            return now
        return max(now, max(self._scouts.values()) + _ANSWER)

    def candidates(self, now: float, *, urgent: bool | None = None) -> list[PollGroup]:
        """Return what there is to look at, by kind and age; of all, or of one sort of waiting."""
        found: list[PollGroup] = []
        for group in self._groups.values():
            is_told = group.announced or group.has_ended
            if is_told or (urgent is not None and group.urgent is not urgent):
                continue
            members = list(group.sample())
            learned = self.forecasts.of(group.kind)
            share = group.size / max(1, len(members))
            found += [PollGroup(learned, one.age(now), one.not_done_at, share) for one in members]
        return found

    def _last_call(self, now: float) -> PollTarget | None:
        """Return a watch whose wait is about to end without a last look."""
        while self._deadlines and self._deadlines[0][0] <= now:
            call, _, watch = self._deadlines[0]
            is_stale = self._watches.get(watch.id) is not watch or call != (
                watch.deadline - _LAST_CALL
            )
            seen = watch.accepted_at + watch.not_done_at >= call
            if not (is_stale or seen or watch.in_flight or now < watch.not_before):
                return watch
            heapq.heappop(self._deadlines)  # the look on its way, or just made, is the last one
        return None

    def _next_event(self) -> float:
        """Return when a rest ends or a wait is about to."""
        while self._resting and self._resting[0][2].place != self._resting[0][1]:
            heapq.heappop(self._resting)
        heads = [heap[0][0] for heap in (self._resting, self._deadlines) if heap]
        return min(heads, default=math.inf)

    def _wake_resting(self, now: float) -> None:
        while self._resting and self._resting[0][0] <= now:
            _, place, watch = heapq.heappop(self._resting)
            if watch.place == place:
                self._join(watch)

    def _put(self, watch: PollTarget) -> None:
        """Let it stand where it belongs."""
        if watch.in_flight or self._watches.get(watch.id) is not watch:
            return
        if watch.not_before > -math.inf:
            watch.place = next(self._places)
            heapq.heappush(self._resting, (watch.not_before, watch.place, watch))
        else:
            self._join(watch)

    def _join(self, watch: PollTarget) -> None:
        name = self._group_of(watch)
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(
                watch.urgent, watch.announced, watch.has_ended, watch.kind
            )
        watch.place = next(self._places)
        watch.not_before = -math.inf
        heapq.heappush(group.heap, (watch.accepted_at, watch.place, watch))
        group.size += 1

    def _take(self, watch: PollTarget) -> None:
        """Take it from where it stands; its entry is left behind and passed over."""
        if watch.place and watch.not_before == -math.inf:
            group = self._groups.get(self._group_of(watch))
            if group is not None:
                group.size -= 1
                if len(group.heap) > 32 + 2 * group.size:
                    group.heap = [entry for entry in group.heap if entry[2].place == entry[1]]
                    heapq.heapify(group.heap)
        watch.place = 0

    def _group_of(self, watch: PollTarget) -> _GroupName:
        last = watch.not_done_at
        position = 0 if last <= 0 else 1 + max(0, round(math.log(max(1.0, last), _GROWTH)))
        return watch.kind, watch.urgent, watch.announced, watch.has_ended, position
