"""The API itself, without sockets and without a clock: calls in, replies out, told the time.

It meters every call of a key as the real API is taken to do, and lets nothing through that the
plan does not allow. Everything random depends on the seed: what the n-th accepted create takes is
known beforehand (`duration_of`) and no status check moves it. It never waits, reads or writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from random import Random
from typing import Any, Final, get_args

from llamagen_async.errors import InvalidRequestError
from llamagen_async.plans import Plan, RequestKind
from llamagen_async.sandbox.accounts import DEMO_KEY, EMPTY_KEY, PAID_KEY, Account, label_of
from llamagen_async.sandbox.algorithms import Algorithm, Meter
from llamagen_async.sandbox.endpoints import Endpoint, Endpoints
from llamagen_async.sandbox.generations import Generation
from llamagen_async.sandbox.settings import Dialect, Durations, Fault, Faults, RetryAfter
from llamagen_async.sandbox.wire import Call, Refusal, Reply, http_date

__all__ = ["DEFAULT_EPOCH", "STATS", "SandboxService"]

STATS: Final = "/_sandbox/stats"
"""Where the statistics are: unmetered, without a key."""

DEFAULT_EPOCH: Final = 1_767_225_600.0
"""The unix time of the clock's origin if none is given: the first second of 2026."""

_CREDITS: Final = 1_000_000


