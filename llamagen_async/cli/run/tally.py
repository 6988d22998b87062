"""How many stories of a run are in which state, and why comics are missing.

However long the input is, this stays small: what is listed one by one is listed up to a bound.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Final

import attrs

from llamagen_async.cli.results.records import Record
from llamagen_async.errors import QuotaExhaustedError
from llamagen_async.models import BatchState
from llamagen_async.plans import RateLimit

__all__ = ["LISTED", "Tally"]

LISTED: Final = 20
"""Comics that are named one by one."""
_REASONS: Final = 100
"""Different reasons that are told apart."""


@attrs.define
class Unaffordable:
    """The stories that today's quota did not pay for."""

    number: int
    limit: RateLimit
    first: datetime
    """When there is room again."""
    last: datetime
    """When there is room for all of them."""


@attrs.define
class Tally:
    """What became of the stories of one run."""

    counts: Counter[BatchState] = attrs.field(factory=Counter[BatchState])
    done: int = 0
    """Comics that are there, with their pictures."""
    put_off: int = 0
    """Stories that today's quota did not pay for, or not for looking at them."""
    running: list[str] = attrs.field(factory=list[str])
    """The ids of some comics that go on at the server."""
    uncertain: list[Record] = attrs.field(factory=list[Record])
    """Some that may have been accepted."""
    reasons: Counter[str] = attrs.field(factory=Counter[str])
    """Why comics are missing; the quota and the uncertain ones are told apart."""
    unaffordable: Unaffordable | None = None

    def add(self, record: Record, error: Exception | None) -> None:
        """Take in what became of one story."""
        self.counts[record.state] += 1
        self.done += record.is_done
        if record.state is BatchState.RUNNING and record.id and len(self.running) < LISTED:
            self.running.append(record.id)
        if record.state is BatchState.UNCERTAIN and len(self.uncertain) < LISTED:
            self.uncertain.append(record)
        self.put_off += isinstance(error, QuotaExhaustedError)
        if record.id is None and isinstance(error, QuotaExhaustedError):
            self._put_off(error)
        elif record.error is not None and record.state is not BatchState.UNCERTAIN:
            known = record.error in self.reasons or len(self.reasons) < _REASONS
            self.reasons[record.error if known else "other reasons"] += 1

    def add_unread(self, number: int) -> None:
        """Take in stories that were not even read: nothing was sent of them."""
        if number > 0:
            self.counts[BatchState.QUEUED] += number

    @property
    def bare(self) -> int:
        """Comics that were drawn, and have no pictures here."""
        return self.counts[BatchState.SUCCEEDED] - self.done

    @property
    def total(self) -> int:
        """Stories in all."""
        return self.counts.total()

    def _put_off(self, error: QuotaExhaustedError) -> None:
        when, known = error.resets_at, self.unaffordable
        if known is None:
            self.unaffordable = Unaffordable(1, error.limit, when, when)
        else:
            known.number += 1
            known.first, known.last = min(known.first, when), max(known.last, when)
