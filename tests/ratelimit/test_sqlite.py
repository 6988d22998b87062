"""The ledger in a file: persistence, sharing, failures, cancellation; all in one process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from llamagen_async.plans import DAY, Plan, RateLimit
from llamagen_async.ratelimit.ledger import ANSWERED, Grant, NoSlot, Outcome, StoreError
from llamagen_async.ratelimit.sqlite import executor as sqlite_worker
from llamagen_async.ratelimit.sqlite import ledger as sqlite
from llamagen_async.ratelimit.sqlite import store as sqlite_store
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger
from llamagen_async.ratelimit.sqlite.machine_clock import Reading
from llamagen_async.ratelimit.sqlite.row import Row
from llamagen_async.ratelimit.window_log import WindowLog

FOUR = Plan("four", limits=RateLimit(4, per=60))


@attrs.define
class Manual:
    """A clock that a test sets."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@attrs.define
class Bench:
    """Makes ledgers on one file and closes them."""

    path: Path
    clock: Manual = attrs.field(factory=Manual)
    made: list[SQLiteLedger] = attrs.field(factory=list)

    def __call__(self, **options: Any) -> SQLiteLedger:
        defaults: dict[str, Any] = {"name": "a", "plan": FOUR, "lease": 900.0, "now": self.clock}
        ledger = SQLiteLedger(options.pop("path", self.path), **(defaults | options))
        self.made.append(ledger)
        return ledger

    def files(self) -> list[Path]:
        return list(self.path.parent.rglob("*.db"))

    async def aclose(self) -> None:
        for ledger in self.made:
            await ledger.aclose()


@pytest.fixture
async def bench(tmp_path: Path) -> Any:
    bench = Bench(tmp_path / "quota.db")
    yield bench
    await bench.aclose()
    assert not _threads()


def _threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("llamagen-async")]


async def _take(ledger: SQLiteLedger, number: int = 1) -> list[Grant]:
    grants: list[Grant] = []
    for _ in range(number):
        grant = await ledger.reserve("ticket")
        assert isinstance(grant, Grant)
        grants.append(grant)
    return grants


async def _used(ledger: SQLiteLedger) -> list[int]:
    return [window.used for window in (await ledger.snapshot()).windows]


# --- the count -----------------------------------------------------------------------------


async def test_a_slot_is_back_a_window_after_the_response(bench: Bench) -> None:
    ledger = bench()
    grants = await _take(ledger, 4)
    bench.clock.now += 7
    for grant in grants:
        await ledger.commit(grant, Outcome())
    refusal = await ledger.reserve("next")
    assert refusal == NoSlot(60.0, FOUR.limits[0])
    bench.clock.now += 59.5
    (last,) = await _take(ledger)
    assert last.delay == pytest.approx(0.5)


async def test_what_was_spent_survives_a_restart(bench: Bench) -> None:
    first = bench()
    grants = await _take(first, 4)
    await first.commit(grants[0], Outcome())
    await first.commit(grants[1], Outcome(refused=True, retry_after=30))
    await first.aclose()
    second = bench()
    snapshot = await second.snapshot()
    assert (snapshot.windows[0].used, snapshot.in_flight) == (4, 2)
    assert snapshot.paused_for == pytest.approx(30)
    await second.commit(grants[2], Outcome())
    assert (await second.snapshot()).in_flight == 1


async def test_two_ledgers_on_one_file_share_the_count(bench: Bench) -> None:
    one, other = bench(), bench()
    for ledger in (one, other, one, other):
        await _take(ledger)
    assert isinstance(await one.reserve("a"), NoSlot)
    assert isinstance(await other.reserve("b"), NoSlot)
    assert await _used(one) == await _used(other) == [4]


async def test_the_line_is_shared_first_come_first_served(bench: Bench) -> None:
    one, other = bench(ahead=0.0), bench(ahead=0.0)
    for grant in await _take(one, 4):
        bench.clock.now += 1
        await other.commit(grant, Outcome())
    delays = [(await ledger.reserve(name)).delay for ledger, name in ((one, "x"), (other, "y"))]
    assert delays == pytest.approx([57.0, 58.0])
    bench.clock.now += 57
    assert isinstance(await other.reserve("y"), NoSlot)
    assert isinstance(await one.reserve("x"), Grant)


