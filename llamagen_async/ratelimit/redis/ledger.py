"""The ledger of any number of hosts: a Redis server counts, by its own clock.

Every operation is a verb of one script (`*.lua`), which does what `WindowLog` does to the state of
the account: atomically, in one round trip, on one key, which expires by itself. The calls of a
ledger are made one after the other. redis-py repeats a call that was cut short: since a claim names
its slot that changes nothing; only `record` may then count twice, and requests wait longer.

**The clock** is the server's. If it is set back, the ledger's time stands still and goes on from
there. If it is set forward, which would free slots early, the ledger's time follows the caller's
monotonic clock; that a clock was set while no client remembers it can't be noticed.

**Loss.** A Redis that was restarted or elected may have forgotten the account, or the last writes.
The script notices by the server's run id, and by clients that remember what is not there. Windows
of up to an hour then count as full, from the server's start (or from now, if that is not known to
be later than the loss) until a lease, in which what was in flight may arrive, and the window itself
are over. So a new key waits, too, on a server that was started just now. While clients may count on
a share from before the loss (`client_lease`), nobody gets a new one.

**A day's window** needs a Redis that keeps its data, since nobody can wait for a day: with
`appendonly yes` and `appendfsync everysec` a crash loses the requests of the last second at most,
with `appendfsync always` none. The `maxmemory-policy` has to be `noeviction`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

import attrs

from llamagen_async.errors import ClientClosedError
from llamagen_async.machine_clock import boottime
from llamagen_async.observing import logger_of
from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.protocol import (
    MAX_BLOB,
    Claim,
    Grant,
    KeyState,
    LimitsSnapshot,
    LimitState,
    NoSlot,
    Outcome,
    PeerReport,
    Priority,
    WaitingRequests,
    Workload,
    fits_blob,
)
from llamagen_async.ratelimit.throttle import READS_PER_SECOND
from llamagen_async.ratelimit.window_log import LedgerTimes
from llamagen_async.redis_server import RedisCalls, RedisConnection
from llamagen_async.stored_values import DAMAGED, StoreError, decode

__all__ = ["RedisLedger", "script"]

_logger = logger_of(__name__)
_T = TypeVar("_T")
_SCRIPT: Final = ("check.lua", "state.lua", "reserve.lua")
_BLOB_TTL: Final = str(30 * 24 * 3600)
"""Real seconds after which the blob expires: 30 days."""


class RedisLedger:
    """A ledger in Redis. One for each event loop; any number, anywhere, for a key.

    Args:
        connection: The way to the server, which evaluates `script()` and which ledgers may share,
            or the URL of one's own, as `RedisConnection` takes it.
        name: The account's name; it, `plan`, `speed` and `times` are as for a `SQLiteLedger`.
        timeout: Real seconds that an operation may take, and those before it: it is given up when
            no call has ended for so long.
        now: For tests: the reading of the server's clock, in real seconds. The script then does
            not read the server's run id either.
        steady: For tests: the monotonic clock in real seconds; `now` if only that is given.

    Methods raise `ClientClosedError` after `aclose`, and in another event loop than the first.
    """

    def __init__(
        self,
        connection: RedisConnection | str,
        *,
        name: str,
        plan: Plan,
        speed: float = 1.0,
        times: LedgerTimes,
        timeout: float = 2.0,
        now: Callable[[], float] | None = None,
        steady: Callable[[], float] | None = None,
    ) -> None:
        if not isinstance(connection, RedisConnection):
            connection = RedisConnection(connection, script())
        self._connection = connection
        self._key = f"{connection.prefix}llamagen:{name}".encode()
        self._blob_key = b"%b:note" % self._key
        self._speed = speed
        self._times = times
        self._calls = RedisCalls(connection, timeout)
        self._now = now
        self._steady = steady or now or boottime
        self._seen: tuple[float | None, float] = (None, 0.0)
        """The ledger's time in the last answer, and the steady time at which it was asked for."""
        self.change_plan(plan)

    def __repr__(self) -> str:
        return f"RedisLedger({self._plan.name} at {self._connection.address})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        self._plan = plan
        kept, longest = self._times, max(limit.per for limit in plan.limits)
        counted = max(longest + kept.lease, kept.client_lease) + kept.grace
        ttl = counted / self._speed + 60.0  # the key outlives its content by a minute
        windows = [attrs.asdict(limit) for limit in plan.limits]
        settings = {"speed": self._speed, "ttl": ttl, "windows": windows, "reads": READS_PER_SECOND}
        self._settings = json.dumps(settings | attrs.asdict(kept)).encode()

    async def reserve(self, claim: Claim) -> Grant | NoSlot:
        """Hold a slot if one is free for this claim, else give it a position in the wait queue.

        Cancelled or failed, it is followed by a release of the claim: the store may have heard.
        """
        read = partial(self._grant_or_not, claim)
        task = self._calls.start(partial(self._evaluate, "reserve", attrs.asdict(claim), read))
        try:
            return await self._calls.result(task)
        except BaseException:
            # Both are cancelled by an event loop that ends: a task made now would never run.
            if not task.cancelling():
                self.release(claim.id, claim.client)
            raise

    async def commit(self, grant: Grant, outcome: Outcome, workload: Workload) -> KeyState:
        """Spend the slot; pause everyone if the answer was 429. Cancelled, it is done as well."""
        operation = attrs.asdict(outcome) | {"workload": attrs.asdict(workload)}
        return await self._ask("commit", _state, id=grant.id, client=grant.client, **operation)

    def release(self, claim: str, client: str, *, leaves: bool = False) -> None:
        """Give up the slot or the position of a claim, without waiting for the store."""
        operation = {"id": claim, "client": client, "leaves": leaves}
        with contextlib.suppress(ClientClosedError, RuntimeError):  # the lease frees the slot
            self._calls.start(partial(self._evaluate, "release", operation, lambda _: None))

    async def record(self, number: int, *, pause: float = 0.0) -> None:
        """Count requests that were spent without a slot, and pause everyone."""
        await self._ask("record", lambda _: None, number=number, pause=pause)

    async def admit_read(self) -> float:
        """Count a read that needs no slot if it may leave; return the seconds until one may."""
        return await self._ask("admit_read", float)

    async def snapshot(self, *, position: int = 0) -> LimitsSnapshot:
        """Return what is known now."""
        return await self._ask("snapshot", self._snapshot, position=position)

    async def load_blob(self) -> str | None:
        """Return the text, which has a key of its own and expires after 30 days."""
        # One byte more than allowed tells that it is too long, without reading all of it.
        command = "GETRANGE", self._blob_key, "0", str(MAX_BLOB)
        blob = await self._calls.answer(partial(self._connection.execute, *command))
        is_ours = isinstance(blob, bytes) and 0 < len(blob) <= MAX_BLOB
        return blob.decode(errors="replace") if is_ours else None

    async def save_blob(self, text: str) -> None:
        """Save a text, unless it is too long."""
        if fits_blob(text):
            command = "SET", self._blob_key, text.encode(errors="replace"), "EX", _BLOB_TTL
            await self._calls.answer(partial(self._connection.execute, *command))

    async def aclose(self) -> None:
        """Finish pending operations and close the connection. What was counted stays counted."""
        await self._calls.aclose()

    async def _ask(self, verb: str, read: Callable[[Any], _T], **operation: Any) -> _T:
        return await self._calls.answer(partial(self._evaluate, verb, operation, read))

    async def _evaluate(
        self, verb: str, operation: dict[str, Any], read: Callable[[Any], _T]
    ) -> _T:
        """Let the script do an operation, and read its answer."""
        asked_at, (seen, seen_at) = self._steady(), self._seen
        operation |= {"verb": verb, "seen": seen, "elapsed": max(0.0, asked_at - seen_at)}
        operation["time"] = None if self._now is None else self._now()
        text = json.dumps(operation, ensure_ascii=False).encode(errors="replace")
        reply = await self._connection.evaluate(self._key, self._settings, text)
        try:
            now, answer = decode(reply.decode())
            self._seen = float(now), asked_at
            return read(answer)
        except DAMAGED:
            where = self._connection.address
            raise StoreError(f"an answer of Redis at {where} is odd: is it a Redis?") from None

    def _grant_or_not(self, claim: Claim, answer: list[Any]) -> Grant | NoSlot:
        is_granted, state = answer[0], _state(answer[1])
        if is_granted:
            return Grant(claim.id, claim.client, state)
        delay, index, burst = float(answer[2]), int(answer[3]), int(answer[4])
        spacing = RateLimit(burst, per=burst * self._plan.rate.interval)
        limits: list[RateLimit | None] = [None, *self._plan.limits, spacing]
        return NoSlot(delay, limits[index], state)

    def _snapshot(self, answer: list[Any]) -> LimitsSnapshot:
        windows, waiting, *rest = answer
        states = tuple(
            LimitState(limit, used, max(0, limit.limit - used), next_free_in)
            for limit, (used, next_free_in) in zip(self._plan.limits, windows, strict=True)
        )
        rest.append({Priority(priority): count for priority, count in waiting})
        return LimitsSnapshot(self._plan.name, states, *rest)


@functools.cache
def script() -> bytes:
    """Return the script that does all operations, put together of its parts."""
    files = importlib.resources.files("llamagen_async.ratelimit.redis")
    return b"".join(files.joinpath(part).read_bytes() for part in _SCRIPT)


def _state(answer: list[Any]) -> KeyState:
    returning, quota_left, paused_for, share, peers = answer
    reports: list[PeerReport] = []
    for client, age, waiting, text in peers:
        requests = [WaitingRequests(Priority(first), *rest) for first, *rest in waiting]
        reports.append(PeerReport(client, age, tuple(requests), text))
    return KeyState(tuple(returning), quota_left, paused_for, share, tuple(reports))
