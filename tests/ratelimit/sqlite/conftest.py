"""Fixtures of the tests of the ledger in a SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llamagen_async.ratelimit.window_log import WindowLog
from tests.support.sqlite_ledgers import Gate, LedgerFactory, ledger_threads


@pytest.fixture
async def factory(tmp_path: Path) -> AsyncIterator[LedgerFactory]:
    """A maker of ledgers on one file, which are closed after the test."""
    factory = LedgerFactory(tmp_path / "quota.db")
    yield factory
    await factory.aclose()
    assert not ledger_threads()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """A gate that holds up the ledger's thread when it writes."""
    gate = Gate()
    monkeypatch.setattr(WindowLog, "dump", gate.before(WindowLog.dump))
    return gate