async def test_names_and_speeds_have_counts_of_their_own(bench: Bench) -> None:
    ledgers = [bench(), bench(name="b"), bench(speed=60)]
    await _take(ledgers[0], 3)
    assert [await _used(ledger) for ledger in ledgers] == [[3], [0], [0]]


async def test_a_slot_of_a_process_that_is_gone_comes_back(bench: Bench) -> None:
    await _take(bench(lease=100.0), 4)
    bench.clock.now += 100 + 60
    await _take(bench(), 4)


async def test_a_shorter_plan_does_not_forget_what_a_longer_one_needs(bench: Bench) -> None:
    demo, paid = bench(plan=Plan.DEMO), bench(plan=Plan.PAID)
    for _ in range(3):
        for grant in await _take(demo, 4):
            await demo.commit(grant, Outcome())
        bench.clock.now += 61
    for _ in range(3):
        await _take(paid, 1)
        await paid.record(1)
        bench.clock.now += 61
    assert (await _used(demo))[1] == 12 + 2 * 3
    assert isinstance(await demo.reserve("ticket"), NoSlot)
    demo.change_plan(Plan.PAID)
    assert isinstance(await demo.reserve("ticket"), Grant)
    bench.clock.now += DAY + 900
    assert await _used(bench(plan=Plan.DEMO)) == [0, 0]


async def test_what_nobody_needs_is_dropped_from_the_file(bench: Bench) -> None:
    await _take(bench(plan=Plan.DEMO))
    paid = bench(plan=Plan.PAID)
    for _ in range(50):
        bench.clock.now += 60
        await paid.record(10)
    assert len(_state(bench.path)["spent"]) <= 15 + 20


async def test_windows_that_are_aligned_follow_the_wall_clock(bench: Bench) -> None:
    plan = Plan("day", limits=RateLimit(1, per=DAY, aligned=True))
    ledger = bench(plan=plan, wall=lambda: bench.clock.now + 5 * DAY - 1_000 - 300)
    (grant,) = await _take(ledger)
    await ledger.commit(grant, Outcome())
    assert (await ledger.reserve("next")).delay == pytest.approx(300)


async def test_projected_and_snapshot_change_nothing(bench: Bench) -> None:
    ledger = bench()
    await _take(ledger, 4)
    before = _state(bench.path)
    bench.clock.now += 30
    assert (await ledger.projected(5)).delay > 0
    await ledger.snapshot()
    assert _state(bench.path) == before


async def test_a_random_history_is_that_of_an_account_in_memory(bench: Bench) -> None:
    """Several ledgers on one file, some of them short-lived, do what one account does."""
    plan = Plan("two windows", limits=(RateLimit(3, per=10), RateLimit(8, per=100)))
    random_ = random.Random(5)
    account = WindowLog(plan, lease=40.0, ahead=1.0)
    ledgers = [bench(plan=plan, lease=40.0) for _ in range(3)]
    held: list[Grant] = []
    for _ in range(300):
        bench.clock.now += random_.choice([0, 0, 0.25, 1, 3])
        now, ledger = bench.clock.now, random_.choice(ledgers)
        match random_.choice(["reserve", "reserve", "commit", "give_back", "leave", "restart"]):
            case "reserve":
                ticket = random_.choice("abc")
                answer, expected = await ledger.reserve(ticket), account.reserve(ticket, now)
                if isinstance(answer, Grant):
                    held.append(answer)
                    assert answer.slot == expected.slot  # type: ignore[union-attr]
                else:
                    assert answer.delay == expected.ask_at - now  # type: ignore[union-attr]
            case "commit" if held:
                grant = held.pop(random_.randrange(len(held)))
                await ledger.commit(grant, Outcome())
                account.spend(grant.slot, now)
                account.refusals.accept(grant.granted_at)
            case "give_back" if held:
                grant = held.pop(random_.randrange(len(held)))
                await ledger.give_back(grant)
                account.give_back(grant.slot)
            case "leave":
                ledger.leave("b")
                await ledger.snapshot()
                account.leave("b")
            case "restart":
                await ledger.aclose()
            case _:
                pass
        used = [state.used for state in account.states(now)]
        assert await _used(random_.choice(ledgers)) == used


# --- the file ------------------------------------------------------------------------------


def _state(path: Path) -> dict[str, Any]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (text,) = connection.execute("SELECT state FROM account").fetchone()
    state: dict[str, Any] = json.loads(text)
    return state


def _edit(path: Path, sql: str, *arguments: object) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(sql, arguments)
        connection.commit()


