"""A Redis server that is away, broken or silent: an error in time, and no slot is lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from redis.asyncio import Connection

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.protocol import Outcome
from llamagen_async.stored_values import StoreError
from tests.support.claims import IDLE_WORKLOAD
from tests.support.redis_server import (
    FakeClock,
    RedisServer,
    claim_of,
    connected,
    granted,
    opened,
    settled,
    spend,
)

REFUSED = Outcome(refused=True, retry_after=5.0)


async def test_a_server_that_is_away_is_a_store_error(
    account_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error comes at once and names the server; a release is silent."""
    caplog.set_level(logging.DEBUG, "llamagen_async")
    async with opened("redis://127.0.0.1:1/0", account_name, None, timeout=60) as ledger:
        for _ in range(2):
            with pytest.raises(StoreError, match=r"no connection to Redis at 127\.0\.0\.1:1"):
                await ledger.reserve(claim_of())
        ledger.release("claim", "client", leaves=True)
    assert "no connection" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


async def test_a_server_that_never_answers_is_a_store_error(account_name: str) -> None:
    """The operations behind the first one fail at the same time."""
    connections: list[asyncio.StreamWriter] = []

    def connect(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with opened(f"redis://127.0.0.1:{port}", account_name, None, timeout=0.02) as ledger:
        first = asyncio.ensure_future(ledger.reserve(claim_of()))
        await asyncio.sleep(0.005)
        answers = await asyncio.gather(first, ledger.snapshot(), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreError, StoreError]
        assert "within 0.02 s" in str(answers[0])
    for writer in connections:
        writer.close()
    server.close()


@pytest.mark.parametrize(
    "damage", [b"", b"damage", b"\xc1\xc1", b"\x93\x01\x02\x03", b"\x81\xa6format\x02", b"\xca"]
)
async def test_a_damaged_value_is_a_store_error(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock, damage: bytes
) -> None:
    """The value stays as it is; once it is deleted, the count goes on."""
    async with (
        opened(redis_server.url, account_name, fake_clock) as ledger,
        connected(redis_server.url) as client,
    ):
        await client.set(f"llamagen:{account_name}", damage)
        with pytest.raises(StoreError, match="damaged or of another version"):
            await ledger.reserve(claim_of())
        assert await client.get(f"llamagen:{account_name}") == damage
        await client.delete(f"llamagen:{account_name}")
        await granted(ledger)


async def test_a_key_of_another_type_is_a_store_error(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """A list of another program is not touched."""
    async with (
        opened(redis_server.url, account_name, fake_clock) as ledger,
        connected(redis_server.url) as client,
    ):
        await client.rpush(f"llamagen:{account_name}", "theirs")
        with pytest.raises(StoreError, match="a value of another type"):
            await ledger.reserve(claim_of())
        assert await client.lrange(f"llamagen:{account_name}", 0, -1) == [b"theirs"]


async def test_flushed_scripts_are_loaded_again(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """No operation fails."""
    async with (
        opened(redis_server.url, account_name, fake_clock) as ledger,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 1)
        await client.script_flush()
        await spend(ledger, 1)
        assert (await ledger.snapshot()).windows[0].used == 2


async def test_a_connection_that_was_closed_is_made_again(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Servers close idle connections."""
    async with (
        opened(redis_server.url, account_name, fake_clock) as ledger,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 1)
        await client.client_kill_filter(_type="normal", skipme=True)
        await granted(ledger)
        assert (await ledger.snapshot()).in_flight == 1


class Proxy:
    """A proxy before a server that can swallow its answers."""

    def __init__(self, port: int) -> None:
        self.swallows = 0
        """Number of the next answers that are swallowed; with each the connection breaks."""
        self.passes = asyncio.Event()
        """Whether answers pass; if not they wait."""
        self.passes.set()
        self._port = port
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*self._tasks)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)

        async def answer() -> None:
            while data := await from_server.read(65536):
                await self.passes.wait()
                if self.swallows:
                    self.swallows -= 1
                    break
                writer.write(data)
            writer.close()

        answers = asyncio.create_task(answer())
        while data := await reader.read(65536):
            to_server.write(data)
        to_server.close()
        await answers


async def test_an_operation_whose_answer_was_lost_is_done_once(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Asked again, one slot is held, one is spent, and one lesson is learned."""
    proxy = Proxy(redis_server.port)
    async with proxy as url, opened(url, account_name, fake_clock) as ledger:
        await ledger.snapshot()
        proxy.swallows = 1
        grant = await granted(ledger)
        assert proxy.swallows == 0
        assert (await ledger.snapshot()).in_flight == 1
        proxy.swallows = 1
        await ledger.commit(grant, REFUSED, IDLE_WORKLOAD)
        assert proxy.swallows == 0
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 1)
        assert (seen.paused_for, seen.burst) == (5.0, 2)


async def test_a_reserve_without_any_answer_keeps_no_slot(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """A release follows it; the server has heard both."""
    proxy = Proxy(redis_server.port)
    async with proxy as url, opened(url, account_name, fake_clock) as ledger:
        await ledger.snapshot()
        proxy.swallows = 2
        with pytest.raises(StoreError):
            await ledger.reserve(claim_of())
        proxy.swallows = 0
        await settled(ledger)
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.waiting) == (0, {})


async def test_a_late_answer_is_not_taken_for_the_next_one(
    redis_server: RedisServer,
    account_name: str,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next question gets its own answer."""
    proxy = Proxy(redis_server.port)
    loop = asyncio.get_running_loop()
    now = loop.time

    async def late(*_: object, **__: object) -> None:
        monkeypatch.setattr(loop, "time", lambda: now() + 30.0)
        await asyncio.Event().wait()

    async with proxy as url, opened(url, account_name, fake_clock, timeout=20.0) as ledger:
        await ledger.snapshot()
        proxy.passes.clear()
        # redis-py must not notice either that nobody waits for the answer any more.
        monkeypatch.setattr(Connection, "read_response", late)
        with pytest.raises(StoreError, match="no answer"):
            await ledger.snapshot()
        monkeypatch.undo()
        next_one = asyncio.create_task(granted(ledger))
        for _ in range(100):
            await asyncio.sleep(0)
        proxy.passes.set()
        await next_one


async def test_a_long_answer_is_read(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """As for a thousand slots in flight."""
    wide = Plan("wide", limits=(RateLimit(5000, per=60.0),))
    async with opened(redis_server.url, account_name, fake_clock, plan=wide) as ledger:
        await ledger.record(4000)
        assert len((await granted(ledger)).state.returning) == 4001


@pytest.mark.parametrize("seconds", [86_401.0, 1e308, float("inf")])
async def test_a_pause_of_more_than_a_day_is_not_believed(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock, seconds: float
) -> None:
    """An answer that names one counts as one that names no time; a pause of a client is cut."""
    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        refused = Outcome(refused=True, retry_after=seconds)
        state = await ledger.commit(await granted(ledger), refused, IDLE_WORKLOAD)
        assert state.paused_for == Plan.DEMO.rate.interval
        await ledger.record(0, pause=seconds)
        assert (await ledger.snapshot()).paused_for == 86_400.0


async def test_the_ledger_follows_its_key_through_a_cluster(
    redis_cluster: tuple[RedisServer, RedisServer], account_name: str, fake_clock: FakeClock
) -> None:
    """A node that does not have the key names the one that has."""
    for node in redis_cluster:
        async with opened(node.url, account_name, fake_clock) as ledger:
            await ledger.save_blob("learned")
            await spend(ledger, 1)
            assert await ledger.load_blob() == "learned"
    async with opened(redis_cluster[0].url, account_name, fake_clock) as ledger:
        assert (await ledger.snapshot()).windows[0].used == 2


async def test_a_cluster_that_is_none_is_a_store_error(
    account_name: str, fake_clock: FakeClock
) -> None:
    """A server that names another node, but does not say which there are."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            moved = f"-MOVED 7 127.0.0.1:{port}\r\n".encode()
            writer.write(moved if words[0] == b"EVALSHA" else b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with opened(f"redis://127.0.0.1:{port}", account_name, fake_clock) as ledger:
        for _ in range(2):
            with pytest.raises(StoreError):
                await ledger.snapshot()
    server.close()


async def test_a_server_that_became_a_replica_is_left(
    own_redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """After a failover the server only reads: the next call, and each later one, connects anew."""
    async with (
        opened(own_redis_server.url, account_name, fake_clock) as ledger,
        connected(own_redis_server.url) as client,
    ):
        grant = await granted(ledger)
        before = {one["id"] for one in await client.client_list()}
        await client.replicaof("127.0.0.1", "1")
        for _ in range(3):
            with pytest.raises(StoreError, match="not the server that has the key"):
                await ledger.commit(grant, REFUSED, IDLE_WORKLOAD)
            now = {one["id"] for one in await client.client_list()}
            assert now - before
            before |= now
        await client.replicaof("NO", "ONE")
        assert (await ledger.commit(grant, REFUSED, IDLE_WORKLOAD)).paused_for == 5.0
