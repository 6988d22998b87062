"""What only a count on a Redis server has to get right; the count itself has tests of its own.

Times are injected unless a test says otherwise, so that nothing here waits.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from support.redis_server import RedisServer

from llamagen_async.errors import ClientClosedError, InvalidRequestError
from llamagen_async.plans import DAY, MINUTE, Plan, RateLimit
from llamagen_async.ratelimit.ledger import Grant, Outcome, Refusal, StoreError
from llamagen_async.ratelimit.redis import RedisLedger
from llamagen_async.ratelimit.registry import Identity

API_KEY = "sk-llamagen-very-secret"
PASSWORD = "pa/ss@wörd:#?"
PER_DAY = Plan("per day", limits=(RateLimit(10, per=DAY),))
BOTH = Plan("both", limits=(RateLimit(4, per=MINUTE), RateLimit(15, per=DAY)))


class FakeClock:
    """The clock of the Redis server and that of this machine, in real seconds."""

    def __init__(self) -> None:
        self.server = self.here = 4096.0

    def now(self) -> float:
        return self.server

    def steady(self) -> float:
        return self.here

    def advance(self, seconds: float) -> None:
        self.server += seconds
        self.here += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def name() -> str:
    return Identity.of(API_KEY, f"https://{uuid.uuid4().hex}", 1.0, None).name


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may restart."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@asynccontextmanager
async def opened(url: str, name: str, clock: FakeClock | None, **more: Any) -> AsyncIterator[Any]:
    if clock is not None:
        more |= {"now": clock.now, "steady": clock.steady}
    ledger = RedisLedger(url, name=name, **{"plan": Plan.DEMO, **more})
    try:
        yield ledger
    finally:
        await ledger.aclose()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    client = redis.asyncio.Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


async def granted(ledger: RedisLedger, ticket: str = "ticket") -> Grant:
    answer = await ledger.reserve(ticket)
    assert isinstance(answer, Grant)
    return answer


async def spend(ledger: RedisLedger, number: int) -> None:
    for _ in range(number):
        await ledger.commit(await granted(ledger), Outcome())


# Where it is, and what is written there.


async def test_two_clients_share_one_count(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """What one has spent, the other one waits for."""
    async with (
        opened(redis_server.url, name, clock) as one,
        opened(redis_server.url, name, clock) as other,
    ):
        await spend(one, 3)
        await granted(other)
        assert await one.reserve("one") == Refusal(60.0, Plan.DEMO.limits[0])
        assert (await other.snapshot()).windows[0].used == 4


@pytest.mark.parametrize("in_url", [True, False])
async def test_the_key_begins_with_the_prefix(
    redis_server: RedisServer, name: str, clock: FakeClock, in_url: bool
) -> None:
    """In the URL or as an argument, and the same account with another prefix is another one."""
    prefix = f"a b{{{uuid.uuid4().hex}}}:"
    url = f"{redis_server.url}?prefix={prefix.replace(' ', '%20')}" if in_url else redis_server.url
    async with (
        opened(url, name, clock, prefix="" if in_url else prefix) as ledger,
        opened(redis_server.url, name, clock) as other,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 4)
        assert await client.exists(f"{prefix}llamagen:{name}")
        await granted(other)


async def test_a_key_expires_by_itself(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """After the longest window, the lease and a little more, in real time; and not before."""
    async with (
        opened(redis_server.url, name, clock, speed=60.0, lease=600.0) as ledger,
        connected(redis_server.url) as client,
    ):
        await granted(ledger)
        kept = await client.pttl(f"llamagen:{name}") / 1000
        assert (DAY + 600) / 60 < kept < (DAY + 600) / 60 + 100


async def test_secrets_are_nowhere(tmp_path: Path, name: str, clock: FakeClock) -> None:
    """Neither in a key, nor in a value, nor in what is printed."""
    server = RedisServer(tmp_path, password=PASSWORD)
    try:
        async with opened(server.url, name, clock) as ledger, connected(server.url) as client:
            await granted(ledger)
            seen = [repr(ledger), str(vars(ledger)), str(await ledger.snapshot())]
            for key in await client.keys("*"):
                seen += [repr(key), repr(await client.get(key))]
            await client.set(f"llamagen:{name}", "damage")
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
    tmp_path: Path, name: str, clock: FakeClock
) -> None:
    """It says what is wrong and not what was tried; so it does without any."""
    server = RedisServer(tmp_path, password=PASSWORD)
    try:
        for login in (":wrong-secret@", "user:wrong-secret@", ""):
            url = f"redis://{login}127.0.0.1:{server.port}"
            async with opened(url, name, clock) as ledger:
                with pytest.raises(StoreError, match="the user or the password") as caught:
                    await ledger.reserve("ticket")
                assert "wrong-secret" not in repr(caught.value)
    finally:
        server.stop()


async def test_a_password_that_is_not_needed_is_a_store_error(
    redis_server: RedisServer, name: str
) -> None:
    """Redis refuses it, and the error does not show it."""
    async with opened(f"redis://:hush@127.0.0.1:{redis_server.port}/0", name, None) as ledger:
        with pytest.raises(StoreError, match="the user or the password") as caught:
            await ledger.snapshot()
        assert "hush" not in repr(caught.value)


async def test_tls(tmp_path: Path, name: str, clock: FakeClock) -> None:
    """`rediss://` speaks TLS, and believes only who is vouched for."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    made += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    subprocess.run([*made, "-out", str(certificate)], check=True, capture_output=True)
    server = RedisServer(tmp_path, certificate=(certificate, key))
    try:
        async with opened(server.url, name, clock) as ledger:
            await granted(ledger)
        async with opened(server.url.partition("?")[0], name, clock) as ledger:
            with pytest.raises(StoreError, match="no connection .*certificate"):
                await ledger.reserve("ticket")
    finally:
        server.stop()


