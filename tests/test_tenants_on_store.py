"""Many tenants over one file of spent requests: one thread and one connection for all of them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from llamagen_async import tenants as tenants_module
from llamagen_async.plans import PlanName
from tests.support.sqlite_ledgers import ledger_threads
from tests.support.tenants import Instant, tenant_key

KEYS = 60


def open_files(name: str) -> int:
    """Return how many open files of this process have a name that contains `name`."""
    links: list[str] = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return sum(name in link for link in links)


@pytest.mark.parametrize("plan", ["paid", "demo"])
async def test_keys_share_one_thread_and_one_file(
    plan: PlanName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a count of its own, which outlives it; no key is in the file."""
    monkeypatch.setattr(tenants_module, "_WARM", 2)
    quota = f"sqlite:///{tmp_path / 'quota.db'}"
    most: list[tuple[int, int]] = []

    async def one(number: int) -> None:
        await client.with_key(tenant_key(number), plan=plan).comics.create("x")
        files = open_files(str(tmp_path)) if sys.platform == "linux" else 1
        most.append((len(ledger_threads()), files))

    async with Instant().client(quota=quota) as client:
        await asyncio.gather(*map(one, range(KEYS)))
        assert max(most) <= (1, 3), "the file, and two that SQLite has beside it"
        await asyncio.gather(*client._tenants._resting)
        assert len(client._tenants._cores) == 2
        limits = [
            await client.with_key(tenant_key(number), plan=plan).limits() for number in range(KEYS)
        ]
        assert [one.windows[0].used for one in limits] == [1] * KEYS
    assert not ledger_threads()
    for file in list(tmp_path.iterdir()):  # noqa: ASYNC240  # the client is closed
        assert b"sk-" not in file.read_bytes()
        assert "sk-" not in file.name
