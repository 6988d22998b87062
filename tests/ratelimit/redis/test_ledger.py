"""The count on a Redis server: its key, its connection, and what is never written there.

The count itself has tests of its own. Times are injected unless a test says otherwise.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
import redis.asyncio

from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import DAY, MINUTE, Plan, RateLimit
from llamagen_async.ratelimit.protocol import ANSWERED
from llamagen_async.stored_values import StoreError
from tests.support.claims import IDLE_WORKLOAD
from tests.support.redis_server import (
    API_KEY,
    LEASE,
    PER_DAY,
    FakeClock,
    RedisServer,
    claim_of,
    connected,
    connection_to,
    granted,
    no_slot,
    opened,
    settled,
    spend,
)

PASSWORD = "pa/ss@wörd:#?"


async def test_two_clients_share_one_count(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """One waits for slots that the other one has spent."""
    async with (
        opened(redis_server.url, account_name, fake_clock) as one,
        opened(redis_server.url, account_name, fake_clock) as other,
    ):
        await spend(one, 3, "one")
        state = (await granted(other, client="other")).state
        assert [peer.client for peer in state.peers] == ["one"]
        answer = await no_slot(one, client="one")
        assert (answer.delay, answer.limit) == (60.0, Plan.DEMO.limits[0])
        assert (await other.snapshot()).clients == 2


async def test_the_key_begins_with_the_prefix(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """The URL says it, and the same account with another prefix is another one."""
    prefix = f"a b{{{uuid.uuid4().hex}}}:"
    url = f"{redis_server.url}?prefix={prefix.replace(' ', '%20')}"
    async with (
        opened(url, account_name, fake_clock) as ledger,
        opened(redis_server.url, account_name, fake_clock) as other,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 4)
        assert await client.exists(f"{prefix}llamagen:{account_name}")
        await granted(other)


async def test_a_key_expires_by_itself(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """After the longest window, the lease and a pause, in real time; and not before."""
    async with (
        opened(redis_server.url, account_name, fake_clock, speed=60.0) as ledger,
        connected(redis_server.url) as client,
    ):
        await granted(ledger)
        kept = await client.pttl(f"llamagen:{account_name}") / 1000
        assert (DAY + LEASE) / 60 < kept < (DAY + LEASE) / 60 + 100
        await ledger.record(0, pause=DAY)
        kept = await client.pttl(f"llamagen:{account_name}") / 1000
        assert kept > (2 * DAY + LEASE) / 60


async def test_a_client_of_shorter_windows_keeps_what_others_need(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """A worker may keep to less than its key is allowed: the day is counted and kept all the same.

    No more is kept for the day than fills the largest window that anybody has.
    """
    at = redis_server.url, account_name, fake_clock
    slow = Plan("slow", limits=RateLimit(1, per=MINUTE))
    async with (
        opened(*at) as demo,
        opened(*at, plan=slow) as other,
        connected(redis_server.url) as client,
    ):
        await spend(demo, 4)
        fake_clock.advance(90)
        await spend(other, 1)
        await other.record(2)
        assert await client.pttl(f"llamagen:{account_name}") / 1000 > DAY
        assert (await demo.snapshot()).windows[1].used == 7
        size = 0
        for _ in range(30):
            fake_clock.advance(90)
            await spend(other, 1)
            last, size = size, await client.strlen(f"llamagen:{account_name}")
        assert size == last
        assert (await demo.snapshot()).windows[1].free == 0


async def test_secrets_are_nowhere(
    tmp_path: Path, account_name: str, fake_clock: FakeClock
) -> None:
    """Neither in a key, nor in a value, nor in what is printed."""
    server = RedisServer(tmp_path, password=PASSWORD)
    try:
        async with (
            opened(server.url, account_name, fake_clock) as ledger,
            connected(server.url) as client,
        ):
            await granted(ledger)
            seen = [repr(ledger), str(vars(ledger)), str(await ledger.snapshot())]
            for key in await client.keys("*"):
                seen += [repr(key), repr(await client.get(key))]
            await client.set(f"llamagen:{account_name}", "damage")
            with pytest.raises(StoreError) as damaged:
                await ledger.snapshot()
            server.kill()
            with pytest.raises(StoreError) as away:
                await ledger.snapshot()
            seen += [str(damaged.value), repr(damaged.value), str(away.value), repr(away.value)]
        assert f"127.0.0.1:{server.port}" in seen[0]
        for text in seen:
            assert API_KEY not in text
            assert PASSWORD not in text
    finally:
        server.kill()


async def test_a_wrong_password_is_a_store_error(
    tmp_path: Path, account_name: str, fake_clock: FakeClock
) -> None:
    """The error does not repeat the password; also if none was given."""
    server = RedisServer(tmp_path, password=PASSWORD)
    try:
        for login in (":wrong-secret@", "user:wrong-secret@", ""):
            url = f"redis://{login}127.0.0.1:{server.port}"
            async with opened(url, account_name, fake_clock) as ledger:
                with pytest.raises(StoreError, match="the user or the password") as caught:
                    await ledger.reserve(claim_of())
                assert "wrong-secret" not in repr(caught.value)
    finally:
        server.stop()


async def test_a_password_that_is_not_needed_is_a_store_error(
    redis_server: RedisServer, account_name: str
) -> None:
    """Redis refuses it, and the error does not show it."""
    async with opened(
        f"redis://:hush@127.0.0.1:{redis_server.port}/0", account_name, None
    ) as ledger:
        with pytest.raises(StoreError, match="the user or the password") as caught:
            await ledger.snapshot()
        assert "hush" not in repr(caught.value)


async def test_a_server_with_tls_is_checked(
    tmp_path: Path, certificate: tuple[Path, Path], account_name: str, fake_clock: FakeClock
) -> None:
    """`rediss://` speaks TLS, and accepts only a server whose certificate is trusted."""
    server = RedisServer(tmp_path, certificate=certificate)
    try:
        async with opened(server.url, account_name, fake_clock) as ledger:
            await granted(ledger)
        async with opened(server.url.partition("?")[0], account_name, fake_clock) as ledger:
            with pytest.raises(StoreError, match=r"no connection .*certificate"):
                await ledger.reserve(claim_of())
    finally:
        server.stop()


def test_a_rediss_url_reaches_redis_as_tls() -> None:
    """Tested without a server, since not every build of Redis has TLS."""
    connection = connection_to("rediss://host/1?ssl_check_hostname=no")
    pool = connection._client.connection_pool
    assert pool.connection_class is redis.asyncio.SSLConnection
    assert pool.connection_kwargs["db"] == 1


async def test_a_server_on_a_unix_socket_is_reached(
    tmp_path: Path, account_name: str, fake_clock: FakeClock
) -> None:
    """`unix://` and a path."""
    # A socket's path has to be short.
    path = Path(tempfile.gettempdir()) / f"{uuid.uuid4().hex}.sock"
    server = RedisServer(tmp_path, "--unixsocket", str(path))
    try:
        async with opened(f"unix://{path}?db=2", account_name, fake_clock) as ledger:
            await granted(ledger)
            assert str(path) in repr(ledger)
    finally:
        server.stop()


@pytest.mark.parametrize(
    "url",
    [
        "redis//:hush@host/0",
        "http://:hush@host/0",
        "redis://:hu/sh@host:6379/0",
        "redis://:hu#sh@host:6379/0",
        "redis://hush:12/34@host/0",
        "redis://hush:12?34@host/0",
        "redis://hush:12#34@host/0",
        "redis://:hush@:6379/0",
        "redis://:hush@host:port/0",
        "redis://:hush@host:70000/0",
        "redis://:hush@host/zero",
        "redis://:hush@host/0?socket_timeout=hush",
        "redis://:hush@host/0?no_such_option=hush",
        "redis://:hush@[::1/0",
        "unix://",
        "hush",
        "",
    ],
)
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    """No part of it that could belong to the password is in the error."""
    with pytest.raises(InvalidRequestError, match=r"^quota: got .*redis://") as caught:
        connection_to(url)
    for part in ("hu", "sh@", "12", "34"):
        assert part not in str(caught.value)
        assert part not in repr(caught.value)


def test_without_redis_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py is optional: without it only a Redis URL is an error."""
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(InvalidRequestError, match=r"pip install 'llamagen-async\[redis\]'"):
        connection_to("redis://:hush@host")


