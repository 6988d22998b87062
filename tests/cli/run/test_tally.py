"""The results of a run, counted; what is listed one by one is listed up to a bound."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs

from llamagen_async import QuotaExhaustedError, RateLimit
from llamagen_async.cli.results.records import LISTED, Record
from llamagen_async.cli.run.tally import OverQuota, Tally
from llamagen_async.models import BatchState
from llamagen_async.plans import DAY
from tests.support.records import DONE, FAILED, UNSENT

LIMIT = RateLimit(15, DAY)


def over_quota(day: int) -> QuotaExhaustedError:
    return QuotaExhaustedError(LIMIT, 7200.0, datetime(2030, 1, day, tzinfo=UTC))


def test_stories_over_the_quota_are_counted_apart() -> None:
    tally = Tally()
    for day in (3, 2, 4):
        tally.add(UNSENT, over_quota(day))
    days = datetime(2030, 1, 2, tzinfo=UTC), datetime(2030, 1, 4, tzinfo=UTC)
    assert tally.over_quota == OverQuota(3, LIMIT, *days)
    accepted = Record(3, BatchState.RUNNING, id="c1", error="it goes on")
    tally.add(accepted, over_quota(2))
    assert (tally.deferred, tally.reasons) == (4, {"it goes on": 1})
    assert tally.running == ["c1"]


def test_reasons_and_lists_are_bounded() -> None:
    tally = Tally()
    for number in range(200):
        tally.add(attrs.evolve(FAILED, error=f"reason {number}"), None)
        tally.add(Record(number, BatchState.UNCERTAIN), None)
        tally.add(Record(number, BatchState.RUNNING, id=str(number)), None)
    assert tally.reasons["other reasons"] == 100
    assert len(tally.uncertain) == len(tally.running) == LISTED
    assert tally.total == 600


def test_a_comic_without_its_pictures_is_not_done() -> None:
    tally = Tally()
    tally.add(DONE, None)
    tally.add(attrs.evolve(DONE, error="the disk is full"), OSError())
    assert (tally.done, tally.without_files) == (1, 1)


def test_unfinished_stories_are_counted_too() -> None:
    tally = Tally()
    tally.add_unfinished({BatchState.RUNNING: 2, BatchState.QUEUED: -1}, ["c1", "c2"])
    assert (tally.total, tally.running) == (2, ["c1", "c2"])
