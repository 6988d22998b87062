"""The kinds that a server meters are told by how its count moves, or not at all; never wrongly."""

from __future__ import annotations

import asyncio
import shlex
from itertools import accumulate
from typing import Any, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamagen_async import LlamaGenClient, Plan, RateLimit, RequestKind
from llamagen_async.diagnosis import STEPS, Metering, measure
from llamagen_async.diagnosis.metering import (
    Readings,
    judge_metering,
    sent_by,
    setting_for,
)
from llamagen_async.plans import DAY, PlanName
from tests.support.scripted import Network, Sent, minute

ALL = frozenset(RequestKind)
BILLED = frozenset(kind for kind in RequestKind if kind.is_billed) | {RequestKind.UPLOAD}


def readings(*moves: int, check_found: bool = True, first: int = 40) -> Readings:
    return Readings(tuple(accumulate(moves, initial=first)), check_found)


def moves_of(*, usage: bool, status: bool) -> list[int]:
    return [usage, usage + status, usage + status, usage]


@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("status", [True, False])
def test_an_undisturbed_count_tells_both(usage: bool, status: bool) -> None:
    measured = judge_metering(readings(*moves_of(usage=usage, status=status)))
    assert (measured.usage, measured.status, measured.reason) == (usage, status, "")
    free = {kind for kind, counts in _reads(usage, status) if not counts}
    assert measured.metered == ALL - free


def _reads(usage: bool, status: bool) -> list[tuple[RequestKind, bool]]:
    return [(RequestKind.USAGE, usage), (RequestKind.STATUS, status)]


@given(st.booleans(), st.booleans(), st.integers(0, 3), st.integers(-5, 5).filter(bool))
def test_a_disturbance_is_noticed(usage: bool, status: bool, where: int, by: int) -> None:
    """Whatever else moves the count in one of the moments, nothing is told then."""
    moves = moves_of(usage=usage, status=status)
    moves[where] += by
    measured = judge_metering(readings(*moves))
    assert (measured.usage, measured.status) == (None, None)
    assert "another program" in measured.reason
    assert measured.metered == ALL


@given(st.lists(st.integers(-3, 5), min_size=4, max_size=4))
def test_what_is_not_told_counts(moves: list[int]) -> None:
    """A kind is taken for free only if each of its measurements says so."""
    measured = judge_metering(readings(*moves))
    if RequestKind.USAGE not in measured.metered:
        assert moves[0] == moves[3] == 0
    if RequestKind.STATUS not in measured.metered:
        assert moves[1] == moves[2] == moves[0]


def test_a_count_that_lags_behind_is_noticed() -> None:
    """The last call comes a moment later, when the count has caught up."""
    assert judge_metering(readings(0, 0, 0, 7)).usage is None


def test_a_check_of_an_unknown_id_tells_only_that_it_counts() -> None:
    """One that is refused and counts says that others count, too; one that does not, nothing."""
    assert judge_metering(readings(1, 2, 2, 1, check_found=False)).status is True
    measured = judge_metering(readings(1, 1, 1, 1, check_found=False))
    assert (measured.usage, measured.status) == (True, None)
    assert "unknown id" in measured.reason
    assert RequestKind.STATUS in measured.metered


def test_a_missing_count_tells_nothing() -> None:
    measured = judge_metering(Readings((3, None)))
    assert (measured.usage, measured.status) == (None, None)
    assert "no apiUsageCount" in measured.reason


