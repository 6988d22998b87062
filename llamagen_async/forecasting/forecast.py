"""How long a generation takes, as a distribution that is learned from what was observed.

Two parts share the work. A mixture of lognormals of many medians and widths, weighted by how well
each explains what was observed, learns from the first status check on: also from "still running".
A histogram of what was observed takes over as observations come in, because nobody promised a
lognormal: the sooner, the better it has foretold what came, compared with the mixture. Whatever
was observed fades, so that the forecast follows a service that becomes slower or faster. Before
anything was observed a stated prior holds: about a minute (what was measured), give or take a
factor of three, with a heavy tail because nothing is documented.

A check that says "running" and a later one that says "done" bracket a duration; what is known of
it is spread over the bracket as the distribution so far has it. Durations are binned on a
logarithmic scale, so memory does not grow.

Nothing here reads a clock, does I/O or decides anything.
"""

from __future__ import annotations

import bisect
import functools
import math
from itertools import accumulate, repeat
from operator import add, mul
from typing import Final, NamedTuple, Self

__all__ = [
    "AGES",
    "FIRST_VERSION",
    "MOST_OBSERVATIONS",
    "DurationForecast",
]

# Tuned numbers. "Chosen" ones were set once and never varied; "tried" ones were varied in a part of
# benchmarks/scheduling.py: 6 distributions, batches of 4, 12 and 30 with 2 seeds (last / mean
# comic), and 40 comics one by one at 2.5 and 4 a minute (mean comic); as ratios to a scheduler
# that knows every duration, 1.055 / 1.162 and 1.251 with the numbers as they are.

_SHORTEST: Final = 1.0
"""End of the first bin, in seconds (chosen: no comic takes less)."""
_LONGEST: Final = 7_200.0
"""Seconds that the bins reach to at least (chosen: two hours, longer than any wait)."""
_RATIO: Final = 1.05
"""Ratio of the ends of two neighbouring bins (chosen: 5 % is finer than checks can tell)."""
_BINS: Final = math.ceil(math.log(_LONGEST / _SHORTEST) / math.log(_RATIO))
"""Number of bins beyond the first one."""
AGES: Final = (0.0, *(_SHORTEST * _RATIO**step for step in range(_BINS + 1)))
"""The edges of the bins: ages in seconds, ascending from 0."""

_MEDIAN: Final = 60.0
"""Median of the prior in seconds: what was measured before the first line was written."""
_SPREAD: Final = 1.0
"""Standard deviation of the prior median's logarithm, a factor of about three (chosen)."""
_STEP: Final = 0.2
"""Distance of two medians that are considered, in their logarithm (chosen)."""
_WIDTHS: Final = (0.05, 0.15, 0.4, 0.8)
"""Standard deviations of a duration's logarithm that are considered.

The last two are those of the benchmark's lognormals, the others stand for nearly constant times.
"""
_TAIL: Final = 0.01
"""Part of each lognormal that is spread over all durations alike (chosen)."""
_MIXTURE_WEIGHTS: Final = (1.0, 4.0, 16.0, 64.0)
"""Numbers of observations that the mixture may weigh against the histogram (chosen)."""
_KNOWN: Final = 1.0 - 1e-6
"""Quantile past which the tail is taken for a Pareto distribution's (chosen).

Beyond it nothing is known but that the generation takes long, so checks become rarer with its age.
"""
_FADE: Final = 1 - 1 / 64
"""Part of an observation's weight that is left when the next one comes.

Chosen so that a service that becomes three times slower is believed after 100 comics, which a test
holds.
"""
FIRST_VERSION: Final = 1
"""The version of a distribution of which nothing was observed."""
MOST_OBSERVATIONS: Final = 1 / (1 - _FADE)
"""Observations that a histogram can hold, since they fade."""
_IMPOSSIBLE: Final = 1e-12
"""Chance in the place of 0, so that no hypothesis is ruled out for ever (chosen)."""
_NEGLIGIBLE: Final = 1e-3
"""Likelihood, relative to the best hypothesis', below which one is left out (chosen for speed)."""
_STALE: Final = 1 / 16
"""Part of the evidence that may be new before the distribution is worked out (chosen for speed)."""


