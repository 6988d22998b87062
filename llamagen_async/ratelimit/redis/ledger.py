"""The ledger of any number of hosts: a Redis server counts, by its own clock.

Every operation is a verb of one script (`reserve.lua`), which reads the state of the account,
does what `WindowLog` does, and stores it: atomically, in one round trip, on one key, which expires
by itself. What several tasks ask at the same moment travels in one call.

**The clock** is the server's, so that hosts need not agree on the time. If it is set back, the
ledger's time stands still and goes on from there. If it is set forward, which would free slots
early, that shows: every call says what time it must be by the caller's own monotonic clock, and
the ledger's time follows that one. A clock that is set forward while no client remembers it
can't be noticed.

**Loss.** A Redis that is restarted may have forgotten the account, or remember an older snapshot
of it; one that was elected may lack the last writes. The script notices both by the server's run
id, and that there is no state at all. Windows of up to an hour then count as full as of the
server's start, or as of now if that is not known to be later than the loss. So a new key waits,
too, on a server that was started just now. The state begins a new *generation*. Who remembers
another one restores what it knows before anything else is done: its requests on their way and,
for windows of more than an hour, when its others were answered. What is lost for good is what
clients that are gone have sent earlier than an hour before.

**The note** has a key of its own beside the account's, and travels over a connection of its own:
it is asked for so rarely that it should not stand in anybody's way.

**Pauses.** Who is refused begins a pause in the account, and the script publishes it. A client that
was given a slot some seconds before it may be used subscribes to that, over a connection of its
own, and from then on knows without asking whether everyone has to wait meanwhile. As long as there
is no such connection, or if this user must not listen, the account is asked. A connection that has
died without anybody noticing is found out within twenty seconds.

**Failure.** An operation ends within `timeout`, with an answer or with `StoreError`. A commit, a
give-back or a leave that failed is delivered with the next operation: don't repeat it. So is the
revocation of a reserve that was sent and had no answer, so that its slot is not lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import itertools
import math
import secrets
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.ratelimit.ledger import (
    ANSWERED,
    LONGEST_NOTE,
    Grant,
    LimitsSnapshot,
    LimitState,
    NoSlot,
    Outcome,
    fits,
)
from llamagen_async.ratelimit.redis.connection import RedisLink
from llamagen_async.ratelimit.redis.pipeline import Courier, steady_time
from llamagen_async.ratelimit.redis.recovery import Notes
from llamagen_async.ratelimit.redis.subscriber import Listener

__all__ = ["RedisLedger"]

_GRACE: Final = 5.0
"""Seconds of the ledger's clock that a place in the line is kept."""
_REAL_GRACE: Final = 1.0
"""The same in real seconds: however fast the ledger's clock, a process needs time to ask."""
_NOTE_KEPT: Final = b"%d" % (30 * 24 * 3600)
"""Real seconds after which a note expires."""
_SLACK: Final = 60.0
"""Real seconds that a key outlives what is in it."""


