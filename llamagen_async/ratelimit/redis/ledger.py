"""The ledger of any number of hosts: a Redis server counts, by its own clock.

Every operation is a verb of one script (`reserve.lua`), which reads the state of the account,
does what `WindowLog` does, and stores it: atomically, in one round trip, on one key, which expires
by itself. One call is under way at a time: they are done in the order in which they were made.

**The clock** is the server's, so that hosts need not agree on the time. If it is set back, the
ledger's time stands still and goes on from there. If it is set forward, which would free slots
early, that shows: every call says what time it must be by the caller's own monotonic clock, and
the ledger's time follows that one. A clock that is set forward while no client remembers it
can't be noticed.

**Loss.** A Redis that is restarted may have forgotten the account, or remember an older snapshot
of it; one that was elected may lack the last writes. The script notices both by the server's run
id, and that there is no state at all. Windows of up to an hour then count as full as of the
server's start, or as of now if that is not known to be later than the loss. So a new key waits,
too, on a server that was started just now. The state begins a new *epoch*. A client that
remembers another epoch restores its part before anything else is done: its requests in flight and,
for windows of more than an hour, when its others were answered. Only requests that were sent more
than an hour before, by clients that are gone, are lost for good.

**The blob** has a key of its own beside the account's, and travels over a connection of its own:
it is asked for so rarely that it should not delay anything else.

**Pauses.** A 429 begins a pause in the account, and the script publishes it. A client whose slot
was granted some seconds early subscribes to that channel, over a connection of its own, and from
then on knows of pauses without asking. While there is no such connection, or if this user must not
subscribe, the account is asked. A connection that has died unnoticed is found out within twenty
seconds.

**Failure.** An operation ends within `timeout`, with an answer or with `StoreError`. A commit, a
give-back or a cancelled wait that failed is delivered with the next operation: don't repeat it. So
is the revocation of a reserve that was sent and had no answer, so that its slot is not lost.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import itertools
import math
import secrets
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.protocol import (
    ANSWERED,
    MAX_BLOB,
    Grant,
    LimitsSnapshot,
    LimitState,
    NoSlot,
    Outcome,
    fits_blob,
)
from llamagen_async.ratelimit.redis.calls import ScriptCalls, boottime
from llamagen_async.ratelimit.redis.connection import RedisConnection
from llamagen_async.ratelimit.redis.recovery import RecoveryState
from llamagen_async.ratelimit.redis.subscriber import PauseSubscriber

__all__ = ["RedisLedger"]

_GRACE: Final = 5.0
"""Seconds of the ledger's clock that a position in the wait queue is kept."""
_REAL_GRACE: Final = 1.0
"""Real seconds that a position is kept, at least: a process needs time to ask."""
_BLOB_TTL: Final = str(30 * 24 * 3600)
"""Real seconds after which the blob expires: 30 days."""
_SLACK: Final = 60.0
"""Real seconds that a key outlives its content."""


