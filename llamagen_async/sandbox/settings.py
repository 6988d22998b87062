"""Settings of the sandbox: how long comics take, and which words it speaks.

Values only: the caller brings the `random.Random` to draw from, so that a seed decides everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Final, Literal, Self

import attrs

from llamagen_async.validation import InvalidRequestError

__all__ = ["Dialect", "Durations", "RetryAfter"]

Dialect = Literal["documented", "production"]
"""The source of status words and error bodies: the vendor's documentation or its servers."""

RetryAfter = Literal["seconds", "date"]
"""The form of the `Retry-After` header."""

_MIXTURE_SIGMA: Final = 0.2
"""The sigma of each lognormal in a mixture: narrow, so that the two humps stay apart."""


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


def _positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidRequestError(name, value, "a number of seconds greater than 0")


def _probability(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidRequestError(name, value, "a probability from 0 to 1")
