"""Stores by their URLs: each is opened as it was asked for, and proved without being counted in."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llamagen_async.plans import DAY, Plan
from llamagen_async.ratelimit.protocol import Ledger
from llamagen_async.ratelimit.stores import open_store, prove_store, store_times
from llamagen_async.stored_values import StoreError
from tests.support.redis_server import RedisServer, connected

SPEED = 60.0
TIMES = store_times(SPEED, 30.0)


@asynccontextmanager
async def opened(quota: str, *names: str, speed: float = SPEED) -> AsyncIterator[list[Ledger]]:
    """Ledgers of these names, closed in the end."""
    ledgers = [open_store(quota, name, Plan.DEMO, speed, TIMES) for name in names]
    try:
        yield ledgers
    finally:
        for ledger in ledgers:
            await ledger.aclose()


async def of_day(ledger: Ledger) -> int:
    """Slots used of the day, which a server that was just started can't have filled."""
    return (await ledger.snapshot()).windows[1].used


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_a_store_counts_by_name_and_plan(
    kind: str, request: pytest.FixtureRequest, account_name: str, tmp_path: Path
) -> None:
    """Requests of one ledger bind another one of that name, and none of another name."""
    quota = f"sqlite:///{tmp_path}/quota.db"
    if kind == "redis":
        quota = request.getfixturevalue("redis_server").url
    async with opened(quota, account_name, account_name, f"{account_name}'") as ledgers:
        await ledgers[0].record(1)
        assert [await of_day(ledger) for ledger in ledgers] == [1, 1, 0]
        snapshot = await ledgers[0].snapshot()
        assert [state.limit for state in snapshot.windows] == list(Plan.DEMO.limits)


async def test_each_speed_has_a_count_of_its_own_in_a_file(tmp_path: Path) -> None:
    """A sandbox that runs faster says nothing of the real server."""
    quota = f"sqlite:///{tmp_path}/quota.db"
    async with opened(quota, "same") as [fast], opened(quota, "same", speed=1.0) as [slow]:
        await fast.record(1)
        assert [await of_day(fast), await of_day(slow)] == [1, 0]


async def test_a_day_of_a_fast_server_expires_sooner_in_redis(
    redis_server: RedisServer, account_name: str
) -> None:
    """The key is kept for real seconds, the windows are the server's."""
    async with (
        opened(redis_server.url, account_name) as [ledger],
        connected(redis_server.url) as client,
    ):
        await ledger.record(1)
        kept = await client.pttl(f"llamagen:{account_name}") / 1000
        assert (DAY + TIMES.lease) / SPEED < kept < DAY / 2


async def test_a_store_that_works_is_proved_and_not_counted_in(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A file is made with its folders; memory needs no proof."""
    await prove_store("memory")
    await prove_store(redis_server.url)
    path = tmp_path / "a folder" / "quota.db"
    await prove_store(f"sqlite:///{path}")
    assert path.exists()


async def test_a_file_that_can_only_be_read_is_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count in it would stand still."""
    path = tmp_path / "quota.db"
    await prove_store(f"sqlite:///{path}")
    # A file's rights say nothing to those who may do everything.
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    with pytest.raises(OSError, match="may not be written"):
        await prove_store(f"sqlite:///{path}")


async def test_a_store_that_is_away_is_no_store(tmp_path: Path) -> None:
    """Neither a server that does not answer nor a file of another program."""
    with pytest.raises(StoreError):
        await prove_store("redis://127.0.0.1:1")
    (tmp_path / "text").write_text("a text that is no database at all")
    with pytest.raises(StoreError):
        await prove_store(f"sqlite:///{tmp_path}/text")
