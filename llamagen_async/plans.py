"""Plans: what a key may send, as numbers.

A plan says how many requests fit into which windows and which kinds of request are counted.
It holds no state and does no I/O; the limiter (`llamagen_async.ratelimit`) keeps the count.

The two plans the vendor documents are `Plan.DEMO` (4 requests a minute and 15 a day) and
`Plan.PAID` (10 requests a minute). Whether status checks count is not documented; the plans
assume that they do. Whoever learns otherwise makes a plan with another `metered`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, ClassVar, Final, Literal, SupportsIndex

import attrs

from llamagen_async.validation import (
    InvalidRequestError,
    number,
    python_integer,
    seconds,
    whole_number,
)

__all__ = ["DAY", "HOUR", "MINUTE", "Plan", "PlanName", "RateLimit", "RequestKind"]

PlanName = Literal["auto", "demo", "paid"]
"""The name of a plan; `auto` is the one that the server says."""

MINUTE: Final = 60.0
"""Seconds in a minute: the window of the vendor's per-minute limits."""

HOUR: Final = 3_600.0
"""Seconds in an hour."""

DAY: Final = 86_400.0
"""Seconds in a day: the window of the demo plan's daily limit."""


class RequestKind(enum.StrEnum):
    """Kind of an API request, on which limits and retries depend."""

    is_billed: bool
    """Whether sending it a second time would be paid for a second time."""

    CREATE = "create"
    """Start of a generation. Billed, so never sent twice."""
    CONTINUE = "continue"
    """Extension of a story. Billed, so never sent twice."""
    UPDATE = "update"
    """Redrawing of a panel. Billed, so never sent twice."""
    STATUS = "status"
    """Status check of one generation."""
    USAGE = "usage"
    """Question for what the key has used."""
    UPLOAD = "upload"
    """Upload of a reference file."""

    def __init__(self, name: str) -> None:
        self.is_billed = name in ("create", "continue", "update")


def _whole(value: SupportsIndex) -> Any:
    return python_integer(value)


def _whole_if_any(value: SupportsIndex | None) -> Any:
    return python_integer(value)


def _positive_int(_instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    whole_number(attribute.name, value, at_least=1)


def _seconds(_instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    seconds(attribute.name, value)


@attrs.frozen
class RateLimit:
    """At most `limit` requests in any `per` seconds.

    Raises:
        InvalidRequestError: `limit` is not a whole number of at least 1, or `per` is not a
            positive number of seconds.
    """

    limit: int = attrs.field(converter=_whole, validator=_positive_int)
    """Number of requests that fit into one window."""
    per: float = attrs.field(converter=number, validator=_seconds)
    """The length of the window in seconds."""
    aligned: bool = attrs.field(default=False, kw_only=True)
    """Whether the server's windows begin at multiples of `per` of unix time, such as days that
    begin at midnight UTC. All slots are then free again when the next window begins. Set it only
    where that is known, and where the client's clock agrees with the server's."""
    interval: float = attrs.field(init=False, eq=False, repr=False)
    """Seconds between requests if they were evenly spaced."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "interval", self.per / self.limit)

    def __str__(self) -> str:
        names = {1.0: "second", MINUTE: "minute", HOUR: "hour", DAY: "day"}
        return f"{self.limit} per {names.get(self.per) or f'{self.per:g} seconds'}"


def _limits(value: RateLimit | Iterable[RateLimit]) -> tuple[RateLimit, ...]:
    limits = (value,) if isinstance(value, RateLimit) else tuple(value)
    if not limits or not all(isinstance(limit, RateLimit) for limit in limits):
        raise InvalidRequestError("limits", value, "at least one RateLimit")
    return limits


def _kinds(value: Iterable[RequestKind | str]) -> frozenset[RequestKind]:
    """Return kinds of request; text such as `"create, continue"` names them, too."""
    allowed = ", ".join(kind.value for kind in RequestKind)
    given = value.replace(",", " ").lower().split() if isinstance(value, str) else value
    if not isinstance(given, Iterable) or (not given and isinstance(value, str)):
        raise InvalidRequestError("metered", value, f"a set of {allowed}")
    kinds: set[RequestKind] = set()
    for kind in given:
        try:
            kinds.add(RequestKind(kind))
        except ValueError:
            raise InvalidRequestError("metered", kind, f"a set of {allowed}") from None
    return frozenset(kinds)


@attrs.frozen
class Plan:
    """Limits of a key, under a name.

    Example:
        `Plan("studio", limits=(RateLimit(60, per=60),), metered={"create", "continue"})`

    Raises:
        InvalidRequestError: There is no limit, or a kind in `metered` or `burst` is not allowed.
    """

    DEMO: ClassVar[Plan]
    """4 requests a minute and 15 a day; results are watermarked (vendor's documentation)."""
    PAID: ClassVar[Plan]
    """10 requests a minute (vendor's documentation)."""

    name: str
    """The name in logs and tables."""
    limits: tuple[RateLimit, ...] = attrs.field(kw_only=True, converter=_limits)
    """Windows, all of which a request must fit into."""
    metered: frozenset[RequestKind] = attrs.field(
        kw_only=True, default=frozenset(RequestKind), converter=_kinds
    )
    """Kinds of request that count against the limits; the others need no slot."""
    burst: int | None = attrs.field(
        kw_only=True,
        default=None,
        converter=_whole_if_any,
        validator=attrs.validators.optional(_positive_int),
    )
    """Number of requests that may leave back to back; `None` is as many as the tightest window
    holds."""
    quotas: tuple[RateLimit, ...] = attrs.field(init=False, eq=False, repr=False)
    """Windows of an hour and more: so long that their slots have to be budgeted."""
    rate: RateLimit = attrs.field(init=False, eq=False, repr=False)
    """The shortest window, which bounds the rate of the near future."""

    def __attrs_post_init__(self) -> None:
        long = tuple(limit for limit in self.limits if limit.per >= HOUR)
        object.__setattr__(self, "quotas", long)
        object.__setattr__(self, "rate", min(self.limits, key=lambda limit: limit.per))

    @staticmethod
    def parse(value: Plan | str) -> Plan:
        """Return the plan that `value` is or names (`"demo"`, `"paid"`).

        Raises:
            InvalidRequestError: No plan has that name.
        """
        if isinstance(value, Plan):
            return value
        known = {plan.name: plan for plan in (Plan.DEMO, Plan.PAID)}
        plan = known.get(value.strip().lower()) if isinstance(value, str) else None
        if plan is None:
            raise InvalidRequestError("plan", value, "'demo', 'paid' or a Plan")
        return plan


Plan.DEMO = Plan("demo", limits=(RateLimit(4, per=MINUTE), RateLimit(15, per=DAY)))
Plan.PAID = Plan("paid", limits=(RateLimit(10, per=MINUTE),))
