"""The sandbox's API without sockets and without a clock: a call and the time in, a reply out.

The service meters every call of a key as the real API is assumed to do, and lets nothing through
that the plan does not allow. Everything random depends on the seed: the duration of the n-th
accepted create is known beforehand (`duration_of`) and no status check moves it. The service never
waits, and touches neither files nor the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, get_args

import attrs

from llamagen_async.plans import Plan, RequestKind
from llamagen_async.sandbox.accounts import DEMO_KEY, EMPTY_KEY, PAID_KEY, Account, label_of
from llamagen_async.sandbox.algorithms import Algorithm, Meter
from llamagen_async.sandbox.endpoints import Endpoint, Endpoints
from llamagen_async.sandbox.faults import ERRORS, Fault, FaultName, Faults, Hits
from llamagen_async.sandbox.generations import SandboxGeneration
from llamagen_async.sandbox.openapi import OPENAPI_PATHS, openapi_document
from llamagen_async.sandbox.settings import Dialect, Durations, RetryAfter
from llamagen_async.sandbox.wire import Call, HTTPError, Reply, http_date
from llamagen_async.validation import InvalidRequestError

__all__ = ["DEFAULT_EPOCH", "STATS", "SandboxService"]

STATS: Final = "/_sandbox/stats"
"""The path of the statistics, which need no key and are not metered."""

DEFAULT_EPOCH: Final = 1_767_225_600.0
"""The unix time of the clock's origin if none is given: the first second of 2026."""

_CREDITS: Final = 100_000_000
"""The credits of a paid key at the start, if not given: more than a demonstration spends."""

_LOSES_ANSWER: Final[frozenset[FaultName]] = frozenset({"drop", "not-json", "cut-json"})
"""The faults by which a client never reads the answer to a status check."""