def test_a_rediss_url_reaches_redis_as_tls() -> None:
    """Also where no server with TLS is at hand."""
    ledger = RedisLedger("rediss://host/1?ssl_check_hostname=no", name="name", plan=Plan.DEMO)
    assert ledger._link._pool.connection_class is redis.asyncio.SSLConnection
    assert ledger._link._pool.connection_kwargs["db"] == 1


async def test_a_unix_socket(tmp_path: Path, name: str, clock: FakeClock) -> None:
    """`unix://` and a path."""
    path = Path("/tmp") / f"{uuid.uuid4().hex}.sock"  # a path of a socket has to be short
    server = RedisServer(tmp_path, "--unixsocket", str(path))
    try:
        async with opened(f"unix://{path}?db=2", name, clock) as ledger:
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
    """Nothing of it that could be a part of the password."""
    with pytest.raises(InvalidRequestError, match=r"^quota: got .*redis://") as caught:
        RedisLedger(url, name="name", plan=Plan.DEMO)
    for part in ("hu", "sh@", "12", "34"):
        assert part not in str(caught.value)
        assert part not in repr(caught.value)


def test_without_redis_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is optional; it is missed only by who asks for it."""
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(InvalidRequestError, match=r"pip install 'llamagen-async\[redis\]'"):
        RedisLedger("redis://:hush@host", name="name", plan=Plan.DEMO)


# When the store fails.


async def test_a_server_that_is_away_is_a_store_error(name: str) -> None:
    """At once, with its name; and again the next time."""
    async with opened("redis://127.0.0.1:1/0", name, None, timeout=60) as ledger:
        for _ in range(2):
            with pytest.raises(StoreError, match=r"no connection to Redis at 127\.0\.0\.1:1"):
                await ledger.reserve("ticket")


async def test_a_server_that_never_answers_is_a_store_error(name: str) -> None:
    """Whoever stands behind is told at the same time."""
    connections: list[asyncio.StreamWriter] = []

    def connect(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with opened(f"redis://127.0.0.1:{port}", name, None, timeout=0.02) as ledger:
        first = asyncio.ensure_future(ledger.reserve("ticket"))
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
    redis_server: RedisServer, name: str, clock: FakeClock, damage: bytes
) -> None:
    """It stays as it is; once it is deleted, the count goes on."""
    async with (
        opened(redis_server.url, name, clock) as ledger,
        connected(redis_server.url) as client,
    ):
        await client.set(f"llamagen:{name}", damage)
        with pytest.raises(StoreError, match="damaged or of another version"):
            await ledger.reserve("ticket")
        assert await client.get(f"llamagen:{name}") == damage
        await client.delete(f"llamagen:{name}")
        await granted(ledger)


async def test_a_key_of_another_type_is_a_store_error(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """Somebody else's list is not touched."""
    async with (
        opened(redis_server.url, name, clock) as ledger,
        connected(redis_server.url) as client,
    ):
        await client.rpush(f"llamagen:{name}", "theirs")
        with pytest.raises(StoreError, match="a value of another type"):
            await ledger.reserve("ticket")
        assert await client.lrange(f"llamagen:{name}", 0, -1) == [b"theirs"]


