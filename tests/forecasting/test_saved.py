"""Forecasts are kept between runs, in the background, and nothing ever waits for them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamagen_async import LlamaGenClient, Plan, RateLimit
from llamagen_async.forecasting import saved
from llamagen_async.forecasting.profiles import ANY, Forecasts
from llamagen_async.forecasting.saved import ForecastStore, dump_forecasts, load_forecasts
from llamagen_async.ratelimit import Identity
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.ratelimit.stores import store_times
from llamagen_async.sandbox import Durations, SandboxServer, SandboxService
from llamagen_async.simulation import run
from llamagen_async.stored_values import DAMAGED, StoreError
from tests.support.redis_server import API_KEY, connection_to
from tests.support.scripted import Network, left_over, minute

ROOMY: Final = Plan("roomy", limits=RateLimit(1_000, per=60))
STORY: Final = "a story that nobody else may read"
FOUR_PANELS: Final = ("comic", "4")
brackets = st.lists(st.tuples(st.floats(0, 20_000), st.floats(0, 20_000)), max_size=12)


class Blobs:
    """A blob store that can be away, or hang."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text
        self.away = False
        self.hangs = False
        self.saved_at: list[float] = []

    async def _go(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise StoreError("no connection")

    async def load_blob(self) -> str | None:
        await self._go()
        return self.text

    async def save_blob(self, text: str) -> None:
        await self._go()
        self.saved_at.append(asyncio.get_running_loop().time())
        self.text = text


def store_of(blobs: Blobs, forecasts: Forecasts) -> ForecastStore:
    return ForecastStore(blobs, forecasts, loaded=lambda: None)


def observe(forecasts: Forecasts, number: int) -> None:
    for _ in range(number):
        forecasts.observe(FOUR_PANELS, 50.0, 60.0)


async def settled() -> None:
    """Let what goes on in the background come to its end."""
    for _ in range(9):
        await asyncio.sleep(0)


async def loaded(blobs: Blobs) -> Forecasts:
    """Return the forecasts with which a client begins."""
    forecasts = Forecasts()
    store = store_of(blobs, forecasts)
    store.load_once()
    await settled()
    await store.aclose()
    return forecasts


async def save(blobs: Blobs, number: int, *, loads: bool = True) -> None:
    """Run a client that observes `number` generations before anything was loaded."""
    forecasts = Forecasts()
    store = store_of(blobs, forecasts)
    if loads:
        store.load_once()
    observe(forecasts, number)
    await store.aclose()


# --- as a text ------------------------------------------------------------------------------------


@given(brackets)
@settings(max_examples=40, deadline=None)
def test_evidence_survives_saving_but_for_rounding(pairs: list[tuple[float, float]]) -> None:
    """Whatever was observed can be saved, and comes back to the digits that matter."""
    forecasts, copy = Forecasts(), Forecasts()
    for pair in pairs:
        forecasts.observe(ANY, min(pair), max(pair))
    forecasts.overall.forecast.not_done(0.0, 33.0)
    copy.take_over(load_forecasts(dump_forecasts(forecasts)))
    before, after = forecasts.overall.forecast, copy.overall.forecast
    assert after.observed == before.observed == copy.observed == len(pairs)
    assert after.evidence == pytest.approx(before.evidence, abs=1e-4)
    assert after.weight_evidence == pytest.approx(before.weight_evidence, abs=1e-4)
    assert after.seen == pytest.approx(before.seen, abs=1.1e-3)


def test_each_profile_comes_back_as_it_was() -> None:
    """The medians before and after are the same but for rounding."""
    before, after = Forecasts(), Forecasts()
    for _ in range(9):
        before.observe(FOUR_PANELS, 50, 60)
        before.observe(("comic", "8"), 200, 210)
    after.take_over(load_forecasts(dump_forecasts(before)))
    for profile in (ANY, ("comic",), FOUR_PANELS, ("comic", "8")):
        one, other = before.of(profile).forecast, after.of(profile).forecast
        assert one.observed == other.observed
        assert other.age_when(0.5) == pytest.approx(one.age_when(0.5), rel=0.05)


def test_own_observations_are_never_replaced() -> None:
    """Forecasts of an earlier run are taken over by a client that has observed nothing yet."""
    forecasts, later, busy = Forecasts(), Forecasts(), Forecasts()
    for _ in range(10):
        forecasts.observe(FOUR_PANELS, 19.0, 21.0)
    later.take_over(load_forecasts(dump_forecasts(forecasts)))
    assert later.of(FOUR_PANELS).forecast.age_when(0.5) < 40
    assert later.overall is later.of(ANY)
    assert later.overall.forecast.observed == later.observed == 10
    busy.observe(ANY, 200.0, 220.0)
    busy.take_over(load_forecasts(dump_forecasts(forecasts)))
    assert busy.observed == busy.overall.forecast.observed == 1


@pytest.mark.parametrize(
    "change",
    [
        {"evidence": []},
        {"evidence": None},
        {"weights": [0.0]},
        {"weights": [0.0, 0.0, 0.0, float("inf")]},
        {"seen": {"0": 1e9}},
        {"seen": {"9999": 1.0}},
        {"seen": {"0": "much"}},
        {"observed": "many"},
    ],
    ids=str,
)
def test_a_damaged_forecast_is_refused(change: dict[str, object]) -> None:
    """Each part is checked: how many numbers there are, and what they may be."""
    blob: dict[str, Any] = json.loads(dump_forecasts(Forecasts()))
    blob["learned"][""] |= change
    with pytest.raises(DAMAGED):
        load_forecasts(json.dumps(blob))


def test_a_long_text_goes_without_the_profiles_not_used_for_longest() -> None:
    """The most general forecast stays, and the rest fits."""
    forecasts = Forecasts()
    for number in range(100):
        forecasts.observe((f"profile {number}",), 10.0, 400.0)
    text = dump_forecasts(forecasts)
    assert len(text) < saved._LONGEST + 100
    kept = list(json.loads(text)["learned"])
    assert kept == ["", *(f"profile {number}" for number in range(101 - len(kept), 100))]
    assert 10 < len(kept) < 100


# --- in a store -----------------------------------------------------------------------------------


@pytest.mark.virtual_time
async def test_forecasts_are_there_for_the_next_client() -> None:
    """A client that observes nothing writes nothing."""
    blobs = Blobs()
    await save(blobs, 3)
    for _ in range(2):
        assert (await loaded(blobs)).observed == 3
    assert len(blobs.saved_at) == 1
    assert not left_over()


@pytest.mark.virtual_time
async def test_observations_made_meanwhile_are_not_replaced() -> None:
    """Forecasts that come too late are left alone; nor do they give way to fewer observations."""
    blobs = Blobs()
    await save(blobs, 5)
    late = Forecasts()
    store = store_of(blobs, late)
    store.load_once()
    observe(late, 2)
    await settled()
    assert late.observed == 2
    await store.aclose()
    assert len(blobs.saved_at) == 1
    await save(blobs, 9, loads=False)
    assert len(blobs.saved_at) == 2


@pytest.mark.virtual_time
async def test_forecasts_are_written_every_ten_minutes() -> None:
    """Not before `save_at`, only if there is news, and never after closing."""
    blobs, forecasts = Blobs(), Forecasts()
    store = store_of(blobs, forecasts)
    store.load_once()
    for step in range(100):
        await asyncio.sleep(30)
        assert store.save_at > asyncio.get_running_loop().time() - 30 or step >= 50
        if step < 50:
            observe(forecasts, 1)
        store.save_soon()
    await settled()
    assert not left_over()
    await store.aclose()
    store.load_once()
    store.save_soon()
    assert not left_over()
    assert blobs.saved_at == [600, 1200, 1800]


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "17",
        "[]",
        "null",
        "[" * 100_000,
        '{"version":2,"observed":1,"learned":{}}',
        '{"version":1,"observed":1}',
        '{"version":1,"observed":1,"learned":3}',
        '{"version":1,"observed":1e999,"learned":{}}',
        '{"version":1,"observed":1,"learned":{"":3}}',
        '{"version":1,"observed":1,"learned":{"":{"observed":1,"evidence":[1],"seen":{}}}}',
        '{"version":1,"observed":1,"learned":{"":{"observed":1e999,"evidence":[],"seen":[]}}}',
    ],
)
async def test_a_text_that_can_not_be_read_counts_as_none(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One debug message says so, and the next text replaces it."""
    caplog.set_level(logging.DEBUG, "llamagen_async")
    blobs, forecasts = Blobs(text), Forecasts()
    store = store_of(blobs, forecasts)
    store.load_once()
    await settled()
    assert forecasts.observed == 0
    observe(forecasts, 2)
    await store.aclose()
    assert (await loaded(blobs)).observed == 2
    assert [record.levelno for record in caplog.records] in ([logging.DEBUG], [])
    assert len(caplog.records) == (text != '{"version":1,"observed":1e999,"learned":{}}')


@pytest.mark.virtual_time
@pytest.mark.parametrize("what", ["hangs", "away"])
async def test_a_store_that_is_away_holds_nobody_up(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing takes a second at most, nothing is raised, and no task is left."""
    blobs, forecasts = Blobs(), Forecasts()
    setattr(blobs, what, True)
    store = store_of(blobs, forecasts)
    store.load_once()
    await settled()
    observe(forecasts, 1)
    await asyncio.sleep(601)
    store.save_soon()
    await settled()
    began = asyncio.get_running_loop().time()
    await store.aclose()
    assert asyncio.get_running_loop().time() - began <= 1
    assert not left_over()
    assert not [one for one in caplog.records if one.levelno > logging.DEBUG]


@pytest.mark.virtual_time
async def test_closing_may_be_cancelled() -> None:
    """No task is left then either."""
    blobs, forecasts = Blobs(), Forecasts()
    blobs.hangs = True
    store = store_of(blobs, forecasts)
    store.load_once()
    observe(forecasts, 1)
    closing = asyncio.create_task(store.aclose())
    await asyncio.sleep(0.5)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not left_over()


def test_closing_works_in_another_loop() -> None:
    """The first loop is gone, and with it what was waited for."""
    blobs, forecasts = Blobs(), Forecasts()
    blobs.hangs = True
    store = store_of(blobs, forecasts)

    async def begin() -> None:
        store.load_once()
        await settled()

    async def end() -> None:
        blobs.hangs = False
        observe(forecasts, 1)
        await store.aclose()
        assert not left_over()

    run(begin())
    run(end())
    assert len(blobs.saved_at) == 1


# --- by clients -----------------------------------------------------------------------------------


@pytest.mark.virtual_time
async def test_a_second_client_starts_with_what_the_first_one_learned() -> None:
    """Fewer checks are needed for a comic that takes longer than anybody would think."""
    network = Network(minute(200))
    checks: list[int] = []
    for _ in range(2):
        before = len(network.checks)
        async with network.client(base_url="https://learned.invalid") as client:
            await client.comics.create_and_wait(STORY)
        checks.append(len(network.checks) - before)
        assert not left_over()
    assert checks[1] < checks[0], checks


@pytest.mark.virtual_time
@pytest.mark.parametrize("failure", ["hangs", "away"])
async def test_a_store_that_does_not_answer_delays_nothing(
    failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first create is sent at once, and closing takes a second at most."""

    async def fail(*_: object) -> str | None:
        if failure == "hangs":
            await asyncio.Event().wait()
        raise StoreError("no connection")

    monkeypatch.setattr(MemoryLedger, "load_blob", fail)
    monkeypatch.setattr(MemoryLedger, "save_blob", fail)
    loop = asyncio.get_running_loop()
    began = loop.time()
    client = Network().client()
    comic = await client.comics.create(STORY)
    assert loop.time() == began
    await client.comics.wait_for_completion(comic.id)
    waited_until = loop.time()
    await client.aclose()
    assert loop.time() - waited_until <= 1
    assert not left_over()


@pytest.mark.virtual_time
async def test_a_long_run_saves_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ten minutes, not with every comic."""
    saved_at: list[float] = []
    save_blob = MemoryLedger.save_blob

    async def noted(ledger: MemoryLedger, text: str) -> None:
        saved_at.append(asyncio.get_running_loop().time())
        await save_blob(ledger, text)

    monkeypatch.setattr(MemoryLedger, "save_blob", noted)
    async with Network().client() as client:
        for number in range(40):
            await client.comics.create_and_wait(f"{STORY} {number}")
        open_until = asyncio.get_running_loop().time()
    assert len([at for at in saved_at if at < open_until]) >= 3
    assert all(later - at >= 600 for at, later in pairwise(saved_at[:-1]))
    assert not left_over()


@pytest.fixture
async def server() -> AsyncIterator[SandboxServer]:
    """A sandbox whose minutes are fifths of a second."""
    service = SandboxService(durations=Durations.constant(20), plans={API_KEY: ROOMY})
    async with SandboxServer(service, speed=300.0) as running:
        yield running


@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_a_store_keeps_forecasts_and_no_secrets(
    store: str, request: pytest.FixtureRequest, server: SandboxServer, tmp_path: Path
) -> None:
    """The next client begins with them; neither key nor stories are in the text."""
    quota = f"sqlite:///{tmp_path / 'quota.db'}"
    if store == "redis":
        quota = request.getfixturevalue("redis_server").url
    for _ in range(2):
        # A Redis that was started just now may have lost a count: a short lease, a short wait.
        client = LlamaGenClient(
            API_KEY, plan=ROOMY, base_url=server.url, speed=server.speed, quota=quota, timeout=1.0
        )
        async with client:
            await client.comics.create_and_wait(STORY, wait_for_quota=True)
    identity = Identity.of(API_KEY, client._core.settings.base_url, server.speed, quota)
    times = store_times(server.speed, 30.0)
    options: Any = {"name": identity.name, "plan": ROOMY, "times": times}
    ledger: SQLiteLedger | RedisLedger
    if store == "sqlite":
        ledger = SQLiteLedger(tmp_path / "quota.db", speed=server.speed, **options)
    else:
        ledger = RedisLedger(connection_to(quota), **options)
    text = await ledger.load_blob()
    await ledger.aclose()
    assert text is not None
    assert json.loads(text)["observed"] == 2
    for secret in (API_KEY, STORY, server.url, identity.name, "127.0.0.1"):
        assert secret not in text