async def test_the_script_touches_one_key_only(
    redis_server: RedisServer, account_name: str
) -> None:
    """The one that is named beforehand, as the nodes of a cluster demand."""
    async with (
        opened(redis_server.url, account_name, None, plan=PER_DAY) as ledger,
        connected(redis_server.url) as client,
        client.monitor() as monitor,
    ):
        await spend(ledger, 1)
        await ledger.record(1, pause=1.0)
        ledger.release("claim", "client")
        await settled(ledger)
        await client.ping()
        done = set()
        async for command in monitor.listen():
            if command["command"] == "PING":
                break
            if command["client_type"] == "lua":
                done.add(" ".join(command["command"].split()[:2]))
        key = f"llamagen:{account_name}"
        assert done == {f"GET {key}", "TIME", "INFO server", f"SET {key}"}


async def test_one_call_for_each_operation(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    """Also for many at the same time, which are done in the order in which they were asked for."""
    async with (
        opened(redis_server.url, account_name, fake_clock, plan=PER_DAY) as ledger,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 1)
        before = await client.info("commandstats")
        grant = await granted(ledger)
        await ledger.commit(grant, ANSWERED, IDLE_WORKLOAD)
        calls = (ledger.snapshot(), ledger.record(5), ledger.snapshot())
        first, _, last = await asyncio.gather(*calls)
        ledger.release(grant.id, grant.client)
        await settled(ledger)
        after = await client.info("commandstats")
        names = {name for name in after if after[name] != before.get(name)}
        assert after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"] == 6
        assert names <= {"cmdstat_evalsha", "cmdstat_get", "cmdstat_set", "cmdstat_info"}
        assert (first.windows[0].used, last.windows[0].used) == (2, 7)
