"""The Redis ledger's script against `WindowLog`, its specification: always the same answers."""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from collections.abc import Iterable
from random import Random
from typing import Any

import attrs
import pytest
import redis.asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llamagen_async.plans import DAY, HOUR, Plan, RateLimit
from llamagen_async.ratelimit.protocol import (
    ANSWERED,
    Grant,
    Outcome,
    apply_outcome,
    apply_reserve,
    no_slot,
    snapshot_of,
)
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from llamagen_async.ratelimit.window_log import WindowLog
from tests.support.grants import grants_in
from tests.support.redis_server import RedisServer

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

UNPACK = """
local state = cmsgpack.unpack(redis.call('GET', KEYS[1]))
local function text(value)
  if type(value) == 'number' then return string.format('%.17g', value) end
  if type(value) == 'string' then return '"' .. value .. '"' end
  local parts = {}
  for place, part in ipairs(value) do parts[place] = text(part) end
  return '[' .. table.concat(parts, ',') .. ']'
end
local parts = {}
local spent = {}
for place = 1, #state.spent, 8 do
  spent[#spent + 1] = (struct.unpack('<d', state.spent, place))
end
state.spent = spent
for name, value in pairs(state) do parts[#parts + 1] = '"' .. name .. '":' .. text(value) end
return '{' .. table.concat(parts, ',') .. '}'
"""

# Mostly durations whose sums are exact and meet the ends of windows, leases and positions.
moments = st.one_of(
    st.just(0.0),
    st.sampled_from([0.5, 1.0, 5.0, 6.5, 7.0, 9.0, 9.5, 10.0]),
    st.sampled_from([1.0, 5.0, 6.0, 10.0, 50.0, 59.0, 60.0, 90.0, 100.0]),
    st.sampled_from([0.1, 3.7, 1e-6, 1 / 3, -5.0, -0.001, -4000.0]),
    st.floats(0, 300),
)
numbers = st.integers(0, 12)
outcomes = st.builds(
    Outcome,
    refused=st.booleans(),
    retry_after=st.none() | st.sampled_from([0.0, 0.5, 2.0, 90.0]),
    server_limit=st.none() | st.sampled_from([3, 3, 4, 10, 99]),
    server_left=st.none() | st.integers(-1, 4),
)
accepted = st.just(Outcome())
refused = st.just(Outcome(refused=True))
operations = st.one_of(
    st.tuples(st.just("reserve_many"), st.sampled_from("abcd"), st.just(1)),
    st.tuples(st.just("reserve_many"), st.sampled_from("abcd"), st.just(1)),
    st.tuples(st.just("reserve_many"), st.sampled_from("abcd"), st.integers(1, 12)),
    st.tuples(st.just("exchange"), numbers, st.sampled_from("abcd"), st.integers(1, 3)),
    st.tuples(st.just("commit"), numbers, accepted | outcomes),
    st.tuples(st.just("commit"), numbers, accepted | outcomes | refused),
    st.tuples(st.just("commit"), numbers, accepted, st.integers(2, 40)),
    st.tuples(st.just("cancel_wait"), st.sampled_from("abcd")),
    st.tuples(st.just("give_back"), numbers),
    st.tuples(st.just("record"), st.integers(0, 3)),
    st.tuples(st.just("projected"), numbers),
    st.tuples(st.just("snapshot")),
)


_NEED_A_GRANT = {"commit", "exchange", "give_back"}

_Step = tuple[float, tuple[Any, ...]]
"""Seconds that pass, and then a verb with its arguments."""

LATE: list[_Step] = [
    (0.0, ("reserve_many", "a", 1)),
    (0.0, ("reserve_many", "b", 1)),
    (120.0, ("commit", 1, Outcome())),
    (1.0, ("snapshot",)),
]
"""An answer after the lease, with which another slot lapsed that was spent before."""


