"""Where status checks need no slot, politeness bounds them: a forecast each, one pace for all."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from typing import Any
from unittest.mock import patch

import attrs
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from llamagen_async import Plan, RateLimit
from llamagen_async.ratelimit import throttle
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.throttle import READS_PER_SECOND
from llamagen_async.sandbox import Durations, SandboxService
from llamagen_async.simulation import run
from tests.support.scheduling import CREATES_ONLY, network_of, refusal
from tests.support.scripted import Network, now

MANY = Plan("many", limits=RateLimit(10_000, per=60), metered={"create"})
"""A plan that starts thousands of comics at once."""
OWN_GAP = 75.0
"""Seconds of lateness that the forecasts of these tests' durations allow by themselves.

The latest end of 100 seeds for each of three distributions was 60 s late without any pace.
"""


def most_in_a_second(times: Iterable[float]) -> int:
    ordered = sorted(times)
    return max(
        sum(1 for time in ordered[at:] if time < start + 1.0 - 1e-9)
        for at, start in enumerate(ordered)
    )


@attrs.frozen
class Outcome:
    """The reads of some comics that ran at once, and how late their ends were noticed."""

    reads: list[float]
    lateness: list[float]
    checks: dict[str, list[float]]


def running_at_once(number: int, durations: Durations, *, seed: int) -> Outcome:
    """Start comics at once, wait for all of them, and return what the server saw."""
    network = Network(
        SandboxService(plans={"the-key": MANY}, durations=durations, seed=seed), key="the-key"
    )

    async def main() -> None:
        async with network.client(MANY) as client:
            created = [await client.comics.create(f"s{n}", fix_panel_num=1) for n in range(number)]
            waits = [client.comics.wait_for_completion(one.id) for one in created]
            await asyncio.gather(*waits)

    run(main())
    ends = network.service.stats(10_000.0)["generations"]
    checks: dict[str, list[float]] = {one["id"]: [] for one in ends}
    for sent in network.checks:
        checks[sent.target].append(sent.at)
    lateness = [one["first_seen_ready_at"] - one["ready_at"] for one in ends]
    return Outcome([sent.at for sent in network.checks], lateness, checks)


@settings(
    max_examples=3, phases=[Phase.generate]
)  # a failure is not made smaller: it takes minutes
@given(
    st.sampled_from([Durations.lognormal(), Durations.uniform(), Durations.mixture()]),
    st.integers(0, 2**32),
    st.integers(1, 3),
)
def test_many_running_comics_share_one_pace(durations: Durations, seed: int, rate: int) -> None:
    """Reads a second stay within the bound, and each end is noticed within a bounded delay."""
    with patch.object(throttle, "READS_PER_SECOND", rate):
        outcome = running_at_once(20, durations, seed=seed)
    assert most_in_a_second(outcome.reads) <= rate
    assert max(outcome.lateness) <= 20 / rate + OWN_GAP


@pytest.mark.once
def test_a_thousand_running_comics_are_checked_politely() -> None:
    """The issue's thousand: one round of checks at the pace bounds the delay of each."""
    outcome = running_at_once(1_000, Durations.lognormal(), seed=3)
    assert most_in_a_second(outcome.reads) == READS_PER_SECOND
    assert max(outcome.lateness) <= 1_000 / READS_PER_SECOND + OWN_GAP
    assert len(outcome.reads) < 1_500


def test_no_comic_is_checked_more_often_than_its_forecast_justifies() -> None:
    """However free checks are, each has to be worth it: the vendor's clients make twelve."""
    outcome = running_at_once(10, Durations.lognormal(), seed=5)
    numbers = [len(times) for times in outcome.checks.values()]
    assert sum(numbers) / len(numbers) < 8
    gaps = [
        after - at for times in outcome.checks.values() for at, after in itertools.pairwise(times)
    ]
    assert min(gaps) >= 1.0


