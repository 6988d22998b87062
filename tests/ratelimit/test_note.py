"""The note that goes with an account: where it is kept, and how a client uses it.

What all ledgers have in common is in the contract suite.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from llamagen_async import LlamaGenClient, Plan, RateLimit
from llamagen_async.clock import Clock
from llamagen_async.forecasting import saved as note
from llamagen_async.forecasting.saved import ForecastStore
from llamagen_async.ratelimit import Identity, MemoryLedger, StoreError
from llamagen_async.ratelimit.failover import FailoverLedger, OnStoreFailure
from llamagen_async.ratelimit.ledger import LONGEST_NOTE
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.sandbox import Durations, SandboxServer, SandboxService
from llamagen_async.scheduling import Forecasts
from llamagen_async.simulation import run
from tests.support.redis_server import API_KEY, FakeClock, RedisServer, connected, opened, spend
from tests.support.scripted import Network, left_over, minute

FOUR: Final = Plan("four", limits=RateLimit(4, per=60))
ROOMY: Final = Plan("roomy", limits=RateLimit(1_000, per=60))
MONTH: Final = 30 * 24 * 3600
STORY: Final = "a story that nobody else may read"


def in_file(path: Path, name: str = "a", **options: Any) -> SQLiteLedger:
    return SQLiteLedger(path, **{"name": name, "plan": FOUR, "lease": 900.0, **options})


# --- in a file ------------------------------------------------------------------------------------


async def test_a_file_of_before_gets_its_table_with_the_first_note(tmp_path: Path) -> None:
    """Its schema stays 1, so that an older version goes on with it, and its count is untouched."""
    path = tmp_path / "quota.db"
    ledger = in_file(path)
    await ledger.record(3)
    assert await ledger.recall() is None
    with closing(sqlite3.connect(path)) as file:
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        assert file.execute(tables).fetchall() == [("account",)]
        await ledger.remember("learned")
        assert file.execute(tables).fetchall() == [("account",), ("note",)]
        assert file.execute("PRAGMA user_version").fetchone() == (1,)
    await ledger.aclose()
    again = in_file(path)
    assert await again.recall() == "learned"
    assert (await again.snapshot()).windows[0].used == 3
    await again.aclose()


async def test_each_account_in_a_file_has_its_own_note(tmp_path: Path) -> None:
    """Of another key, or at another speed."""
    path = tmp_path / "quota.db"
    ledgers = [in_file(path), in_file(path, "b"), in_file(path, speed=60.0)]
    await ledgers[0].remember("learned")
    assert [await one.recall() for one in ledgers] == ["learned", None, None]
    for one in ledgers:
        await one.aclose()


@pytest.mark.parametrize("value", ["zeroblob(9)", "17", f"printf('%.*c', {LONGEST_NOTE + 1}, 'x')"])
async def test_what_can_not_be_a_note_is_none(tmp_path: Path, value: str) -> None:
    """Something else was written in its place, and the next note replaces it."""
    path = tmp_path / "quota.db"
    ledger = in_file(path)
    await ledger.remember("learned")
    with closing(sqlite3.connect(path)) as file:
        file.execute("DROP TABLE note")
        file.execute("CREATE TABLE note (name, speed, text, PRIMARY KEY (name, speed))")
        file.execute(f"INSERT INTO note VALUES ('a', 1.0, {value})")
        file.commit()
    assert await ledger.recall() is None
    await ledger.remember("again")
    assert await ledger.recall() == "again"
    await ledger.aclose()


async def test_a_file_that_is_locked_costs_a_note_its_time_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so in time; what was read in the meantime, and comes next, works."""
    path = tmp_path / "quota.db"
    ledger = in_file(path, timeout=0.2)
    await ledger.remember("learned")
    with closing(sqlite3.connect(path)) as file:
        file.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StoreError):
            await ledger.remember("again")
        assert time.monotonic() - began < 1.0
        assert await ledger.recall() == "learned"
        file.rollback()
    await ledger.record(1)
    await ledger.aclose()
    assert not caplog.records