class SandboxService:
    """A LlamaGen Comic API that enforces its limits for real.

    Args:
        algorithm: How requests are counted; one of `ALGORITHMS`.
        dialect: Whose status words and error bodies are spoken.
        seed: Decides everything random.
        plans: The plan of each key that is accepted. `EMPTY_KEY` is always accepted too.
        durations: How long generations take.
        failure_rate: The share of generations that end as failed.
        faults: How often which trouble befalls a request.
        retry_after: The form of `Retry-After` on a 429; `None` leaves it out.
        rate_limit_headers: Whether metered answers carry `RateLimit-Limit`, `-Remaining` and
            `-Reset` (seconds) of the tightest window.
        count_refused: Whether a refused request counts against the limits too.
        credits_as_429: Whether missing credits answer 429 instead of 402.
        window_offset: Seconds by which `fixed` windows are shifted against the clock's origin.
        epoch: The unix time of the clock's origin, for `createdAt` and HTTP dates.
        public_url: What the URLs of pictures begin with.

    Raises:
        InvalidRequestError: An argument is not allowed.
    """

    def __init__(
        self,
        *,
        algorithm: Algorithm = "sliding",
        dialect: Dialect = "documented",
        seed: int = 0,
        plans: Mapping[str, Plan] | None = None,
        durations: Durations | None = None,
        failure_rate: float = 0.0,
        faults: Faults | None = None,
        retry_after: RetryAfter | None = "seconds",
        rate_limit_headers: bool = False,
        count_refused: bool = False,
        credits_as_429: bool = False,
        window_offset: float = 0.0,
        epoch: float | None = None,
        public_url: str = "https://sandbox.invalid",
    ) -> None:
        if dialect not in get_args(Dialect):
            raise InvalidRequestError("dialect", dialect, " or ".join(get_args(Dialect)))
        if retry_after is not None and retry_after not in get_args(RetryAfter):
            raise InvalidRequestError("retry_after", retry_after, "'seconds', 'date' or None")
        if not 0 <= failure_rate <= 1:
            raise InvalidRequestError("failure_rate", failure_rate, "a share from 0 to 1")
        self.algorithm: Final = algorithm
        self.dialect: Final[Dialect] = dialect
        self.seed: Final = seed
        self._studio: Final = Endpoints(
            seed=seed,
            dialect=dialect,
            durations=durations or Durations.lognormal(),
            failure_rate=failure_rate,
            credits_as_429=credits_as_429,
            epoch=DEFAULT_EPOCH if epoch is None else epoch,
            public_url=public_url,
        )
        self._faults: Final = faults or Faults()
        self._fault_stream: Final = Random(f"{seed}/faults")
        self._retry_after: Final[RetryAfter | None] = retry_after
        self._rate_limit_headers: Final = rate_limit_headers
        self._accounts: Final[dict[str, Account]] = {}
        if plans is None:
            plans = {DEMO_KEY: Plan.DEMO, PAID_KEY: Plan.PAID}
        for key, plan in {EMPTY_KEY: Plan.PAID, **plans}.items():
            meter = Meter(
                plan.limits,
                algorithm=algorithm,
                offset=window_offset,
                count_refused=count_refused,
            )
            owned = 0 if key == EMPTY_KEY or plan.name == Plan.DEMO.name else _CREDITS
            self._accounts[key] = Account(label_of(key), plan, meter, credits=owned)

    @property
    def epoch(self) -> float:
        """The unix time of the clock's origin."""
        return self._studio.epoch

    @epoch.setter
    def epoch(self, value: float) -> None:
        self._studio.epoch = value

    @property
    def public_url(self) -> str:
        """What the URLs of pictures begin with; has no slash at its end."""
        return self._studio.public_url

    @public_url.setter
    def public_url(self, value: str) -> None:
        self._studio.public_url = value.rstrip("/")

    def duration_of(self, n: int) -> float:
        """Return the seconds that the n-th accepted create of a comic takes, from 0.

        It is known before that create arrives, so that bounds can be computed beforehand.
        """
        return self._studio.duration_of(n)

    def finished(self, target: str, now: float) -> Generation | None:
        """Return the generation of that id if it has succeeded by `now`, to draw its pictures."""
        return self._studio.finished(target, now)

    def stats(self, now: float) -> dict[str, Any]:
        """Return what was seen of each key and generation, ready for JSON."""
        accounts = sorted(self._accounts.values(), key=lambda account: account.label)
        return {
            "algorithm": self.algorithm,
            "now": now,
            "keys": {account.label: account.stats() for account in accounts},
            "generations": [one.stats(now) for one in self._studio.generations.values()],
        }

    def handle(self, call: Call, now: float) -> Reply:
        """Answer one call at `now`, in seconds of the API's clock, which never goes back."""
        if call.path == STATS and call.method == "GET":
            return Reply.of(200, self.stats(now))
        try:
            kind, endpoint, target = self._studio.route(call)
            account = self._authenticated(call)
        except Refusal as refusal:
            return refusal.reply(self.dialect)
        is_metered = account.plan.meters(kind)
        wait = account.admit(now) if is_metered else None
        if wait is not None:
            reply = self._too_many(wait, now)
        else:
            fault = self._faults.draw(kind, self._fault_stream)
            reply = self._answer(fault, endpoint, account, call, target, now)
            if (
                kind is RequestKind.STATUS
                and reply.status == HTTPStatus.OK
                and not fault.loses_answer
            ):
                self._studio.generations[target].see(now)
        account.record(kind, "dropped" if reply.drop else str(reply.status))
        if is_metered and self._rate_limit_headers:
            return _with_headers(reply, self._room_headers(account, now))
        return reply

    def _answer(
        self,
        fault: Fault,
        endpoint: Endpoint,
        account: Account,
        call: Call,
        target: str,
        now: float,
    ) -> Reply:
        broken = Refusal(500, "internal_error", "Something went wrong")
        try:
            if fault.error_before:
                raise broken
            reply = Reply.of(200, endpoint(account, call, target, now))
            if fault.error_after:
                raise broken
            if fault.not_json:
                reply = Reply.html()
        except Refusal as refusal:
            reply = refusal.reply(self.dialect)
        if fault.drop or fault.slow:
            delay = self._faults.slow_seconds if fault.slow else 0.0
            # Only what was accepted can be lost: an error is answered.
            is_dropped = fault.drop and (reply.status == HTTPStatus.OK or fault.error_after)
            return Reply(reply.status, reply.headers, reply.body, delay=delay, drop=is_dropped)
        return reply

    def _authenticated(self, call: Call) -> Account:
        scheme, _, key = call.header("Authorization").partition(" ")
        account = self._accounts.get(key.strip()) if scheme.lower() == "bearer" else None
        if account is None:
            raise Refusal(401, "unauthorized", "The API key is missing or not valid")
        return account

    def _too_many(self, wait: float, now: float) -> Reply:
        headers: dict[str, str] = {}
        if self._retry_after == "seconds":
            headers["Retry-After"] = str(_whole_seconds(wait))
        elif self._retry_after == "date":
            headers["Retry-After"] = http_date(_whole_seconds(self.epoch + now + wait))
        message = "Too many requests for this key: wait and try again"
        return Refusal(429, "rate_limit_exceeded", message, headers).reply(self.dialect)

    def _room_headers(self, account: Account, now: float) -> dict[str, str]:
        room = account.meter.room(now)
        return {
            "RateLimit-Limit": str(room.limit.limit),
            "RateLimit-Remaining": str(room.free),
            "RateLimit-Reset": str(_whole_seconds(room.reset)),
        }


def _whole_seconds(seconds: float) -> int:
    # Upwards, or whoever obeys to the second is refused again.
    return math.ceil(seconds)


def _with_headers(reply: Reply, headers: Mapping[str, str]) -> Reply:
    return Reply(
        reply.status,
        {**reply.headers, **headers},
        reply.body,
        delay=reply.delay,
        drop=reply.drop,
    )