async def reads_of(network: Network, count: int) -> list[float]:
    """Read one comic's panels one by one, all asked for at once; return when they left."""
    async with network.client(CREATES_ONLY) as client:
        id_ = (await client.comics.create("known")).id
        await asyncio.gather(
            *(client.comics.get(id_, page=0, panel=n) for n in range(count)),
            return_exceptions=True,
        )
    return [sent.at for sent in network.checks]


@pytest.mark.virtual_time
async def test_what_is_read_in_person_keeps_the_pace() -> None:
    times = await reads_of(network_of(CREATES_ONLY), 3 * READS_PER_SECOND)
    assert times == pytest.approx(
        sorted([float(n) for n in range(3) for _ in range(READS_PER_SECOND)])
    )


@pytest.mark.virtual_time
async def test_what_is_read_in_person_keeps_the_pace_while_the_server_is_away() -> None:
    """Reads are repeated when the server is tried again, not all in the same moment."""
    from llamagen_async import ServerError

    network = network_of(
        CREATES_ONLY,
        before=lambda sent: ServerError(503, None, "away") if 5 < sent.at < 60 else None,
    )
    async with network.client(CREATES_ONLY) as client:
        id_ = (await client.comics.create("known")).id
        await asyncio.sleep(6)
        reads = (client.comics.get(id_, page=0, panel=n) for n in range(30))
        await asyncio.gather(*reads, return_exceptions=True)
    assert most_in_a_second(sent.at for sent in network.sent) <= READS_PER_SECOND


@pytest.mark.virtual_time
async def test_a_read_goes_before_checks_and_creates_wait_for_neither() -> None:
    """With a backlog of checks, who reads waits a second at most, and who creates not at all."""
    service = SandboxService(plans={"the-key": MANY}, durations=Durations.constant(60.0))
    network = Network(service, key="the-key")
    async with network.client(MANY) as client:
        created = [await client.comics.create(f"s{n}") for n in range(60)]
        waits = [
            asyncio.create_task(client.comics.wait_for_completion(one.id, timeout=600))
            for one in created
        ]
        await asyncio.sleep(62)  # twelve seconds' worth of checks are due
        began = now()
        await client.comics.create("new")
        assert now() == began
        await client.comics.get(created[-1].id)
        assert now() - began <= 1.0
        await asyncio.gather(*waits)
    assert most_in_a_second(sent.at for sent in network.checks) <= READS_PER_SECOND


@pytest.mark.virtual_time
@pytest.mark.parametrize("delay", [None, 0.001])
async def test_the_clients_of_a_key_share_its_pace(
    delay: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients in one loop draw on one pace, whatever they read and however slow their store is."""
    whole = MemoryLedger.admit_read

    async def admit_read(self: MemoryLedger) -> float:
        if delay is not None:
            await asyncio.sleep(delay)
        return await whole(self)

    monkeypatch.setattr(MemoryLedger, "admit_read", admit_read)
    network = network_of(CREATES_ONLY)
    url = "https://shared.invalid"
    async with (
        network.client(CREATES_ONLY, base_url=url) as one,
        network.client(CREATES_ONLY, base_url=url) as other,
    ):
        id_ = (await one.comics.create("known")).id
        reads = [c.comics.get(id_, page=0, panel=n) for n in range(10) for c in (one, other)]
        await asyncio.gather(*reads, *(c.comics.usage() for c in (one, other)))
    sent = [sent.at for sent in network.sent if sent.kind.value != "create"]
    assert len(sent) == 22
    assert most_in_a_second(sent) == READS_PER_SECOND


@pytest.mark.virtual_time
async def test_a_pause_still_holds_for_reads() -> None:
    """A 429 to a read pauses the others, pace or no pace."""
    refused: list[Any] = []

    def once(sent: Any) -> Exception | None:
        if sent.kind.value == "status" and not refused:
            refused.append(sent)
            return refusal(30.0)
        return None

    times = await reads_of(network_of(CREATES_ONLY, before=once, latency=0.1), 12)
    assert sum(1 for at in times if at < 30) <= READS_PER_SECOND
    assert max(times) < 34
