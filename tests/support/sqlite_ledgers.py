"""Ledgers on one SQLite file, and what their tests do with the file and the thread."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit import NoSlot
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.stored_values import StoreError
from tests.support.claims import claim

__all__ = [
    "FOUR",
    "LONG",
    "WIDE",
    "Gate",
    "LedgerFactory",
    "ManualClock",
    "cancel_in_the_middle",
    "delay_of",
    "edit_file",
    "fails",
    "ledger_threads",
    "stored_state",
    "take",
    "used_slots",
]

FOUR: Final = Plan("four", limits=RateLimit(4, per=60))
"""A plan with a few slots."""
WIDE: Final = Plan("wide", limits=RateLimit(10_000, per=60))
"""A plan with more slots than a test uses."""
LONG: Final = LedgerTimes(lease=900.0)
"""A lease that ends in no test that does not mean to."""
_numbers: Final = itertools.count()
"""The numbers that give each slot of `take` a name of its own."""


@attrs.define
class ManualClock:
    """A clock that a test sets."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@attrs.define
class LedgerFactory:
    """Makes ledgers on one file and closes them."""

    path: Path
    clock: ManualClock = attrs.field(factory=ManualClock)
    made: list[SQLiteLedger] = attrs.field(factory=list)

    def __call__(self, **options: Any) -> SQLiteLedger:
        defaults: dict[str, Any] = {
            "name": "a",
            "plan": FOUR,
            "times": LONG,
            "now": self.clock,
        }
        ledger = SQLiteLedger(options.pop("path", self.path), **(defaults | options))
        self.made.append(ledger)
        return ledger

    def files(self) -> list[Path]:
        return list(self.path.parent.rglob("*.db"))

    async def aclose(self) -> None:
        for ledger in self.made:
            await ledger.aclose()


@attrs.define
class Gate:
    """Holds up the ledger's thread in the middle of a transaction."""

    reached: threading.Event = attrs.field(factory=threading.Event)
    open: threading.Event = attrs.field(factory=threading.Event)

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            self.reached.set()
            assert self.open.wait(10)
            return function(*arguments)

        return wrapped


async def cancel_in_the_middle(gate: Gate, operation: Any) -> None:
    """Cancel an operation while the ledger's thread is in its transaction."""
    gate.reached.clear()
    gate.open.clear()
    task = asyncio.ensure_future(operation)
    await asyncio.to_thread(gate.reached.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()


async def take(ledger: SQLiteLedger, number: int = 1, client: str = "client") -> list[Grant]:
    """Reserve slots that have to be free."""
    grants: list[Grant] = []
    for _ in range(number):
        grant = await ledger.reserve(claim(f"taken {next(_numbers)}", client))
        assert isinstance(grant, Grant)
        grants.append(grant)
    return grants


async def delay_of(ledger: SQLiteLedger, name: str, client: str = "client") -> float:
    """Ask for a slot that must not be free; return the seconds after which to ask again."""
    answer = await ledger.reserve(claim(name, client))
    assert isinstance(answer, NoSlot)
    return answer.delay


async def used_slots(ledger: SQLiteLedger) -> list[int]:
    """Return the used slots of each window."""
    return [window.used for window in (await ledger.snapshot()).windows]


async def fails(ledger: SQLiteLedger, *words: str) -> None:
    """Assert that a reservation raises `StoreError` with all of `words` in its message."""
    with pytest.raises(StoreError) as caught:
        await ledger.reserve(claim("late"))
    for word in words:
        assert word in str(caught.value)


def ledger_threads() -> list[str]:
    """Return the names of the threads that ledgers have started and not ended."""
    names = [one.name for one in threading.enumerate()]
    return [name for name in names if name.startswith("llamagen-async-ledger")]


def stored_state(path: Path) -> dict[str, Any]:
    """Return the only row of a file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (text,) = connection.execute("SELECT state FROM account").fetchone()
    state: dict[str, Any] = json.loads(text)
    return state


def edit_file(path: Path, sql: str, *arguments: object) -> None:
    """Change a file behind the ledger's back."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(sql, arguments)
        connection.commit()
