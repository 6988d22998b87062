"""The blob that goes with an account, in each store; the contract of all is in test_ledger.py."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import pytest

from llamagen_async import Plan, RateLimit
from llamagen_async.clock import Clock
from llamagen_async.ratelimit import Claim, NoSlot
from llamagen_async.ratelimit.failover import FailoverLedger, OnStoreFailure
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import MAX_BLOB, Grant
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.ratelimit.sqlite.store import SQLiteStore
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.stored_values import StoreError
from tests.support.claims import claim
from tests.support.redis_server import (
    FakeClock,
    RedisServer,
    connected,
    connection_to,
    opened,
    spend,
)

FOUR: Final = Plan("four", limits=RateLimit(4, per=60))
LONG: Final = LedgerTimes(lease=900.0)
MONTH: Final = 30 * 24 * 3600


def in_file(path: Path | SQLiteStore, name: str = "a", **options: Any) -> SQLiteLedger:
    return SQLiteLedger(path, **{"name": name, "plan": FOUR, "times": LONG, **options})


async def test_an_older_file_gets_the_table_of_blobs_when_it_is_opened(tmp_path: Path) -> None:
    """The count is untouched."""
    path = tmp_path / "quota.db"
    ledger = in_file(path)
    await ledger.record(3)
    await ledger.aclose()
    with closing(sqlite3.connect(path)) as file:
        file.execute("DROP TABLE note")
        file.commit()
    ledger = in_file(path)
    assert await ledger.load_blob() is None
    await ledger.save_blob("learned")
    await ledger.aclose()
    again = in_file(path)
    assert await again.load_blob() == "learned"
    assert (await again.snapshot()).windows[0].used == 3
    await again.aclose()


async def test_each_account_in_a_file_has_its_own_blob(tmp_path: Path) -> None:
    """Another key or another speed is another account."""
    path = tmp_path / "quota.db"
    ledgers = [in_file(path), in_file(path, "b"), in_file(path, speed=60.0)]
    await ledgers[0].save_blob("learned")
    assert [await one.load_blob() for one in ledgers] == ["learned", None, None]
    for one in ledgers:
        await one.aclose()


@pytest.mark.parametrize("value", ["zeroblob(9)", "17", f"printf('%.*c', {MAX_BLOB + 1}, 'x')"])
async def test_what_can_not_be_a_blob_is_replaced(tmp_path: Path, value: str) -> None:
    """Bytes, numbers and endless texts count as no blob, and the next one replaces them."""
    path = tmp_path / "quota.db"
    ledger = in_file(path)
    await ledger.save_blob("learned")
    with closing(sqlite3.connect(path)) as file:
        file.execute("DROP TABLE note")
        file.execute("CREATE TABLE note (name, speed, text, PRIMARY KEY (name, speed))")
        file.execute(f"INSERT INTO note VALUES ('a', 1.0, {value})")
        file.commit()
    assert await ledger.load_blob() is None
    await ledger.save_blob("again")
    assert await ledger.load_blob() == "again"
    await ledger.aclose()


async def test_a_locked_file_fails_a_write_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Writing fails in the time it is given; reading meanwhile, and what comes next, works."""
    path = tmp_path / "quota.db"
    ledger = in_file(SQLiteStore(path, timeout=1.0))
    await ledger.save_blob("learned")
    with closing(sqlite3.connect(path)) as file:
        file.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError):
            await ledger.save_blob("again")
        assert await ledger.load_blob() == "learned"
        file.rollback()
    await ledger.record(1)
    await ledger.aclose()
    assert not caplog.records


async def test_writing_a_blob_leaves_the_count_alone(tmp_path: Path) -> None:
    """The account's row is not even touched."""
    path = tmp_path / "quota.db"
    ledger = in_file(path)
    await ledger.save_blob("learned")
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM account").fetchone() == (0,)
        await ledger.record(1)
        before = file.execute("SELECT * FROM account").fetchall()
        await ledger.save_blob("again")
        assert file.execute("SELECT * FROM account").fetchall() == before
    await ledger.aclose()


# --- in Redis -------------------------------------------------------------------------------------


