"""Findings: how bad they are, and what to do about them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from llamagen_async import LimitsSnapshot, LimitState, Plan, RateLimit, Usage
from llamagen_async.diagnosis import Level
from llamagen_async.diagnosis.judgements import (
    FoundKey,
    judge_clock,
    judge_key,
    judge_limits,
    judge_plan,
    judge_usage,
    judge_versions,
)
from llamagen_async.diagnosis.network import Reach
from llamagen_async.diagnosis.stores import RedisFacts, StoreFacts
from llamagen_async.diagnosis.surroundings import judge_reach, judge_store
from llamagen_async.diagnosis.versions import Versions, installed
from llamagen_async.plans import DAY, MINUTE

NOW = datetime(2026, 11, 27, tzinfo=UTC)
OWN = FoundKey("LLAMAGEN_API_KEY", 40, is_vendors=True)


def snapshot(*used: int, plan: Plan = Plan.DEMO, **fields: Any) -> LimitsSnapshot:
    windows = tuple(
        LimitState(limit, number, limit.limit - number, 0.0)
        for limit, number in zip(plan.limits, used, strict=True)
    )
    return LimitsSnapshot(
        plan.name, windows, **{"paused_for": 0.0, "burst": 4, "in_flight": 0, **fields}
    )


@pytest.mark.parametrize(
    ("ahead", "level"),
    [
        (0.0, Level.OK),
        (-1.4, Level.OK),
        (20.0, Level.OK),
        (-31.0, Level.WARNING),
        (299.0, Level.WARNING),
        (300.0, Level.PROBLEM),
        (-9e9, Level.PROBLEM),
    ],
)
def test_a_clock_matters_for_webhooks(ahead: float, level: Level) -> None:
    found = judge_clock(ahead, 0.6)
    assert found.level is level
    if level is not Level.OK:
        assert ("ahead" in found.text) is (ahead > 0)
        assert "300 s" in found.text
        assert "NTP" in found.advice


def test_a_clock_is_not_judged_closer_than_it_was_measured() -> None:
    """An answer that took a minute tells nothing of half a minute."""
    assert judge_clock(35.0, 40.0).level is Level.OK


@pytest.mark.parametrize(
    ("key", "level", "words"),
    [
        (OWN, Level.OK, "begins with sk-, 40 characters"),
        (FoundKey(""), Level.PROBLEM, "there is none"),
        (attrs.evolve(OWN, error="it has spaces"), Level.PROBLEM, "it has spaces"),
        (attrs.evolve(OWN, was_trimmed=True), Level.WARNING, "quotes or white space"),
        (attrs.evolve(OWN, is_readable=True), Level.WARNING, "others can read"),
        (attrs.evolve(OWN, is_vendors=False), Level.WARNING, "does not begin with sk-"),
    ],
)
def test_the_form_of_a_key(key: FoundKey, level: Level, words: str) -> None:
    found = judge_key(key, at_vendor=True)
    assert found.level is level
    assert words in found.text
    assert bool(found.advice) is (level is not Level.OK)


def test_a_sandbox_has_keys_of_its_own() -> None:
    assert judge_key(attrs.evolve(OWN, is_vendors=False), at_vendor=False).level is Level.OK


@pytest.mark.parametrize(
    ("kept", "source", "paid", "level", "words"),
    [
        (Plan.DEMO, "default", True, Level.WARNING, "on the paid plan"),
        (Plan.PAID, "--plan", False, Level.PROBLEM, "the key is not on it"),
        (Plan.PAID, "--plan", True, Level.OK, "says the same"),
        (Plan.DEMO, "default", False, Level.OK, "says the same"),
        (Plan.DEMO, "default", None, Level.OK, "it does not say"),
        (Plan.DEMO, "auto", True, Level.OK, "paid (auto): 10 a minute"),
        (Plan("own", limits=RateLimit(60, per=60)), "", False, Level.OK, "60 a minute"),
    ],
)
def test_the_plan_is_compared_with_what_the_server_says(
    kept: Plan, source: str, paid: bool | None, level: Level, words: str
) -> None:
    found = judge_plan(kept, source, Usage(is_paid_plan=paid))
    assert found.level is level
    assert words in found.text


def test_what_is_not_metered_is_named() -> None:
    plan = attrs.evolve(Plan.PAID, metered={"create", "continue", "update", "upload", "usage"})
    assert "all requests count but status" in judge_plan(plan, "--plan", None).text


def test_a_short_day_is_kept_for_comics() -> None:
    """The question is not worth a comic's create or check."""
    assert judge_limits(snapshot(0, 12), needed=1)[1] == ""
    found, why_not = judge_limits(snapshot(0, 13), needed=1)
    assert (found.level, why_not) == (Level.WARNING, "2 requests are left of the day")
    assert judge_limits(snapshot(0, 7), needed=7)[1] != ""
    assert judge_limits(snapshot(0, 15), needed=1, is_auto=True)[1] == ""
    assert judge_limits(snapshot(10, plan=Plan.PAID), needed=1)[1] == ""


