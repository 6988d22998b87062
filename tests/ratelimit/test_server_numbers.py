"""Numbers that a server sends have a ceiling: none stops a key for longer than a day."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async import Plan, QuotaExhaustedError, RateLimit, RequestKind
from llamagen_async.clock import Clock
from llamagen_async.plans import DAY, MINUTE
from llamagen_async.ratelimit import Limiter, NoSlot, Outcome, Workload
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.throttle import LONGEST_PAUSE, MAX_PAUSE, Throttle
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.sandbox import DEMO_KEY, SandboxService
from llamagen_async.simulation import run
from llamagen_async.transport import decode, error_for
from tests.support.claims import claim
from tests.support.scripted import Network, Sent
from tests.support.sqlite_ledgers import LedgerFactory, edit_file, take

PLAN = Plan("test", limits=RateLimit(10, per=MINUTE))
NOW = datetime(2025, 1, 1, tzinfo=UTC)
ABSURD = [
    "nan", "inf", "-5", "1e308", "9" * 5000, "86401", "100000", "Fri, 01 Jan 2100 00:00:00 GMT",
    "soon", "",
]  # fmt: skip


@given(st.lists(st.none() | st.floats() | st.floats(0, 2 * DAY), min_size=1), st.floats(0, 1e9))
def test_no_retry_after_pauses_for_more_than_a_day(waits: list[float | None], now: float) -> None:
    """Whatever `refuse` is told, and however often; up to a day is obeyed in full."""
    throttle = Throttle(PLAN.rate)
    for wait in waits:
        throttle.refuse(now, now, wait, is_last_slot=True)
        assert now <= throttle.paused_until <= now + LONGEST_PAUSE
        if wait is not None and 0 <= wait <= DAY:
            assert throttle.paused_until >= now + wait


@pytest.mark.parametrize("wait", [math.nan, math.inf, -math.inf, -1.0, 1e308, DAY + 0.001])
def test_what_is_not_believed_counts_as_no_time(wait: float) -> None:
    """The pause is the guessed one, which becomes longer each time."""
    guessing, told = Throttle(PLAN.rate), Throttle(PLAN.rate)
    for now in (0.0, 100.0, 300.0):
        guessing.refuse(now, now, None, is_last_slot=False)
        told.refuse(now, now, wait, is_last_slot=False)
        assert told.dump() == guessing.dump()


@pytest.mark.parametrize(("until", "paused"), [(DAY, DAY), (DAY + 1, 0.0), (1e308, 0.0)])
async def test_a_pause_in_a_file_is_believed_up_to_a_day(
    tmp_path: Path, until: float, paused: float
) -> None:
    """A file that an older version wrote, or that is damaged, stops nobody for years."""
    factory = LedgerFactory(tmp_path / "quota.db")
    ledger = factory()
    (grant,) = await take(ledger)
    await ledger.commit(grant, Outcome(refused=True, retry_after=30.0), Workload())
    edit_file(
        factory.path,
        "UPDATE account SET state = json_set(state, '$.paused_until', ?)",
        factory.clock() + until,
    )
    assert (await ledger.snapshot()).paused_for == paused
    await factory.aclose()


@pytest.mark.virtual_time
@pytest.mark.parametrize("text", ABSURD)
async def test_an_absurd_header_costs_a_client_a_short_pause(text: str) -> None:
    """The create is sent again after a minute at most, and later clients go on, too."""

    def refuse_once(sent: Sent) -> Exception | None:
        return error_for(429, {"Retry-After": text}, b"", now=NOW) if sent.n == 0 else None

    network, url = Network(before=refuse_once), f"https://absurd-{ABSURD.index(text)}.invalid"
    for _ in range(2):
        async with network.client(base_url=url) as client:
            await client.comics.create("x")
    assert len(network.creates) == 3
    assert network.creates[2].at <= 2 * MAX_PAUSE


@pytest.mark.virtual_time
async def test_a_long_pause_is_called_so() -> None:
    """A caller that would wait for hours is told that the server asked for it."""
    network = Network(
        before=lambda sent: (
            error_for(429, {"Retry-After": "86400"}, b"", now=NOW) if sent.n == 0 else None
        )
    )
    async with network.client() as client:
        with pytest.raises(QuotaExhaustedError) as caught:
            await client.comics.create("x")
    assert "the server asked to wait; nothing was sent" in str(caught.value)
    assert "used up" not in str(caught.value)
    assert caught.value.limit is None
    assert caught.value.wait == pytest.approx(DAY)


@pytest.mark.parametrize("per", [1e12, 1e308])
def test_a_wait_beyond_all_dates_is_an_error_like_any_other(per: float) -> None:
    """A date has bounds that a number of seconds has not."""

    async def main() -> None:
        plan = Plan("once", limits=RateLimit(1, per=per))
        service = SandboxService(plans={"the-key": plan})
        async with Network(service, key="the-key").client(plan) as client:
            with pytest.raises(QuotaExhaustedError) as caught:
                await client.comics.create("x")
        assert caught.value.wait >= per / 2
        assert str(caught.value)
        assert caught.value.resets_at.astimezone() > datetime.fromtimestamp(time.time(), UTC)

    run(main())


@pytest.mark.virtual_time
@pytest.mark.parametrize(("count", "used"), [(15, 15), (10**9, 15), (10**300, 1)])
async def test_a_count_of_the_server_fills_the_day_and_no_more(count: int, used: int) -> None:
    """However many requests it says were used, what is remembered is bounded.

    A number that no server can have counted is not believed: only the question itself is counted.
    """
    network = Network(
        key=DEMO_KEY,
        body=lambda sent, body: (
            {**body, "isPaidPlan": False, "apiUsageCount": count}
            if sent.kind is RequestKind.USAGE
            else body
        ),
    )
    async with network.client("auto") as client:
        windows = (await client.limits()).windows
    assert [window.used for window in windows] == [used, used]
    assert windows[1].free == 15 - used


_NUMBERS = st.integers(-(10**12), 10**12).map(str) | st.floats().map(str) | st.text()


@given(
    st.dictionaries(
        st.sampled_from(["RateLimit-Limit", "RateLimit-Remaining", "X-RateLimit-Remaining"]),
        _NUMBERS | st.just("10"),
    )
    | st.builds(
        lambda *numbers: {"RateLimit": "limit={}, remaining={}, r={}".format(*numbers)},
        *[_NUMBERS] * 3,
    )
)
def test_headers_only_lower_the_count_within_a_window(headers: dict[str, str]) -> None:
    """Whatever they say, no slot more is free than was counted, and a window later all are."""

    async def main() -> None:
        clock = Clock()
        ledger = MemoryLedger(PLAN, clock.now, LedgerTimes(lease=900))
        limiter = Limiter(PLAN, ledger, clock)
        for number in range(3):
            grant = await ledger.reserve(claim(f"{number}"))
            if isinstance(grant, NoSlot):
                break  # the server has said that nothing is left
            (before,) = (await limiter.ledger.snapshot()).windows
            limit, left = decode(200, headers, b"{}", now=NOW).rate_limit
            outcome = Outcome(server_limit=limit, server_left=left)
            await ledger.commit(grant, outcome, Workload())
            (after,) = (await limiter.ledger.snapshot()).windows
            assert 0 <= after.free <= before.free
            assert after.used <= PLAN.rate.limit
        await clock.sleep(MINUTE)
        assert (await limiter.ledger.snapshot()).windows[0].free == PLAN.rate.limit

    run(main())
