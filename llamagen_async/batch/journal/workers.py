"""The workers that share a journal: which of them is alive, and which works on which story.

Everything here runs inside a transaction. A story that waits belongs to nobody. Whoever is about to
send it writes its own name beside it in the transaction that writes `sending`, so of several that
try only one sends. From then on the story is that worker's until its end.

A worker is alive while its lease is renewed. One that is known to be dead, or has not renewed its
lease for `LEASE` seconds, loses its stories: what it was sending is uncertain, and what runs is
waited for by somebody else. If it comes back (it was suspended), it finds its name gone.

Leases are measured by a clock that nobody can set, which all processes of a machine share and which
stands still while the machine sleeps: all of its workers sleep with it. Another boot ends all.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import attrs

from llamagen_async.batch.journal.codec import AccountId

__all__ = [
    "BEAT",
    "HANDED_OVER",
    "LEASE",
    "Worker",
    "adopt",
    "claim",
    "end",
    "forget_all",
    "give_back",
    "has_orphans",
    "leave",
    "others",
    "pass_on",
    "passed_on",
    "progress",
    "remove",
    "renew",
    "take_all",
    "waited_for",
]

LEASE: Final = 20.0
"""Real seconds after which a worker that was not heard of counts as dead (chosen: four beats, and
longer than an event loop that answers requests is ever blocked)."""
BEAT: Final = 5.0
"""Real seconds between two renewals of a lease."""
HANDED_OVER: Final = "*"
"""The name beside a story whose worker has left it to the next one."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
"""The file in which Linux tells one boot from another, see `random(4)`."""
_PROCESS_IDS: Final = Path("/proc/self/ns/pid")
"""The space of process ids on Linux: in two containers the same id is not the same process."""
_RENEW: Final = "UPDATE worker SET beat = max(beat, :beat) WHERE token = :token"
_REGISTER: Final = """
    INSERT INTO worker (token, process, place, base_url, account, beat)
    VALUES (:token, :process, :place, :base_url, :account, :beat)
"""
_FREE: Final = """
    UPDATE job SET worker = '*'
    WHERE worker IN (SELECT value FROM json_each(:tokens)) AND state IN ('running', 'succeeded')
"""
_UNOWNED: Final = "(worker = '*' OR worker NOT IN (SELECT token FROM worker))"
_ORPHANS: Final = f"""
    WHERE state IN ('running', 'succeeded') AND worker > '' AND {_UNOWNED}
    OR state = 'running' AND worker IS NULL
"""
"""Stories that nobody works on and that somebody has to."""
_CLAIM: Final = f"""
    UPDATE job SET worker = :token, error = NULL
    WHERE id = :id AND (worker IS NULL OR worker = '' OR {_UNOWNED})
        AND (state = 'running' OR state = 'succeeded' AND files IS NULL)
"""  # noqa: S608  # constants
_WAITED_FOR: Final = """
    SELECT id FROM job WHERE worker = ? AND state IN ('running', 'succeeded') ORDER BY id
"""
_GIVE_BACK: Final = """
    UPDATE job SET worker = '*' WHERE worker = ? AND state IN ('running', 'succeeded')
"""
_TAKE_ALL: Final = "UPDATE job SET worker = '*', error = NULL WHERE state = 'running'"
_FORGET_ALL: Final = """
    UPDATE job SET worker = NULL, error = iif(worker = '', NULL, error) WHERE worker IS NOT NULL
"""
_END: Final = """
    DELETE FROM worker WHERE token = ? AND NOT EXISTS (
        SELECT 1 FROM job WHERE worker = worker.token AND state = 'sending'
    )
"""
_PROGRESS: Final = """
    UPDATE job SET generation = :generation
    WHERE id = :id AND state = 'running' AND worker = :token
"""
_KEPT: Final = 600.0
"""Real seconds for which a webhook event is kept for other workers, which read it at once."""
_FORGET: Final = """
    DELETE FROM event
    WHERE id IN (SELECT id FROM event ORDER BY id LIMIT 10) AND at NOT BETWEEN ? AND ?
"""
"""Forgets a few of the oldest webhook events: to look at all of them, which may be large, with each
new one would take longer and longer."""
_LEAVE: Final = """
    UPDATE job SET worker = :next, error = coalesce(:error, error)
    WHERE id = :id AND worker = :token
"""


@functools.cache
def _place() -> str:
    boot = space = ""
    with contextlib.suppress(OSError, ValueError):
        boot = _BOOT_ID.read_text("ascii").strip()
        space = str(_PROCESS_IDS.readlink())
    return f"{boot}/{space}"


@attrs.frozen
class Worker:
    """One queue that works with a shared journal."""

    token: str
    """The worker's name, which no other one ever has."""
    account: AccountId
    """The account whose generations it works on."""
    process: int = attrs.field(factory=os.getpid)
    """The id of its process."""
    place: str = attrs.field(factory=_place)
    """The boot of the machine and the space in which its process ids are counted; empty if the
    system does not say."""


def renew(worker: Worker, beat: float, connection: sqlite3.Connection) -> bool:
    """Renew a worker's lease; return whether it was registered before.

    Args:
        worker: The worker.
        beat: The time, by the clock of leases.
        connection: The journal.
    """
    values = {"token": worker.token, "beat": beat}
    if connection.execute(_RENEW, values).rowcount:
        return True
    account = attrs.asdict(worker.account)
    more = {"process": worker.process, "place": worker.place}
    connection.execute(_REGISTER, {**values, **account, **more})
    return False


