"""The Redis ledger's script against `WindowLog`, its specification: always the same answers."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llamagen_async.plans import DAY, HOUR, Plan, RateLimit
from llamagen_async.ratelimit.protocol import (
    Claim,
    Grant,
    Outcome,
    Priority,
    WaitingRequests,
    Workload,
)
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from llamagen_async.ratelimit.window_log import LedgerTimes, WindowLog
from tests.support.redis_server import RedisServer, connection_to, settled

PLANS = [
    Plan.DEMO,
    Plan.PAID,
    Plan("one", limits=(RateLimit(1, per=3.7),)),
    Plan("small", limits=(RateLimit(3, per=10),)),
    Plan("three", limits=(RateLimit(20, per=HOUR), RateLimit(3, per=10), RateLimit(30, per=DAY))),
    Plan("aligned", limits=(RateLimit(3, per=7), RateLimit(8, per=50, aligned=True))),
    Plan("wide", limits=(RateLimit(25, per=10),)),
    Plan("aligned rate", limits=(RateLimit(4, per=9, aligned=True),)),
]
TIMES = LedgerTimes(lease=100.0, grace=5.0, client_lease=400.0, silence=8.0, tolerance=1.0)

TEXTS = ["", '{"a": 1}', 'wörd "\\/ \x00\n\x7f', "\u2028 🦙"]
CLIENTS = "stuv"

_Step = tuple[float, tuple[Any, ...]]
"""Seconds that pass, and then a verb with its arguments."""

# Mostly durations whose sums are exact and meet the ends of windows, leases and positions.
moments = st.one_of(
    st.just(0.0),
    st.sampled_from([0.5, 1.0, 5.0, 6.5, 7.0, 9.0, 9.5, 10.0]),
    st.sampled_from([1.0, 5.0, 6.0, 10.0, 50.0, 59.0, 60.0, 90.0, 100.0]),
    st.sampled_from([0.1, 3.7, 1e-6, 1 / 3, -5.0, -0.001, -4000.0, 160.0, 400.0]),
    st.floats(0, 300),
)
waits = st.sampled_from([0.0, 0.0, 1.0, 2.0, 5.0, 10.0]) | st.floats(0, 50)
waiting = st.builds(
    lambda priority, count, one, other: WaitingRequests(
        priority, count, max(one, other), min(one, other)
    ),
    st.sampled_from(Priority),
    st.integers(1, 9),
    waits,
    waits,
)
workloads = st.builds(
    Workload,
    st.lists(waiting, max_size=2).map(tuple),
    st.sampled_from(TEXTS),
    st.sampled_from([0, 0, 0, 1, 3]),
)
names = st.sampled_from("abcdefgh")
numbers = st.integers(0, 12)
claims = st.builds(
    # Now and then a claim comes from another client than before.
    lambda name, other, priority, waited, workload, waits: Claim(
        name,
        CLIENTS[("abcdefgh".index(name) // 2 + other) % 4],
        priority,
        waited,
        workload,
        waits,
    ),
    names,
    st.sampled_from([0, 0, 0, 0, 0, 0, 1]),
    st.sampled_from(Priority),
    waits,
    workloads,
    st.sampled_from([True, True, True, False]),
)
outcomes = st.builds(
    Outcome,
    refused=st.booleans(),
    retry_after=st.none() | st.sampled_from([0.0, 0.5, 2.0, 90.0, -1.0, 86_401.0, 1e308]),
    server_limit=st.none() | st.sampled_from([3, 3, 4, 10, 99]),
    server_left=st.none() | st.integers(-1, 4),
)
likely_outcomes = st.just(Outcome()) | outcomes | st.just(Outcome(refused=True))
operations = st.one_of(
    *[st.tuples(st.just("reserve"), claims)] * 4,
    *[st.tuples(st.just("commit"), numbers, likely_outcomes, workloads)] * 2,
    st.tuples(
        st.just("release"), names, st.sampled_from(CLIENTS), st.sampled_from([False, False, True])
    ),
    st.tuples(st.just("give_back"), numbers),
    st.tuples(st.just("record"), st.integers(0, 3), st.sampled_from([0.0, 0.0, 0.0, 4.0, 1e308])),
    st.tuples(st.just("snapshot"), numbers),
    st.tuples(st.just("read"), st.integers(1, 6)),
    st.tuples(st.just("plan"), st.sampled_from(PLANS)),
)


def claim_of(name: str, client: str = "s") -> Claim:
    """A claim as most are."""
    return Claim(name, client, Priority.CHECK, 0.0, Workload())


REFUSED = Outcome(refused=True)
STALE: list[_Step] = [
    (0.0, ("reserve", claim_of("a"))),
    (0.0, ("reserve", claim_of("b", "t"))),
    (0.0, ("reserve", claim_of("c", "u"))),
    (0.5, ("commit", 0, REFUSED, Workload())),
    (0.5, ("commit", 1, Outcome(), Workload())),
    (200.0, ("reserve", claim_of("d"))),
    (0.5, ("commit", 3, REFUSED, Workload())),
]
"""An answer to a request from before a pause does not say that the pause was long enough."""

LATE: list[_Step] = [
    (0.0, ("reserve", claim_of("a"))),
    (0.0, ("reserve", claim_of("b"))),
    (120.0, ("commit", 1, Outcome(), Workload())),
    (1.0, ("snapshot", 0)),
]
"""An answer after the lease, with which another slot lapsed that was spent before."""


class Specification:
    """`WindowLog` as the other ledgers use it, with a clock like the script's."""

    def __init__(self, plan: Plan, speed: float) -> None:
        self.speed = speed
        self.plan = plan
        self.now = -math.inf
        self._log: WindowLog | None = None
        self._wall_offset = 0.0
        self._shift = 0.0

    def tick(self, time: float) -> None:
        raw = time * self.speed
        if raw + self._shift < self.now:
            self._shift = self.now - raw
        else:
            self.now = raw + self._shift
        self._wall_offset = raw - self.now

    @property
    def log(self) -> WindowLog:
        """The count; a plan that is changed before anything is asked is never heard of."""
        if self._log is None:
            self._log = WindowLog(self.plan, TIMES)
        elif self._log.plan != self.plan:
            self._log = self._log.with_plan(self.plan)
        self._log.wall_offset = self._wall_offset
        return self._log

    def do(self, verb: str, *arguments: Any) -> object:
        first, *rest = arguments
        if verb == "plan":
            self.plan = first
            return None
        log, now = self.log, self.now
        match verb:
            case "reserve":
                return log.reserve(first, now)
            case "commit":
                return log.commit(first, rest[0], rest[1], now)
            case "release":
                log.release(first, rest[0], now, leaves=rest[1])
            case "record":
                log.record(first, now, pause=rest[0])
            case "read":
                return [log.throttle.admit_read(now) for _ in range(first)]
            case _:
                return log.snapshot(now, position=first)
        return None