@pytest.mark.parametrize("metered", [ALL, BILLED, BILLED | {RequestKind.USAGE}])
@pytest.mark.parametrize("plan", [Plan.DEMO, Plan.PAID])
def test_the_plan_is_written_as_it_can_be_used(
    plan: Plan, metered: frozenset[RequestKind], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The expression, the options and the variables all make the same plan."""
    meant = attrs.evolve(plan, metered=metered)
    setting = setting_for(plan, metered)
    assert eval(setting.python, {"Plan": Plan, "RateLimit": RateLimit}) == meant
    named, *rest = setting.options.removeprefix("--plan ").split(" --metered ")
    assert (
        LlamaGenClient(
            "a-key", plan=cast("PlanName", named), metered=rest[0] if rest else None
        ).plan
        == meant
    )
    for variable in shlex.split(setting.environment):
        monkeypatch.setenv(*variable.split("="))
    assert LlamaGenClient("a-key").plan == meant


def test_a_day_that_the_server_names_needs_the_server() -> None:
    """No name stands for a plan with another day; the server is asked for it."""
    plan = Plan("demo", limits=(*Plan.DEMO.limits[:1], RateLimit(9, per=DAY)))
    setting = setting_for(plan, BILLED)
    assert "RateLimit(9, per=86400)" in setting.python
    assert setting.options.startswith("--plan auto --metered create,")


def test_what_is_sent_is_said() -> None:
    assert sent_by(STEPS) == "7 requests: 5 usage calls and 2 status checks"


# Through the client, against a server that meters one thing or the other.


def network_of(*metered: str, body: Any = None) -> tuple[Network, Plan]:
    plan = Plan("paid", limits=RateLimit(10, per=60), metered=metered or RequestKind)
    return Network(minute(plans={"the-key": plan}), key="the-key", body=body), Plan.PAID


async def measured_at(network: Network, plan: Plan, id_: str | None = None) -> Metering:
    async with network.client(plan) as client:
        return await measure(client, id_)


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "metered", [(), ("create",), ("create", "status"), ("create", "usage"), ("create", "upload")]
)
async def test_it_is_measured_with_seven_requests(metered: tuple[str, ...]) -> None:
    """No credits are spent, and the client's own limits hold."""
    network, plan = network_of(*metered)
    async with network.client(plan) as client:
        known = await client.comics.create("known")
        measured = await measure(client, known.id)
        used = (await client.limits()).windows[0].used
    expected = set(metered or RequestKind)
    assert measured.usage is ("usage" in expected)
    assert measured.status is ("status" in expected)
    assert [sent.kind for sent in network.sent[1:]] == list(STEPS)
    assert (network.accepted, network.refused) == (1, 0)
    assert used <= 8  # all were counted; the first of them may be a minute old


@pytest.mark.virtual_time
async def test_without_a_known_id_a_made_up_one_is_asked_for() -> None:
    """The sandbox counts what it answers with 404, and one that counts nothing tells nothing."""
    assert await measured_at(*network_of()) == Metering(True, True, "", (1, 2, 2, 1))
    measured = await measured_at(*network_of("create"))
    assert (measured.usage, measured.status) == (False, None)


@pytest.mark.virtual_time
async def test_another_program_makes_it_inconclusive() -> None:
    network, plan = network_of()
    others = Network(network.service, key="the-key")

    async def disturb() -> None:
        async with others.client(plan) as other:
            for _ in range(3):
                await asyncio.sleep(1.7)
                await other.comics.usage()

    async with network.client(plan) as client:
        known = await client.comics.create("known")
        disturbing = asyncio.create_task(disturb())
        measured = await measure(client, known.id)
        await disturbing
    assert measured.usage is None
    assert "another program" in measured.reason


@pytest.mark.virtual_time
async def test_a_server_that_counts_late_is_not_taken_for_one_that_does_not_count() -> None:
    """The count of three seconds ago stands still until the last usage call, a moment later."""

    def late(sent: Sent, body: Any) -> Any:
        return {"apiUsageCount": sum(1 for one in network.sent if one.at <= sent.at - 3)}

    network, plan = network_of(
        body=lambda sent, body: late(sent, body) if _is_usage(sent) else body
    )
    measured = await measured_at(network, plan)
    assert (measured.usage, measured.status) == (None, None)
    assert "lags behind" in measured.reason


def _is_usage(sent: Sent) -> bool:
    return sent.kind is RequestKind.USAGE


@pytest.mark.virtual_time
async def test_a_server_without_a_count_is_asked_once() -> None:
    def without(sent: Sent, body: Any) -> Any:
        return {"credits": 3} if sent.kind is RequestKind.USAGE else body

    network, plan = network_of(body=without)
    measured = await measured_at(network, plan)
    assert measured.usage is None
    assert len(network.sent) == 1


@pytest.mark.virtual_time
async def test_an_answer_that_has_just_come_is_the_first_step() -> None:
    network, plan = network_of()
    async with network.client(plan) as client:
        first = await client.comics.usage()
        assert (await measure(client, first=first)).usage is True
    assert [sent.kind for sent in network.sent] == list(STEPS)
