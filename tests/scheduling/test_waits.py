"""Waits for generations: who is told what, and when, as far as the poller alone decides it."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from llamagen_async import Plan, QuotaExhaustedError, RateLimit, ServerError
from llamagen_async.clock import Clock
from llamagen_async.forecasting import Forecasts, PollThreshold
from llamagen_async.models import ComicGeneration
from llamagen_async.plans import DAY, RequestKind
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import GenerationWait, PollTarget
from llamagen_async.scheduling.poller import Poller, Waiter
from llamagen_async.transport import APIRequest

pytestmark = pytest.mark.virtual_time

CHECK = APIRequest(RequestKind.STATUS, "GET", "/comics/generations/c")
ANY_CHANCE = PollThreshold(chance=1e-9)
BROKEN = ServerError(500, None, "broken", request_id="req_7")


def now() -> float:
    return asyncio.get_running_loop().time()


def comic(id_: str = "c", status: str = "SUCCEEDED") -> ComicGeneration:
    return ComicGeneration.parse({"id": id_, "status": status, "output": "https://x"})


class Waits:
    """The waits of one client."""

    def __init__(self, plan: Plan = Plan.PAID) -> None:
        limiter: Any = SimpleNamespace(plan=plan)
        self.polls = PollSet(Forecasts())
        self.poller = Poller(self.polls, limiter, Clock())

    def wait(
        self, id_: str = "c", timeout: float = 1_800.0, **fields: Any
    ) -> tuple[Waiter, PollTarget]:
        wait = GenerationWait(id_, CHECK, ComicGeneration.parse, timeout, **fields)
        return self.poller.add(wait), self.polls.targets[id_]

    def check(self, target: PollTarget, answer: ComicGeneration | Exception) -> None:
        """Let a check of it be answered now."""
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if isinstance(answer, Exception):
            outcome.set_exception(answer)
        else:
            outcome.set_result(answer)
        self.polls.mark_in_flight(target, now())
        self.poller.record_check(target, now(), outcome)
        self.polls.mark_idle(target)

    def due_at(self) -> float:
        return self.polls.next_poll(now(), ANY_CHANCE, ANY_CHANCE).next_at


async def test_a_comic_of_which_nothing_is_known_is_taken_to_be_half_way() -> None:
    """One that was accepted here is as old as it is."""
    waits = Waits()
    await asyncio.sleep(1_000)
    _, unknown = waits.wait("unknown")
    half = waits.polls.forecasts.overall.forecast.age_when(0.5)
    assert unknown.accepted_at == pytest.approx(1_000 - half)
    waits.polls.remember_accepted("known", 990.0, profile=("two",))
    _, known = waits.wait("known", urgent=False)
    assert (known.accepted_at, known.profile, known.urgent) == (990.0, ("two",), False)
    assert not known.announced


async def test_who_waits_in_person_makes_a_batchs_comic_urgent() -> None:
    """And the longest wait decides when the last check is made."""
    waits = Waits()
    _, target = waits.wait(timeout=100.0, urgent=False)
    patient, _ = waits.wait(timeout=900.0, urgent=False)
    assert (target.urgent, target.deadline) == (False, 900.0)
    waits.wait(timeout=300.0)
    assert (target.urgent, target.deadline, waits.polls.urgent) == (True, 900.0, 1)
    waits.poller.discard(patient)
    assert target.deadline == 300.0
    waits.poller.discard(patient)
    assert target.id in waits.polls.targets


async def test_the_last_who_leaves_ends_the_checks_and_the_age_is_remembered() -> None:
    waits = Waits()
    one, target = waits.wait()
    other, _ = waits.wait()
    waits.poller.discard(one)
    assert waits.polls.targets["c"] is target
    assert target.context is other.context
    waits.poller.discard(other)
    assert not waits.polls.targets
    assert waits.polls.accepted["c"][0] == target.accepted_at


async def test_a_comic_that_another_process_has_changed_is_waited_for() -> None:
    """The end of before is none, until it is too long ago that the change was accepted."""
    waits = Waits()
    await asyncio.sleep(100)
    waiter, target = waits.wait(after=comic(), age=10.0)
    await asyncio.sleep(289)
    waits.check(target, comic())
    assert not waiter.future.done()
    await asyncio.sleep(1)
    waits.check(target, comic())
    assert (await waiter.future).succeeded
    other = Waits()
    waiter, target = other.wait(after=comic(), age=10.0)
    other.check(target, comic(status="FAILED"))
    assert (await waiter.future).status == "FAILED"


async def test_each_who_wants_to_sees_an_unfinished_comic(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One whose function fails is told of, and keeps nobody else from seeing it."""
    waits = Waits()
    seen: list[str] = []

    def fail(_comic: ComicGeneration) -> None:
        raise OSError("no screen")

    waits.wait(progress=fail)
    waiter, target = waits.wait(progress=lambda one: seen.append(one.status.value))
    await asyncio.sleep(50)
    waits.check(target, comic(status="PROCESSING"))
    waits.check(target, comic(status="PENDING"))
    assert len(seen) == 2
    assert len([one for one in caplog.records if one.exc_info]) == 2
    waits.check(target, comic())
    assert len(seen) == 2
    assert (await waiter.future).succeeded
    assert waits.poller.finished == 1


