"""How long a generation takes, as a distribution that is learned from what was seen.

A check that says "not yet" and a later one that says "done" bracket a duration. Each bracket
adds one observation, spread over the bracket as the distribution so far has it, and all older
observations fade a little, so that the forecast follows a service that becomes slower or
faster. Before anything was seen a stated prior holds: around a minute (what was measured), with
a heavy tail because nothing is documented.

Durations are binned on a logarithmic scale, so memory does not grow. Nothing here reads a clock.
"""

from __future__ import annotations

import bisect
import math
from itertools import accumulate, pairwise
from typing import Final

__all__ = ["DurationForecast"]

_SHORTEST: Final = 1.0
_LONGEST: Final = 7_200.0
_RATIO: Final = 1.05
_BINS: Final = math.ceil(math.log(_LONGEST / _SHORTEST) / math.log(_RATIO))

_MEDIAN: Final = 60.0
_SIGMA: Final = 0.6
_PRIOR_WEIGHT: Final = 2.0
"""How many observations the prior is worth."""
_TAIL: Final = 0.03
"""The part of the prior that is spread over all durations alike."""
_KNOWN: Final = 1.0 - 1e-6
"""Past this quantile nothing is known but that it takes long: the tail is taken for a Pareto's."""
_FADE: Final = 1 - 1 / 64
"""What is left of an observation when the next one comes."""


def _normal_cdf(value: float) -> float:
    return (1.0 + math.erf(value / math.sqrt(2.0))) / 2.0


class DurationForecast:
    """A distribution of durations in seconds."""

    def __init__(self) -> None:
        self._edges = [0.0, *(_SHORTEST * _RATIO**step for step in range(_BINS + 1))]
        prior = [_normal_cdf(math.log(edge / _MEDIAN) / _SIGMA) for edge in self._edges[1:]]
        mass = [
            prior[0],
            *(after - before for before, after in pairwise(prior)),
        ]
        self._prior = [_PRIOR_WEIGHT * ((1.0 - _TAIL) * part + _TAIL / len(mass)) for part in mass]
        self._seen = [0.0] * len(mass)
        self._sums: list[float] = []
        self._sum_up()

    def observe(self, longer_than: float, at_most: float) -> None:
        """Add one generation that took more than `longer_than` and at most `at_most` seconds."""
        low, high = self.cdf(longer_than), self.cdf(at_most)
        shares: list[float] = []
        for position, (start, end) in enumerate(pairwise(self._edges)):
            inside = min(end, at_most) - max(start, longer_than)
            density = (self._prior[position] + self._seen[position]) / (end - start)
            shares.append(density * inside if inside > 0 else 0.0)
        total = sum(shares)
        self._seen = [weight * _FADE for weight in self._seen]
        if total > 0 and high > low:
            self._seen = [
                weight + share / total for weight, share in zip(self._seen, shares, strict=True)
            ]
        else:
            self._seen[-1 if at_most >= self._edges[-1] else self._bin(at_most)] += 1.0
        self._sum_up()

    def cdf(self, seconds: float) -> float:
        """Return the chance that a generation takes at most `seconds`."""
        if seconds <= 0:
            return 0.0
        if seconds >= self._edges[-1]:
            return 1.0
        position = self._bin(seconds)
        start, end = self._edges[position], self._edges[position + 1]
        below = self._sums[position]
        part = (seconds - start) / (end - start)
        return (below + (self._sums[position + 1] - below) * part) / self._sums[-1]

    def quantile(self, chance: float) -> float:
        """Return the seconds within which a generation is done with that chance."""
        wanted = chance * self._sums[-1]
        position = min(bisect.bisect_left(self._sums, wanted, lo=1) - 1, len(self._seen) - 1)
        below, above = self._sums[position], self._sums[position + 1]
        part = (wanted - below) / (above - below) if above > below else 1.0
        start, end = self._edges[position], self._edges[position + 1]
        return start + (end - start) * part

    def chance_done(self, age: float, *, not_done_at: float) -> float:
        """Return the chance that a generation is done at `age`.

        Args:
            age: Seconds since it was accepted.
            not_done_at: The age at which it was last seen not done; 0 if it was never looked at.
        """
        if age <= not_done_at:
            return 0.0
        before = self.cdf(not_done_at)
        if before >= _KNOWN:
            return 1.0 - not_done_at / age
        return (self.cdf(age) - before) / (1.0 - before)

    def age_when(self, chance: float, *, not_done_at: float) -> float:
        """Return the age at which it is done with that chance, having not been at `not_done_at`."""
        before = self.cdf(not_done_at)
        if before >= _KNOWN:
            return math.inf if chance >= 1.0 else not_done_at / (1.0 - chance)
        return max(not_done_at, self.quantile(before + chance * (1.0 - before)))

    def _bin(self, seconds: float) -> int:
        return max(0, bisect.bisect_right(self._edges, seconds) - 1)

    def _sum_up(self) -> None:
        weights = (prior + seen for prior, seen in zip(self._prior, self._seen, strict=True))
        self._sums = list(accumulate(weights, initial=0.0))
