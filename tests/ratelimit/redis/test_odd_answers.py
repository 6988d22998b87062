"""A Redis whose answers or values are odd: a `StoreError`, no other error, no endless wait."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from llamagen_async import LlamaGenClient, QuotaStoreError
from llamagen_async.plans import Plan
from llamagen_async.ratelimit.redis.ledger import RedisLedger
from llamagen_async.stored_values import StoreError
from tests.support.redis_server import (
    API_KEY,
    FakeClock,
    RedisServer,
    claim_of,
    connected,
    granted,
    ledger_of,
    opened,
)

COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n")


def bulk(text: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


@asynccontextmanager
async def impostor(answer: bytes, ports: list[int]) -> AsyncIterator[RedisLedger]:
    """Yield a ledger on a server that gives the same answer to everything."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.append(writer.get_extra_info("peername")[1])
        while data := await reader.read(1 << 20):
            for command in COMMAND.findall(data):
                writer.write(b"+OK\r\n" if command == b"CLIENT" else answer)
        writer.close()

    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    async with server:
        ledger = ledger_of(url, "name", FakeClock(), plan=Plan.PAID)
        try:
            yield ledger
        finally:
            await ledger.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        *(b"$-1\r\n", b"+OK\r\n", b":1\r\n", b"*0\r\n", b"*-1\r\n", b"?\r\n", b"\xff\xfe\0\r\n"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-ERR " + b"x" * 100_000 + b"\r\n",
        *(map(bulk, ("hello", "{}", "[1]", "[1, 2]", "[1, null]", "[NaN, [1]]", '["a", [1, 2]]'))),
        bulk("[1, [true, [1, 2, 3, 4, 5]]]"),
        bulk("[1, [false, [[], null, 0, 0, []], 1, 9, 1]]"),
        bulk("[" * 50_000),
    ],
)
async def test_an_odd_answer_is_a_store_error(answer: bytes) -> None:
    """And whoever asked is not cancelled, which would look like the user's own doing."""
    async with impostor(answer, []) as ledger:
        for ask in (lambda: ledger.reserve(claim_of()), ledger.snapshot):
            task: asyncio.Task[Any] = asyncio.ensure_future(ask())
            await asyncio.wait({task})
            assert not task.cancelled()
            assert isinstance(task.exception(), StoreError)
            assert len(str(task.exception())) < 500


@pytest.mark.parametrize(
    "error", [b"READONLY You can't write", b"MASTERDOWN Link is down", b"NOREPLICAS Not enough"]
)
async def test_after_a_refusal_the_next_call_connects_anew(error: bytes) -> None:
    """A primary that was demoted keeps its connections; its address may lead to the new one."""
    ports: list[int] = []
    async with impostor(b"-%b\r\n" % error, ports) as ledger:
        for _ in range(3):
            with pytest.raises(StoreError):
                await ledger.snapshot()
    assert len(set(ports)) >= 3


async def changed(server: RedisServer, name: str, change: str) -> None:
    """Run Lua that changes the `state` of an account."""
    script = f"local state = cmsgpack.unpack(redis.call('GET', KEYS[1])); {change}; "
    async with connected(server.url) as client:
        await client.eval(
            f"{script} redis.call('SET', KEYS[1], cmsgpack.pack(state))", 1, f"llamagen:{name}"
        )


async def test_a_client_says_what_the_store_said() -> None:
    async with impostor(bulk("{}"), []) as ledger:
        url = f"redis://{ledger._connection.address}"
        async with LlamaGenClient(API_KEY, plan="paid", quota=url) as client:
            with pytest.raises(QuotaStoreError, match=r"is away \(an answer of Redis at .* is odd"):
                await client.limits()


FUTURE = "struct.pack('<d', state.last + 1e7)"
CLIENT = "name='z', claim='', text='', share=0, believed=0, ends=0, seen_at=state.last, waiting={}"


@pytest.mark.parametrize(
    "change",
    [
        *(f"state.{name} = 'x'" for name in ("last", "clock_offset", "silent_until", "lost")),
        *(f"state.{name} = 1e300" for name in ("last", "clock_offset", "paused_until", "began")),
        *(f"state.{name} = state.last + 1e7" for name in ("lost", "silent_until", "last_call")),
        *(f"state.{name} = 0/0" for name in ("last", "pauses", "burst", "lost")),
        *(f"state.{name} = nil" for name in ("last", "held", "spent", "clients", "pauses")),
        *("state.burst = 0", "state.pauses = -1", "state.accepted = {}", "state.run = 7"),
        *("state.spent = 'abc'", f"state.spent = {FUTURE}", f"state.spent = {FUTURE}:rep(20)"),
        "state.spent = struct.pack('<d', 0/0)",
        *(f"state.reads = {reads}" for reads in ("7", "{'x'}", "{0/0}", "{state.last + 1e7}")),
        "state.held = {{id = 'q', granted_at = 0, ends = 1e300}}",
        "state.held = {{id = 'q', granted_at = state.last + 1e7, ends = state.last + 1e7}}",
        "state.held = {1}",
        "state.clients = {1}",
        f"state.clients = {{{{{CLIENT}, seen_at = 1e18}}}}",
        f"state.clients = {{{{{CLIENT}, share = 'x'}}}}",
        f"state.clients = {{{{{CLIENT}, waiting = {{{{0, 1e15, 0, 0}}}}}}}}",
        f"state.clients = {{{{{CLIENT}, claimed = {{0, 1, 0, 'x'}}, repeated_by = 0}}}}",
        f"state.clients = {{{{{CLIENT}, claimed = {{0, 1, 0, 0}}}}}}",
    ],
)
async def test_a_state_that_another_program_has_changed_is_a_store_error(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock, change: str
) -> None:
    """Otherwise an operation fails in its midst, or everyone waits for ever."""
    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        await granted(ledger)
        await changed(redis_server, account_name, change)
        for ask in (lambda: ledger.reserve(claim_of()), ledger.snapshot):
            with pytest.raises(StoreError, match="damaged or of another version"):
                await ask()


async def test_a_state_that_was_not_changed_is_sound(
    redis_server: RedisServer, account_name: str, fake_clock: FakeClock
) -> None:
    async with opened(redis_server.url, account_name, fake_clock) as ledger:
        await granted(ledger)
        client = f"state.clients = {{{{{CLIENT}}}}}; state.lost = state.last"
        await changed(redis_server, account_name, client)
        assert json.dumps((await ledger.snapshot()).in_flight) == "1"