async def test_checks_that_fail_come_later_and_later_and_are_told_of_at_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From the fifth in a row on, and then every ten minutes, whatever comic it is."""
    caplog.set_level(logging.WARNING, "llamagen_async")
    waits = Waits()
    waits.wait("c")
    waits.wait("d", timeout=90_000.0)
    targets = list(waits.polls.targets.values())
    await asyncio.sleep(100)
    for _ in range(4):
        waits.check(targets[0], BROKEN)
    assert not caplog.records
    assert waits.poller.last_error("c") == str(BROKEN)
    assert waits.poller.last_error("d") is None
    assert waits.poller.last_error("nobody") is None
    assert targets[0].not_before > now()
    waits.check(targets[0], BROKEN)
    (record,) = caplog.records
    assert "c can't be checked for now (" in record.getMessage()
    assert record.__dict__["generation_id"] == "c"
    assert record.__dict__["request_id"] == "req_7"
    for _ in range(20):
        waits.check(targets[0], BROKEN)
        waits.check(targets[1], BROKEN)
    assert len(caplog.records) == 1
    assert now() < targets[0].not_before <= now() + 60.0
    await asyncio.sleep(599)
    waits.check(targets[1], BROKEN)
    assert len(caplog.records) == 1
    await asyncio.sleep(1)
    waits.check(targets[1], BROKEN)
    assert len(caplog.records) == 2
    waits.check(targets[1], comic("d", "PROCESSING"))
    assert (targets[1].failures, waits.poller.last_error("d")) == (0, None)


DAY_FULL = RateLimit(15, per=DAY)
RUNNING = comic(status="LOADING")


@pytest.mark.parametrize(
    ("limit", "checked", "in_flight", "timeout", "is_told"),
    [
        (DAY_FULL, None, False, 500.0, True),
        (DAY_FULL, RUNNING, False, 500.0, True),
        (DAY_FULL, BROKEN, False, 500.0, True),
        (DAY_FULL, None, True, 500.0, False),
        (DAY_FULL, None, False, 700.0, False),
        (Plan.DEMO.rate, None, False, 500.0, True),
        (Plan.DEMO.rate, RUNNING, False, 500.0, False),
        (Plan.DEMO.rate, BROKEN, False, 500.0, False),
        (None, RUNNING, False, 500.0, False),
        (None, BROKEN, False, 500.0, False),
        (None, None, False, 500.0, True),
    ],
)
async def test_a_wait_that_no_check_can_end_is_told_so(
    limit: RateLimit | None,
    checked: ComicGeneration | Exception | None,
    *,
    in_flight: bool,
    timeout: float,
    is_told: bool,
) -> None:
    """Unless a check is on its way, or one was made and time only runs out within minutes.

    Then what the last check has ended in says more.
    """
    waits = Waits(Plan.DEMO)
    waiter, target = waits.wait(timeout=timeout)
    if checked is not None:
        await asyncio.sleep(30.0)
        waits.check(target, checked)
    if in_flight:
        waits.polls.mark_in_flight(target, now())
    error = QuotaExhaustedError(limit, 600.0, datetime.now(UTC))
    for _ in range(2):
        waits.poller.reject_blocked(600.0, error)
    assert waiter.future.done() is is_told
    if is_told:
        told = waiter.future.exception()
        assert isinstance(told, QuotaExhaustedError)
        assert (told.id, told.limit, told.wait) == ("c", limit, 600.0)
        assert told.resets_at == error.resets_at


async def test_all_who_wait_are_told_that_no_check_can_be_sent() -> None:
    """A waiter that has heard already hears nothing else."""
    waits = Waits()
    waiters = [waits.wait(id_)[0] for id_ in "aabb"]
    waiters[0].future.set_result(comic("a"))
    waits.poller.fail_all(BROKEN)
    assert waiters[0].future.result() == comic("a")
    assert all(one.future.exception() is BROKEN for one in waiters[1:])
    assert not waits.polls.targets


async def test_an_answer_to_what_nobody_waits_for_any_more_changes_nothing() -> None:
    """Nor does the answer to a check that was cancelled."""
    waits = Waits()
    waiter, target = waits.wait()
    waits.poller.discard(waiter)
    waits.check(target, comic())
    assert waits.poller.finished == 0
    _, again = waits.wait()
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    outcome.cancel()
    waits.poller.record_check(again, now(), outcome)
    assert (again.failures, again.last_error) == (0, None)
