"""Workers that are killed, suspended, closed and replaced at random: no job is ever paid twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llamagen_async import BatchState, LlamaGenError, Plan, RateLimit
from llamagen_async.batch.journal.shared import SharedJournal
from llamagen_async.batch.journal.workers import BEAT, LEASE
from tests.support.machine import Machine
from tests.support.workers import Station

pytestmark = pytest.mark.virtual_time

PLANS = [Plan("fast", limits=RateLimit(30, per=60)), Plan("slow", limits=RateLimit(6, per=60))]
"""On the slow one jobs wait in the memory of several workers."""
JOBS = 24
UNFINISHED = {"queued", "sending", "running"}


class Disorder:
    """A few workers on one machine, to which things happen."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.machine = Machine(
            folder,
            self.chance.choice((5.0, 40.0)),
            self.chance.choice(PLANS),
            latency=(0.0, 3.0),
            seed=seed,
        )
        self.workers: list[Station] = []
        self.gone: list[Station] = []
        self.may_be_lost = 0
        """How many creates were on their way when their worker was killed or suspended."""

    async def hire(self) -> None:
        """Start another worker."""
        worker = Station(self.machine)
        await worker.start()
        self.workers.append(worker)

    async def happen(self) -> None:
        """Do something to one of the workers."""
        worker = self.chance.choice(self.workers)
        what = self.chance.choice(("kill", "suspend", "close", "close at once", "nothing"))
        if what == "nothing" or len(self.workers) < 2:
            return
        if what == "close at once":
            worker = await self._next_sender(worker)
        elif what != "close":
            sending = [state for (state,) in self.machine.rows("state") if state == "sending"]
            self.may_be_lost += len(sending)
        if what == "suspend":
            worker.suspend()
            # Time enough, or not, for others to take its jobs.
            length = self.chance.choice((1.0, LEASE - 1.0, LEASE + 10.0))
            asyncio.get_running_loop().call_later(length, worker.resume)
            return
        self.workers.remove(worker)
        self.gone.append(worker)
        await (worker.kill() if what == "kill" else worker.queue.aclose())
        await self.hire()
        if what == "close at once":
            await asyncio.sleep(2 * BEAT)
            forgotten = self._forgotten()
            await asyncio.sleep(1)  # some may have been taken over just then
            assert not forgotten & self._forgotten()

    async def _next_sender(self, otherwise: Station) -> Station:
        """Return a worker whose create was accepted just now, which others do not know yet."""
        known = self._accepted()
        for _ in range(600):
            await asyncio.sleep(0.01)
            new = self._accepted() - known
            for worker in self.workers:
                if worker.queue._journal.worker in {name for _, name in new}:
                    return worker
        return otherwise

    def _accepted(self) -> set[tuple[str, str]]:
        rows = self.machine.rows("key, worker, state")
        return {(key, name) for key, name, state in rows if state == "running"}

    def _forgotten(self) -> set[tuple[str, str]]:
        """Return the jobs of workers, by the journal, at which these do not work."""
        found = set[tuple[str, str]]()
        for worker in self.workers:
            name, tasks = worker.queue._journal.worker, worker.queue._lifecycle.tasks
            if not worker.is_suspended:
                known = {task.row.key for task in tasks.values()}
                mine = {(key, by) for key, by in self._accepted() if by == name}
                found |= {one for one in mine if one[0] not in known}
        return found

    async def end(self) -> None:
        """End all workers."""
        for worker in (*self.workers, *self.gone):
            await worker.close()


async def ordered(disorder: Disorder, n: int) -> None:
    """Order a job from any worker, again if that one ends meanwhile."""
    while True:
        worker = disorder.chance.choice(disorder.workers)
        try:
            await worker.queue.submit(f"s{n}", key=f"k{n}")
        except LlamaGenError:
            await asyncio.sleep(0.1)
        else:
            return


async def told(disorder: Disorder, n: int) -> list[Any]:
    """Follow a job to its end, at another worker whenever one ends."""
    events: list[Any] = []
    while not events or not events[-1].is_final:
        worker = disorder.chance.choice(disorder.workers)
        after = str(events[-1].mark) if events else None
        try:
            async with asyncio.timeout(100):
                async for event in worker.queue.events(f"k{n}", after=after):
                    if not worker.is_alive:
                        break  # nobody hears what is left of a process that was killed
                    events.append(event)
        except (LlamaGenError, TimeoutError):
            await asyncio.sleep(0.5)
        if events and events[-1].state is BatchState.UNCERTAIN:
            break
    return events


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.once) for seed in range(1, 6))]
)
async def test_no_disorder_among_workers_pays_twice(tmp_path: Path, seed: int) -> None:
    disorder = Disorder(tmp_path, seed)
    machine = disorder.machine
    for _ in range(3):
        await disorder.hire()
    try:
        following = []
        for n in range(JOBS):
            await ordered(disorder, n)
            if n % 3 == 0:
                following.append(asyncio.create_task(told(disorder, n)))
            await asyncio.sleep(disorder.chance.choice((0.0, 0.5, 4.0)))
            if n % 2:
                await disorder.happen()
        for told_events in await asyncio.gather(*following):
            serials = [event.mark.serial for event in told_events]
            assert serials == sorted(serials), told_events
            assert len({str(event.mark) for event in told_events}) == len(told_events)
        async with asyncio.timeout(3_600):
            while UNFINISHED & {state for (state,) in machine.rows("state")}:  # noqa: ASYNC110  # no event
                await asyncio.sleep(5)
    finally:
        await disorder.end()
    rows = machine.rows("state, generation_id")
    assert len(rows) == JOBS
    assert set(machine.stories.values()) == {1}
    states = Counter(state for state, _ in rows)
    assert states["uncertain"] <= disorder.may_be_lost
    assert states.total() == states["succeeded"] + states["uncertain"]
    accepted = {one["id"] for one in machine.service.stats(0.0)["generations"]}
    assert {id_ for _, id_ in rows if id_} <= accepted
    assert machine.refused == 0


async def test_without_its_fence_a_job_is_paid_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above notices: what another worker is sending must not be sent."""

    def unfenced(self: SharedJournal, origins: Any, values: Any, connection: Any) -> Any:
        if values["state"] == "sending":
            origins = frozenset(BatchState)
        return super(SharedJournal, self)._change(
            origins, {**values, "worker": self.worker}, connection
        )

    monkeypatch.setattr(SharedJournal, "_change", unfenced)
    machine = Machine(tmp_path, 30.0, latency=(1.0, 3.0))
    workers = [Station(machine) for _ in range(2)]
    try:
        for worker in workers:
            await worker.start()
        for n in range(10):
            await workers[n % 2].queue.submit(f"s{n}", key=f"k{n}")
            await asyncio.sleep(0.3)
        await asyncio.sleep(60)
    finally:
        for worker in workers:
            await worker.close()
    assert max(machine.stories.values()) > 1