class Specification:
    """`WindowLog` as the other ledgers use it, with a clock like the script's."""

    def __init__(self, plan: Plan, speed: float) -> None:
        self.plan = plan
        self.speed = speed
        self.log = WindowLog(plan, lease=100, ahead=1.0, grace=5.0)
        self.grants: list[Grant] = []
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
            case "reserve_many":
                answers = apply_reserve(log, arguments[0], arguments[1], now)
                self.grants += grants_in(answers)
                return [attrs.astuple(one) if isinstance(one, Grant) else one for one in answers]
            case "commit":
                grant = self.grants[arguments[0] % len(self.grants)]
                for _ in range(arguments[2] if len(arguments) > 2 else 1):
                    apply_outcome(log, self.plan, grant, arguments[1], now)
            case "exchange":
                self.do("commit", arguments[0], ANSWERED)
                return self.do("reserve_many", *arguments[1:])
            case "give_back":
                log.give_back(self.grants[arguments[0] % len(self.grants)].slot)
            case "cancel_wait":
                log.cancel_wait(arguments[0])
            case "record":
                log.record_external(arguments[0], now)
            case "projected":
                return no_slot(log.projected(now, arguments[0]), now)
            case _:
                return snapshot_of(log, self.plan, now)
        return None


class Implementation:
    """The ledger over a real server, whose slots begin at a random number."""

    def __init__(self, server: RedisServer, plan: Plan, speed: float) -> None:
        self.time = self.steady = 4096.0
        self.grants: list[Grant] = []
        self.first_slot = 0
        self.ledger = RedisLedger(
            server.url,
            name=uuid.uuid4().hex,
            plan=plan,
            speed=speed,
            lease=100,
            grace=5.0,
            now=lambda: self.time,
            steady=lambda: self.steady,
        )
        self._rate = plan.rate

    async def do(self, verb: str, *arguments: Any) -> object:
        if verb == "commit":
            grant = self.grants[arguments[0] % len(self.grants)]
            # Committed again, only the answer counts, for the burst.
            times = arguments[2] if len(arguments) > 2 else 1
            await asyncio.gather(*[self.ledger.commit(grant, arguments[1]) for _ in range(times)])
            return None
        if verb == "exchange":
            # The answer is sent together with the next question.
            await self.ledger.commit(self.grants[arguments[0] % len(self.grants)], ANSWERED)
            verb, arguments = "reserve_many", arguments[1:]
        if verb == "give_back":
            arguments = (self.grants[arguments[0] % len(self.grants)],)
        if verb == "cancel_wait":
            self.ledger.cancel_wait(*arguments)
            while tasks := self.ledger._calls._tasks:
                await asyncio.wait(tasks)
            return None
        answer = await getattr(self.ledger, verb)(*arguments)
        if not isinstance(answer, list):
            return answer
        self.grants += grants_in(answer)
        if isinstance(answer[0], Grant):
            self.first_slot = self.first_slot or answer[0].slot - 1
        return [
            attrs.astuple(attrs.evolve(one, slot=one.slot - self.first_slot))
            if isinstance(one, Grant)
            else one
            for one in answer
        ]

    async def state(self, client: redis.asyncio.Redis) -> dict[str, Any]:
        """Return the stored state in the form of `WindowLog.dump`."""
        key = self.ledger._calls._key
        state = json.loads(await client.eval(UNPACK, 1, key))
        state.setdefault("burst", self._rate.limit)
        state.setdefault("grow_after", 5 * self._rate.limit)
        return {
            "held": [(slot - self.first_slot, until) for slot, until, _ in state["held"]],
            "spent": state["spent"],
            "queue": [(waiter_id, until) for waiter_id, until in state["queue"]],
            "last_slot": state["slot"] - self.first_slot if self.first_slot else 0,
            "paused_until": state.get("paused_until"),
            "pause_set_at": state.get("pause_set_at"),
            **{name: state[name] for name in ("pauses", "burst", "accepted", "grow_after")},
        }