async def test_folders_are_made_and_the_file_is_opened_when_it_is_used(bench: Bench) -> None:
    path = bench.path.parent / "some" / "where" / "quota.db"
    ledger = bench(path=str(path))
    assert not path.parent.exists()
    await ledger.snapshot()
    assert path.is_file()


async def test_a_path_means_a_file_whatever_it_looks_like(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.path.parent)
    await _take(bench(path="relative.db"))
    await _take(bench(path=":memory:"))
    monkeypatch.setenv("HOME", str(bench.path.parent / "home"))
    monkeypatch.setenv("USERPROFILE", str(bench.path.parent / "home"))
    await _take(bench(path="~/quota.db"))
    made = {path.relative_to(bench.path.parent).as_posix() for path in bench.files()}
    assert {"relative.db", "home/quota.db"} <= made


@pytest.mark.parametrize(("plan", "synchronous"), [(Plan.PAID, 1), (Plan.DEMO, 2)])
async def test_a_quota_is_on_the_disk_before_it_is_relied_on(
    bench: Bench, plan: Plan, synchronous: int
) -> None:
    ledger = bench(plan=plan)
    await ledger.snapshot()
    assert ledger._worker is not None
    store = ledger._worker.store

    def pragma(name: str) -> object:
        assert store._connection is not None
        return store._connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert (pragma("synchronous"), pragma("journal_mode")) == (synchronous, "wal")
    ledger.change_plan(Plan.DEMO)
    await ledger.snapshot()
    assert pragma("synchronous") == 2