class Implementation:
    """The script, asked by a `RedisLedger`."""

    def __init__(self, server: RedisServer, plan: Plan, speed: float) -> None:
        self.time = 100_000.0
        self.steady = 0.0
        self.ledger = RedisLedger(
            connection_to(server.url),
            name=uuid.uuid4().hex,
            plan=plan,
            speed=speed,
            times=TIMES,
            timeout=60.0,
            now=lambda: self.time,
            steady=lambda: self.steady,
        )

    async def do(self, verb: str, *arguments: Any) -> object:
        ledger = self.ledger
        first, *rest = arguments
        match verb:
            case "reserve":
                return await ledger.reserve(first)
            case "commit":
                return await ledger.commit(first, rest[0], rest[1])
            case "release":
                ledger.release(first, rest[0], leaves=rest[1])
                await settled(ledger)
            case "record":
                await ledger.record(first, pause=rest[0])
            case "read":
                return [await ledger.admit_read() for _ in range(first)]
            case "plan":
                ledger.change_plan(first)
            case _:
                return await ledger.snapshot(position=first)
        return None


def _with_grant(grants: list[Grant], verb: str, *arguments: Any) -> tuple[Any, ...]:
    """Return an operation with the grant that is meant by a number; nothing if there is none."""
    if verb not in {"commit", "give_back"}:
        return verb, *arguments
    if not grants:
        return ()
    grant = grants[arguments[0] % len(grants)]
    if verb == "give_back":
        return "release", grant.id, grant.client, False
    return verb, grant, *arguments[1:]


