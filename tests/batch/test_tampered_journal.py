"""A journal that somebody has written to: an error that names it, and no wait without an end."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from llamagen_async import ComicQueue, LlamaGenError, Plan
from tests.support.journals import raw
from tests.support.machine import Machine, Pictures, fetching

pytestmark = [pytest.mark.virtual_time, pytest.mark.once]

DEEP = f"'{'[' * 100_000}'"
VALUES: dict[str, list[object]] = {
    "digest": ["''", "'text'", "5"],
    "request": ["''", "'[]'", "'5'", "'{\"prompt\": 5}'", "x'ff'", "NULL", DEEP],
    "urgent": ["2", "-1", "'yes'"],
    "label": ["x'ff'", "7"],
    "position": ["'first'", "-5", "9223372036854775807"],
    "state": ["'paused'", "''", "5", "'queued '", "'running'", "'succeeded'", "'sending'"],
    "attempts": ["'many'"],
    "generation_id": ["'another'", "''", "x'ff'", "NULL"],
    "generation": [DEEP, "''", "'[]'", "'{}'", '\'{"id": "another"}\'', "NULL", "x'ff'"],
    "error": [DEEP, "''", "'[]'", "'{}'", '\'{"type": 5, "message": []}\'', "x'ff'"],
    "files": [
        DEEP,
        "'5'",
        "'[5]'",
        "'[\"../../etc/passwd\"]'",
        "'[\"/etc/passwd\"]'",
        "'{'",
        "x'ff'",
    ],
    "queued_at": ["'soon'", "1e300", "-1e300", "x'ff'"],
    "sent_at": ["'soon'", "1e300"],
    "accepted_at": ["'soon'", "1e300"],
    "ended_at": ["'soon'", "1e300", "x'ff'"],
    "id": ["-3", "0"],
}
STATES = ("queued", "running", "succeeded")
CASES = [
    (column, value, state)
    for column, values in VALUES.items()
    for value in values
    for state in STATES
]


async def made(machine: Machine, state: str) -> None:
    """Make a journal with one story in a state, and a good one behind it."""
    stories = [{"prompt": "a cat", "key": "k"}]
    await machine.batch(stories, leave_after=1, timeout=1)
    unsent = ", generation_id = NULL, generation = NULL, ended_at = NULL"
    more = unsent if state == "queued" else ""
    raw(machine.journal, f"UPDATE job SET state = '{state}'{more}")


async def use(machine: Machine) -> list[BaseException | None]:
    """Run the batch again, then the queue; return what was raised or told."""
    told: list[BaseException | None] = []
    stories = [{"prompt": "a cat", "key": "k"}, {"prompt": "a dog", "key": "l"}]
    try:
        told += [item.error for item in await machine.batch(stories, out=machine.journal.parent)]
    except Exception as error:  # noqa: BLE001  # whatever it is
        told.append(error)
    async with machine.open() as client:
        queue = ComicQueue(client, machine.journal, out=machine.journal.parent)
        try:
            jobs = [
                await queue.submit(story, key=key)
                for key, story in (("k", "a cat"), ("m", "a fox"))
            ]
            results = (queue.result(job) for job in jobs)
            outcomes = await asyncio.gather(*results, return_exceptions=True)
            told += [one for one in outcomes if isinstance(one, BaseException)]
        except Exception as error:  # noqa: BLE001  # whatever it is
            told.append(error)
        finally:
            await queue.aclose()
    return told


@pytest.mark.parametrize(("column", "value", "state"), CASES)
async def test_a_value_that_nobody_here_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, value: str, state: str
) -> None:
    """Each column of a row in each state: what is told is an error of the package, and soon."""
    machine = Machine(tmp_path)
    monkeypatch.setattr("llamagen_async.comics.Comics.download", fetching(Pictures()))
    await made(machine, state)
    with contextlib.suppress(sqlite3.IntegrityError):  # the table does not take it
        raw(machine.journal, f"UPDATE job SET {column} = {value}")
    async with asyncio.timeout(20_000):
        told = await use(machine)
    foreign = [
        error for error in told if error is not None and not isinstance(error, LlamaGenError)
    ]
    assert not foreign
    assert machine.stories["a cat"] <= 1 + (state == "queued")
    assert machine.stories["a dog"] <= 1


async def test_a_damaged_job_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """The reader of its events is told, and what waits behind it is sent."""
    machine = Machine(tmp_path, plan=Plan.PAID)
    async with machine.open() as client, ComicQueue(client, machine.journal) as queue:
        await asyncio.gather(*(client.comics.usage() for _ in range(10)))  # no slot is left for it
        await queue.submit("a cat", key="k")
    raw(machine.journal, "UPDATE job SET request = '{' WHERE state = 'queued'")
    async with machine.open() as client, ComicQueue(client, machine.journal) as queue:
        other = await queue.submit("a dog", key="l")
        assert (await queue.result(other)).succeeded
        job = await queue.get("k")
        assert job is not None
        with pytest.raises(LlamaGenError, match="damaged"):
            await queue.result(job)