async def test_a_note_is_no_reservation_in_the_file(tmp_path: Path) -> None:
    """The account's row is not even touched."""
    path = tmp_path / "quota.db"
    ledger = in_file(path)
    await ledger.remember("learned")
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM account").fetchone() == (0,)
        await ledger.record(1)
        before = file.execute("SELECT * FROM account").fetchall()
        await ledger.remember("again")
        assert file.execute("SELECT * FROM account").fetchall() == before
    await ledger.aclose()


# --- in Redis -------------------------------------------------------------------------------------


async def test_a_note_in_redis_has_a_key_of_its_own_that_expires(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Beside the account's, behind the prefix; each note has its 30 days."""
    url = f"{redis_server.url}?prefix=mine:"
    key = f"mine:llamagen:{account_name}:note"
    async with opened(url, account_name, fake_clock) as ledger, connected(url[:-13]) as client:
        await ledger.remember("learned")
        assert await client.get(key) == b"learned"
        assert MONTH - 60 < await client.ttl(key) <= MONTH
        await client.expire(key, 60)
        await ledger.remember("again")
        assert MONTH - 60 < await client.ttl(key) <= MONTH
        await client.set(key, "x" * (LONGEST_NOTE + 1))
        assert await ledger.recall() is None
        await client.set(key, b"\xff\xfe")
        assert await ledger.recall() == "\ufffd\ufffd"
        await client.delete(key)
        await client.rpush(key, "a list")
        with pytest.raises(StoreError, match="another type"):
            await ledger.recall()
        await spend(ledger, 1)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[int]:
    """A server whose connections have all been closed by their clients in the end."""
    tasks: list[asyncio.Task[None]] = []

    async def connected_(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: Any = asyncio.current_task()
        tasks.append(task)
        try:
            await handle(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(connected_, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)


async def test_redis_that_hangs_or_is_gone_costs_a_note_its_time_and_no_more(
    own_redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Nothing secret is said, and no connection is left."""

    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(hang) as port:
        url = f"redis://:secret-password@127.0.0.1:{port}"
        async with opened(url, account_name, fake_clock, timeout=0.2) as ledger:
            for asking in (ledger.recall(), ledger.remember("x")):
                with pytest.raises(StoreError, match="no answer") as late:
                    await asking
                assert "secret" not in str(late.value)
    async with opened(own_redis_server.url, account_name, fake_clock) as ledger:
        await spend(ledger, 1)
        own_redis_server.kill()
        for asking in (ledger.recall(), ledger.remember("x")):
            with pytest.raises(StoreError, match="no connection"):
                await asking
        own_redis_server.start()
        await ledger.remember("x")
        assert await ledger.recall() == "x"


async def test_a_note_follows_its_key_through_a_cluster(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """To another node than the account's, whose connection stays as it is; but not for ever."""
    moved = [f"-MOVED 7 127.0.0.1:{redis_server.port}\r\n".encode()]

    async def node(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            writer.write(moved[0] if words[0] in {b"GETRANGE", b"SET"} else b"+OK\r\n")

    async with (
        serving(node) as port,
        opened(f"redis://127.0.0.1:{port}", account_name, fake_clock) as ledger,
    ):
        await ledger.remember("learned")
        assert await ledger.recall() == "learned"
        assert repr(ledger).endswith(f":{port})")
        moved[0] = f"-MOVED 7 :{port}\r\n".encode()
        with pytest.raises(StoreError, match="which node"):
            await ledger.recall()


# --- two processes --------------------------------------------------------------------------------

OTHER_PROCESS: Final = """
import asyncio, sys
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.stores import open_store

async def main(quota, name):
    ledger = open_store(quota, name, Plan.DEMO, speed=1.0, lease=900.0)
    seen = await ledger.recall()
    await ledger.remember("from the other process")
    await ledger.aclose()
    print(seen)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_two_processes_share_a_note(
    store: str, request: pytest.FixtureRequest, tmp_path: Path, account_name: str
) -> None:
    """Each reads what the other one has left."""
    ledger: SQLiteLedger | RedisLedger
    if store == "sqlite":
        quota = f"sqlite:///{tmp_path / 'quota.db'}"
        ledger = in_file(tmp_path / "quota.db", account_name)
    else:
        quota = request.getfixturevalue("redis_server").url
        ledger = RedisLedger(quota, name=account_name, plan=FOUR)
    await ledger.remember("from this process")
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OTHER_PROCESS, quota, account_name),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(other.communicate(), 60)
    assert said.decode().strip() == "from this process"
    assert await ledger.recall() == "from the other process"
    await ledger.aclose()


# --- while the store is away ----------------------------------------------------------------------


class Store(MemoryLedger):
    """A store that can be away, or hang."""

    def __init__(self) -> None:
        super().__init__(FOUR, Clock().now, lease=30)
        self.away = False
        self.hangs = False
        self.left: list[float] = []

    async def _go(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise StoreError("no connection")

    async def reserve(self, ticket: str) -> Any:
        await self._go()
        return await super().reserve(ticket)

    async def recall(self) -> str | None:
        await self._go()
        return await super().recall()

    async def remember(self, text: str) -> None:
        await self._go()
        self.left.append(asyncio.get_running_loop().time())
        await super().remember(text)


@pytest.mark.parametrize("on_failure", ["local", "raise"])
def test_without_the_store_there_is_no_note_and_no_error(
    on_failure: OnStoreFailure, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not even said: that the store is away shows when something is counted."""

    async def main() -> None:
        store = Store()
        ledger = FailoverLedger(store, FOUR, Clock(), lease=30, on_failure=on_failure)
        await ledger.remember("learned")
        assert await ledger.recall() == "learned"
        store.away = True
        assert await ledger.recall() is None
        await ledger.remember("lost")
        if on_failure == "local":
            await ledger.reserve("t")
            store.away = False
            assert await ledger.recall() is None, "it is not asked before it is time to"
            await asyncio.sleep(3)
        store.away = False
        assert await ledger.recall() == "learned"

    run(main())
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(warnings) == (on_failure == "local")


async def test_a_ledger_that_is_closed_has_no_note(
    redis_server: RedisServer, account_name: str
) -> None:
    """Nothing is raised through the failover either."""
    ledger = RedisLedger(redis_server.url, name=account_name, plan=FOUR)
    failover = FailoverLedger(ledger, FOUR, Clock(), lease=30)
    await failover.remember("learned")
    await failover.aclose()
    await failover.remember("late")
    assert await failover.recall() is None


# --- the keeper -----------------------------------------------------------------------------------


@attrs.define
class Lessons:
    """Something that is learned."""

    observed: int = 0
    state: dict[str, Any] = attrs.field(factory=dict)

    def dump(self) -> dict[str, Any]:
        return dict(self.state)

    def load(self, state: Mapping[str, Any]) -> None:
        if not self.observed:
            self.state = dict(state)
            self.observed = self.state.get("", 0)

    def learn(self, number: int) -> None:
        self.observed += number
        self.state = {"": self.observed}


def keeper(store: MemoryLedger, lessons: Lessons) -> ForecastStore:
    return ForecastStore(store, lessons, loaded=lambda: None)


async def settled() -> None:
    """Let what goes on in the background come to its end."""
    for _ in range(9):
        await asyncio.sleep(0)


def test_what_was_learned_is_there_for_the_next_one() -> None:
    """And who learns nothing writes nothing."""

    async def main() -> None:
        store, first = Store(), Lessons()
        one = keeper(store, first)
        one.begin()
        first.learn(3)
        await one.aclose()
        for _ in range(2):
            lessons = Lessons()
            two = keeper(store, lessons)
            two.begin()
            await settled()
            assert lessons.observed == 3
            await two.aclose()
        assert len(store.left) == 1
        assert not left_over()

    run(main())


def test_what_was_learned_meanwhile_is_not_replaced() -> None:
    """The note came too late; nor does it give way to one that rests on less."""

    async def main() -> None:
        store = Store()
        await keeper_with(store, 5)
        late = Lessons()
        one = keeper(store, late)
        one.begin()
        late.learn(2)
        await settled()
        assert late.observed == 2
        await one.aclose()
        assert len(store.left) == 1
        await keeper_with(store, 9, at_once=True)
        assert len(store.left) == 2

    run(main())


async def keeper_with(store: Store, number: int, *, at_once: bool = False) -> None:
    """Leave what rests on so much."""
    lessons = Lessons()
    one = keeper(store, lessons)
    if not at_once:
        one.begin()
    lessons.learn(number)
    await one.aclose()


def test_it_is_written_now_and_then() -> None:
    """After ten minutes at the earliest, and only if there is news."""

    async def main() -> list[float]:
        store, lessons = Store(), Lessons()
        one = keeper(store, lessons)
        one.begin()
        for step in range(100):
            await asyncio.sleep(30)
            if step < 50:
                lessons.learn(1)
            one.save_now_and_then()
        await settled()
        assert not left_over()
        await one.aclose()
        one.begin()
        one.save_now_and_then()
        assert not left_over()
        return store.left

    assert run(main()) == [600, 1200, 1800]


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
def test_a_note_that_can_not_be_read_is_as_good_as_none(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, to who wants to know, and the next note replaces it."""
    caplog.set_level(logging.DEBUG, "llamagen_async")

    async def main() -> None:
        store, forecasts = Store(), Forecasts()
        await store.remember(text)
        one = ForecastStore(store, forecasts, loaded=lambda: None)
        one.begin()
        await settled()
        assert forecasts.observed == 0
        for _ in range(2):
            forecasts.observe(("comic", "4"), 50, 60)
        await one.aclose()
        again = Forecasts()
        two = ForecastStore(store, again, loaded=lambda: None)
        two.begin()
        await settled()
        assert again.observed == 2
        await two.aclose()

    run(main())
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG


def test_a_forecast_comes_back_as_it_was() -> None:
    """For every kind."""

    async def main() -> None:
        store, before, after = Store(), Forecasts(), Forecasts()
        for _ in range(9):
            before.observe(("comic", "4"), 50, 60)
            before.observe(("comic", "8"), 200, 210)
        for forecasts in (before, after):
            one = ForecastStore(store, forecasts, loaded=lambda: None)
            one.begin()
            await settled()
            await one.aclose()
        for kind in ((), ("comic",), ("comic", "4"), ("comic", "8")):
            one_, other = before.of(kind).forecast, after.of(kind).forecast
            assert other.quantile(0.5) == pytest.approx(one_.quantile(0.5), rel=0.05)

    run(main())


def test_a_long_note_goes_without_what_was_not_used_for_longest() -> None:
    """The most general entry stays, and the rest fits."""

    async def main() -> None:
        store, lessons = Store(), Lessons()
        one = keeper(store, lessons)
        lessons.learn(4)
        lessons.state |= {f"kind {n}": "x" * 1_000 for n in range(100)}
        await one.aclose()
        text = await store.recall()
        assert text is not None
        assert len(text) < note._LONGEST + 100
        kept = list(json.loads(text)["learned"])
        assert kept[0] == ""
        assert kept[1:] == [f"kind {n}" for n in range(101 - len(kept), 100)]
        assert len(kept) > 25

    run(main())


@pytest.mark.parametrize("what", ["hangs", "away"])
def test_a_store_that_is_away_holds_nobody_up(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Closing takes a second at most, nothing is raised, and no task is left."""

    async def main() -> None:
        store, lessons = Store(), Lessons()
        setattr(store, what, True)
        one = keeper(store, lessons)
        one.begin()
        await settled()
        lessons.learn(1)
        await asyncio.sleep(601)
        one.save_now_and_then()
        await settled()
        began = asyncio.get_running_loop().time()
        await one.aclose()
        assert asyncio.get_running_loop().time() - began <= 1
        assert not left_over()

    run(main())
    assert not [one for one in caplog.records if one.levelno > logging.DEBUG]


def test_closing_may_be_cancelled() -> None:
    """No task is left then either."""

    async def main() -> None:
        store, lessons = Store(), Lessons()
        store.hangs = True
        one = keeper(store, lessons)
        one.begin()
        lessons.learn(1)
        closing_ = asyncio.create_task(one.aclose())
        await asyncio.sleep(0.5)
        closing_.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing_
        assert not left_over()

    run(main())


def test_it_may_be_closed_in_another_loop() -> None:
    """The first one is gone, and with it what it was waiting for."""
    lessons = Lessons()

    async def begin() -> tuple[Store, ForecastStore]:
        store = Store()
        store.hangs = True
        one = keeper(store, lessons)
        one.begin()
        await settled()
        return store, one

    store, one = run(begin())

    async def end() -> None:
        store.hangs = False
        lessons.learn(1)
        await one.aclose()
        assert not left_over()

    run(end())
    assert len(store.left) == 1


# --- clients --------------------------------------------------------------------------------------


def test_a_second_client_starts_with_what_the_first_one_learned() -> None:
    """It needs fewer looks at a comic that takes longer than anybody would think."""
    network = Network(minute(200))
    looks: list[int] = []

    async def main() -> None:
        for _ in range(2):
            before = len(network.checks)
            async with network.client(base_url="https://learned.invalid") as client:
                await client.comics.create_and_wait(STORY)
            looks.append(len(network.checks) - before)
            assert not left_over()

    run(main())
    assert looks[1] < looks[0], looks


@pytest.mark.parametrize("trouble", ["hangs", "away"])
def test_a_note_that_does_not_come_delays_nothing(
    trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first comic takes its minute, and closing a second."""

    async def fail(*_: object) -> str | None:
        if trouble == "hangs":
            await asyncio.Event().wait()
        raise StoreError("no connection")

    monkeypatch.setattr(MemoryLedger, "recall", fail)
    monkeypatch.setattr(MemoryLedger, "remember", fail)
    network = Network()

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        client = network.client()
        comic = await client.comics.create(STORY)
        created = loop.time()
        await client.comics.wait_for_completion(comic.id)
        began = loop.time()
        await client.aclose()
        assert not left_over()
        return created, loop.time() - began

    created, closing_took = run(main())
    assert created == 0
    assert closing_took <= 1


def test_a_long_run_keeps_what_it_learns_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ten minutes, not with every comic."""
    left: list[float] = []
    remember = MemoryLedger.remember

    async def noted(ledger: MemoryLedger, text: str) -> None:
        left.append(asyncio.get_running_loop().time())
        await remember(ledger, text)

    monkeypatch.setattr(MemoryLedger, "remember", noted)
    network = Network()

    async def main() -> None:
        async with network.client() as client:
            for number in range(40):
                await client.comics.create_and_wait(f"{STORY} {number}")
            open_until = asyncio.get_running_loop().time()
        assert len([at for at in left if at < open_until]) >= 3
        assert all(later - at >= 600 for at, later in pairwise(left[:-1]))
        assert not left_over()

    run(main())


@pytest.fixture
async def server() -> AsyncIterator[SandboxServer]:
    """A sandbox whose minutes are fifths of a second."""
    service = SandboxService(durations=Durations.constant(20), plans={API_KEY: ROOMY})
    async with SandboxServer(service, speed=300.0) as running:
        yield running


@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_a_store_keeps_what_was_learned_and_no_secrets(
    store: str, request: pytest.FixtureRequest, server: SandboxServer, tmp_path: Path
) -> None:
    """The next client begins with it: neither key nor stories are in the note."""
    quota = f"sqlite:///{tmp_path / 'quota.db'}"
    if store == "redis":
        quota = request.getfixturevalue("redis_server").url
    for number in range(2):
        client = LlamaGenClient(
            API_KEY, plan=ROOMY, base_url=server.url, speed=server.speed, quota=quota
        )
        async with client:
            await client.comics.create_and_wait(STORY)
            operations = client._operations
            assert operations is not None
            assert operations.poller.forecasts.observed == number + 1
    identity = Identity.of(API_KEY, client._base_url, server.speed, quota)
    ledger: SQLiteLedger | RedisLedger
    if store == "sqlite":
        ledger = in_file(tmp_path / "quota.db", identity.name, speed=server.speed)
    else:
        ledger = RedisLedger(quota, name=identity.name, plan=FOUR)
    text = await ledger.recall()
    await ledger.aclose()
    assert text is not None
    assert json.loads(text)["observed"] == 2
    for secret in (API_KEY, STORY, server.url, identity.name, "127.0.0.1"):
        assert secret not in text