def compare(server: RedisServer, plan: Plan, speed: float, steps: Iterable[_Step]) -> None:
    """Run the same steps with both, and compare every answer to the last bit."""

    async def main() -> None:
        script, account = Implementation(server, plan, speed), Specification(plan, speed)
        grants: list[Grant] = []
        try:
            for elapsed, step in steps:
                script.time += elapsed / speed
                script.steady += max(0.0, elapsed / speed)
                operation = _with_grant(grants, *step)
                if operation:
                    if operation[0] != "plan":  # of that the script hears with the next question
                        account.tick(script.time)
                    answer = await script.do(*operation)
                    assert answer == account.do(*operation)
                    grants += [answer] if isinstance(answer, Grant) else []
        finally:
            await script.ledger.aclose()

    asyncio.run(main())


@pytest.mark.once
@pytest.mark.parametrize("speed", [1.0, 60.0])
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plan=st.sampled_from(PLANS), steps=st.lists(st.tuples(moments, operations), max_size=50))
@example(plan=Plan.PAID, steps=LATE)
@example(plan=Plan.PAID, steps=STALE)
def test_the_script_and_the_class_never_differ(
    redis_server: RedisServer, speed: float, plan: Plan, steps: list[_Step]
) -> None:
    """Every answer, and with it what is remembered after each operation."""
    compare(redis_server, plan, speed, steps)


class History:
    """Operations as they come in a long time: most requests are answered, some are refused."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self._random = Random(seed)
        self._claimed = 0
        self._plan = plan
        periods = [limit.per for limit in plan.limits if limit.per <= HOUR]
        ties = [0.0, 1.0, *periods, *(per - 1 for per in periods), *(per / 4 for per in periods)]
        self._ties = [*ties, 100.0, 99.0, 5.0]
        self._limits = [None, *(limit.limit for limit in plan.limits)]

    def step(self) -> _Step:
        """Return the next operation, and the seconds before it."""
        pick, uniform = self._random.choice, self._random.uniform
        elapsed = pick([0.0, 0.0, 0.0, pick(self._ties), uniform(0, 8)])
        if self._random.random() < 0.04:
            # The clock is set back, or nobody asked for a lease and a window.
            elapsed = pick([-1.0, -90.0, 110.0, 160.0])
        return elapsed, self._operation()

    def _operation(self) -> tuple[Any, ...]:
        pick, number = self._random.choice, self._random.randint(-3, 3)
        # The latest is the one most likely to be on its way.
        refused = Outcome(True, pick([None, None, 0.5, 20.0, -1.0]))
        left = Outcome(server_limit=pick(self._limits), server_left=number)
        claimed = self._claimed
        operations: list[tuple[int, tuple[Any, ...]]] = [
            (30, ("commit", pick([-1, -1, -2]), Outcome(), self._workload())),
            (4, ("commit", number, refused, self._workload())),
            (3, ("commit", -1, left, self._workload())),
            (3, ("record", abs(number), pick([0.0, 0.0, 3.0]))),
            (2, ("give_back", number)),
            (2, ("release", f"{claimed}", CLIENTS[claimed % 4], pick([True, False, False]))),
            (4, ("snapshot", abs(number))),
            (4, ("read", 1 + abs(number))),
            (1, ("plan", pick([self._plan, self._plan, *PLANS]))),
            (40, ("reserve", self._claim())),
        ]
        weights, choices = zip(*operations, strict=True)
        chosen: tuple[Any, ...] = self._random.choices(choices, weights)[0]
        return chosen

    def _claim(self) -> Claim:
        random, pick = self._random, self._random.choice
        self._claimed += random.random() < 0.3
        name = max(0, self._claimed - pick([0, 0, 0, 1, 2, 3]))
        waited = pick([0.0, 0.0, 2.0, random.uniform(0, 9)])
        workload, waits = self._workload(), random.random() < 0.9
        return Claim(f"{name}", CLIENTS[name % 4], pick([*Priority]), waited, workload, waits)

    def _workload(self) -> Workload:
        pick, count = self._random.choice, self._random.randint(1, 9)
        number = pick([0, 0, 1, 3])
        waiting = [WaitingRequests(pick([*Priority]), count, 9.0, 3.0) for _ in range(number)]
        return Workload(tuple(waiting), pick(TEXTS), pick([0, 0, 0, 1, 3]))


@pytest.mark.once
@pytest.mark.no_cover
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
@pytest.mark.parametrize("seed", range(3))
def test_the_script_and_the_class_do_not_differ_after_a_long_time(
    redis_server: RedisServer, plan: Plan, seed: int
) -> None:
    """Histories that fill windows, let leases lapse and learn from many answers."""
    history = History(plan, seed)
    compare(redis_server, plan, 1.0, (history.step() for _ in range(500)))