async def test_time_goes_on_where_it_was(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading(1.7e9, 500.0, "first")
    monkeypatch.setattr(sqlite_store, "read_machine_clock", lambda: reading)
    ledger = bench(now=None, speed=10.0)
    for grant in await _take(ledger, 4):
        await ledger.commit(grant, Outcome())
    await ledger.aclose()
    assert _state(bench.path)["clock"] == [0.0, 1.7e9, 500.0, "first"]
    # A step of the wall clock is not time that passed; five seconds are fifty of the server's.
    reading = Reading(1.7e9 + 86_400, 505.0, "first")
    ledger = bench(now=None, speed=10.0)
    assert (await ledger.reserve("next")).delay == pytest.approx(10.0)
    reading = Reading(1.7e9 + 86_400 + 2, 1.0, "second")
    assert isinstance(await bench(now=None, speed=10.0).reserve("next"), Grant)
    assert _state(bench.path)["clock"] == [7.0, 1.7e9 + 86_402, 1.0, "second"]


async def test_the_real_clock_runs(bench: Bench) -> None:
    ledger = bench(now=None, speed=1e6, plan=Plan("quick", limits=RateLimit(1, per=60)))
    for _ in range(5):
        answer = await ledger.reserve("ticket")
        while isinstance(answer, NoSlot):
            await asyncio.sleep(answer.delay / 1e6)
            answer = await ledger.reserve("ticket")
        await ledger.commit(answer, Outcome())
    assert _state(bench.path)["clock"][0] >= 4 * 60e-6


async def test_the_name_is_all_that_the_file_knows_of_the_key(bench: Bench) -> None:
    from llamagen_async.ratelimit.registry import Identity

    name = Identity.of("sk-very-secret", "https://example.com", 1.0, None).name
    ledger = bench(name=name)
    await _take(ledger, 4)
    await ledger.reserve("ticket")
    content = b"".join(path.read_bytes() for path in bench.path.parent.iterdir())
    assert name.encode() in content
    assert b"secret" not in content
    assert "secret" not in repr(ledger)


async def test_a_file_that_was_deleted_is_made_again_and_shared_again(bench: Bench) -> None:
    one = bench()
    await _take(one, 2)
    for path in bench.path.parent.iterdir():
        path.unlink()
    other = bench()
    await _take(other, 1)
    await _take(one, 1)
    assert await _used(one) == await _used(other) == [2]
    await one.aclose()
    await other.aclose()
    assert await _used(bench()) == [2]


# --- failures ------------------------------------------------------------------------------


async def _fails(ledger: SQLiteLedger, *words: str) -> None:
    with pytest.raises(StoreError) as caught:
        await ledger.reserve("ticket")
    for word in words:
        assert word in str(caught.value)


async def test_a_file_that_is_no_database(bench: Bench) -> None:
    bench.path.write_text("These are my notes, and they are longer than a header. " * 10)
    await _fails(bench(), str(bench.path), "not a database", "name another file")
    assert bench.path.read_text().startswith("These are my notes")


async def test_a_folder(bench: Bench) -> None:
    await _fails(bench(path=bench.path.parent), str(bench.path.parent), "name a file")


async def test_a_folder_that_can_not_be_made(bench: Bench) -> None:
    bench.path.write_text("")
    await _fails(bench(path=bench.path / "quota.db"), str(bench.path), "name a file in a folder")


async def test_the_database_of_another_program_is_left_alone(bench: Bench) -> None:
    _edit(bench.path, "CREATE TABLE precious (content)")
    content = bench.path.read_bytes()
    await _fails(bench(), str(bench.path), "another program")
    assert bench.path.read_bytes() == content
    _edit(bench.path, "PRAGMA application_id = 7")
    await _fails(bench(), "another program")


async def test_a_newer_schema(bench: Bench) -> None:
    await bench().snapshot()
    await bench.aclose()
    _edit(bench.path, "PRAGMA user_version = 2")
    await _fails(bench(), str(bench.path), "schema 2", "upgrade")


async def test_a_file_that_may_not_be_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench().snapshot()
    await bench.aclose()
    _connect_with(monkeypatch, "PRAGMA query_only = 1")
    await _fails(bench(), str(bench.path), "readonly", "may not be written")


async def test_a_full_disk_and_room_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await _take(bench(), 1)
    with monkeypatch.context() as full:
        _connect_with(full, "PRAGMA max_page_count = 1")
        ledger = bench(name="n" * 5_000)
        await _fails(ledger, str(bench.path), "full", "make room")
    await _take(ledger, 1)
    assert await _used(bench()) == [1]


def _connect_with(monkeypatch: pytest.MonkeyPatch, pragma: str) -> None:
    connect = sqlite3.connect

    def limited(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.execute(pragma)
        return connection

    monkeypatch.setattr(sqlite3, "connect", limited)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: "not JSON",
        lambda state: "[]",
        lambda state: "null",
        lambda state: b"\xff\xfe\x00",
        lambda state: 5,
        lambda state: json.dumps({}),
        lambda state: json.dumps(state | {"spent": ["yesterday"]}),
        lambda state: json.dumps(state | {"spent": [5.0, 3.0]}),
        lambda state: json.dumps(state | {"spent": [float("nan")]}),
        lambda state: json.dumps(state | {"held": [[1, 2, 3]]}),
        lambda state: json.dumps(state | {"held": 7}),
        lambda state: json.dumps(state | {"line": [["a"]]}),
        lambda state: json.dumps(state | {"burst": 0}),
        lambda state: json.dumps(state | {"last_slot": None}),
        lambda state: json.dumps(state | {"last_slot": 10**400}),
        lambda state: json.dumps(state | {"clock": "noon"}),
        lambda state: json.dumps(state | {"clock": [1.0, 2.0]}),
        lambda state: json.dumps(state | {"clock": [float("inf"), 1.0, 1.0, None]}),
    ],
)
async def test_a_row_that_makes_no_sense(
    bench: Bench, change: Callable[[dict[str, Any]], object]
) -> None:
    ledger = bench()
    await _take(ledger, 1)
    good = json.dumps(_state(bench.path))
    _edit(bench.path, "UPDATE account SET state = ?", change(json.loads(good)))
    for one in (ledger, bench()):
        await _fails(one, str(bench.path), "damaged", "move the file away")
    _edit(bench.path, "UPDATE account SET state = ?", good)
    assert await _used(ledger) == [1]


async def test_a_table_that_is_not_as_it_should_be(bench: Bench) -> None:
    ledger = bench()
    await _take(ledger, 1)
    _edit(bench.path, "ALTER TABLE account RENAME TO elsewhere")
    await _fails(ledger, str(bench.path), "name another file")


async def test_a_file_that_another_program_keeps_locked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_LOCK_SHARE", 0.02)
    ledger = bench()
    await _take(ledger, 1)
    with contextlib.closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        await _fails(ledger, str(bench.path), "locked", "another program")
        other.execute("COMMIT")
    await _take(ledger, 1)


