"""Days of several programs on one key, through faults of every kind, with all promises checked.

`nox -s soak` goes on for an hour of real time; elsewhere it is one short run. The seed of each run
is printed, and `LLAMAGEN_SOAK_SEED` repeats one.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from llamagen_async import (
    BatchState,
    ComicQueue,
    JournalError,
    LlamaGenClient,
    LlamaGenError,
    Plan,
    QuotaExhaustedError,
    QuotaStoreError,
    RateLimit,
    RequestKind,
    SubmissionUncertainError,
)
from llamagen_async.clock import Clock
from llamagen_async.forecasting.poll_plan import PRICES, ProfileForecast
from llamagen_async.ratelimit import registry
from llamagen_async.ratelimit.log_ledger import MemoryLedger
from llamagen_async.ratelimit.protocol import Ledger
from llamagen_async.ratelimit.stores import store_times
from llamagen_async.sandbox import PAID_KEY, Durations, Fault, SandboxService
from llamagen_async.simulation import run
from tests.support.callers import Caller, ask, logged, rows
from tests.support.faults import FAULTS, Faulty, Outage, full_disks
from tests.support.remote_ledger import RemoteLedger
from tests.support.scripted import left_over, now
from tests.support.webhooks import Endpoint, sending

pytestmark = [pytest.mark.once, pytest.mark.no_cover]

HOURS: Final = float(os.environ.get("LLAMAGEN_SOAK_HOURS", "0"))
"""Hours of real time; at least one run is made in any case."""
SEED: Final = os.environ.get("LLAMAGEN_SOAK_SEED", "")
DAYS: Final = 5 if HOURS else 2
USERS: Final = 40 if HOURS else 8
"""Callers of a day; of stories in batches and queues there are as many each."""
PLANS: Final = (
    Plan.PAID,
    Plan("creates", limits=RateLimit(10, per=60), metered={"create"}),
    Plan("a day's quota", limits=(RateLimit(10, per=60), RateLimit(600, per=86_400))),
    Plan(
        "three windows",
        limits=(RateLimit(2, per=10), RateLimit(8, per=60), RateLimit(200, per=3_600)),
    ),
)
"""Plans of which each run has one."""
DAY: Final = 86_400.0
BUSY: Final = 0.7 * DAY
"""Seconds of a day in which faults begin and programs come."""
ENDS: Final = DAY - 60.0
"""The second of a day by which everything has to have ended."""
LONG: Final = 10 * DAY
URL: Final = "https://soak.invalid"
EVENTS: Final = (
    "event-lost:rate=0.2",
    "event-late:600:rate=0.2",
    "event-doubled:rate=0.2",
    "event-out-of-order:rate=0.2",
    "event-forged:rate=0.2",
)
AGAIN: Final = (JournalError, QuotaExhaustedError, QuotaStoreError)
"""The errors in which a batch leaves stories for its next run."""
CHECKED: Final = "llamagen_async"
THEIRS: Final = ("llamagen_async.sandbox", "llamagen_async.simulation")
"""The modules of the server, which remembers all of its generations."""


@attrs.define
class World:
    """A server, a store, and the programs that use both."""

    random: random.Random
    folder: Path
    network: Faulty
    store: MemoryLedger
    ledgers: list[RemoteLedger] = attrs.field(factory=list[RemoteLedger])
    has_store: asyncio.Event = attrs.field(factory=asyncio.Event)
    """Set while the store can be reached."""
    ids: set[str] = attrs.field(factory=set[str])
    """Ids that were told to callers."""
    journals: list[Path] = attrs.field(factory=list[Path])
    numbers: itertools.count[int] = attrs.field(factory=itertools.count)

    @classmethod
    def of(cls, seed: int, folder: Path) -> World:
        faults = [Fault.parse(text) for text in EVENTS]
        source = random.Random(seed)
        plan = source.choice(PLANS)
        service = SandboxService(
            plans={PAID_KEY: plan}, durations=Durations.lognormal(), seed=seed, faults=faults
        )
        store = MemoryLedger(plan, Clock().now, store_times(1.0, 30.0))
        network = Faulty(service, outages=[], plan=plan, latency=(0.05, 2.0), seed=seed)
        return cls(source, folder, network, store)

    def open_store(self, *_given: Any, **_settings: Any) -> Ledger:
        ledger = RemoteLedger(self.store, lambda: self.random.uniform(0.001, 0.05))
        ledger.away = not self.has_store.is_set()
        self.ledgers.append(ledger)
        return ledger

    @asynccontextmanager
    async def program(self, name: str, **settings: Any) -> AsyncIterator[LlamaGenClient]:
        """Run a program on a host of its own, which is stopped in order."""
        quota = f"redis://{name}-{next(self.numbers)}"
        async with self.network.client(base_url=URL, quota=quota, **settings) as client:
            yield client
            # Who stops while the store is away can't tell the others what was sent.
            await self.has_store.wait()
            await asyncio.sleep(10.0)

    async def let_the_store_be_away(self, begin: float, seconds: float) -> None:
        await asyncio.sleep(begin)
        self.has_store.clear()
        for ledger in self.ledgers:
            ledger.away = True
        await asyncio.sleep(seconds)
        for ledger in self.ledgers:
            ledger.away = False
        self.has_store.set()

    def moment(self) -> float:
        return self.random.uniform(0.0, BUSY)

    def outages(self) -> list[Outage]:
        """Return the faults of a day that begins now: seconds to hours, of all or of some kinds."""
        kinds = tuple(RequestKind)
        parts = (kinds, kinds, (RequestKind.CREATE,), (RequestKind.STATUS,))
        return [
            Outage(
                now() + self.moment(),
                10.0 ** self.random.uniform(0.0, 4.0),
                self.random.choice(FAULTS),
                self.random.choice(parts),
            )
            for _ in range(self.random.randint(4, 12))
        ]

    async def call(self, client: LlamaGenClient) -> None:
        """Ask for a comic at some time, and leave perhaps."""
        leaves = self.random.choice([None, None, self.random.uniform(0.0, 900.0)])
        caller = Caller(self.moment(), self.random.uniform(60.0, 3_600.0), leaves)
        number = next(self.numbers)
        outcome = await ask(client, number, caller, self.ids)
        story = f"s{number}"
        assert outcome != "sent", "it is uncertain"
        if outcome == "uncertain":
            assert self.network.doubtful[story], "it was provably not sent"
        if outcome == "not sent":
            assert not self.network.stories[story]

    async def batch(self, size: int) -> None:
        """Run a batch until it is done, by as many programs as it takes."""
        await asyncio.sleep(self.moment())
        stories = [f"b{next(self.numbers)}" for _ in range(size)]
        journal = self.folder / f"batch-{stories[0]}.db"
        self.journals.append(journal)
        leaves = [self.random.uniform(0.0, 7_200.0) for _ in range(self.random.randint(0, 3))]
        for leave_after in [*leaves, *itertools.repeat(None, 1_000)]:
            items = []
            try:
                async with (
                    self.program("batch") as client,
                    asyncio.timeout(leave_after),
                    client.comics.batch(stories, journal=journal, timeout=LONG) as running,
                ):
                    items = [item async for item in running]
            except TimeoutError:
                continue
            except JournalError as error:
                assert "disk" in str(error)  # noqa: PT017  # any other one is a failure
            if len(items) == size and not any(isinstance(one.error, AGAIN) for one in items):
                break
            await asyncio.sleep(60.0)  # and again, when there is room on the disk, and a store
        for item in items:
            assert item.request is not None
            if item.state is BatchState.UNCERTAIN:
                assert self.network.doubtful[item.request.prompt or ""], "provably not sent"
            else:
                assert item.state is BatchState.SUCCEEDED, repr(item.error)
            self.ids.add(item.generation.id if item.generation else "")

    async def queue(self, size: int) -> None:
        """Take orders all day, in a backend that is started anew at noon."""
        begin = now()
        journal = self.folder / f"queue-{next(self.numbers)}.db"
        self.journals.append(journal)
        names = [f"q{next(self.numbers)}" for _ in range(size)]
        for part in (names[::2], names[1::2]):
            async with self.program("queue") as client, await opened(client, journal) as queue:
                for name in part:
                    await asyncio.sleep(self.random.uniform(0.0, BUSY / size))
                    while True:
                        try:
                            await queue.submit(name, key=name)
                            break
                        except JournalError as error:
                            assert "disk" in str(error)  # noqa: PT017
                            await asyncio.sleep(60.0)
                if part[0] == names[0]:
                    continue  # it is stopped with what it has
                for name in names:
                    try:
                        comic: Any = await queue.result(name)
                    except SubmissionUncertainError:
                        assert self.network.doubtful[name], "it was provably not sent"
                    except LlamaGenError as error:
                        raise AssertionError(f"{name}: {error!r}") from error
                    else:
                        self.ids.add(comic.id)
        assert now() - begin < ENDS

    async def day(self) -> None:
        """Let everybody work for a day, and see that all of it has ended in time."""
        begin = now()
        self.network.outages = self.outages()
        self.has_store.set()
        async with asyncio.timeout(ENDS), self.program("backend", webhooks=True) as client:
            endpoint = Endpoint(client)
            async with sending(self.network.service, endpoint), asyncio.TaskGroup() as group:
                for _ in range(USERS):
                    group.create_task(self.call(client))
                for size in _parts(self.random, USERS):
                    group.create_task(self.batch(size))
                group.create_task(self.queue(max(2, USERS // 4)))
                seconds = 10.0 ** self.random.uniform(0.0, 3.5)
                group.create_task(self.let_the_store_be_away(self.moment(), seconds))
            assert {204, 400} <= set(endpoint.answers), "no event has come"
        self.ledgers.clear()
        await asyncio.sleep(begin + DAY - now())

    def check(self, log: str) -> None:
        """Check what must hold at any time."""
        seen = self.network.service.stats(now())["keys"]["sandbox-paid"]
        assert seen["refused"] == 0, seen
        twice = {story for story, number in self.network.stories.items() if number > 1}
        assert not twice, "paid twice"
        for journal in self.journals:
            self.ids |= {id_ for _, id_ in rows(journal).values() if id_ is not None}
        lost = {id_ for id_ in self.network.delivered - self.ids if id_ not in log}
        assert not lost


async def opened(client: LlamaGenClient, journal: Path) -> ComicQueue:
    """Open a queue, as soon as the disk has room for its journal."""
    while True:
        queue = ComicQueue(client, journal, timeout=LONG)
        try:
            await queue.start()
        except JournalError as error:
            assert "disk" in str(error)  # noqa: PT017  # any other one is a failure
            await queue.aclose()
            await asyncio.sleep(60.0)
        else:
            return queue


def _parts(source: random.Random, number: int) -> list[int]:
    """Return sizes of batches that make up a number of stories."""
    sizes: list[int] = []
    while number > 0:
        sizes.append(min(number, source.randint(1, 25)))
        number -= sizes[-1]
    return sizes


def leftovers() -> Counter[str]:
    """Count what this process holds: objects of the package, tasks and open files."""
    gc.collect()
    kinds = Counter(map(type, gc.get_objects()))
    found = Counter[str]()
    for kind, number in kinds.items():
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name.startswith(CHECKED) and not name.startswith(THEIRS):
            found[name] += number
    found["tasks"] = len(left_over())
    if sys.platform == "linux":
        found["files"] = len(list(Path("/proc/self/fd").iterdir()))
    return found


def live(seed: int) -> None:
    """Live through some days, and check all promises after each."""
    random.seed(seed)  # delays between tries are drawn from it, too
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:

        async def main() -> None:
            world = World.of(seed, Path(folder))
            patch.setattr(registry, "open_store", world.open_store)
            new = ProfileForecast()
            for price in PRICES:
                new.plan(price)  # these are kept for all new profiles, and are no leftovers
            first = Counter[str]()
            for day in range(DAYS):
                await world.day()
                world.check(log.text)
                left = leftovers()
                grown = {name: n - first[name] for name, n in left.items() if n > first[name]}
                assert not first or not grown, f"left of day {day + 1}"
                first = first or left

        source = random.Random(f"disk of {seed}")
        full = [
            (day * DAY + source.uniform(0.0, BUSY), 10.0 ** source.uniform(0.0, 3.5))
            for day in range(DAYS)
        ]
        with logged() as log, full_disks(full):
            run(main())


@pytest.mark.timeout(int(HOURS * 3_600) + 900)
def test_days_of_faults(capsys: pytest.CaptureFixture[str]) -> None:
    until = time.monotonic() + HOURS * 3_600
    seeds = itertools.count(int(SEED or 1)) if SEED or not HOURS else iter(_random_seeds())
    while True:
        seed = next(seeds)
        with capsys.disabled():
            print(f"soak: LLAMAGEN_SOAK_SEED={seed}", flush=True)
        live(seed)
        if time.monotonic() >= until:
            break


def _random_seeds() -> Any:
    return (random.SystemRandom().randrange(10**9) for _ in itertools.count())
