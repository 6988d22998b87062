"""A Redis server that is away, broken or silent: an error in time, and no slot is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.protocol import UNMETERED, Outcome, StoreError
from tests.support.grants import grants_in
from tests.support.redis_server import (
    PER_DAY,
    FakeClock,
    RedisServer,
    connected,
    granted,
    opened,
    spend,
)


async def test_a_server_that_is_away_is_a_store_error(account_name: str) -> None:
    """The error comes at once and names the server; also the next time."""
    async with opened("redis://127.0.0.1:1/0", account_name, None, timeout=60) as ledger:
        for _ in range(2):
            with pytest.raises(StoreError, match=r"no connection to Redis at 127\.0\.0\.1:1"):
                await ledger.reserve("waiter_id")


async def test_a_server_that_never_answers_is_a_store_error(account_name: str) -> None:
    """The operations behind the first one fail at the same time."""
    connections: list[asyncio.StreamWriter] = []

    def connect(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with opened(f"redis://127.0.0.1:{port}", account_name, None, timeout=0.02) as ledger:
        first = asyncio.ensure_future(ledger.reserve("waiter_id"))
        await asyncio.sleep(0.005)
        answers = await asyncio.gather(first, ledger.snapshot(), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreError, StoreError]
        assert "within 0.02 s" in str(answers[0])
    for writer in connections:
        writer.close()
    server.close()


@pytest.mark.parametrize(
    "damage", [b"", b"damage", b"\xc1\xc1", b"\x93\x01\x02\x03", b"\x81\xa6format\x01", b"\xca"]
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
            await ledger.reserve("waiter_id")
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
            await ledger.reserve("waiter_id")
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
    """Servers close idle connections. A reserve that is sent again holds one slot."""
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


async def test_an_operation_whose_answer_was_lost_counts_once(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """A commit that was done is not done again; a reserve is undone."""
    proxy = Proxy(redis_server.port)
    async with proxy as url, opened(url, account_name, fake_clock) as ledger:
        grant = await granted(ledger)
        proxy.swallows = 9
        with pytest.raises(StoreError):
            await ledger.commit(grant, Outcome(refused=True, retry_after=5.0))
        proxy.swallows = 0
        fake_clock.advance(1.0)
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 1)
        assert (seen.paused_for, seen.burst) == (4.0, 2)
        fake_clock.advance(40.0)
        proxy.swallows = 9
        with pytest.raises(StoreError):
            await ledger.reserve("lost")
        proxy.swallows = 0
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 1)


async def test_a_reserve_that_is_sent_again_holds_one_slot(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """The first one was done, its answer was lost, and the next connection works."""
    proxy = Proxy(redis_server.port)
    async with proxy as url, opened(url, account_name, fake_clock) as ledger:
        await ledger.snapshot()
        proxy.swallows = 1
        await granted(ledger)
        assert proxy.swallows == 0
        assert (await ledger.snapshot()).in_flight == 1


async def test_a_reserve_many_that_is_sent_again_holds_each_slot_once(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Without any answer no slot is kept."""
    proxy = Proxy(redis_server.port)
    plan = Plan("wide", limits=(RateLimit(40, per=60),))
    async with proxy as url, opened(url, account_name, fake_clock, plan=plan) as ledger:
        await ledger.snapshot()
        proxy.swallows = 1
        many = grants_in(await ledger.reserve_many("waiter_id", 12))
        assert (await ledger.snapshot()).in_flight == len(many) == 12
        proxy.swallows = 9
        with pytest.raises(StoreError):
            await ledger.reserve_many("lost", 12)
        proxy.swallows = 0
        assert (await ledger.snapshot()).in_flight == 12
        ledger.return_unused(many[5:])
        assert (await ledger.snapshot()).in_flight == 5


async def test_a_commit_that_failed_comes_with_the_next_operation(
    own_redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """The slot was spent, whether the store was there or not."""
    async with opened(own_redis_server.url, account_name, fake_clock, plan=PER_DAY) as ledger:
        grants = [await granted(ledger) for _ in range(3)]
        own_redis_server.kill()
        for report in (ledger.commit(grants[0], Outcome()), ledger.give_back(grants[1])):
            with pytest.raises(StoreError):
                await report
        own_redis_server.start()
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (1, 2)


async def test_the_ledger_follows_its_key_through_a_cluster(
    redis_cluster: tuple[RedisServer, RedisServer], account_name: str, fake_clock: FakeClock
) -> None:
    """A node that does not have the key names the one that has."""
    for node in redis_cluster:
        async with opened(node.url, account_name, fake_clock) as ledger:
            await ledger.commit(UNMETERED, Outcome(refused=True, retry_after=1.0))
            assert (await ledger.snapshot()).paused_for == 1.0
            fake_clock.advance(1.0)
            await spend(ledger, 1)
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
    """After a failover the server only reads: each operation tries a new connection."""
    async with (
        opened(own_redis_server.url, account_name, fake_clock) as ledger,
        connected(own_redis_server.url) as client,
    ):
        await ledger.snapshot()
        await client.replicaof("127.0.0.1", "1")
        before = (await client.info("stats"))["total_connections_received"]
        with pytest.raises(StoreError, match="not the server that has the key"):
            await ledger.commit(UNMETERED, Outcome(refused=True, retry_after=5.0))
        assert (await client.info("stats"))["total_connections_received"] > before
        await client.replicaof("NO", "ONE")
        assert (await ledger.snapshot()).paused_for == 5.0
