"""The SQLite file: what is written to it, and errors that say what to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamagen_async.machine_clock import Anchor
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit import ANSWERED, Identity, NoSlot, Priority, Workload
from llamagen_async.ratelimit import WaitingRequests as Waiting
from llamagen_async.ratelimit.protocol import Grant
from llamagen_async.ratelimit.sqlite import ledger as ledger_module
from llamagen_async.ratelimit.sqlite import store
from tests.support.claims import claim
from tests.support.sqlite_ledgers import (
    LedgerFactory,
    delay_of,
    edit_file,
    fails,
    stored_state,
    take,
    used_slots,
)


async def test_folders_are_made_and_the_file_is_opened_when_it_is_used(
    factory: LedgerFactory,
) -> None:
    path = factory.path.parent / "some" / "where" / "quota.db"
    ledger = factory(path=str(path))
    assert not path.parent.exists()
    await ledger.snapshot()
    assert path.is_file()


async def test_any_path_names_a_file(
    factory: LedgerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(factory.path.parent)
    await take(factory(path="relative.db"))
    await take(factory(path=":memory:"))
    monkeypatch.setenv("HOME", str(factory.path.parent / "home"))
    monkeypatch.setenv("USERPROFILE", str(factory.path.parent / "home"))
    await take(factory(path="~/quota.db"))
    made = {path.relative_to(factory.path.parent).as_posix() for path in factory.files()}
    assert {"relative.db", "home/quota.db"} <= made


@pytest.mark.parametrize(("plan", "synchronous"), [(Plan.PAID, 1), (Plan.DEMO, 2)])
async def test_a_quota_is_on_the_disk_before_it_is_relied_on(
    factory: LedgerFactory, plan: Plan, synchronous: int
) -> None:
    """So before a request leaves; what is lost of its end only makes the slot count for longer."""
    ledger = factory(plan=plan)
    (grant,) = await take(ledger)

    def pragma(name: str) -> object:
        opened = ledger._store._file._connection
        assert opened is not None
        return opened.execute(f"PRAGMA {name}").fetchone()[0]

    assert (pragma("synchronous"), pragma("journal_mode")) == (synchronous, "wal")
    await ledger.commit(grant, ANSWERED, Workload())
    assert pragma("synchronous") == 1
    ledger.change_plan(Plan.DEMO)
    await take(ledger)
    assert pragma("synchronous") == 2


async def test_the_ledgers_time_continues_from_the_stored_one(
    factory: LedgerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Anchor(0.0, 1.7e9, 500.0, "first")
    monkeypatch.setattr(ledger_module, "read_machine_clock", lambda: reading)
    ledger = factory(now=None, speed=10.0)
    for grant in await take(ledger, 4):
        await ledger.commit(grant, ANSWERED, Workload())
    await ledger.aclose()
    assert stored_state(factory.path)["clock"] == [0.0, 1.7e9, 500.0, "first"]
    # A step of the wall clock is not time that passed; five seconds are fifty of the server's.
    reading = Anchor(0.0, 1.7e9 + 86_400, 505.0, "first")
    ledger = factory(now=None, speed=10.0)
    assert await delay_of(ledger, "next") == pytest.approx(10.0)
    reading = Anchor(0.0, 1.7e9 + 86_400 + 2, 1.0, "second")
    assert isinstance(await factory(now=None, speed=10.0).reserve(claim("next")), Grant)
    assert stored_state(factory.path)["clock"] == [7.0, 1.7e9 + 86_402, 1.0, "second"]


async def test_the_real_clock_advances(factory: LedgerFactory) -> None:
    ledger = factory(now=None, speed=1e6, plan=Plan("quick", limits=RateLimit(1, per=60)))
    for number in range(5):
        answer = await ledger.reserve(claim(f"{number}"))
        while isinstance(answer, NoSlot):
            await asyncio.sleep(answer.delay / 1e6)
            answer = await ledger.reserve(claim(f"{number}"))
        await ledger.commit(answer, ANSWERED, Workload())
    assert stored_state(factory.path)["clock"][0] >= 4 * 60e-6


async def test_the_file_contains_the_name_and_not_the_key(factory: LedgerFactory) -> None:
    name = Identity.of("sk-very-secret", "https://example.com", 1.0, None).name
    ledger = factory(name=name)
    await take(ledger, 4)
    await ledger.reserve(claim("waits"))
    content = b"".join(path.read_bytes() for path in factory.path.parent.iterdir())
    assert name.encode() in content
    assert b"secret" not in content
    assert "secret" not in repr(ledger)


async def test_a_file_that_was_deleted_is_made_again_and_shared_again(
    factory: LedgerFactory,
) -> None:
    one = factory()
    await take(one, 2)
    for path in factory.path.parent.iterdir():
        path.unlink()
    other = factory()
    await take(other, 1)
    await take(one, 1)
    assert await used_slots(one) == await used_slots(other) == [2]
    await one.aclose()
    await other.aclose()
    assert await used_slots(factory()) == [2]


async def test_a_file_that_is_no_database_is_refused(factory: LedgerFactory) -> None:
    factory.path.write_text("These are my recipes, and they are longer than a header. " * 10)
    await fails(factory(), str(factory.path), "not a database", "name another file")
    assert factory.path.read_text().startswith("These are my recipes")


async def test_a_folder_is_refused(factory: LedgerFactory) -> None:
    await fails(factory(path=factory.path.parent), str(factory.path.parent), "name a file")


async def test_a_folder_that_can_not_be_made_is_an_error(factory: LedgerFactory) -> None:
    factory.path.write_text("")
    await fails(
        factory(path=factory.path / "quota.db"), str(factory.path), "name a file in a folder"
    )


async def test_the_database_of_another_program_is_left_alone(factory: LedgerFactory) -> None:
    edit_file(factory.path, "CREATE TABLE precious (content)")
    content = factory.path.read_bytes()
    await fails(factory(), str(factory.path), "another program")
    assert factory.path.read_bytes() == content
    edit_file(factory.path, "PRAGMA application_id = 7")
    await fails(factory(), "another program")


@pytest.mark.parametrize(("schema", "advice"), [(1, "move it away"), (3, "upgrade")])
async def test_another_schema_is_refused(factory: LedgerFactory, schema: int, advice: str) -> None:
    """Spent requests may be in such a file, so it is neither used nor replaced."""
    await take(factory())
    await factory.aclose()
    before = stored_state(factory.path)
    edit_file(factory.path, f"PRAGMA user_version = {schema}")
    await fails(factory(), str(factory.path), f"schema {schema}", "this one knows 2", advice)
    assert stored_state(factory.path) == before


async def test_a_file_that_may_not_be_written_is_an_error(
    factory: LedgerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await factory().snapshot()
    await factory.aclose()
    _connect_with(monkeypatch, "PRAGMA query_only = 1")
    await fails(factory(), str(factory.path), "readonly", "may not be written")


async def test_a_full_disk_is_an_error_until_there_is_room_again(
    factory: LedgerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await take(factory(), 1)
    with monkeypatch.context() as full:
        _connect_with(full, "PRAGMA max_page_count = 1")
        ledger = factory(name="n" * 5_000)
        await fails(ledger, str(factory.path), "full", "make room")
    await take(ledger, 1)
    assert await used_slots(factory()) == [1]


def _connect_with(monkeypatch: pytest.MonkeyPatch, pragma: str) -> None:
    connect = sqlite3.connect

    def limited(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.execute(pragma)
        return connection

    monkeypatch.setattr(sqlite3, "connect", limited)


def _with(**changes: object) -> Callable[[dict[str, Any]], str]:
    """Return what changes a row."""
    return lambda state: json.dumps(state | changes)


def _with_client(place: int, value: object) -> Callable[[dict[str, Any]], str]:
    """Return what changes one field of a client's entry."""

    def changed(state: dict[str, Any]) -> str:
        state["clients"]["client"][place] = value
        return json.dumps(state)

    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda state: "not JSON",
        lambda state: "[]",
        lambda state: "null",
        lambda state: b"\xff\xfe\x00",
        lambda state: 5,
        lambda state: json.dumps({}),
        _with(spent=["yesterday"]),
        _with(spent=[5.0, 3.0]),
        _with(spent=[float("nan")]),
        _with(spent=[1.0, float("nan"), 2.0]),
        lambda state: json.dumps(state | {"spent": [1.5]}).replace("1.5", "1e999"),
        _with(held=[[1, 2, 3]]),
        _with(held=[["a", float("inf"), 1.0, False]]),
        _with(held=[[["a"], 2.0, 1.0, False]]),
        _with(held=7),
        _with(burst=0),
        _with(accepted=None),
        _with(pauses=10**400),
        _with(last_call="noon"),
        _with(silent_until=float("nan")),
        _with(clock="noon"),
        _with(clock=[1.0, 2.0]),
        _with(clock=[float("inf"), 1.0, 1.0, None]),
        _with(clients=[]),
        _with(clients={"a": [1.0, 0, ""]}),
        _with_client(0, float("inf")),
        _with_client(1, "many"),
        _with_client(4, [0, 1, 5.0]),
        _with_client(6, [[17, 1, 5.0, 5.0]]),
        _with_client(6, [[0, 1, 5.0, float("nan")]]),
        lambda state: _with_client(5, 1.5)(state).replace("1.5", "1e999"),
        lambda state: _with_client(7, 1.5)(state).replace("1.5", "1e999"),
        lambda state: json.dumps(state | {"spent": [1.5]}).replace("1.5", "-1e999"),
        _with_client(5, None),
        _with_client(7, None),
        # Numbers that can be, and that would have everyone wait for ever.
        _with(spent=[1e9]),
        _with(spent=[0.0] * 20 + [1e9]),
        _with(held=[["a", 1e300, 0.0, False]]),
        _with(held=[["a", 1e9, 1e9, False]]),
        _with(burst=True),
        _with(burst=1.5),
        _with(last_call=1e18),
        _with(silent_until=1e9),
        _with_client(0, 1e18),
        _with_client(1, 0.5),
        _with_client(6, [[0, 10**15, 0.0, 0.0]]),
        _with_client(6, [[0, 1, 0.0, 1e9]]),
        lambda state: "[" * 100_000,
    ],
)
async def test_a_damaged_row_is_an_error_and_stays_as_it_is(
    factory: LedgerFactory, change: Callable[[dict[str, Any]], object]
) -> None:
    ledger = factory()
    workload = Workload((Waiting(Priority.BATCH, 2, 5.0, 1.0),), "text")
    await ledger.reserve(claim("taken", workload=workload))
    good = json.dumps(stored_state(factory.path))
    edit_file(factory.path, "UPDATE account SET state = ?", change(json.loads(good)))
    for one in (ledger, factory()):
        await fails(one, str(factory.path), "damaged", "move the file away")
    edit_file(factory.path, "UPDATE account SET state = ?", good)
    assert await used_slots(ledger) == [1]


