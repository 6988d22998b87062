"""Settings of the sandbox: how long comics take, which words it speaks, and what goes wrong.

Values only: the caller brings the `random.Random` to draw from, so that a seed decides everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any, Final, Literal, Self

import attrs

from llamagen_async.plans import RequestKind
from llamagen_async.validation import InvalidRequestError

__all__ = ["Dialect", "Durations", "Fault", "Faults", "RetryAfter"]

Dialect = Literal["documented", "production"]
"""The source of status words and error bodies: the vendor's documentation or its servers."""

RetryAfter = Literal["seconds", "date"]
"""The form of the `Retry-After` header."""

_MIXTURE_SIGMA: Final = 0.2
"""The sigma of each lognormal in a mixture: narrow, so that the two humps stay apart."""
_READS: Final = frozenset({RequestKind.STATUS, RequestKind.USAGE})
"""The kinds of request that change nothing at the server."""


@attrs.frozen
class Durations:
    """A distribution from which the duration of each generation is drawn.

    Made by `lognormal`, `constant`, `uniform` or `mixture`.
    """

    name: str
    """The distribution's name in tables."""
    _sample: Callable[[Random], float] = attrs.field(repr=False, eq=False)

    @classmethod
    def lognormal(cls, median: float = 60.0, sigma: float = 0.4) -> Self:
        """Most near the median (seconds), some much longer: what generation times look like."""
        _positive("median", median)
        mu = math.log(median)
        return cls(f"lognormal {median:g}/{sigma:g}", lambda rng: rng.lognormvariate(mu, sigma))

    @classmethod
    def constant(cls, seconds: float = 60.0) -> Self:
        """Always the same number of seconds."""
        _positive("seconds", seconds)
        return cls(f"constant {seconds:g}", lambda _rng: seconds)

    @classmethod
    def uniform(cls, low: float = 20.0, high: float = 40.0) -> Self:
        """Anything from `low` to `high` seconds, equally likely."""
        _positive("low", low)
        _positive("high", high)
        return cls(f"uniform {low:g}-{high:g}", lambda rng: rng.uniform(low, high))

    @classmethod
    def mixture(cls, short: float = 30.0, long: float = 240.0, share: float = 0.7) -> Self:
        """About `short` seconds for a `share` of the comics, about `long` for the others."""
        _positive("short", short)
        _positive("long", long)
        _probability("share", share)

        def sample(rng: Random) -> float:
            median = short if rng.random() < share else long
            return rng.lognormvariate(math.log(median), _MIXTURE_SIGMA)

        return cls(f"mixture {short:g}/{long:g}", sample)

    def draw(self, rng: Random) -> float:
        """Return the seconds that one generation takes."""
        return self._sample(rng)


@attrs.frozen
class Fault:
    """The faults that happen to one request; `Faults` says what each of them means."""

    error_before: bool = False
    error_after: bool = False
    drop: bool = False
    not_json: bool = False
    slow: bool = False

    @property
    def loses_answer(self) -> bool:
        """Whether the client never reads the real answer."""
        return self.error_before or self.error_after or self.drop or self.not_json


_NO_FAULT: Final = Fault()
"""The faults of a request with which nothing goes wrong."""


def _probability_field(_instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    _probability(attribute.name, value)


def _rate() -> Any:
    return attrs.field(default=0.0, kw_only=True, validator=_probability_field)


@attrs.frozen
class Faults:
    """The probability of each fault for one request, from 0 to 1.

    Faults happen only to requests that the limits have let through and counted.

    Raises:
        InvalidRequestError: A value is not from 0 to 1, or `slow_seconds` is not positive.
    """

    error_before: float = _rate()
    """500, and nothing was accepted."""
    error_after: float = _rate()
    """500, though a create, continue, update or upload was accepted (and billed)."""
    drop_after: float = _rate()
    """The connection closes without an answer, though a billed request or upload was accepted."""
    drop_check: float = _rate()
    """The connection closes without an answer to a request that only reads."""
    not_json: float = _rate()
    """200 with an HTML page as its body, though the request was carried out."""
    slow: float = _rate()
    """The answer comes `slow_seconds` late."""
    slow_seconds: float = attrs.field(default=20.0, kw_only=True)
    """Seconds of the API's clock by which a slow answer is late."""

    def __attrs_post_init__(self) -> None:
        _positive("slow_seconds", self.slow_seconds)

    @property
    def possible(self) -> bool:
        """Whether anything can go wrong at all."""
        return any(attrs.astuple(self)[:-1])

    def draw(self, kind: RequestKind, rng: Random) -> Fault:
        """Return the faults of one request.

        Every request takes the same number of draws from `rng`, so that changing one probability
        does not reshuffle the other faults.
        """
        if not self.possible:
            return _NO_FAULT
        before, after, drop_after, drop_check, not_json, slow = (rng.random() for _ in range(6))
        accepts = kind not in _READS
        drops = drop_after < self.drop_after if accepts else drop_check < self.drop_check
        return Fault(
            error_before=before < self.error_before,
            error_after=accepts and after < self.error_after,
            drop=drops,
            not_json=not_json < self.not_json,
            slow=slow < self.slow,
        )


def _positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidRequestError(name, value, "a number of seconds greater than 0")


def _probability(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidRequestError(name, value, "a probability from 0 to 1")
