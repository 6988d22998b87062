"""How long a generation takes, as a distribution that is learned from what was seen.

Two parts share the work. A mixture of lognormals of many medians and widths, weighted by how well
each explains what was seen, learns from the first look on: also from "not yet". A histogram of
what was seen takes over as observations come in, because nobody promised a lognormal: the sooner,
the better it has foretold what came, compared with the mixture. All that was seen fades, so that
the forecast follows a service that becomes slower or faster. Before
anything was seen a stated prior holds: about a minute (what was measured), give or take a factor
of three, with a heavy tail because nothing is documented.

A check that says "not yet" and a later one that says "done" bracket a duration; what is known of
it is spread over the bracket as the distribution so far has it. Durations are binned on a
logarithmic scale, so memory does not grow. Nothing here reads a clock.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any, Final, Self

__all__ = ["DurationForecast"]

_SHORTEST: Final = 1.0
_LONGEST: Final = 7_200.0
_RATIO: Final = 1.05
_BINS: Final = math.ceil(math.log(_LONGEST / _SHORTEST) / math.log(_RATIO))
_EDGES: Final = (0.0, *(_SHORTEST * _RATIO**step for step in range(_BINS + 1)))

_MEDIAN: Final = 60.0
_SPREAD: Final = 1.0
"""How uncertain the median is before anything was seen: standard deviation of its logarithm."""
_STEP: Final = 0.2
"""Between the logarithms of two medians that are considered."""
_WIDTHS: Final = (0.05, 0.15, 0.4, 0.8)
"""Standard deviations of the logarithm of a duration that are considered."""
_TAIL: Final = 0.01
"""The part of each that is spread over all durations alike."""
_MIXTURE_WEIGHTS: Final = (1.0, 4.0, 16.0, 64.0)
"""How many observations the mixture may weigh against the histogram."""
_KNOWN: Final = 1.0 - 1e-6
"""Past this quantile nothing is known but that it takes long: the tail is taken for a Pareto's."""
_FADE: Final = 1 - 1 / 64
"""What is left of an observation when the next one comes."""
_IMPOSSIBLE: Final = 1e-12
_NEGLIGIBLE: Final = 1e-3
"""Hypotheses that are so much less likely than the likeliest are left out."""
_STALE: Final = 1 / 16
"""The distribution is brought up to date when so large a part of the evidence is new."""