class DurationForecast:
    """A distribution of durations in seconds."""

    def __init__(self) -> None:
        self.observed: int = 0
        """How many generations were observed to end."""
        self.version: int = FIRST_VERSION
        """A number that changes when the distribution does."""
        self._priors, self._hypotheses = _hypotheses()
        self.evidence: list[float] = [0.0] * len(self._priors)
        """For each hypothesis, the logarithm of the chance it gave to what was observed."""
        self.weight_evidence: list[float] = [0.0] * len(_MIXTURE_WEIGHTS)
        """For each weight that the mixture may have, how well it foretold, as a logarithm."""
        self.seen: list[float] = [0.0] * (len(AGES) - 1)
        """The histogram: how many durations were observed in each bin, faded."""
        self.cumulative: list[float] = _prior()
        """For each of `AGES`, the chance to be done, in units of the last entry."""
        self._mixture = self.cumulative
        self._news = 0.0

    def observe(self, longer_than: float, at_most: float) -> None:
        """Add one generation that took more than `longer_than` and at most `at_most` seconds."""
        start, end = _Place.of(longer_than), _Place.of(at_most)
        # How well it was foretold decides how much the mixture weighs beside what was seen.
        below = list(accumulate(self.seen, initial=0.0))
        seen = end.value(below) - start.value(below)
        chance = end.value(self._mixture) - start.value(self._mixture)
        for number, weight in enumerate(_MIXTURE_WEIGHTS):
            foretold = math.log(max(_IMPOSSIBLE, (weight * chance + seen) / (weight + below[-1])))
            self.weight_evidence[number] = _FADE * (self.weight_evidence[number] + foretold)
        shares: dict[int, float] = {}
        for at in range(start.bin, end.bin + 1):
            inside = min(AGES[at + 1], at_most) - max(AGES[at], longer_than)
            density = (self.cumulative[at + 1] - self.cumulative[at]) / (AGES[at + 1] - AGES[at])
            if inside > 0:
                shares[at] = density * inside
        total = sum(shares.values())
        if total <= 0:
            shares, total = {end.bin: 1.0}, 1.0
        self.seen = [one * _FADE for one in self.seen]
        for at, share in shares.items():
            self.seen[at] += share / total
        for number, hypothesis in enumerate(self._hypotheses):
            before = start.value(hypothesis)
            chance = math.log(max(_IMPOSSIBLE, end.value(hypothesis) - before))
            chance = self.evidence[number] + chance - math.log(max(_IMPOSSIBLE, 1 - before))
            self.evidence[number] = _FADE * chance
        self.observed += 1
        self._news += 1.0
        if self._news > _STALE * min(self.observed, 64):
            self.update()

    def not_done(self, before: float, at: float) -> None:
        """Add that a generation, known to run at the age `before`, was still running at `at`."""
        if at <= before:
            return
        end, start = _Place.of(at), _Place.of(before)
        for number, hypothesis in enumerate(self._hypotheses):
            chance = math.log(max(_IMPOSSIBLE, 1 - end.value(hypothesis)))
            known = math.log(max(_IMPOSSIBLE, 1 - start.value(hypothesis)))
            self.evidence[number] = self.evidence[number] + chance - known
        self._news += 0.5
        if self._news > _STALE * min(self.observed, 64):
            self.update()

    def chance_done(self, age: float, *, last_running_age: float = 0.0) -> float:
        """Return the chance that a generation is done at `age`.

        Args:
            age: Seconds since it was accepted.
            last_running_age: The age at which it was last seen running; 0 if it never was.
        """
        if age <= last_running_age:
            return 0.0
        total = self.cumulative[-1]
        before = _below(self.cumulative, last_running_age) / total
        if before >= _KNOWN:
            return 1.0 - last_running_age / age
        return (_below(self.cumulative, age) / total - before) / (1.0 - before)

    def age_when(self, chance: float, *, last_running_age: float = 0.0) -> float:
        """Return the age in seconds at which a generation is done with that chance.

        Args:
            chance: The chance, from 0 to 1.
            last_running_age: The age at which it was last seen running; 0 if it never was.
        """
        before = _below(self.cumulative, last_running_age) / self.cumulative[-1]
        if before >= _KNOWN:
            return math.inf if chance >= 1.0 else last_running_age / (1.0 - chance)
        wanted = (before + chance * (1.0 - before)) * self.cumulative[-1]
        at = min(bisect.bisect_left(self.cumulative, wanted, lo=1) - 1, len(self.seen) - 1)
        below, above = self.cumulative[at], self.cumulative[at + 1]
        part = (wanted - below) / (above - below) if above > below else 1.0
        return max(last_running_age, AGES[at] + (AGES[at + 1] - AGES[at]) * part)

    def update(self) -> None:
        """Bring the distribution up to date with the evidence."""
        mixture = _mixed(list(map(add, self._priors, self.evidence)))
        seen, best = sum(self.seen), max(self.weight_evidence)
        part = total = 0.0
        for evidence, weight in zip(self.weight_evidence, _MIXTURE_WEIGHTS, strict=True):
            share = math.exp(evidence - best)
            part += share * weight / (weight + seen)
            total += share
        part /= total
        rest = (1.0 - part) / seen if seen else 0.0
        below = accumulate(self.seen, initial=0.0)
        self.cumulative = [
            part * chance + rest * weight for chance, weight in zip(mixture, below, strict=True)
        ]
        self._mixture = mixture
        self._news = 0.0
        self.version += 1