def others(
    worker: Worker, now: float, connection: sqlite3.Connection
) -> tuple[list[AccountId], list[str]]:
    """Return the accounts of the other workers that are alive, and the names of the dead.

    Args:
        worker: The worker that asks.
        now: The time, by the clock of leases.
        connection: The journal.
    """
    alive, dead = list[AccountId](), list[str]()
    for token, process, place, base_url, account, beat in connection.execute(
        "SELECT token, process, place, base_url, account, beat FROM worker WHERE token <> ?",
        (worker.token,),
    ):
        if _is_dead(process, place, beat, worker.place, now):
            dead.append(token)
        else:
            alive.append(AccountId(base_url, account))
    return alive, dead


def remove(tokens: Iterable[str], connection: sqlite3.Connection) -> None:
    """Forget workers; what they waited for is to be taken by somebody else."""
    names = json.dumps(list(tokens))
    connection.execute(_FREE, {"tokens": names})
    connection.execute(
        "DELETE FROM worker WHERE token IN (SELECT value FROM json_each(?))", (names,)
    )


def adopt(token: str, connection: sqlite3.Connection) -> None:
    """Give a worker the stories that nobody works on."""
    connection.execute(f"UPDATE job SET worker = ? {_ORPHANS}", (token,))  # noqa: S608  # constants


def waited_for(token: str, connection: sqlite3.Connection) -> list[int]:
    """Return the numbers of the rows of the stories that a worker waits for, by the journal."""
    return [id_ for (id_,) in connection.execute(_WAITED_FOR, (token,))]


def has_orphans(connection: sqlite3.Connection) -> bool:
    """Whether there are stories that nobody works on and that somebody has to."""
    found = connection.execute(f"SELECT EXISTS (SELECT 1 FROM job {_ORPHANS})")  # noqa: S608  # constants
    return bool(found.fetchone()[0])


def claim(token: str, id_: int, connection: sqlite3.Connection) -> bool:
    """Give a worker one story that was accepted, if nobody works on it; return whether it did."""
    return bool(connection.execute(_CLAIM, {"token": token, "id": id_}).rowcount)


def leave(
    token: str, id_: int, next_: str, error: str | None, connection: sqlite3.Connection
) -> None:
    """Note that a worker does nothing more for a story.

    Args:
        token: The worker's name.
        id_: The number of the story's row.
        next_: Who does more: `HANDED_OVER` is anybody, and empty nobody until somebody asks.
        error: Why, as JSON.
        connection: The journal.
    """
    values = {"token": token, "id": id_, "next": next_, "error": error}
    connection.execute(_LEAVE, values)


def take_all(connection: sqlite3.Connection) -> None:
    """Have everything that was accepted waited for, by a worker that is alone."""
    connection.execute(_TAKE_ALL)


def progress(token: str, generations: Mapping[int, str], connection: sqlite3.Connection) -> None:
    """Write how far comics that a worker waits for are drawn, for those who follow elsewhere.

    Args:
        token: The worker's name.
        generations: What the server says of each, by the number of its row.
        connection: The journal.
    """
    values = [{"token": token, "id": id_, "generation": text} for id_, text in generations.items()]
    connection.executemany(_PROGRESS, values)


def pass_on(text: str, at: float, connection: sqlite3.Connection) -> None:
    """Write a webhook event down for the workers of which one may wait for it."""
    connection.execute(_FORGET, (at - _KEPT, at + _KEPT))
    connection.execute("INSERT INTO event (text, at) VALUES (?, ?)", (text, at))


def passed_on(after: int | None, connection: sqlite3.Connection) -> tuple[int, list[str]]:
    """Return the number of the last webhook event, and the events since another one.

    Args:
        after: The number of that one; `None` is the last.
        connection: The journal.
    """
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()
    found = connection.execute(
        "SELECT text FROM event WHERE id > ?", (last if after is None else after,)
    )
    return last, [text for (text,) in found]


def forget_all(connection: sqlite3.Connection) -> None:
    """Forget all workers, for one that is alone and shares nothing."""
    connection.execute(_FORGET_ALL)
    connection.execute("DELETE FROM worker")


def give_back(token: str, connection: sqlite3.Connection) -> None:
    """Leave what a worker waits for to the others."""
    connection.execute(_GIVE_BACK, (token,))


def end(token: str, connection: sqlite3.Connection, *, is_clean: bool) -> None:
    """End a worker's lease.

    Args:
        token: The worker's name.
        connection: The journal.
        is_clean: Whether the file knows all that the worker knows. If not, or if something may be
            on its way, others treat it as one that has died.
    """
    if is_clean:
        connection.execute(_END, (token,))
    connection.execute("UPDATE worker SET beat = beat - 1e9 WHERE token = ?", (token,))


def _is_dead(process: int, place: str, beat: float, here: str, now: float) -> bool:
    boot, _, space = place.partition("/")
    my_boot, _, my_space = here.partition("/")
    if boot and my_boot and boot != my_boot:
        return True
    if abs(now - beat) > LEASE:  # a clock that shows much less than it did was started anew
        return True
    if not (space and space == my_space and sys.platform == "linux"):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it lives, and is somebody else's
    return _has_ended(process)


def _has_ended(process: int) -> bool:
    """Whether a process has ended and its parent has not asked how: a server may take a minute."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return False  # the system does not say
    # Its name comes before, in parentheses, and may have any characters in it: see `proc(5)`.
    return stat.rpartition(")")[2].split()[:1] in (["Z"], ["X"])
