"""The bounds beside the windows: how a burst grows back, and the pace of reads without a slot."""

from __future__ import annotations

import asyncio

import hypothesis.strategies as st
import pytest
from hypothesis import given

from llamagen_async import Plan, QuotaStoreError
from llamagen_async.clock import Clock
from llamagen_async.ratelimit.failover import FailoverLedger
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.ratelimit.throttle import GROW_AFTER, READS_PER_SECOND, Throttle
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.stored_values import DAMAGED, StateReader
from tests.support.claims import claim
from tests.support.remote_ledger import RemoteLedger

LIMIT = Plan.PAID.rate.limit
TIMES = LedgerTimes(lease=30.0, grace=5.0, client_lease=3600.0, silence=8.0)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60), st.floats(1, 4))
def test_no_second_has_more_reads_than_allowed(gaps: list[float], per: float) -> None:
    """A client that waits for as long as is said may send, and none may before."""
    pace, at, sent = Throttle(Plan.PAID.rate), 0.0, list[float]()
    for gap in gaps:
        at += gap
        while wait := pace.admit_read(at, per=per):
            assert pace.admit_read(at + wait / 2, per=per) > 0
            at += wait
        sent.append(at)
    for first, last in zip(sent, sent[READS_PER_SECOND:], strict=False):
        assert last - first >= per - 1e-9


def answers_until_grown(throttle: Throttle) -> int:
    """Return how many answers other than 429 it takes until the burst is greater."""
    before, number = throttle.burst, 0
    while throttle.burst == before:
        throttle.accept(1e6)
        number += 1
    return number


def test_only_growing_that_was_a_mistake_makes_the_next_one_slower() -> None:
    """A burst that was halved several times in a row, down to one, has not grown meanwhile."""
    throttle = Throttle(Plan.PAID.rate)
    for burst in (5, 2, 1):
        throttle.refuse(0.0, 0.0, 1.0, is_last_slot=False)
        assert throttle.burst == burst
    assert answers_until_grown(throttle) == GROW_AFTER * LIMIT
    throttle.refuse(2e6, 2e6, 1.0, is_last_slot=False)
    throttle.refuse(3e6, 3e6, 1.0, is_last_slot=False)
    throttle.pauses = 0
    for _ in range(GROW_AFTER * LIMIT):
        throttle.accept(4e6)
    assert throttle.burst == 1


def test_a_refusal_in_the_windows_last_slot_halves_nothing() -> None:
    throttle = Throttle(Plan.PAID.rate)
    throttle.refuse(0.0, 0.0, 1.0, is_last_slot=True)
    assert throttle.burst == LIMIT


def test_a_burst_does_not_grow_beyond_the_limit() -> None:
    """Else a refusal after a good day would narrow nothing."""
    throttle = Throttle(Plan.PAID.rate)
    for _ in range(GROW_AFTER * LIMIT * 30):
        throttle.accept(1e6)
    assert throttle.burst == LIMIT
    throttle.refuse(2e6, 2e6, 1.0, is_last_slot=False)
    assert throttle.burst == LIMIT // 2


def test_reads_that_were_kept_count() -> None:
    pace, kept = Throttle(Plan.PAID.rate), Throttle(Plan.PAID.rate)
    assert not any(pace.admit_read(10.0) for _ in range(READS_PER_SECOND))
    kept.load(pace.dump(), StateReader(10.5))
    assert kept.admit_read(10.5) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "kept",
    [None, 7, "12", ["x"], [float("nan")], [1e300], [3.0, 2.0], [1.0] * (READS_PER_SECOND + 1)],
    ids=str,
)
def test_reads_that_can_not_be_are_a_damaged_count(kept: object) -> None:
    pace = Throttle(Plan.PAID.rate)
    with pytest.raises(DAMAGED):
        pace.load(pace.dump() | {"reads": kept}, StateReader(10.0))


@pytest.mark.virtual_time
@pytest.mark.parametrize("has_share", [True, False])
async def test_reads_that_need_no_slot_go_on_without_the_store(*, has_share: bool) -> None:
    """By the share of the slots, or as slowly as with one; who never reached the store fails."""
    memory = MemoryLedger(Plan.PAID, Clock().now, TIMES)
    stores = [RemoteLedger(memory, lambda: 0.01) for _ in range(3)]
    ledger, stranger = (FailoverLedger(one, Plan.PAID, Clock(), TIMES) for one in stores[:2])
    strict = FailoverLedger(stores[2], Plan.PAID, Clock(), TIMES, on_failure="raise")
    assert await strict.admit_read() == 0.0
    if has_share:
        assert isinstance(await ledger.reserve(claim("a", "a")), Grant)
    else:
        assert await ledger.admit_read() == 0.0
    for store in stores:
        store.away = True
    for one in (stranger, strict):
        with pytest.raises(QuotaStoreError):
            await one.admit_read()
    reads: list[float] = []
    while (now := asyncio.get_running_loop().time()) < 2_000:
        if wait := await ledger.admit_read():
            await asyncio.sleep(wait)
        else:
            reads.append(now)
    expected = READS_PER_SECOND if has_share else READS_PER_SECOND / 9
    assert 0.9 * expected <= len(reads) / 2_000 <= expected + 0.01
