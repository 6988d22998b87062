"""The Redis ledger's script against `WindowLog`, its specification: always the same answers."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Iterable
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llamagen_async.plans import DAY, HOUR, Plan, RateLimit
from llamagen_async.ratelimit.protocol import (
    Claim,
    Grant,
    NoSlot,
    Outcome,
    Priority,
    WaitingRequests,
    Workload,
)
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from llamagen_async.ratelimit.window_log import Durations, WindowLog
from tests.support.redis_server import RedisServer, settled

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
DURATIONS = Durations(lease=100.0, grace=5.0, client_lease=400.0, silence=8.0)

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
    Workload, st.lists(waiting, max_size=2).map(tuple), st.sampled_from(TEXTS)
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
    retry_after=st.none() | st.sampled_from([0.0, 0.5, 2.0, 90.0]),
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
    st.tuples(st.just("record"), st.integers(0, 3), st.sampled_from([0.0, 0.0, 0.0, 4.0])),
    st.tuples(st.just("snapshot"), numbers),
)


def claim_of(name: str, client: str = "s") -> Claim:
    """A claim as most are."""
    return Claim(name, client, Priority.CHECK, 0.0, Workload())


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
        self.log = WindowLog(plan, DURATIONS)
        self.now = -math.inf
        self._shift = 0.0

    def tick(self, time: float) -> None:
        raw = time * self.speed
        if raw + self._shift < self.now:
            self._shift = self.now - raw
        else:
            self.now = raw + self._shift
        self.log.wall_offset = raw - self.now

    def do(self, verb: str, *arguments: Any) -> object:
        log, now = self.log, self.now
        match verb:
            case "reserve":
                return log.reserve(arguments[0], now)
            case "commit":
                return log.commit(*arguments, now)
            case "release":
                name, client, leaves = arguments
                return log.release(name, client, now, leaves=leaves)
            case "record":
                return log.record(arguments[0], now, pause=arguments[1])
            case _:
                return log.snapshot(now, position=arguments[0])


class Implementation:
    """The script, asked by a `RedisLedger`."""

    def __init__(self, server: RedisServer, plan: Plan, speed: float) -> None:
        self.time = 1000.0
        self.steady = 0.0
        self.ledger = RedisLedger(
            server.url,
            name=uuid.uuid4().hex,
            plan=plan,
            speed=speed,
            durations=DURATIONS,
            timeout=60.0,
            now=lambda: self.time,
            steady=lambda: self.steady,
        )

    async def do(self, verb: str, *arguments: Any) -> object:
        ledger = self.ledger
        match verb:
            case "reserve":
                return await ledger.reserve(*arguments)
            case "commit":
                return await ledger.commit(*arguments)
            case "release":
                name, client, leaves = arguments
                ledger.release(name, client, leaves=leaves)
                return await settled(ledger)
            case "record":
                return await ledger.record(arguments[0], pause=arguments[1])
            case _:
                return await ledger.snapshot(position=arguments[0])


def compare(server: RedisServer, plan: Plan, speed: float, steps: Iterable[_Step]) -> None:
    """Run the same steps with both, and compare every answer to the last bit."""

    async def main() -> None:
        script, account = Implementation(server, plan, speed), Specification(plan, speed)
        grants: list[Grant] = []
        try:
            for elapsed, (verb, *arguments) in steps:
                script.time += elapsed / speed
                script.steady += max(0.0, elapsed / speed)
                account.tick(script.time)
                if verb in {"commit", "give_back"}:
                    if not grants:
                        continue
                    grant = grants[arguments[0] % len(grants)]
                    arguments[0] = grant
                    if verb == "give_back":
                        verb, arguments = "release", [grant.id, grant.client, False]
                answer = await script.do(verb, *arguments)
                assert answer == account.do(verb, *arguments)
                if isinstance(answer, Grant) and all(one.id != answer.id for one in grants[-9:]):
                    grants.append(attrs.evolve(answer))
                elif isinstance(answer, NoSlot):
                    assert answer.delay >= 0
        finally:
            await script.ledger.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("speed", [1.0, 60.0])
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plan=st.sampled_from(PLANS), steps=st.lists(st.tuples(moments, operations), max_size=50))
@example(plan=Plan.PAID, steps=LATE)
def test_the_script_and_the_class_never_differ(
    redis_server: RedisServer, speed: float, plan: Plan, steps: list[_Step]
) -> None:
    """Every answer, and with it what is remembered after each operation."""
    compare(redis_server, plan, speed, steps)


@pytest.mark.no_cover
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
@pytest.mark.parametrize("seed", range(3))
def test_the_script_and_the_class_do_not_differ_after_a_long_time(
    redis_server: RedisServer, plan: Plan, seed: int
) -> None:
    """Histories that fill windows, let leases lapse and learn from many answers."""
    random = Random(seed)
    periods = [limit.per for limit in plan.limits if limit.per <= HOUR]
    ties = [0.0, 1.0, *periods, *(per - 1 for per in periods), *(per / 4 for per in periods)]
    ties += [100.0, 99.0, 5.0]
    limits = [None, *(limit.limit for limit in plan.limits)]
    claimed = 0

    def workload() -> Workload:
        waiting = [
            WaitingRequests(random.choice([*Priority]), random.randint(1, 9), 9.0, 3.0)
            for _ in range(random.choice([0, 0, 1, 3]))
        ]
        return Workload(tuple(waiting), random.choice(TEXTS))

    def claim() -> Claim:
        nonlocal claimed
        claimed += random.random() < 0.7
        name = max(0, claimed - random.choice([0, 0, 0, 1, 2, 3]))
        client, priority = CLIENTS[name % 4], random.choice([*Priority])
        waited = random.choice([0.0, 0.0, 2.0, random.uniform(0, 9)])
        return Claim(f"{name}", client, priority, waited, workload(), random.random() < 0.9)

    def operation() -> tuple[Any, ...]:
        number = random.randint(-3, 3)
        match random.choices(range(8), [40, 30, 4, 3, 3, 2, 2, 4])[0]:
            case 0:
                return "reserve", claim()
            case 1:
                # The latest is the one most likely to be on its way.
                return "commit", -1, Outcome(), workload()
            case 2:
                refused = Outcome(True, random.choice([None, None, 0.5, 20.0]))
                return "commit", number, refused, workload()
            case 3:
                left = Outcome(server_limit=random.choice(limits), server_left=number)
                return "commit", -1, left, workload()
            case 4:
                return "record", abs(number), random.choice([0.0, 0.0, 3.0])
            case 5:
                return "give_back", number
            case 6:
                return "release", f"{claimed}", CLIENTS[claimed % 4], random.random() < 0.3
            case _:
                return "snapshot", abs(number)

    def step() -> _Step:
        elapsed = random.choice([0.0, 0.0, 0.0, random.choice(ties), random.uniform(0, 8)])
        return -random.choice([1.0, 90.0]) if random.random() < 0.02 else elapsed, operation()

    compare(redis_server, plan, 1.0, (step() for _ in range(500)))