async def test_a_blob_in_redis_has_a_key_of_its_own_that_expires(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """The key stands beside the account's, behind the prefix; each write gives it 30 days."""
    url = f"{redis_server.url}?prefix=mine:"
    key = f"mine:llamagen:{account_name}:note"
    async with opened(url, account_name, fake_clock) as ledger, connected(url[:-13]) as client:
        await ledger.save_blob("learned")
        assert await client.get(key) == b"learned"
        assert MONTH - 60 < await client.ttl(key) <= MONTH
        await client.expire(key, 60)
        await ledger.save_blob("again")
        assert MONTH - 60 < await client.ttl(key) <= MONTH
        await client.set(key, "x" * (MAX_BLOB + 1))
        assert await ledger.load_blob() is None
        await client.set(key, b"\xff\xfe")
        assert await ledger.load_blob() == "\ufffd\ufffd"
        await client.delete(key)
        await client.rpush(key, "a list")
        with pytest.raises(StoreError, match="another type"):
            await ledger.load_blob()
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


async def test_redis_that_hangs_or_is_gone_fails_a_blob_and_nothing_else(
    own_redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """The error names no secret, and no connection is left."""

    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(hang) as port:
        url = f"redis://:secret-password@127.0.0.1:{port}"
        async with opened(url, account_name, fake_clock, timeout=0.2) as ledger:
            for asking in (ledger.load_blob(), ledger.save_blob("x")):
                with pytest.raises(StoreError, match="no answer") as late:
                    await asking
                assert "secret" not in str(late.value)
    async with opened(own_redis_server.url, account_name, fake_clock) as ledger:
        await spend(ledger, 1)
        own_redis_server.kill()
        for asking in (ledger.load_blob(), ledger.save_blob("x")):
            with pytest.raises(StoreError, match="no connection"):
                await asking
        own_redis_server.start()
        await ledger.save_blob("x")
        assert await ledger.load_blob() == "x"


async def test_a_blob_follows_its_key_through_a_cluster(
    redis_cluster: tuple[RedisServer, RedisServer], account_name: str, fake_clock: FakeClock
) -> None:
    """The node may be another than the account's."""
    for number, node in enumerate(redis_cluster):
        async with opened(node.url, account_name, fake_clock) as ledger:
            await ledger.save_blob(f"learned {number}")
            assert await ledger.load_blob() == f"learned {number}"
            assert repr(ledger).endswith(f":{node.port})")
    async with opened(redis_cluster[0].url, account_name, fake_clock) as ledger:
        assert await ledger.load_blob() == "learned 1"


OTHER_PROCESS: Final = """
import asyncio, sys
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.ratelimit.stores import open_store

async def main(quota, name):
    ledger = open_store(quota, name, Plan.DEMO, 1.0, LedgerTimes(lease=900.0))
    seen = await ledger.load_blob()
    await ledger.save_blob("from the other process")
    await ledger.aclose()
    print(seen)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_two_processes_share_a_blob(
    store: str, request: pytest.FixtureRequest, tmp_path: Path, account_name: str
) -> None:
    """Each reads what the other one has left."""
    ledger: SQLiteLedger | RedisLedger
    if store == "sqlite":
        quota = f"sqlite:///{tmp_path / 'quota.db'}"
        ledger = in_file(tmp_path / "quota.db", account_name)
    else:
        quota = request.getfixturevalue("redis_server").url
        ledger = RedisLedger(connection_to(quota), name=account_name, plan=FOUR, times=LONG)
    await ledger.save_blob("from this process")
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OTHER_PROCESS, quota, account_name),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(other.communicate(), 60)
    assert said.decode().strip() == "from this process"
    assert await ledger.load_blob() == "from the other process"
    await ledger.aclose()


class Store(MemoryLedger):
    """A store that can be away, or hang."""

    def __init__(self) -> None:
        super().__init__(FOUR, Clock().now, LONG)
        self.away = False
        self.hangs = False
        self.left: list[float] = []

    async def _go(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise StoreError("no connection")

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        await self._go()
        return await super().reserve(claim)

    async def load_blob(self) -> str | None:
        await self._go()
        return await super().load_blob()

    async def save_blob(self, text: str) -> None:
        await self._go()
        self.left.append(asyncio.get_running_loop().time())
        await super().save_blob(text)


@pytest.mark.parametrize("on_failure", ["local", "raise"])
@pytest.mark.virtual_time
async def test_without_the_store_there_is_no_blob_and_no_error(
    on_failure: OnStoreFailure, caplog: pytest.LogCaptureFixture
) -> None:
    """No warning either: that the store is away is said when something is counted."""

    store = Store()
    ledger = FailoverLedger(store, FOUR, Clock(), LONG, on_failure=on_failure)
    await ledger.save_blob("learned")
    assert await ledger.load_blob() == "learned"
    await ledger.reserve(claim("before"))
    store.away = True
    assert await ledger.load_blob() is None
    await ledger.save_blob("lost")
    if on_failure == "local":
        await ledger.reserve(claim("t"))
        store.away = False
        assert await ledger.load_blob() is None, "it is not asked before it is time to"
        await asyncio.sleep(3)
    store.away = False
    assert await ledger.load_blob() == "learned"
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(warnings) == (on_failure == "local")


async def test_a_closed_ledger_has_no_blob(redis_server: RedisServer, account_name: str) -> None:
    """Nothing is raised through the failover either."""
    ledger = RedisLedger(connection_to(redis_server.url), name=account_name, plan=FOUR, times=LONG)
    failover = FailoverLedger(ledger, FOUR, Clock(), LONG)
    await failover.save_blob("learned")
    await failover.aclose()
    await failover.save_blob("late")
    assert await failover.load_blob() is None