class RedisLedger:
    """Remembers in Redis. One for each event loop; any number, anywhere, for a key.

    Args:
        url: `redis://[[user]:password@]host:port/db`, `rediss://...` or `unix:///path`; what
            follows `?` goes to redis-py (`ssl_ca_certs=...`), except `prefix=...`.
        name: Names the account: hashes of the API key and of what else tells accounts apart.
        plan: Which windows to count.
        speed: Seconds of the ledger's clock in a real second.
        lease: Seconds after which a slot that nobody reported on counts as spent.
        prefix: What the name of the key in Redis begins with, if the URL does not say.
        ahead: How many seconds before a slot is back it is given to who is next.
        grace: Seconds that a place in the line is kept for somebody who should have asked;
            `None` is 5, or a real second if that is more.
        timeout: Real seconds that an operation may take, connecting included.
        now: For tests: what the server's clock shows, in real seconds. The script then does not
            look at the server's run id either.
        steady: For tests: the monotonic clock in real seconds; `now` if only that is given.

    `lease`, `ahead` and `grace` are in seconds of the ledger's clock. Methods raise
    `ClientClosedError` after `aclose`, and in another event loop than the first.

    Raises:
        InvalidRequestError: The URL is not one, or redis-py is not installed.
    """

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
        self._link = RedisLink(url, script)
        self._speed = speed
        grace = max(_GRACE, _REAL_GRACE * speed) if grace is None else grace
        self._durations = {"lease": lease, "ahead": ahead, "grace": grace}
        self._notes = Notes(speed)
        key = f"{self._link.prefix or prefix}llamagen:{name}".encode()
        self._listener = Listener(self._link, key, self._hear)
        self._steady = steady or now or steady_time
        self._paused_until = -math.inf
        """Until when a pause lasts that was heard of, by the steady clock."""
        self._heard_since: object | None = None
        """The subscription by which all later ones are heard of."""
        self._note_key = b"%b:note" % key
        self._courier = Courier(
            self._link,
            key,
            self._notes,
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
        return f"RedisLedger({self._plan.name} at {self._link.where})"

    def change_plan(self, plan: Plan) -> None:
        """Count the windows of another plan from now on, with what was spent so far."""
        self._plan = plan
        self._notes.longest = max(limit.per for limit in plan.limits)
        counted = self._notes.longest + sum(self._durations.values())
        self._notes.kept = counted / self._speed + _SLACK
        settings = [*self._durations.values(), self._speed, float(int(self._notes.kept * 1000))]
        for limit in plan.limits:
            settings += [float(limit.limit), limit.per, float(limit.aligned)]
        self._courier.settings = struct.pack(f"<{len(settings)}d", *settings)

    async def reserve(self, ticket: str) -> Grant | NoSlot:
        """Hold a slot if one is free, else keep a place in the line for `ticket`."""
        return (await self.reserve_many(ticket, 1))[0]

    async def reserve_many(self, ticket: str, number: int) -> list[Grant | NoSlot]:
        """Do the same for `number` who share a ticket, in one round trip."""
        nonce = f"{self._client}{next(self._reservations):x}"
        try:
            now, answers = await self._courier.ask(
                {"verb": "reserve", "ticket": ticket, "nonce": nonce, "number": number}
            )
        except asyncio.CancelledError:
            # It is done all the same. This comes right behind it, and before whatever the
            # ticket asks next.
            self._courier.tell({"verb": "revoke", "ticket": ticket, "nonce": nonce})
            raise
        return [
            _grant(now, answer) if answer[0] else self._refusal(now, answer) for answer in answers
        ]

    def leave(self, ticket: str) -> None:
        """Give up the place in the line without waiting for the store."""
        self._courier.tell({"verb": "leave", "ticket": ticket})

    async def commit(self, grant: Grant, outcome: Outcome) -> None:
        """Spend the slot; pause everyone if the server refused the request.

        A plain answer is told without waiting for the store, together with what is asked next or a
        moment later: nothing depends on when the store hears of it, and until then its slot counts
        as held. If it can't be told now, it is later.
        """
        report: dict[str, Any] = {
            "verb": "commit",
            "slot": grant.slot,
            "granted_at": grant.granted_at,
        }
        if outcome is ANSWERED:
            self._courier.tell_later(report)
            return
        if outcome.refused:
            report |= {"refused": True, "took_last": grant.took_last}
        if outcome.retry_after is not None:
            report["retry_after"] = outcome.retry_after
        if outcome.server_left is not None:
            for index, limit in enumerate(self._plan.limits, 1):
                if limit.limit == outcome.server_limit:
                    report |= {"window": index, "left": outcome.server_left}
                    break
        await self._courier.ask(report)

    async def give_back(self, grant: Grant) -> None:
        """Free the slot of a request that never left."""
        await self._courier.ask({"verb": "give_back", "slot": grant.slot})

    def return_unused(self, grants: Sequence[Grant]) -> None:
        """Free slots without waiting for the store; if it is away it learns of them later."""
        for grant in grants:
            self._courier.tell({"verb": "give_back", "slot": grant.slot})

    async def record(self, number: int) -> None:
        """Count requests that were spent without a slot of this ledger."""
        await self._courier.ask({"verb": "record", "number": number})

    async def projected(self, position: int) -> NoSlot:
        """Say how long a request with `position` others before it waits at least."""
        operation = {"verb": "projected", "position": position}
        return self._refusal(*await self._courier.ask(operation))

    async def snapshot(self) -> LimitsSnapshot:
        """Return what is known now."""
        plan = self._plan
        now, (paused_until, burst, held, *states) = await self._courier.ask({"verb": "snapshot"})
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
        """Say for how long a refusal still holds everyone: Redis has told, or is asked."""
        since = self._listener.since
        if since is None or since is not self._heard_since:
            self._listener.start()
            # What was published before, nobody may have heard.
            left = (await self.snapshot()).paused_for / self._speed
            self._paused_until = max(self._paused_until, self._steady() + left)
            self._heard_since = since
        return max(0.0, self._paused_until - self._steady()) * self._speed

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` when a slot or a place in the line was given up by this ledger.

        What other processes give up shows when the ticket asks again.
        """
        self._listeners = [*self._listeners, changed]

        def unsubscribe() -> None:
            self._listeners = [kept for kept in self._listeners if kept is not changed]

        return unsubscribe

    async def recall(self) -> str | None:
        """Return the note, which has a key of its own and expires after 30 days."""
        # One byte more than allowed tells that it is too long, without reading all of it.
        note = await self._courier.ask_aside(
            b"GETRANGE", self._note_key, b"0", b"%d" % LONGEST_NOTE
        )
        if not isinstance(note, bytes) or not 0 < len(note) <= LONGEST_NOTE:
            return None
        return note.decode(errors="replace")

    async def remember(self, text: str) -> None:
        """Leave a note, unless it is too long."""
        if fits(text):
            note = text.encode(errors="replace")
            await self._courier.ask_aside(b"SET", self._note_key, note, b"EX", _NOTE_KEPT)

    async def aclose(self) -> None:
        """Finish what was begun and close the connections. What was counted stays counted."""
        await self._listener.aclose()
        await self._courier.aclose()

    def _refusal(self, now: float, answer: list[Any]) -> NoSlot:
        at, index, burst = float(answer[1]), int(answer[2]), int(answer[3])
        limit = None
        if index > len(self._plan.limits):
            limit = RateLimit(burst, per=burst * self._plan.rate.interval)
        elif index:
            limit = self._plan.limits[index - 1]
        return NoSlot(max(0.0, at - now), limit)

    def _hear(self, message: bytes) -> None:
        """Take note of a pause that somebody's refusal has begun a moment ago."""
        with contextlib.suppress(ValueError):
            until = self._steady() + float(message) / self._speed
            self._paused_until = max(self._paused_until, until)

    def _notify(self) -> None:
        for changed in self._listeners:
            changed()


def _grant(now: float, answer: list[Any]) -> Grant:
    _, at, slot, took_last, quota_left = answer
    return Grant(slot, at, max(0.0, at - now), took_last, quota_left)