class DurationForecast:
    """A distribution of durations in seconds."""

    def __init__(self) -> None:
        self.observed = 0
        """How many generations were seen to end."""
        self.version = 0
        """Changes when the distribution does."""
        self._priors, self._hypotheses = _hypotheses()
        self._evidence = [0.0] * len(self._priors)
        self._weight_evidence = [0.0] * len(_MIXTURE_WEIGHTS)
        self._mixture: list[float] = []
        self._seen = [0.0] * (len(_EDGES) - 1)
        self._news = 0.0
        self._sums: list[float] = []
        self._sum_up()

    def observe(self, longer_than: float, at_most: float) -> None:
        """Add one generation that took more than `longer_than` and at most `at_most` seconds."""
        shares: list[float] = []
        for position, (start, end) in enumerate(pairwise(_EDGES)):
            inside = min(end, at_most) - max(start, longer_than)
            density = (self._sums[position + 1] - self._sums[position]) / (end - start)
            shares.append(density * inside if inside > 0 else 0.0)
        total = sum(shares)
        low, high = _place(longer_than), _place(at_most)
        self._compare(low, high)
        self._seen = [weight * _FADE for weight in self._seen]
        if total > 0:
            self._seen = [
                weight + share / total for weight, share in zip(self._seen, shares, strict=True)
            ]
        else:
            self._seen[-1 if at_most >= _EDGES[-1] else _bin(at_most)] += 1.0
        self._evidence = [
            _FADE * (old + _log(_cdf(sums, high) - _cdf(sums, low)) - _log(1 - _cdf(sums, low)))
            for old, sums in zip(self._evidence, self._hypotheses, strict=True)
        ]
        self.observed += 1
        self._news += 1.0
        if self._news > _STALE * min(self.observed, 64):
            self._sum_up()

    def not_done(self, before: float, at: float) -> None:
        """Add that a generation, not done `before` so many seconds, was not done `at` so many."""
        if at <= before:
            return
        start, end = _place(before), _place(at)
        self._evidence = [
            old + _log(1 - _cdf(sums, end)) - _log(1 - _cdf(sums, start))
            for old, sums in zip(self._evidence, self._hypotheses, strict=True)
        ]
        self._news += 0.5
        if self._news > _STALE * min(self.observed, 64):
            self._sum_up()

    def cdf(self, seconds: float) -> float:
        """Return the chance that a generation takes at most `seconds`."""
        return _cdf(self._sums, _place(seconds)) / self._sums[-1]

    def quantile(self, chance: float) -> float:
        """Return the seconds within which a generation is done with that chance."""
        wanted = chance * self._sums[-1]
        position = min(bisect.bisect_left(self._sums, wanted, lo=1) - 1, len(self._seen) - 1)
        below, above = self._sums[position], self._sums[position + 1]
        part = (wanted - below) / (above - below) if above > below else 1.0
        start, end = _EDGES[position], _EDGES[position + 1]
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

    def steps(self) -> tuple[tuple[float, ...], list[float]]:
        """Return ages in seconds, ascending from 0, and the chance to be done at each."""
        total = self._sums[-1]
        return _EDGES, [below / total for below in self._sums]

    def dump(self) -> dict[str, Any]:
        """Return what was learned, as plain data."""
        return {
            "observed": self.observed,
            "evidence": [round(value, 4) for value in self._evidence],
            "weights": [round(value, 4) for value in self._weight_evidence],
            "seen": {
                str(position): round(weight, 5)
                for position, weight in enumerate(self._seen)
                if weight > _NEGLIGIBLE
            },
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """Return the forecast that `dump` described.

        Raises:
            ValueError: It is not one of this version.
        """
        forecast = cls()
        try:
            evidence = [float(value) for value in state["evidence"]]
            weight_evidence = [float(value) for value in state["weights"]]
            if (len(evidence), len(weight_evidence)) != (
                len(forecast._priors),
                len(_MIXTURE_WEIGHTS),
            ):
                raise ValueError("other hypotheses")
            if not all(map(math.isfinite, [*evidence, *weight_evidence])):
                raise ValueError("no numbers")
            for position, weight in state["seen"].items():
                if not 0 <= float(weight) <= 1 / (1 - _FADE):
                    raise ValueError("an impossible weight")
                forecast._seen[int(position)] = float(weight)
            forecast._evidence, forecast._weight_evidence = evidence, weight_evidence
            forecast.observed = int(state["observed"])
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"not a forecast: {error!r}") from error
        forecast._sum_up()
        return forecast

    def _sum_up(self) -> None:
        weights = [
            prior + evidence for prior, evidence in zip(self._priors, self._evidence, strict=True)
        ]
        best = max(weights)
        weights = [math.exp(weight - best) for weight in weights]
        likely = [
            (weight, sums)
            for weight, sums in zip(weights, self._hypotheses, strict=True)
            if weight > _NEGLIGIBLE
        ]
        total = sum(weight for weight, _ in likely)
        mixture = [0.0] * len(_EDGES)
        for weight, hypothesis in likely:
            share = weight / total
            mixture = [
                sum_ + share * chance for sum_, chance in zip(mixture, hypothesis, strict=True)
            ]
        seen = sum(self._seen)
        best = max(self._weight_evidence)
        likely_so = [math.exp(evidence - best) for evidence in self._weight_evidence]
        pairs = zip(likely_so, _MIXTURE_WEIGHTS, strict=True)
        part = sum(share * weight / (weight + seen) for share, weight in pairs) / sum(likely_so)
        rest = (1.0 - part) / seen if seen else 0.0
        self._sums = [
            part * chance + rest * below
            for chance, below in zip(mixture, accumulate(self._seen, initial=0.0), strict=True)
        ]
        self._mixture = mixture
        self._news = 0.0
        self.version += 1

    def _compare(self, low: _Place, high: _Place) -> None:
        """Note how well what came was foretold, for each weight that the mixture may have."""
        below = list(accumulate(self._seen, initial=0.0))
        seen = _cdf(below, high) - _cdf(below, low)
        chance = _cdf(self._mixture, high) - _cdf(self._mixture, low)
        self._weight_evidence = [
            _FADE * (old + _log((weight * chance + seen) / (weight + below[-1])))
            for old, weight in zip(self._weight_evidence, _MIXTURE_WEIGHTS, strict=True)
        ]


_Place = tuple[int, float]
"""A bin, and the part of it that is below a value."""


def _bin(seconds: float) -> int:
    return max(0, bisect.bisect_right(_EDGES, seconds) - 1)


def _place(seconds: float) -> _Place:
    if seconds <= 0:
        return 0, 0.0
    if seconds >= _EDGES[-1]:
        return len(_EDGES) - 2, 1.0
    position = _bin(seconds)
    start, end = _EDGES[position], _EDGES[position + 1]
    return position, (seconds - start) / (end - start)


def _cdf(sums: list[float], place: _Place) -> float:
    position, part = place
    below = sums[position]
    return below + (sums[position + 1] - below) * part


def _log(chance: float) -> float:
    return math.log(max(_IMPOSSIBLE, chance))


def _normal_cdf(value: float) -> float:
    return (1.0 + math.erf(value / math.sqrt(2.0))) / 2.0


@functools.cache
def _hypotheses() -> tuple[list[float], list[list[float]]]:
    """Return the logarithm of each hypothesis' prior chance, and its distribution at the edges."""
    priors: list[float] = []
    hypotheses: list[list[float]] = []
    shifts = [_STEP * step for step in range(-12, 19)]
    for shift in shifts:
        for width in _WIDTHS:
            priors.append(-((shift / _SPREAD) ** 2) / 2.0)
            middle = math.log(_MEDIAN) + shift
            chances = [0.0, *(_normal_cdf((math.log(e) - middle) / width) for e in _EDGES[1:])]
            hypotheses.append(
                [
                    (1.0 - _TAIL) * chance / chances[-1] + _TAIL * step / _BINS
                    for step, chance in enumerate(chances)
                ]
            )
    return priors, hypotheses