async def test_a_disk_that_hangs_does_not_hang_its_user(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it begins to do so while nobody asks; see `sqlite_worker` for when it does not."""
    ledger, gate, later = bench(), _Gate(), Later(monkeypatch)
    await _take(ledger, 2)
    later.seconds += 1.1 * sqlite_worker._AWAKE
    with monkeypatch.context() as hanging:
        hanging.setattr(Row, "write", gate.before(Row.write))
        hanging.setattr(ledger, "_timeout", 0.03)
        await _fails(ledger, str(bench.path), "no answer within 0.03 s")
    gate.open.set()
    # What nobody waited for any more was given back.
    assert await _used(ledger) == [2]


# --- at once, or in the thread -------------------------------------------------------------


class Later:
    """Lets time pass by which it is known whether somebody asked a moment ago."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        for room in (sqlite_worker, sqlite_store):
            monkeypatch.setattr(room, "monotonic", lambda: self.seconds)


@attrs.define
class Doers:
    """Notes who wrote: the event loop's thread, or the other one."""

    at_once: list[bool] = attrs.field(factory=list)
    during: Callable[[], None] = lambda: None

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            self.at_once.append(threading.current_thread() is threading.main_thread())
            self.during()
            return function(*arguments)

        return wrapped

    def last(self) -> bool:
        return self.at_once[-1]


@pytest.fixture
def doers(monkeypatch: pytest.MonkeyPatch) -> Doers:
    doers = Doers()
    monkeypatch.setattr(Row, "write", doers.before(Row.write))
    return doers


WIDE = Plan("wide", limits=RateLimit(10_000, per=60))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    return Later(monkeypatch)


async def test_who_asks_again_in_a_moment_is_served_at_once(
    bench: Bench, doers: Doers, later: Later
) -> None:
    """The first one, and who comes later than that, goes to the thread."""
    ledger = bench(plan=WIDE)
    await _take(ledger, 3)
    assert doers.at_once == [False, True, True]
    later.seconds += 0.9 * sqlite_worker._AWAKE
    await _take(ledger)
    assert doers.last()
    later.seconds += 1.1 * sqlite_worker._AWAKE
    await _take(ledger, 2)
    assert doers.at_once[-2:] == [False, True]


async def test_reports_are_written_at_once_and_in_order(
    bench: Bench, doers: Doers, later: Later
) -> None:
    """And who listens hears of what came back."""
    ledger, other = bench(plan=WIDE), bench(plan=WIDE)
    heard: list[bool] = []
    one, two, three = await _take(ledger, 3)
    ledger.subscribe(lambda: heard.append(doers.last()))
    doers.at_once.clear()
    await ledger.commit(one, Outcome())
    await ledger.commit(two, ANSWERED)
    ledger.return_unused([three])
    assert doers.at_once == [True, True]
    assert heard == [True]
    seen = await other.snapshot()
    assert (seen.in_flight, seen.windows[0].used) == (0, 2)


async def test_after_a_slow_one_the_thread_does_the_next(
    bench: Bench, doers: Doers, later: Later
) -> None:
    """A disk that has just been slow may be so again."""
    ledger = bench(plan=WIDE)
    await _take(ledger, 2)

    def slow() -> None:
        later.seconds += 2 * sqlite_worker._QUICK

    doers.during = slow
    await _take(ledger, 3)
    assert doers.at_once[2:] == [True, False, False]
    doers.during = lambda: None
    await _take(ledger, 2)
    assert doers.at_once[-2:] == [False, True]


async def test_what_another_process_holds_the_thread_waits_for(
    bench: Bench, doers: Doers, later: Later
) -> None:
    """The event loop goes on meanwhile; nothing is done twice."""
    ledger, patience = bench(plan=WIDE), list[int]()

    def note() -> None:
        assert ledger._worker is not None
        connection = ledger._worker.store._connection
        assert connection is not None
        patience.append(connection.execute("PRAGMA busy_timeout").fetchone()[0])

    doers.during = note
    await _take(ledger, 2)
    assert patience[0] > 0
    assert patience[1] == 0, "milliseconds that the event loop waits for a lock"
    with contextlib.closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        asking = asyncio.ensure_future(ledger.reserve("ticket"))
        await asyncio.sleep(0)
        assert not asking.done()
        other.execute("COMMIT")
        assert isinstance(await asking, Grant)
    assert doers.at_once[2:] == [False]
    assert await _used(ledger) == [3]


async def test_who_comes_after_others_does_not_overtake_them(bench: Bench, gate: _Gate) -> None:
    """While something is in the thread, all else goes there, too."""
    ledger = bench(plan=WIDE)
    gate.open.set()
    await _take(ledger, 2)
    assert ledger._worker is not None
    ledger._worker._awake_until = float("inf")
    gate.open.clear()
    ledger._hand_over(ledger._transaction(lambda *_: None, write=True, notify=False))
    asking = asyncio.ensure_future(ledger.reserve("ticket"))
    await asyncio.sleep(0)
    assert not asking.done()
    gate.open.set()
    assert isinstance(await asking, Grant)


async def test_what_must_be_on_the_disk_is_never_written_at_once(
    bench: Bench, doers: Doers, later: Later
) -> None:
    """A day's quota; also if it is a plan's that came later."""
    ledger = bench(plan=Plan("day", limits=RateLimit(50, per=DAY)))
    await _take(ledger, 3)
    assert doers.at_once == [False] * 3
    other = bench(plan=WIDE, name="other")
    await _take(other, 2)
    other.change_plan(Plan("day", limits=RateLimit(50, per=DAY)))
    await _take(other, 2)
    other.change_plan(WIDE)
    await _take(other, 2)
    assert doers.at_once[3:] == [False, True, False, False, False, True]


async def test_without_a_log_nothing_is_written_at_once(
    bench: Bench, doers: Doers, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLite can't have one, each commit waits for the disk."""
    prepare = sqlite_store._prepare
    monkeypatch.setattr(sqlite_store, "_prepare", lambda *where: prepare(*where) and "delete")
    await _take(bench(plan=WIDE), 3)
    assert doers.at_once == [False] * 3


async def test_the_log_is_carried_into_the_file_by_the_thread(
    bench: Bench, doers: Doers, later: Later
) -> None:
    """Now and then, and it does not grow for ever."""
    ledger = bench(plan=WIDE)
    await _take(ledger, 2)
    log = bench.path.with_name(bench.path.name + "-wal")
    sizes: list[int] = []
    for _ in range(3):
        doers.at_once.clear()
        for _ in range(sqlite_store._CHECKPOINT_AFTER // 2):
            await ledger.give_back(*await _take(ledger))
        assert doers.at_once.count(False) == 1
        sizes.append(log.stat().st_size)
    assert sizes[0] == sizes[1] == sizes[2]


async def test_a_file_that_was_moved_away_is_not_written_at_once(
    bench: Bench, doers: Doers, later: Later
) -> None:
    """Nobody else would see it."""
    ledger = bench(plan=WIDE)
    await _take(ledger, 2)
    for path in bench.path.parent.iterdir():
        path.rename(path.with_name("moved " + path.name))
    await _take(ledger, 1)
    assert doers.at_once == [False, True, False]
    assert bench.path.exists()


async def test_a_folder_that_may_not_be_entered_any_more(
    bench: Bench, doers: Doers, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the thread that says so, whoever found out."""
    ledger = bench(plan=WIDE)
    await _take(ledger, 2)

    def closed(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(sqlite_store, "_identity", closed)
    await _fails(ledger, str(bench.path), "Permission denied")
    assert doers.at_once == [False, True]


# --- cancellation and the end --------------------------------------------------------------


@attrs.define
class _Gate:
    """Holds the ledger's thread up in the middle of a transaction."""

    reached: threading.Event = attrs.field(factory=threading.Event)
    open: threading.Event = attrs.field(factory=threading.Event)

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            self.reached.set()
            assert self.open.wait(10)
            return function(*arguments)

        return wrapped


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> _Gate:
    gate = _Gate()
    monkeypatch.setattr(Row, "write", gate.before(Row.write))
    monkeypatch.setattr(sqlite_worker, "_AWAKE", -1.0)  # nothing is done at once
    return gate


async def _cancel_in_the_middle(gate: _Gate, operation: Any) -> None:
    gate.reached.clear()
    gate.open.clear()
    task = asyncio.ensure_future(operation)
    await asyncio.to_thread(gate.reached.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()


async def test_a_cancelled_reserve_keeps_neither_slot_nor_place(bench: Bench, gate: _Gate) -> None:
    ledger = bench()
    await _cancel_in_the_middle(gate, ledger.reserve("ticket"))
    assert await _used(ledger) == [0]
    await _take(ledger, 4)
    await _cancel_in_the_middle(gate, ledger.reserve("gone"))
    await ledger.snapshot()
    assert _state(bench.path)["line"] == []


async def test_a_cancelled_commit_is_committed(bench: Bench, gate: _Gate) -> None:
    ledger = bench()
    gate.open.set()
    one, other = await _take(ledger, 2)
    await _cancel_in_the_middle(gate, ledger.commit(one, Outcome(refused=True, retry_after=9)))
    snapshot = await ledger.snapshot()
    assert (snapshot.in_flight, snapshot.windows[0].used, snapshot.paused_for) == (1, 2, 9)
    await _cancel_in_the_middle(gate, ledger.give_back(other))
    assert await _used(ledger) == [1]
    await _cancel_in_the_middle(gate, ledger.record(2))
    assert await _used(ledger) == [3]


async def test_an_answer_is_written_alone_only_if_nothing_else_writes_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer of one that travelled with a question watches over the next one instead."""
    monkeypatch.setattr(sqlite, "_MOMENT", 3600.0)  # the test is the timer
    loop, ledger, other = asyncio.get_running_loop(), bench(), bench()
    (one,) = await _take(ledger)
    await ledger.commit(one, ANSWERED)
    assert (await other.snapshot()).in_flight == 1, "not written yet"
    (two,) = await _take(ledger)
    await ledger.commit(two, ANSWERED)
    ledger._watch(loop, one)
    assert ledger._answered == [two]
    assert ledger._watched_by is loop
    ledger._watch(loop, two)
    assert ledger._watched_by is None
    await ledger.snapshot()  # which comes after what the timer has begun
    assert (await other.snapshot()).in_flight == 0
    assert await _used(other) == [2]
    ledger._watch(loop, two)
    (three,) = await _take(ledger)
    await ledger.commit(three, ANSWERED)
    assert ledger._watched_by is loop


async def test_what_was_written_before_is_not_written_differently(bench: Bench) -> None:
    """Times are made text once; whoever reads the row sees the same as if they were made anew."""
    draw, plan = random.Random(5), Plan("many", limits=RateLimit(30, per=60))
    ledgers = [bench(plan=plan), bench(plan=plan)]
    for _ in range(150):
        bench.clock.now += draw.choice([0.0, 0.1, 1 / 3, 2.0, 7.0, 45.0])
        ledger = draw.choices(ledgers, [9, 1])[0]
        if draw.random() < 0.2:
            await ledger.record(draw.randint(0, 4))
        elif isinstance(grant := await ledger.reserve("ticket"), Grant):
            await ledger.commit(grant, Outcome())
        assert ledger._worker is not None
        row = ledger._worker.store._row
        assert row is not None
        assert json.loads(row.text)["spent"] == row.account.dump()["spent"]
        assert row._encoded == [repr(at) for at in row.spent]


async def test_the_end_waits_for_what_was_cancelled(bench: Bench, gate: _Gate) -> None:
    ledger = bench()
    task = asyncio.ensure_future(ledger.reserve("ticket"))
    await asyncio.to_thread(gate.reached.wait, 10)
    task.cancel()
    closing = asyncio.ensure_future(ledger.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.open.set()
    await closing
    assert task.cancelled()
    assert not _threads()
    assert _state(bench.path)["held"] == []


async def test_a_cancel_that_comes_after_the_end_still_gives_back(
    bench: Bench, gate: _Gate
) -> None:
    ledger = bench()
    task = asyncio.ensure_future(ledger.reserve("ticket"))
    await asyncio.to_thread(gate.reached.wait, 10)
    closing = asyncio.ensure_future(ledger.aclose())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert task.cancelled()
    gate.open.set()
    await closing
    assert not _threads()
    assert _state(bench.path)["held"] == []


@pytest.mark.parametrize("seed", range(5))
async def test_cancelling_at_any_moment_leaks_nothing(bench: Bench, seed: int) -> None:
    random_ = random.Random(seed)
    ledger = bench(plan=Plan("many", limits=RateLimit(1_000, per=60)))
    kept: list[Grant] = []

    async def work(number: int) -> None:
        grant = await ledger.reserve(f"ticket {number}")
        assert isinstance(grant, Grant)
        kept.append(grant)
        if number % 3 == 0:
            await ledger.commit(grant, Outcome())

    tasks = [asyncio.ensure_future(work(number)) for number in range(60)]
    while not all(task.done() for task in tasks):
        random_.choice(tasks).cancel()
        for _ in range(random_.randrange(4)):
            await asyncio.sleep(0)
        await asyncio.sleep(random_.random() / 1_000)
    await asyncio.wait(tasks)
    assert await _used(ledger) == [len(kept)]
    assert _state(bench.path)["line"] == []
    await ledger.aclose()
    assert not _threads()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_listeners_hear_of_what_came_back_here(bench: Bench, gate: _Gate) -> None:
    ledger, other = bench(), bench()
    heard: list[str] = []
    unsubscribe = ledger.subscribe(lambda: heard.append("changed"))
    gate.open.set()
    one, two = await _take(ledger, 2)
    await ledger.commit(one, Outcome())
    assert heard == []
    await ledger.give_back(two)
    ledger.leave("ticket")
    await ledger.snapshot()
    assert heard == ["changed"] * 2
    other.leave("ticket")
    await _cancel_in_the_middle(gate, ledger.reserve("ticket"))
    await ledger.snapshot()
    assert heard == ["changed"] * 3
    unsubscribe()
    ledger.leave("ticket")
    await ledger.snapshot()
    assert heard == ["changed"] * 3


async def test_closed_ledgers_still_answer_and_let_go_by_themselves(bench: Bench) -> None:
    ledger = bench()
    await ledger.aclose()
    await _take(ledger, 1)
    await ledger.aclose()
    assert await _used(ledger) == [1]
    await ledger.aclose()
    assert not _threads()


async def test_a_failure_that_nobody_waits_for_is_logged(
    bench: Bench, gate: _Gate, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = bench()
    gate.open.set()
    (grant,) = await _take(ledger, 1)

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("the disk is gone")

    monkeypatch.setattr(Row, "write", gate.before(broken))
    await _cancel_in_the_middle(gate, ledger.commit(grant, Outcome()))
    await ledger.aclose()
    assert "the disk is gone" in caplog.text


def test_several_event_loops_use_one_ledger(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "quota.db", name="a", plan=FOUR, lease=900)
    grants: list[Grant | NoSlot] = []

    async def use() -> None:
        grants.append(await ledger.reserve("ticket"))

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(grant, Grant) for grant in grants) == 4
    asyncio.run(ledger.aclose())
    assert not _threads()


def test_loops_in_several_threads_never_use_the_file_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does it: each of them at once, or the thread."""
    monkeypatch.setattr(sqlite_worker, "_AWAKE", float("inf"))
    monkeypatch.setattr(sqlite_worker, "_QUICK", float("inf"))
    ledger = SQLiteLedger(tmp_path / "quota.db", name="a", plan=WIDE, lease=900)
    inside, write, most = list[None](), Row.write, list[int]()

    def noting(*arguments: Any) -> str:
        inside.append(None)
        most.append(len(inside))
        try:
            return write(*arguments)
        finally:
            inside.pop()

    monkeypatch.setattr(Row, "write", noting)

    async def use() -> None:
        for number in range(100):
            grant = await ledger.reserve("ticket")
            assert isinstance(grant, Grant)
            if number % 2:
                await ledger.give_back(grant)

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(asyncio.run, use()) for _ in range(4)]:
            done.result()
    assert max(most) == 1
    assert asyncio.run(ledger.snapshot()).in_flight == 4 * 50
    asyncio.run(ledger.aclose())
    assert not _threads()


def test_a_loop_that_ends_early_leaves_nothing_undone(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path / "quota.db", name="a", plan=FOUR, lease=900)

    async def begin() -> None:
        task = asyncio.ensure_future(ledger.reserve("ticket"))
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(begin())
    assert asyncio.run(_used(ledger)) == [0]
    asyncio.run(ledger.aclose())


_FORK = """
import asyncio, os, sys
from llamagen_async import Plan
from llamagen_async.ratelimit.sqlite import executor as sqlite_worker
from llamagen_async.ratelimit.sqlite.ledger import SQLiteLedger

sqlite_worker._AWAKE = float("inf")
ledger = SQLiteLedger(sys.argv[1], name="a", plan=Plan.PAID, lease=900)
asyncio.run(ledger.reserve("parent"))
child = os.fork()
asyncio.run(ledger.reserve("either"))
if child:
    assert os.waitpid(child, 0)[1] == 0
    print(asyncio.run(ledger.snapshot()).in_flight)
asyncio.run(ledger.aclose())
os._exit(0) if not child else None
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_a_connection_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORK, str(tmp_path / "quota.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("3", 0), done.stderr