def test_a_pause_and_others_are_told() -> None:
    found, why_not = judge_limits(snapshot(0, 0, paused_for=40.0, clients=3), needed=1)
    assert (found.level, why_not) == (Level.WARNING, "the server asked to wait")
    assert "40 s" in found.text
    assert "3 clients" in found.text


def test_requests_that_others_have_sent_are_told() -> None:
    usage = Usage(api_usage_count=9, api_max_usage=15)
    found = judge_usage(usage, snapshot(1, 3))
    assert found.level is Level.WARNING
    assert "this machine knows of 3" in found.text
    assert judge_usage(usage, snapshot(1, 9)).level is Level.OK
    assert judge_usage(usage, snapshot(1, plan=Plan.PAID)).level is Level.OK


def test_no_credits_and_odd_answers() -> None:
    empty = Usage(credits=0.0, is_paid_plan=True)
    assert judge_usage(empty, snapshot(1, 1)).level is Level.WARNING
    assert "tells nothing" in judge_usage(Usage(), snapshot(1, 1)).text
    assert "1000000" in judge_usage(Usage(credits=1e6), snapshot(1, 1)).text


def test_missing_extras_have_their_command() -> None:
    versions = Versions("1", "CPython 3.11", "TLS", {"aiohttp": "3"}, {"cli": True, "redis": False})
    _, extras = judge_versions(versions)
    assert 'pip install "llamagen-async[redis]"' in extras.text
    assert extras.facts["missing"] == ["redis"]


def test_what_is_installed_is_found() -> None:
    versions = installed()
    assert all(versions.libraries.values())
    assert {"cli", "redis", "sandbox"} <= set(versions.extras)


REACHED = Reach(
    "api.example", ("192.0.2.1",), 0.01, tls="TLSv1.3", certificate_ends=NOW + timedelta(days=60)
)


@pytest.mark.parametrize(
    ("reach", "level", "words"),
    [
        (REACHED, Level.OK, "ends 2027-01-26"),
        (attrs.evolve(REACHED, certificate_ends=NOW + timedelta(days=9)), Level.WARNING, "9 days"),
        (attrs.evolve(REACHED, failed_at="name", reason="unknown"), Level.PROBLEM, "not known"),
        (attrs.evolve(REACHED, failed_at="connection", reason="nobody"), Level.PROBLEM, "nobody"),
        (attrs.evolve(REACHED, failed_at="proxy", reason="status 407"), Level.PROBLEM, "407"),
        (attrs.evolve(REACHED, failed_at="tls", reason="expired"), Level.PROBLEM, "expired"),
    ],
)
@pytest.mark.parametrize("through_proxy", [True, False])
def test_the_way_ends_where_it_failed(
    reach: Reach, level: Level, words: str, through_proxy: bool
) -> None:
    found = judge_reach(reach, NOW, uses_tls=True, through_proxy=through_proxy)
    assert found[-1].level is level
    assert words in found[-1].text
    assert {one.level for one in found[:-1]} <= {Level.OK}
    assert bool(found[-1].advice) is (level is not Level.OK)


KEPT = RedisFacts("7.2", 0.001, 0.1, has_log=True, policy="noeviction")


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (StoreFacts("a", is_memory=True), Level.WARNING, "forgets"),
        (StoreFacts("a", error="is away"), Level.PROBLEM, "is away"),
        (StoreFacts("/a/quota.db"), Level.OK, "/a/quota.db can be written"),
        (StoreFacts("redis://h", redis=KEPT), Level.OK, "keeps a log"),
        (
            StoreFacts("redis://h", redis=attrs.evolve(KEPT, has_log=False)),
            Level.WARNING,
            "keeps no log",
        ),
        (
            StoreFacts("redis://h", redis=attrs.evolve(KEPT, policy="allkeys-lru")),
            Level.WARNING,
            "allkeys-lru",
        ),
        (
            StoreFacts("redis://h", redis=attrs.evolve(KEPT, ahead=-70.0)),
            Level.WARNING,
            "-70 s off",
        ),
        (StoreFacts("redis://h", redis=RedisFacts()), Level.OK, "redis://h: Redis"),
    ],
)
def test_stores(facts: StoreFacts, level: Level, words: str) -> None:
    found = judge_store(facts)
    assert found.level is level
    assert words in found.text


def test_windows_are_told_in_words() -> None:
    found, _ = judge_limits(snapshot(1, 2), needed=1)
    assert found.text == "4 a minute: 1 used, 3 free; 15 a day: 2 used, 13 free"
    assert found.facts["windows"] == [
        {"limit": 4, "per": MINUTE, "used": 1, "free": 3},
        {"limit": 15, "per": DAY, "used": 2, "free": 13},
    ]