async def test_flushed_scripts_are_loaded_again(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """Nobody notices."""
    async with (
        opened(redis_server.url, name, clock) as ledger,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 1)
        await client.script_flush()
        await spend(ledger, 1)
        assert (await ledger.snapshot()).windows[0].used == 2


async def test_a_connection_that_was_closed_is_made_again(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """As servers do with idle ones. A reserve that is sent again holds one slot."""
    async with (
        opened(redis_server.url, name, clock) as ledger,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 1)
        await client.client_kill_filter(_type="normal", skipme=True)
        await granted(ledger)
        assert (await ledger.snapshot()).in_flight == 1


class Proxy:
    """Stands before a server and can swallow its answers."""

    def __init__(self, port: int) -> None:
        self.swallows = False
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
                    break
                writer.write(data)
            writer.close()

        answers = asyncio.create_task(answer())
        while data := await reader.read(65536):
            to_server.write(data)
        to_server.close()
        await answers


async def test_what_a_lost_answer_leaves_behind_is_put_right(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """A commit that was done is not done again; a reserve is undone."""
    proxy = Proxy(redis_server.port)
    async with proxy as url, opened(url, name, clock) as ledger:
        grant = await granted(ledger)
        proxy.swallows = True
        with pytest.raises(StoreError):
            await ledger.commit(grant, Outcome(refused=True, retry_after=5.0))
        proxy.swallows = False
        clock.advance(1.0)
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 1)
        assert (seen.paused_for, seen.burst) == (4.0, 2)
        clock.advance(40.0)
        proxy.swallows = True
        with pytest.raises(StoreError):
            await ledger.reserve("lost")
        proxy.swallows = False
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 1)


async def test_a_commit_that_failed_comes_with_the_next_operation(
    own_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """The slot was spent, whether the store was there or not."""
    async with opened(own_server.url, name, clock, plan=PER_DAY) as ledger:
        grants = [await granted(ledger) for _ in range(3)]
        own_server.kill()
        for report in (ledger.commit(grants[0], Outcome()), ledger.give_back(grants[1])):
            with pytest.raises(StoreError):
                await report
        own_server.start()
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (1, 2)


async def test_it_follows_the_key_through_a_cluster(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """A node that does not have the key names the one that has."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            moved = f"-MOVED 7 127.0.0.1:{redis_server.port}\r\n".encode()
            writer.write(moved if words[0] == b"EVALSHA" else b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with opened(f"redis://127.0.0.1:{port}", name, clock) as ledger:
        await spend(ledger, 1)
        assert (await ledger.snapshot()).windows[0].used == 1
    server.close()


async def test_the_script_touches_one_key_only(redis_server: RedisServer, name: str) -> None:
    """The one that it names beforehand, as the nodes of a cluster demand."""
    async with (
        opened(redis_server.url, name, None, plan=PER_DAY) as ledger,
        connected(redis_server.url) as client,
        client.monitor() as monitor,
    ):
        await spend(ledger, 1)
        await ledger.give_back(await granted(ledger))
        await client.ping()
        done = set()
        async for command in monitor.listen():
            if command["command"] == "PING":
                break
            if command["client_type"] == "lua":
                done.add(" ".join(command["command"].split()[:2]))
        key = f"llamagen:{name}"
        assert done == {f"GET {key}", "TIME", "INFO server", f"SET {key}"}


# When the store forgets. These run on the server's own clock.


async def test_a_server_that_was_just_started_may_have_forgotten(
    own_server: RedisServer, name: str
) -> None:
    """Who was never there before waits for what others may have sent; but not for a day."""
    async with opened(own_server.url, name, None, plan=BOTH) as ledger:
        answer = await ledger.reserve("ticket")
        assert isinstance(answer, Refusal)
        assert answer.limit == BOTH.limits[0]
        assert 30 < answer.delay <= 60
        minute, day = (await ledger.snapshot()).windows
        assert (minute.free, day.free) == (0, 15)


async def test_what_is_on_its_way_survives_a_restart(own_server: RedisServer, name: str) -> None:
    """Its client tells the new server, and what it has spent today."""
    async with (
        opened(own_server.url, name, None, plan=PER_DAY) as ledger,
        opened(own_server.url, name, None, plan=PER_DAY) as other,
        opened(own_server.url, name, None, plan=PER_DAY) as stranger,
    ):
        grant = await granted(ledger)
        await spend(ledger, 2)
        await ledger.record(1)
        await spend(other, 1)
        own_server.restart()
        assert (await stranger.snapshot()).windows[0].used == 0
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (1, 4)
        assert (await other.snapshot()).windows[0].used == 5
        await ledger.commit(grant, Outcome())
        seen = await stranger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 5)


async def test_an_older_snapshot_is_brought_up_to_date(own_server: RedisServer, name: str) -> None:
    """What is in it is not counted twice, and the minute is full as of the start."""
    async with (
        opened(own_server.url, name, None, plan=BOTH) as ledger,
        opened(own_server.url, name, None, plan=BOTH) as other,
        connected(own_server.url) as client,
    ):
        await ledger.record(2)
        await other.record(1)
        await client.save()
        await ledger.record(3)
        await other.record(1)
        own_server.restart()
        assert (await ledger.snapshot()).windows[1].used == 6
        minute, day = (await other.snapshot()).windows
        assert day.used == 7
        assert minute.free == 0
        assert 30 < minute.next_free_in <= 60


async def test_a_key_that_vanished_is_noticed_by_who_used_it(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """The minute is full as of now, once; the day has what all remember."""
    async with (
        opened(redis_server.url, name, clock, plan=BOTH) as ledger,
        opened(redis_server.url, name, clock, plan=BOTH) as other,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 3)
        await spend(other, 1)
        clock.advance(120)
        await client.delete(f"llamagen:{name}")
        assert await ledger.reserve("ticket") == Refusal(60.0, BOTH.limits[0])
        clock.advance(30)
        minute, day = (await other.snapshot()).windows
        assert (minute.next_free_in, day.used) == (30.0, 4)
        clock.advance(30)
        await spend(ledger, 4)
        assert (await other.snapshot()).windows[1].used == 8


async def test_a_key_that_expired_is_no_loss(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """Nothing that it held counts any more."""
    async with (
        opened(redis_server.url, name, clock) as ledger,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 4)
        clock.advance(2 * DAY)
        await client.delete(f"llamagen:{name}")
        await granted(ledger)


async def test_a_slot_of_a_lost_count_is_no_slot_of_the_new_one(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """Numbers don't begin anew, so that a late answer spends nobody else's slot."""
    async with (
        opened(redis_server.url, name, clock) as ledger,
        opened(redis_server.url, name, clock) as other,
        connected(redis_server.url) as client,
    ):
        late = await granted(ledger)
        await client.delete(f"llamagen:{name}")
        await granted(other)
        await ledger.commit(late, Outcome())
        assert (await other.snapshot()).in_flight == 1


# The clock of the server's host.


async def test_a_clock_set_back_stops_the_time(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """Slots come back after as many seconds as before, and not an hour later."""
    async with opened(redis_server.url, name, clock) as ledger:
        await spend(ledger, 4)
        clock.server -= 3600
        assert (await ledger.reserve("ticket")).delay == pytest.approx(60.0)
        clock.advance(58)
        assert isinstance(await ledger.reserve("ticket"), Refusal)
        clock.advance(1)
        assert (await granted(ledger)).delay == pytest.approx(1.0)


async def test_a_clock_set_forward_frees_nothing(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """This machine's clock knows better; afterwards time goes on as always."""
    async with (
        opened(redis_server.url, name, clock) as ledger,
        opened(redis_server.url, name, clock) as other,
    ):
        await spend(ledger, 4)
        clock.advance(20)
        clock.server += 3600
        assert (await ledger.reserve("ticket")).delay == pytest.approx(40.0)
        assert (await other.reserve("other")).delay == pytest.approx(40.0)
        clock.advance(38)
        assert isinstance(await ledger.reserve("ticket"), Refusal)
        clock.advance(2)
        assert (await granted(ledger)).delay == 0.0


async def test_a_slow_answer_is_no_clock_set_forward(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """Half a second and one in a hundred is not worth a correction."""
    async with opened(redis_server.url, name, clock) as ledger:
        await spend(ledger, 4)
        clock.advance(30)
        clock.server += 0.75
        assert (await ledger.reserve("ticket")).delay == pytest.approx(29.25)


# Cancellation, and the end.


async def test_a_cancelled_reserve_leaves_nothing_behind(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """No slot, no place in the line; wherever it is interrupted."""
    chance = random.Random(7)
    plan = Plan("few", limits=(RateLimit(3, per=60),))
    async with opened(redis_server.url, name, clock, plan=plan) as ledger:
        kept: list[Grant] = []

        async def reserve(ticket: str) -> None:
            answer = await ledger.reserve(ticket)
            if isinstance(answer, Grant):
                kept.append(answer)
            else:
                await ledger.leave(ticket)

        for _ in range(60):
            tasks = [asyncio.create_task(reserve(f"{number}")) for number in range(6)]
            for task in tasks:
                if chance.random() < 0.8:
                    await asyncio.sleep(chance.choice([0, 0, 0.0002, 0.001]))
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (await ledger.snapshot()).in_flight == len(kept)
            while kept:
                await ledger.give_back(kept.pop())
        # The line is empty: whoever comes is served.
        await granted(ledger, "new")


async def test_a_cancelled_commit_is_done(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """At whatever moment, the request was sent."""
    async with opened(redis_server.url, name, clock, plan=PER_DAY) as ledger:
        for pause in (None, 0, 0.0005):
            grant = await granted(ledger)
            task = asyncio.create_task(ledger.commit(grant, Outcome()))
            await asyncio.sleep(0)
            if pause is not None:
                await asyncio.sleep(pause)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 3)


async def test_a_place_taken_after_a_cancelled_reserve_is_kept(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """One ticket asks, is cancelled and asks again: the second place is not given up."""
    async with opened(redis_server.url, name, clock) as ledger:
        await spend(ledger, 4)
        task = asyncio.create_task(ledger.reserve("ticket"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert isinstance(await ledger.reserve("ticket"), Refusal)
        clock.advance(60)
        assert isinstance(await ledger.reserve("other"), Grant)
        for _ in range(2):
            await granted(ledger, "other")
        assert isinstance(await ledger.reserve("other"), Refusal)
        await granted(ledger, "ticket")


async def test_no_task_is_left_after_the_end(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """What was begun is finished, then nothing runs."""
    async with opened(redis_server.url, name, clock, plan=PER_DAY) as ledger:
        grant = await granted(ledger)
        task = asyncio.create_task(ledger.commit(grant, Outcome()))
        await asyncio.sleep(0)
        task.cancel()
        await ledger.aclose()
        assert task.done()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await ledger.aclose()
        with pytest.raises(ClientClosedError, match="closed"):
            await ledger.snapshot()
    async with opened(redis_server.url, name, clock, plan=PER_DAY) as other:
        assert (await other.snapshot()).windows[0].used == 1


def test_a_loop_that_ends_takes_nothing_with_it(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """A ledger that outlives its loop goes on in the next one, but serves one at a time."""
    ledger = RedisLedger(
        redis_server.url, name=name, plan=PER_DAY, now=clock.now, steady=clock.steady
    )

    async def interrupted() -> None:
        grant = await granted(ledger)
        asyncio.create_task(ledger.commit(grant, Outcome()))  # noqa: RUF006
        asyncio.create_task(ledger.reserve("ticket"))  # noqa: RUF006
        await asyncio.sleep(0)
        ledger._link._connection._close()  # type: ignore[union-attr]

    async def afterwards() -> None:
        await ledger._courier.ask("leave", ticket="ticket")
        seen = await ledger.snapshot()
        assert (seen.in_flight, seen.windows[0].used) == (0, 1)
        with pytest.raises(ClientClosedError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, ledger.snapshot())
        await ledger.aclose()

    asyncio.run(interrupted())
    asyncio.run(afterwards())


async def test_listeners_hear_of_what_is_given_up_here(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """A slot given back, a place left, a reserve cancelled; and nothing after the end of it."""
    async with opened(redis_server.url, name, clock) as ledger:
        heard: list[str] = []

        def listen(what: str) -> Callable[[], None]:
            return ledger.subscribe(lambda: heard.append(what))

        end = listen("first")
        listen("second")
        await spend(ledger, 1)
        assert heard == []
        await ledger.give_back(await granted(ledger))
        end()
        await ledger.leave("ticket")
        task = asyncio.create_task(ledger.reserve("ticket"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ledger.snapshot()
        assert heard == ["first", "second", "second", "second"]


async def test_one_call_for_each_operation(
    redis_server: RedisServer, name: str, clock: FakeClock
) -> None:
    """And one for many that are asked for at once."""
    async with (
        opened(redis_server.url, name, clock) as ledger,
        connected(redis_server.url) as client,
    ):
        await spend(ledger, 1)
        before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        await spend(ledger, 1)
        await ledger.snapshot()
        await asyncio.gather(*[ledger.projected(position) for position in range(50)])
        after = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        assert after - before == 4