class RedisLedger:
    """A ledger in Redis. One for each event loop; any number, anywhere, for a key.

    Args:
        url: `redis://[[user]:password@]host:port/db`, `rediss://...` or `unix:///path`; what
            follows `?` goes to redis-py (`ssl_ca_certs=...`), except `prefix=...`.
        name: The account's name: a hash of the API key and the server.
        plan: Which windows to count.
        speed: Seconds of the ledger's clock in a real second.
        lease: Seconds after which a slot without a report counts as spent.
        prefix: Beginning of the key's name in Redis, if the URL does not name one.
        ahead: Seconds by which a slot is granted early.
        grace: Seconds that a position is kept for a waiter that should have asked again;
            `None` is 5, or a real second if that is more.
        timeout: Real seconds that an operation may take, connecting included.
        now: For tests: the reading of the server's clock, in real seconds. The script then does
            not read the server's run id either.
        steady: For tests: the monotonic clock in real seconds; `now` if only that is given.

    `lease`, `ahead` and `grace` are in seconds of the ledger's clock. Methods raise
    `ClientClosedError` after `aclose`, and in another event loop than the first.

    Raises:
        InvalidRequestError: The URL is not valid, or redis-py is not installed.
    """

    is_remote = True

    def __init__(
        self,
        url: str,
        *,
        name: str,
        plan: Plan,
        speed: float = 1.0,
        lease: float = 900.0,
        prefix: str = "",
        ahead: float = 1.0,
        grace: float | None = None,
        timeout: float = 2.0,
        now: Callable[[], float] | None = None,
        steady: Callable[[], float] | None = None,
    ) -> None:
        package = importlib.resources.files("llamagen_async.ratelimit.redis")
        script = package.joinpath("reserve.lua").read_bytes()
        self._connection = RedisConnection(url, script)
        self._speed = speed
        grace = max(_GRACE, _REAL_GRACE * speed) if grace is None else grace
        self._durations = {"lease": lease, "ahead": ahead, "grace": grace}
        self._recovery = RecoveryState(speed)
        key = f"{self._connection.prefix or prefix}llamagen:{name}".encode()
        self._subscriber = PauseSubscriber(self._connection, key, self._on_pause)
        self._steady = steady or now or boottime
        self._paused_until = -math.inf
        """Time on the steady clock at which the last pause ends that was heard of."""
        self._synced_session: object | None = None
        """The subscription under which no pause can have been missed."""
        self._blob_key = b"%b:note" % key
        self._calls = ScriptCalls(
            self._connection,
            key,
            self._recovery,
            timeout=timeout,
            freed=self._notify,
            steady=self._steady,
            now=now,
        )
        self._client = secrets.token_hex(4)
        self._reservations = itertools.count()
        self._listeners: list[Callable[[], None]] = []
        self.change_plan(plan)

    def __repr__(self) -> str:
        return f"RedisLedger({self._plan.name} at {self._connection.address})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        self._plan = plan
        self._recovery.longest = max(limit.per for limit in plan.limits)
        counted = self._recovery.longest + sum(self._durations.values())
        self._recovery.kept = counted / self._speed + _SLACK
        settings = [*self._durations.values(), self._speed, float(int(self._recovery.kept * 1000))]
        for limit in plan.limits:
            settings += [float(limit.limit), limit.per, float(limit.aligned)]
        self._calls.settings = struct.pack(f"<{len(settings)}d", *settings)

    async def reserve(self, waiter_id: str) -> Grant | NoSlot:
        """Hold a slot if one is free, else give `waiter_id` a position in the wait queue."""
        return (await self.reserve_many(waiter_id, 1))[0]

    async def reserve_many(self, waiter_id: str, number: int) -> list[Grant | NoSlot]:
        """Reserve for `number` requests that share a waiter id, in one round trip."""
        nonce = f"{self._client}{next(self._reservations):x}"
        now, answers = await self._calls.ask(
            {"verb": "reserve", "waiter_id": waiter_id, "nonce": nonce, "number": number},
            undo={"verb": "revoke", "waiter_id": waiter_id, "nonce": nonce},
        )
        return [
            _grant(now, answer) if answer[0] else self._no_slot(now, answer) for answer in answers
        ]

    def cancel_wait(self, waiter_id: str) -> None:
        """Give up the position without waiting for the store."""
        self._calls.post({"verb": "cancel_wait", "waiter_id": waiter_id})

    async def commit(self, grant: Grant, outcome: Outcome) -> None:
        """Spend the slot; pause everyone if the answer was 429.

        An answer that says nothing of the limits is reported without waiting for the store: until
        it has heard, the slot counts as held.
        """
        report: dict[str, Any] = {
            "verb": "commit",
            "slot": grant.slot,
            "granted_at": grant.granted_at,
        }
        if outcome is ANSWERED:
            self._calls.post(report)
            return
        if outcome.refused:
            report |= {"refused": True, "is_last_slot": grant.is_last_slot}
        if outcome.retry_after is not None:
            report["retry_after"] = outcome.retry_after
        if outcome.server_left is not None:
            for index, limit in enumerate(self._plan.limits, 1):
                if limit.limit == outcome.server_limit:
                    report |= {"window": index, "left": outcome.server_left}
                    break
        await self._calls.ask(report)

    async def give_back(self, grant: Grant) -> None:
        """Free the slot of a request that never left."""
        await self._calls.ask({"verb": "give_back", "slot": grant.slot})

    def return_unused(self, grants: Sequence[Grant]) -> None:
        """Free slots without waiting for the store; if it is away it learns of them later."""
        self._calls.post(*({"verb": "give_back", "slot": grant.slot} for grant in grants))

    async def record(self, number: int) -> None:
        """Count requests that were spent without a slot of this ledger."""
        await self._calls.ask({"verb": "record", "number": number})

    async def projected(self, position: int) -> NoSlot:
        """Return how long a request with `position` others before it waits at least."""
        operation = {"verb": "projected", "position": position}
        return self._no_slot(*await self._calls.ask(operation))

    async def snapshot(self) -> LimitsSnapshot:
        """Return what is known now."""
        plan = self._plan
        now, (paused_until, burst, held, *states) = await self._calls.ask({"verb": "snapshot"})
        windows = zip(plan.limits, states[::2], states[1::2], strict=True)
        return LimitsSnapshot(
            plan=plan.name,
            windows=tuple(
                LimitState(limit, used, max(0, limit.limit - used), max(0.0, free_at - now))
                for limit, used, free_at in windows
            ),
            paused_for=max(0.0, (paused_until or now) - now),
            burst=burst,
            in_flight=held,
        )

    async def paused_for(self) -> float:
        """Return for how long a 429 still pauses everyone: Redis has published it, or is asked."""
        session = self._subscriber.session
        if session is None or session is not self._synced_session:
            self._subscriber.start()
            # A pause that was published before the subscription was not heard.
            left = (await self.snapshot()).paused_for / self._speed
            self._paused_until = max(self._paused_until, self._steady() + left)
            self._synced_session = session
        return max(0.0, self._paused_until - self._steady()) * self._speed

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when a slot or a position was given up by this ledger.

        What other processes give up shows when the waiter asks again.
        """
        self._listeners = [*self._listeners, changed]

        def unsubscribe() -> None:
            self._listeners = [kept for kept in self._listeners if kept is not changed]

        return unsubscribe

    async def load_blob(self) -> str | None:
        """Return the text, which has a key of its own and expires after 30 days."""
        # One byte more than allowed tells that it is too long, without reading all of it.
        blob = await self._calls.ask_aside("GETRANGE", self._blob_key, "0", str(MAX_BLOB))
        if not isinstance(blob, bytes) or not 0 < len(blob) <= MAX_BLOB:
            return None
        return blob.decode(errors="replace")

    async def save_blob(self, text: str) -> None:
        """Save a text, unless it is too long."""
        if fits_blob(text):
            blob = text.encode(errors="replace")
            await self._calls.ask_aside("SET", self._blob_key, blob, "EX", _BLOB_TTL)

    async def aclose(self) -> None:
        """Finish pending operations and close the connections. What was counted stays counted."""
        await self._subscriber.aclose()
        await self._calls.aclose()

    def _no_slot(self, now: float, answer: list[Any]) -> NoSlot:
        at, index, burst = float(answer[1]), int(answer[2]), int(answer[3])
        limit = None
        if index > len(self._plan.limits):
            limit = RateLimit(burst, per=burst * self._plan.rate.interval)
        elif index:
            limit = self._plan.limits[index - 1]
        return NoSlot(max(0.0, at - now), limit)

    def _on_pause(self, message: bytes) -> None:
        """Remember a pause that a 429 has begun a moment ago."""
        with contextlib.suppress(ValueError):
            until = self._steady() + float(message) / self._speed
            self._paused_until = max(self._paused_until, until)

    def _notify(self) -> None:
        for changed in self._listeners:
            changed()


def _grant(now: float, answer: list[Any]) -> Grant:
    _, at, slot, is_last_slot, quota_left = answer
    return Grant(slot, at, max(0.0, at - now), is_last_slot, quota_left)