@pytest.mark.parametrize(
    "clock",
    [
        [1e300, 1.7e9, 500.0, "boot"],
        [-1e300, 1.7e9, 500.0, "boot"],
        [0.0, 1.7e9, 1e9, "boot"],
    ],
)
async def test_a_clock_at_which_time_would_stand_still_is_an_error(
    factory: LedgerFactory, monkeypatch: pytest.MonkeyPatch, clock: list[Any]
) -> None:
    monkeypatch.setattr(
        ledger_module, "read_machine_clock", lambda: Anchor(0.0, 1.7e9, 501.0, "boot")
    )
    ledger = factory(now=None)
    await take(ledger, 1)
    state = json.dumps(stored_state(factory.path) | {"clock": clock})
    edit_file(factory.path, "UPDATE account SET state = ?", state)
    await fails(ledger, str(factory.path), "damaged", "move the file away")


async def test_a_missing_table_is_an_error(factory: LedgerFactory) -> None:
    ledger = factory()
    await take(ledger, 1)
    edit_file(factory.path, "ALTER TABLE account RENAME TO elsewhere")
    await fails(ledger, str(factory.path), "name another file")


async def test_a_file_that_another_program_keeps_locked_is_an_error(
    factory: LedgerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_LOCK_SHARE", 0.02)
    ledger = factory()
    await take(ledger, 1)
    with contextlib.closing(sqlite3.connect(factory.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        await fails(ledger, str(factory.path), "locked", "another program")
        other.execute("COMMIT")
    await take(ledger, 1)


async def test_a_folder_that_may_not_be_entered_any_more_is_an_error(
    factory: LedgerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = factory()
    await take(ledger, 1)

    def closed(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(store, "file_id", closed)
        await fails(ledger, str(factory.path), "Permission denied")
    assert await used_slots(ledger) == [1]


async def test_a_file_that_was_moved_away_is_made_again(factory: LedgerFactory) -> None:
    """Nobody else would see what is written to the old one."""
    ledger = factory()
    await take(ledger, 2)
    for path in factory.path.parent.iterdir():
        path.rename(path.with_name("moved " + path.name))
    await take(ledger, 1)
    assert factory.path.exists()
    assert await used_slots(ledger) == await used_slots(factory()) == [1]


async def test_the_log_does_not_grow_for_ever(factory: LedgerFactory) -> None:
    """SQLite carries it into the file now and then."""
    ledger = factory()
    log = factory.path.with_name(factory.path.name + "-wal")
    sizes: list[int] = []
    for _ in range(3):
        for _ in range(600):
            await ledger.record(0)
        sizes.append(log.stat().st_size)
    assert sizes[1] == sizes[2]
