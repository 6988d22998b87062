"""A plan is numbers that make sense, or it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import DAY, HOUR, MINUTE, Plan, RateLimit, RequestKind

BAD_NUMBERS = (0, -1, True, "4", None)


def test_the_documented_plans() -> None:
    """Demo is 4 a minute and 15 a day, paid is 10 a minute, and everything counts."""
    assert Plan.DEMO.limits == (RateLimit(4, per=60), RateLimit(15, per=86_400))
    assert Plan.PAID.limits == (RateLimit(10, per=60),)
    assert all(plan.metered == set(RequestKind) for plan in (Plan.DEMO, Plan.PAID))


def test_billed_kinds_are_those_that_start_work() -> None:
    """Creating, continuing and updating are paid for; reading and uploading are not."""
    assert [kind.value for kind in RequestKind if kind.is_billed] == [
        "create",
        "continue",
        "update",
    ]


@pytest.mark.parametrize("limit", [*BAD_NUMBERS, 1.5])
def test_a_limit_is_a_whole_number(limit: Any) -> None:
    """Nothing but a whole number of at least 1 is a limit."""
    with pytest.raises(InvalidRequestError, match=r"^limit: got"):
        RateLimit(limit, per=60)


@pytest.mark.parametrize("per", [*BAD_NUMBERS, float("inf"), float("nan")])
def test_a_window_is_a_number_of_seconds(per: Any) -> None:
    """Nothing but a finite number of seconds above 0 is a window."""
    with pytest.raises(InvalidRequestError, match=r"^per: got"):
        RateLimit(1, per=per)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (RateLimit(1, per=1), "1 per second"),
        (RateLimit(4, per=MINUTE), "4 per minute"),
        (RateLimit(9, per=HOUR), "9 per hour"),
        (RateLimit(15, per=DAY), "15 per day"),
        (RateLimit(2, per=2.5), "2 per 2.5 seconds"),
    ],
)
def test_a_limit_reads_as_people_say_it(limit: RateLimit, text: str) -> None:
    """Messages and tables say "4 per minute"."""
    assert str(limit) == text


def test_the_interval_is_even_spacing() -> None:
    """Ten a minute are six seconds apart."""
    assert RateLimit(10, per=60).interval == 6


def test_a_plan_of_ones_own() -> None:
    """One limit or several, kinds by name or as themselves."""
    plan = Plan("studio", limits=RateLimit(60, per=60), metered={"create", RequestKind.UPDATE})
    assert plan.limits == (RateLimit(60, per=60),)
    assert RequestKind.CREATE in plan.metered
    assert RequestKind.UPDATE in plan.metered
    assert RequestKind.STATUS not in plan.metered
    assert plan.burst is None


@pytest.mark.parametrize("limits", [(), [3], ("4/min",)])
def test_a_plan_needs_limits(limits: Any) -> None:
    """A plan without limits, or with something else, is refused."""
    with pytest.raises(InvalidRequestError, match=r"^limits: got"):
        Plan("x", limits=limits)


@pytest.mark.parametrize("metered", ["sleep", "", " , ", {"sleep"}, {None}])
def test_only_known_kinds_are_metered(metered: Any) -> None:
    """An unknown kind is refused, in a set or as text, and so is text that names none."""
    with pytest.raises(InvalidRequestError, match=r"^metered: got"):
        Plan("x", limits=RateLimit(1, per=1), metered=metered)


@pytest.mark.parametrize("burst", [0, -1, True, 1.5, "3"])
def test_a_burst_is_a_whole_number(burst: Any) -> None:
    """Nothing but a whole number of at least 1 is a burst."""
    with pytest.raises(InvalidRequestError, match=r"^burst: got"):
        Plan("x", limits=RateLimit(1, per=1), burst=burst)


def test_long_windows_are_quotas_and_the_shortest_is_the_rate() -> None:
    """An hour and more has to be budgeted; the shortest window bounds the near future."""
    plan = Plan("x", limits=(RateLimit(99, per=HOUR), RateLimit(2, per=1), RateLimit(500, per=DAY)))
    assert plan.quotas == (RateLimit(99, per=HOUR), RateLimit(500, per=DAY))
    assert plan.rate == RateLimit(2, per=1)
    assert Plan.PAID.quotas == ()


@pytest.mark.parametrize(
    ("value", "plan"),
    [("demo", Plan.DEMO), (" Paid ", Plan.PAID), ("DEMO", Plan.DEMO), (Plan.PAID, Plan.PAID)],
)
def test_a_plan_is_named_or_given(value: Any, plan: Plan) -> None:
    """A name in any case is one of the documented plans."""
    assert Plan.parse(value) is plan


@pytest.mark.parametrize("value", ["free", "", None, 3, RateLimit(1, per=1)])
def test_an_unknown_plan_is_refused(value: Any) -> None:
    """Neither another name nor another type is a plan."""
    with pytest.raises(InvalidRequestError, match=r"^plan: got"):
        Plan.parse(value)