def compare(server: RedisServer, plan: Plan, speed: float, steps: Iterable[_Step]) -> None:
    """Run the same steps with both, and compare every answer and every state."""

    async def main() -> None:
        redis_client = redis.asyncio.Redis.from_url(server.url)
        script, account = Implementation(server, plan, speed), Specification(plan, speed)
        try:
            for elapsed, (verb, *arguments) in steps:
                script.time += elapsed / speed
                script.steady += max(0.0, elapsed / speed)
                if verb in _NEED_A_GRANT and not script.grants:
                    continue
                account.tick(script.time)
                assert await script.do(verb, *arguments) == account.do(verb, *arguments)
                assert await script.state(redis_client) == account.log.dump()
        finally:
            await script.ledger.aclose()
            await redis_client.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("speed", [1.0, 60.0])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plan=st.sampled_from(PLANS), steps=st.lists(st.tuples(moments, operations), max_size=40))
@example(plan=Plan.PAID, steps=LATE)
def test_the_script_and_the_class_never_differ(
    redis_server: RedisServer, speed: float, plan: Plan, steps: list[_Step]
) -> None:
    """Every answer, to the last bit, and what is remembered after each operation."""
    compare(redis_server, plan, speed, steps)


@pytest.mark.no_cover
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
@pytest.mark.parametrize("seed", range(3))
def test_the_script_and_the_class_do_not_differ_after_a_long_time(  # noqa: C901  # a list of operations, no more
    redis_server: RedisServer, plan: Plan, seed: int
) -> None:
    """Histories that fill windows, let leases lapse and learn from many answers."""
    random = Random(seed)
    periods = [limit.per for limit in plan.limits if limit.per <= HOUR]
    ties = [0.0, 1.0, *periods, *(per - 1 for per in periods), *(per / 4 for per in periods)]
    ties += [100.0, 99.0, 5.0]
    limits = [None, *(limit.limit for limit in plan.limits)]

    def operation() -> tuple[Any, ...]:
        number = random.randint(-3, 3)
        match random.choices(range(9), [40, 20, 6, 6, 4, 4, 4, 4, 10])[0]:
            case 0:
                return "reserve_many", random.choice("abcde"), random.choice([1, 1, 1, 2, 5, 30])
            case 1:
                # The latest is the one most likely to be on its way.
                return "commit", -1, Outcome()
            case 2:
                return "commit", number, Outcome(random.random() < 0.3), random.randint(1, 60)
            case 3:
                left = Outcome(server_limit=random.choice(limits), server_left=number)
                return "commit", -1, left
            case 4:
                return "commit", number, Outcome(True, random.choice([None, None, 0.5, 20.0]))
            case 5:
                return random.choice(["projected", "record", "give_back"]), abs(number)
            case 6:
                return "cancel_wait", random.choice("abcde")
            case 8:
                return "exchange", -1, random.choice("abcde"), random.choice([1, 1, 2, 8])
            case _:
                return ("snapshot",)

    def step() -> _Step:
        elapsed = random.choice([0.0, 0.0, 0.0, random.choice(ties), random.uniform(0, 8)])
        return -random.choice([1.0, 90.0]) if random.random() < 0.02 else elapsed, operation()

    compare(redis_server, plan, 1.0, (step() for _ in range(400)))


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plan=st.sampled_from(PLANS), asked=st.lists(operations, max_size=100))
def test_operations_at_once_are_done_in_the_order_they_were_asked_for(
    redis_server: RedisServer, plan: Plan, asked: list[tuple[str, Any]]
) -> None:
    """Operations in one call have the same answers as one after the other."""
    asked = [one for one in asked if one[0] not in _NEED_A_GRANT]

    async def main() -> None:
        script, account = Implementation(redis_server, plan, 1.0), Specification(plan, 1.0)
        try:
            account.tick(script.time)
            tasks = [script.do(verb, *arguments) for verb, *arguments in asked]
            answers = await asyncio.gather(*tasks)
            assert answers == [account.do(verb, *arguments) for verb, *arguments in asked]
        finally:
            await script.ledger.aclose()

    asyncio.run(main())
