"""How many stories of a run are in which state, and why comics are missing.

However long the input is, this stays small: what is listed one by one is listed up to a bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import attrs

from llamagen_async.cli.results.records import LISTED, Record
from llamagen_async.errors import BudgetReachedError, QuotaExhaustedError
from llamagen_async.models import BatchState
from llamagen_async.plans import RateLimit
from llamagen_async.requests import RequestType

__all__ = ["OTHER_REASONS", "OverQuota", "Tally"]

OTHER_REASONS: Final = "other reasons"
"""The name of all reasons that are not counted apart."""

_REASONS: Final = 100
"""Different reasons that are counted apart, at most."""


@attrs.define
class OverQuota:
    """The stories that were not sent because today's quota is used up, or for a long pause."""

    number: int
    limit: RateLimit | None
    """The window that is full; `None` if the server asked to wait."""
    first: datetime
    """The time at which there is room again."""
    last: datetime
    """The time at which there is room for all of them."""


@attrs.define
class Tally:
    """The results of the stories of one run, counted."""

    counts: Counter[BatchState] = attrs.field(factory=Counter[BatchState])
    done: int = 0
    """Comics that are there, with their pictures."""
    deferred: int = 0
    """Stories that today's quota did not pay for, or not for checking on them."""
    running: list[str] = attrs.field(factory=list[str])
    """The ids of the first comics that go on at the server."""
    uncertain: list[Record] = attrs.field(factory=list[Record])
    """The first stories that may have been accepted."""
    reasons: Counter[str] = attrs.field(factory=Counter[str])
    """The reasons why comics are missing, but for the quota and uncertain answers."""
    over_quota: OverQuota | None = None
    over_budget: int = 0
    """Stories that the budget does not pay for."""
    is_mixed: bool = False
    """Whether some stories are something else than comics of their own."""

    def add(self, record: Record, error: Exception | None) -> None:
        """Count the result of one story."""
        self._count(record.state, 1, [record.id or ""])
        self.is_mixed = self.is_mixed or record.type != RequestType.COMIC
        self.done += record.is_done
        if record.state is BatchState.UNCERTAIN and len(self.uncertain) < LISTED:
            self.uncertain.append(record)
        self.deferred += isinstance(error, QuotaExhaustedError)
        if record.id is None and isinstance(error, QuotaExhaustedError):
            self._defer(error)
        elif isinstance(error, BudgetReachedError) and error.price is not None:
            self.over_budget += 1
        elif record.error is not None and record.state is not BatchState.UNCERTAIN:
            is_listed = record.error in self.reasons or len(self.reasons) < _REASONS
            self.reasons[record.error if is_listed else OTHER_REASONS] += 1

    def add_unfinished(self, counts: Mapping[BatchState, int], running: Iterable[str]) -> None:
        """Count the stories that had not ended when the run was stopped.

        Args:
            counts: How many there are of each state.
            running: The generation ids of those that run.
        """
        for state, number in counts.items():
            self._count(state, number, running)

    @property
    def without_files(self) -> int:
        """Comics that are done, and have no pictures here."""
        return self.counts[BatchState.SUCCEEDED] - self.done

    @property
    def total(self) -> int:
        """Stories in all."""
        return self.counts.total()

    def _count(self, state: BatchState, number: int, ids: Iterable[str]) -> None:
        self.counts[state] += max(0, number)
        if state is BatchState.RUNNING:
            self.running = [*self.running, *filter(None, ids)][:LISTED]

    def _defer(self, error: QuotaExhaustedError) -> None:
        when, quota = error.resets_at, self.over_quota
        if quota is None:
            self.over_quota = OverQuota(1, error.limit, when, when)
        else:
            quota.number += 1
            quota.first, quota.last = min(quota.first, when), max(quota.last, when)
