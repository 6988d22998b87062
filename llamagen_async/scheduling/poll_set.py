"""The generations that are waited for, and which of them is worth a status check.

They stand in groups whose members differ in nothing but their age: the same profile, last seen
running at about the same age. The oldest of a group is the one to check first, whatever the
forecast says by then, so a decision takes as many steps as there are groups. The poll set is told
the time; it sends nothing and wakes nobody.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from typing import Final

from llamagen_async.forecasting import ANY, Forecasts, PollGroup, PollThreshold, Profile, due_times
from llamagen_async.scheduling.changes import Changes
from llamagen_async.scheduling.poll_target import (
    Generation,
    GroupKey,
    HeapEntry,
    Poll,
    PollTarget,
    TargetGroup,
)

__all__ = ["ALMOST_CERTAIN", "PollSet"]

_MIN_INTERVAL: Final = 1.0
"""Seconds between two checks of one generation, at least, unless the client was told another."""
_MIN_SHARE: Final = 0.01
"""Time between two checks as a share of the generation's age, at least: one that takes hours is
not checked every second."""
_WAIT_BEGINS: Final = 60.0
"""Seconds from acceptance within which a caller who means to wait has begun to."""
_MAX_REMEMBERED: Final = 10_000
"""Acceptances that are remembered of generations that nobody waits for yet."""
_ANNOUNCEMENT_SLACK: Final = 0.95
"""Share of the age at which an end is announced that the generation lasted, at least."""
_EXPLORATION: Final = 5
"""Generations of a profile that are seen to end before checks stop waiting for each other: until
then each answer teaches about the next check."""
_EXPLORATION_WAIT: Final = 3.0
"""Seconds for which the answer to such a check is waited for."""
ALMOST_CERTAIN: Final = 0.95
"""The chance to be done at which a check finishes a generation for all practical purposes."""
_SAMPLES: Final = 16
"""Members of a group whose ages stand for those of all."""
_MAX_OBSERVATIONS: Final = 16
"""Durations that are remembered to tell other clients of them, which hear of each client often."""
_AGE_RATIO: Final = 1.05
"""Ages that differ by less than this factor are about the same."""


_Rank = tuple[bool, bool, float, float]
"""The order of checks: overdue, interactive, the highest price, the most likely to be done."""


class PollSet:
    """All generations of one client that are waited for.

    Args:
        forecasts: The forecasts of how long generations take.
        min_interval: Seconds between two checks of one generation, at least.
    """

    def __init__(self, forecasts: Forecasts, *, min_interval: float | None = None) -> None:
        self.forecasts = forecasts
        self.changes: Changes = Changes(forecasts)
        """Changes of generations that had ended before."""
        self.held_until: float | None = None
        """Time of the next check of what has failed, if one at a time is sent."""
        self.urgent: int = 0
        """Number of generations that somebody waits for interactively."""
        self.in_flight: int = 0
        """Number of checks on their way."""
        self._min_interval = _MIN_INTERVAL if min_interval is None else min_interval
        self.targets: dict[str, PollTarget] = {}
        """The poll target of each generation, by its id."""
        self._groups: dict[GroupKey, TargetGroup] = {}
        self._group_of: dict[str, TargetGroup] = {}
        """The group of each target, by the id of its generation."""
        self._delayed: list[HeapEntry] = []
        """Targets that must not be checked yet, by the time from which they may."""
        self._final: list[HeapEntry] = []
        """Targets whose wait ends, by the time at which the final check is due."""
        self._exploring: dict[Profile, float] = {}
        """Time at which the latest check of each profile was sent, until its answer comes."""
        self._entries = itertools.count(1)
        self.accepted: dict[str, tuple[float, Profile]] = {}
        """Time of acceptance and profile of each generation that nobody waits for yet."""
        self.observations: deque[tuple[int, Profile, float, float]] = deque(
            maxlen=_MAX_OBSERVATIONS
        )
        """The last durations that were observed: number, profile, longer than, at most."""
        self._observed = itertools.count(1)
        self.expected: dict[str, float] = {}
        """Time of acceptance of each generation that will be waited for at once, by its id."""

    def to_collect(self, now: float) -> int:
        """Return how many generations are waited for, or will be at once."""
        while self.expected and now - next(iter(self.expected.values())) >= _WAIT_BEGINS:
            del self.expected[next(iter(self.expected))]
        return len(self.targets) + len(self.expected)

    def remember_accepted(
        self, id_: str, now: float, *, profile: Profile = ANY, will_wait: bool = False
    ) -> None:
        """Remember that the server has accepted a generation now.

        Args:
            id_: Its id.
            now: The time.
            profile: What decides how long it takes.
            will_wait: Whether it will be waited for at once, so that it needs a check.
        """
        if will_wait:
            self.expected[id_] = now
        self.accepted[id_] = (now, profile)
        while len(self.accepted) > _MAX_REMEMBERED:
            del self.accepted[next(iter(self.accepted))]

    def remember_changed(
        self, answer: Generation, now: float, *, profile: Profile, will_wait: bool = False
    ) -> None:
        """Remember that a change was accepted now (arguments as in `remember_accepted`)."""
        self.changes.begin(answer, now, profile)
        target = self.targets.get(answer.id)
        will_wait = will_wait and target is None
        self.remember_accepted(answer.id, now, profile=profile, will_wait=will_wait)
        if target is not None:  # those who wait for it wait for the change from now on
            self._withdraw(target)
            target.restart(now)
            self._insert(target)

    def add(self, target: PollTarget) -> None:
        """Wait for the generation of `target` from now on."""
        self.remove(target.id)
        self.targets[target.id] = target
        self.urgent += target.urgent
        self._insert(target)
        if target.deadline < math.inf:
            self.set_deadline(target, target.deadline)

    def set_deadline(self, target: PollTarget, deadline: float) -> None:
        """Set when the last of those who wait for it gives up."""
        target.deadline = deadline
        if deadline == math.inf:
            return
        heapq.heappush(self._final, (target.final_at, next(self._entries), target))
        if len(self._final) > 64 + 4 * len(self.targets):
            self._final = [
                (one.final_at, next(self._entries), one)
                for one in self.targets.values()
                if one.deadline < math.inf
            ]
            heapq.heapify(self._final)

    def set_urgent(self, target: PollTarget) -> None:
        """Set that somebody waits for it interactively."""
        if not target.urgent:
            self._withdraw(target)
            target.urgent = True
            self.urgent += 1
            self._insert(target)

    def discard(self, id_: str) -> None:
        """Wait for a generation no longer; it goes on, and its acceptance is remembered."""
        target = self.targets.get(id_)
        if target is not None:
            self.remove(id_)
            self.remember_accepted(id_, target.accepted_at, profile=target.profile)

    def remove(self, id_: str) -> None:
        """Forget a generation: its end was seen, or it can't be checked."""
        target = self.targets.pop(id_, None)
        if target is not None:
            self.urgent -= target.urgent
            self._withdraw(target)
        self.accepted.pop(id_, None)
        self.expected.pop(id_, None)

    def mark_in_flight(self, target: PollTarget, now: float) -> None:
        """Set that a check of it is on its way."""
        self._withdraw(target)
        target.in_flight = True
        self.in_flight += 1
        self._exploring[target.profile] = now

    def mark_idle(self, target: PollTarget) -> None:
        """Set that no check of it is on its way any more."""
        target.in_flight = False
        self.in_flight -= 1
        self._exploring.pop(target.profile, None)
        if self.targets.get(target.id) is target:
            self._withdraw(target)
            self._insert(target)

    def hold_back(self, target: PollTarget, now: float, seconds: float) -> None:
        """Set that it is not checked for a time, but for the check before its wait ends."""
        until = now + seconds
        until = target.final_at if now < target.final_at < until else until
        target.not_before = max(target.not_before, until)

    def mark_heard(self, target: PollTarget) -> None:
        """Set that events about it come."""
        if not target.heard:
            self._withdraw(target)
            target.heard = True
            self._insert(target)

    def mark_ended(self, target: PollTarget, now: float) -> None:
        """Set that its end was announced: the next check collects it."""
        self._withdraw(target)
        target.announced, target.has_ended, target.announced_at = False, True, now
        if not target.failures:
            target.not_before = -math.inf
        self._insert(target)

    def record_result(
        self,
        target: PollTarget,
        *,
        done: bool,
        checked_at: float,
        now: float,
        announced: bool = False,
    ) -> None:
        """Learn from what a check, or an announcement, says of a generation.

        Args:
            target: The generation.
            done: Whether it has ended.
            checked_at: When the check was sent: what it says is not older.
            now: When the answer came: what it says is not newer.
            announced: Whether its end was announced, and so has just come.
        """
        target.failures, target.delays, target.last_error = 0, None, None
        target.is_known, target.unknown_since = True, math.inf
        last = target.last_running_age
        if done:
            end = max(now - target.accepted_at, last)
            start = max(last, _ANNOUNCEMENT_SLACK * end) if announced else last
            self.forecasts.observe(target.profile, start, end)
            number = next(self._observed)
            self.observations.append((number, target.profile, round(start, 3), round(end, 3)))
            return
        self._withdraw(target)
        # A check that was sent before the announcement does not contradict it.
        target.has_ended = target.has_ended and checked_at < target.announced_at
        age = checked_at - target.accepted_at
        if age > last:
            for one in self.forecasts.path(target.profile):
                one.forecast.not_done(last, age)
            target.last_running_age = age
        if not target.has_ended:
            pause = max(self._min_interval, _MIN_SHARE * target.last_running_age)
            target.not_before = max(target.not_before, checked_at + pause)
        self._insert(target)

    def next_poll(
        self, now: float, threshold: PollThreshold, batch_threshold: PollThreshold
    ) -> Poll:
        """Return the status check that is worth most.

        Args:
            now: The time.
            threshold: When a check is due for somebody who waits interactively.
            batch_threshold: When a check is due for a batch.
        """
        if self._final and self._final[0][0] <= now and (final := self._final_poll(now)):
            return Poll(final, 1.0, is_overdue=True, next_at=now)
        best: PollTarget | None = None
        best_rank: _Rank = (False, False, 0.0, 0.0)
        next_at = self._final[0][0] if self._final else math.inf
        if self._delayed:
            next_at = min(next_at, self._promote_due(now))
        held_until = self.held_until and (math.inf if self.in_flight else self.held_until)
        for key, group in list(self._groups.items()):
            heap = group.heap
            while heap and heap[0][2].entry != heap[0][1]:
                heapq.heappop(heap)
            if not heap:
                del self._groups[key]
                continue
            if heap[0][2].failures and held_until and now < held_until:
                next_at = min(next_at, held_until)
                continue
            one = threshold if group.urgent else batch_threshold
            rank, due_at = self._rank(heap[0][2], now, one)
            if rank is None:
                next_at = min(next_at, due_at)
            elif best is None or rank > best_rank:
                best, best_rank = heap[0][2], rank
        if best is None:
            return Poll(None, 0.0, is_overdue=False, next_at=next_at)
        return Poll(best, best_rank[3], is_overdue=best_rank[0], next_at=now)

    def _rank(
        self, target: PollTarget, now: float, threshold: PollThreshold
    ) -> tuple[_Rank | None, float]:
        """Return how a check ranks among others that are due, or when it is due."""
        forecast = self.forecasts.of(target.profile)
        due_at, overdue_at = due_times(target, forecast, threshold)
        if now < due_at:
            return None, due_at
        if target.has_ended:
            return (now >= overdue_at, target.urgent, math.inf, 1.0), now  # it collects surely
        age, last = now - target.accepted_at, target.last_running_age
        chance = forecast.forecast.chance_done(age, last_running_age=last)
        answer_at = self._exploring.get(target.profile, -math.inf) + _EXPLORATION_WAIT
        explores = forecast.forecast.observed < _EXPLORATION and now < answer_at
        if explores and chance < ALMOST_CERTAIN and now < overdue_at:
            return None, answer_at
        price = 0.0 if threshold.chance is not None else forecast.highest_price(age, last)
        return (now >= overdue_at, target.urgent, price, chance), now

    def answer_at(self, now: float) -> float:
        """Return until when it is worth waiting for an answer that teaches much; `now` if not."""
        if self.forecasts.observed >= _EXPLORATION or not self._exploring:
            return now
        return max(now, max(self._exploring.values()) + _EXPLORATION_WAIT)

    def groups(self, now: float, *, urgent: bool | None = None) -> list[PollGroup]:
        """Return what there is to check, by profile and age; of all, or of one sort of waiting."""
        found: list[PollGroup] = []
        for group in self._groups.values():
            is_told = group.announced or group.has_ended
            if is_told or (urgent is not None and group.urgent is not urgent):
                continue
            members: list[PollTarget] = []
            for _, entry, target in group.heap[:: max(1, len(group.heap) // _SAMPLES)]:
                if target.entry == entry:
                    members.append(target)
            forecast = self.forecasts.of(group.profile)
            share = group.size / max(1, len(members))
            for one in members:
                age = now - one.accepted_at
                found.append(PollGroup(forecast, age, one.last_running_age, share))
        return found

    def forgive(self) -> None:
        """Allow a check of each target that failed: it was the server; or it soon fails again."""
        for target in self.targets.values():
            if target.failures:
                target.not_before = -math.inf
                self._withdraw(target)
                self._insert(target)

    def _final_poll(self, now: float) -> PollTarget | None:
        """Return a target whose wait is about to end without a final check."""
        while self._final and self._final[0][0] <= now:
            due_at, _, target = self._final[0]
            is_void = self.targets.get(target.id) is not target or due_at != target.final_at
            was_made = target.accepted_at + target.last_running_age >= due_at
            if not (is_void or was_made or target.in_flight or now < target.not_before):
                return target
            heapq.heappop(self._final)  # the check on its way, or just made, is the final one
        return None

    def _promote_due(self, now: float) -> float:
        """Put the delayed that may be checked into their groups; return when the next one may."""
        delayed = self._delayed
        while delayed and (delayed[0][2].entry != delayed[0][1] or delayed[0][0] <= now):
            _, entry, target = heapq.heappop(delayed)
            if target.entry == entry:
                target.not_before = -math.inf
                self._insert(target)
        return delayed[0][0] if delayed else math.inf

    def _insert(self, target: PollTarget) -> None:
        """Put a target where it belongs: among the delayed, or into its group."""
        if target.in_flight or self.targets.get(target.id) is not target:
            return
        target.entry = next(self._entries)
        if target.not_before > -math.inf:
            heapq.heappush(self._delayed, (target.not_before, target.entry, target))
            return
        last = target.last_running_age
        step = 0 if last <= 0 else 1 + max(0, round(math.log(max(1.0, last), _AGE_RATIO)))
        told = target.announced, target.heard, target.has_ended
        key = (target.profile, target.urgent, *told, target.failures > 0, step)
        group = self._groups.get(key)
        if group is None:
            group = TargetGroup(target.urgent, target.announced, target.has_ended, target.profile)
            self._groups[key] = group
        self._group_of[target.id] = group
        heapq.heappush(group.heap, (target.accepted_at, target.entry, target))
        group.size += 1

    def _withdraw(self, target: PollTarget) -> None:
        """Take a target out of where it stands; its entry stays behind, void."""
        group = self._group_of.pop(target.id, None)
        if group is not None:
            group.size -= 1
            if len(group.heap) > 32 + 2 * group.size:
                group.heap = [entry for entry in group.heap if entry[2].entry == entry[1]]
                heapq.heapify(group.heap)
        target.entry = 0