class SandboxService:
    """A LlamaGen Comic API that enforces its limits for real.

    Args:
        algorithm: The algorithm that counts requests; one of `ALGORITHMS`.
        dialect: The source of status words and error bodies.
        seed: The seed of everything random.
        plans: The plan of each key that is accepted. `EMPTY_KEY` is always accepted too.
        durations: The distribution of how long generations take.
        failure_rate: The share of generations that end as failed.
        faults: Everything that goes wrong, and how often.
        retry_after: The form of `Retry-After` on a 429; `None` leaves it out.
        rate_limit_headers: Whether metered answers carry `RateLimit-Limit`, `-Remaining` and
            `-Reset` (seconds) of the window that has the least left.
        count_refused: Whether a refused request counts against the limits too.
        window_offset: Seconds by which `fixed` windows are shifted against the clock's origin.
        epoch: The unix time of the clock's origin, for `createdAt` and HTTP dates.
        public_url: The first part of the pictures' URLs, without a slash at its end.
        credits: The credits of each paid key at the start; `EMPTY_KEY` has none.

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
        faults: Iterable[Fault] = (),
        retry_after: RetryAfter | None = "seconds",
        rate_limit_headers: bool = False,
        count_refused: bool = False,
        window_offset: float = 0.0,
        epoch: float | None = None,
        public_url: str = "https://sandbox.invalid",
        credits: int = _CREDITS,  # noqa: A002  # the API's word
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
        self._endpoints: Final = Endpoints(
            seed=seed,
            dialect=dialect,
            durations=durations or Durations.lognormal(),
            failure_rate=failure_rate,
            epoch=DEFAULT_EPOCH if epoch is None else epoch,
            public_url=public_url,
        )
        self.faults: Final = Faults(faults, seed)
        self._retry_after: Final[RetryAfter | None] = retry_after
        self._rate_limit_headers: Final = rate_limit_headers
        self._webhook_counts: Mapping[str, int] | None = None
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
            owned = 0 if key == EMPTY_KEY or plan.name == Plan.DEMO.name else credits
            self._accounts[key] = Account(label_of(key), plan, meter, credits=owned)

    @property
    def epoch(self) -> float:
        """The unix time of the clock's origin."""
        return self._endpoints.epoch

    def set_origin(self, public_url: str, *, epoch: float) -> None:
        """Set the first part of the pictures' URLs and the unix time of the clock's origin."""
        self._endpoints.public_url, self._endpoints.epoch = public_url, epoch

    def duration_of(self, n: int) -> float:
        """Return the seconds that the n-th accepted create of a comic takes, from 0.

        The duration is known before that create arrives, so that bounds can be computed beforehand.
        """
        return self._endpoints.duration_of(n)

    def pictured(self, id_: str, now: float) -> SandboxGeneration | None:
        """Return the generation of that id if it has shown pictures by `now`, to draw them."""
        return self._endpoints.pictured(id_, now)

    def follow(
        self,
        started: Callable[[SandboxGeneration], None] | None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Tell `started` of each stretch of work that begins, and show `counts` with the stats."""
        self._endpoints.started, self._webhook_counts = started, counts

    def shown(self, generation: SandboxGeneration, now: float) -> dict[str, Any]:
        """Return what a status check of a generation would show at a time."""
        return self._endpoints.body(generation, now)

    def stats(self, now: float) -> dict[str, Any]:
        """Return the counts of each key and the times of each generation, ready for JSON."""
        accounts = sorted(self._accounts.values(), key=lambda account: account.label)
        counts = self._webhook_counts
        return {
            **({} if counts is None else {"webhooks": dict(counts)}),
            "algorithm": self.algorithm,
            "now": now,
            "keys": {account.label: account.stats() for account in accounts},
            "faults": self.faults.counts(),
            "generations": [one.stats(now) for one in self._endpoints.generations.values()],
        }

    def handle(self, call: Call, now: float) -> Reply:
        """Answer one call at `now`, in seconds of the API's clock, which never goes back."""
        if call.path == STATS and call.method == "GET":
            return Reply.of(200, self.stats(now))
        if call.path in OPENAPI_PATHS and call.method == "GET":
            return Reply.of(200, openapi_document(self.dialect, self._endpoints.public_url))
        try:
            kind, endpoint, id_ = self._endpoints.route(call)
            account = self._authenticated(call)
        except HTTPError as error:
            return error.reply(self.dialect)
        is_metered = kind in account.plan.metered
        wait = account.admit(now) if is_metered else None
        if wait is not None:
            reply = self._too_many(wait, now)
        else:
            hits = self.faults.draw(kind)
            reply = self._answer(hits, endpoint, account, call, id_, now)
            is_read = kind is RequestKind.STATUS and reply.status == HTTPStatus.OK
            if is_read and not _LOSES_ANSWER & hits.keys():
                self._endpoints.generations[id_].record_check(now)
        account.record(kind, "dropped" if reply.drop else str(reply.status))
        if is_metered and self._rate_limit_headers:
            headers = {**reply.headers, **self._rate_limit(account, now)}
            return attrs.evolve(reply, headers=headers)
        return reply

    def _answer(
        self, hits: Hits, endpoint: Endpoint, account: Account, call: Call, id_: str, now: float
    ) -> Reply:
        is_accepted = False
        try:
            if "drop-before" in hits:
                return Reply(HTTPStatus.INTERNAL_SERVER_ERROR, {}, drop=True)
            self._fail(hits, "error", now)
            self._fail(hits, "no-credits", now)
            body = endpoint(account, attrs.evolve(call, hits=hits), id_, now)
            is_accepted = True
            self._fail(hits, "error-after", now)
            reply = Reply.of(200, {"artwork": {"id": body["id"]}} if "artwork" in hits else body)
            if "not-json" in hits:
                reply = Reply.html()
            elif "cut-json" in hits:
                reply = attrs.evolve(reply, body=reply.body[: len(reply.body) // 2])
        except HTTPError as error:
            reply = error.reply(self.dialect)
        late = hits.get("delay")
        # Only the answer to an accepted request can be lost: a request that is wrong is told so.
        return attrs.evolve(
            reply, delay=late.number if late else 0.0, drop=is_accepted and "drop" in hits
        )

    def _fail(self, hits: Hits, name: FaultName, now: float) -> None:
        """Raise the error that a fault means, if it happens to this request."""
        fault = hits.get(name)
        if fault is None:
            return
        spent = ERRORS[HTTPStatus.PAYMENT_REQUIRED]
        code, message = spent if name == "no-credits" else ERRORS[fault.status]
        headers = None if fault.retry_after is None else self._when(fault.retry_after, now)
        raise HTTPError(fault.status, code, message, headers)

    def _authenticated(self, call: Call) -> Account:
        scheme, _, key = call.header("Authorization").partition(" ")
        account = self._accounts.get(key.strip()) if scheme.lower() == "bearer" else None
        if account is None:
            raise HTTPError(401, *ERRORS[401])
        return account

    def _too_many(self, wait: float, now: float) -> Reply:
        return HTTPError(429, *ERRORS[429], self._when(wait, now)).reply(self.dialect)

    def _when(self, wait: float, now: float) -> Mapping[str, str]:
        """Return the header that asks to come back in `wait` seconds."""
        if self._retry_after == "seconds":
            return {"Retry-After": str(_whole_seconds(wait))}
        if self._retry_after == "date":
            return {"Retry-After": http_date(_whole_seconds(self.epoch + now + wait))}
        return {}

    def _rate_limit(self, account: Account, now: float) -> dict[str, str]:
        remaining = account.meter.remaining(now)
        return {
            "RateLimit-Limit": str(remaining.limit.limit),
            "RateLimit-Remaining": str(remaining.free),
            "RateLimit-Reset": str(_whole_seconds(remaining.reset)),
        }


def _whole_seconds(seconds: float) -> int:
    # Rounded up: a client that waits exactly that long must not be refused again.
    return math.ceil(seconds)