def _mixed(likelihoods: list[float]) -> list[float]:
    """Return the distribution at `AGES`, given the logarithm of each hypothesis' likelihood."""
    best, total = max(likelihoods), 0.0
    likely: list[tuple[float, list[float]]] = []
    for likelihood, hypothesis in zip(likelihoods, _hypotheses()[1], strict=True):
        weight = math.exp(likelihood - best)
        if weight > _NEGLIGIBLE:
            likely.append((weight, hypothesis))
            total += weight
    mixture = [0.0] * len(AGES)
    for weight, hypothesis in likely:
        share = weight / total
        mixture = list(map(add, mixture, map(mul, repeat(share), hypothesis)))
    return mixture


@functools.cache
def _prior() -> list[float]:
    """Return the distribution before anything was observed."""
    return _mixed(_hypotheses()[0])


class _Place(NamedTuple):
    """Where an age lies among `AGES`, found once for all distributions that are read there."""

    bin: int
    """The number of its bin."""
    part: float
    """The part of the bin that is below it, from 0 to 1."""

    @classmethod
    def of(cls, seconds: float) -> Self:
        if seconds <= 0:
            return cls(0, 0.0)
        at = bisect.bisect_right(AGES, seconds, hi=_BINS + 1) - 1
        start, end = AGES[at], AGES[at + 1]
        return cls(at, min(1.0, (seconds - start) / (end - start)))

    def value(self, cumulative: list[float]) -> float:
        """Return a cumulative distribution's value there, from its values at `AGES`."""
        below = cumulative[self.bin]
        return below + (cumulative[self.bin + 1] - below) * self.part


def _below(cumulative: list[float], seconds: float) -> float:
    """Return a cumulative distribution's value at an age, from its values at `AGES`."""
    return _Place.of(seconds).value(cumulative)


@functools.cache
def _hypotheses() -> tuple[list[float], list[list[float]]]:
    """Return the logarithm of each hypothesis' prior chance, and its distribution at `AGES`."""
    priors: list[float] = []
    hypotheses: list[list[float]] = []
    for shift in (_STEP * step for step in range(-12, 19)):
        middle = math.log(_MEDIAN) + shift
        for width in _WIDTHS:
            priors.append(-((shift / _SPREAD) ** 2) / 2.0)
            chances = [0.0]
            for age in AGES[1:]:
                deviation = (math.log(age) - middle) / width
                chances.append((1.0 + math.erf(deviation / math.sqrt(2.0))) / 2.0)
            hypotheses.append(
                [
                    (1.0 - _TAIL) * chance / chances[-1] + _TAIL * step / _BINS
                    for step, chance in enumerate(chances)
                ]
            )
    return priors, hypotheses
