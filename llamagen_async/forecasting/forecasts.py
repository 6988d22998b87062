"""One forecast per kind of request, falling back on coarser kinds until enough was seen.

A kind is a path from coarse to fine, such as `("comic", "4 panels", "1024x1024")`. What is seen
of a generation is learned for its kind and for all coarser ones; what is asked about a kind is
answered by the finest one of which enough was seen. Memory does not grow: the kinds that were not
used for longest are forgotten, not what they taught the coarser ones.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from llamagen_async.forecasting.distribution import DurationForecast
from llamagen_async.forecasting.poll_plan import PRICES, PollPlan

__all__ = ["ANY", "Forecasts", "Profile", "ProfileForecast"]

Profile = tuple[str, ...]
"""What is asked for, from coarse to fine."""
ANY: Final[Profile] = ()
"""Nothing is known of it."""

_ENOUGH: Final = 5
"""Generations of a kind after which it is believed without looking at coarser ones."""
_MOST_KINDS: Final = 128
_SEPARATOR: Final = "\x1f"


class ProfileForecast:
    """What was learned of one kind, and when to look at what price."""

    def __init__(self, forecast: DurationForecast | None = None) -> None:
        self.forecast = forecast or DurationForecast()
        self._plans: dict[float, PollPlan] = {}
        self._version = -1

    def plan(self, price: float) -> PollPlan:
        """Return when to look if a look that finds nothing costs `price` seconds."""
        if self._version != self.forecast.version:
            self._plans.clear()
            self._version = self.forecast.version
        plan = self._plans.get(price)
        if plan is None:
            plan = self._plans[price] = PollPlan(self.forecast, price)
        return plan

    def highest_price(self, age: float, not_done_at: float) -> float:
        """Return the highest price at which a look is due, in seconds; 0 if it is at none.

        Args:
            age: The generation's age in seconds.
            not_done_at: The age at which it was last seen not done; 0 if it was never looked at.
        """
        count = bisect.bisect_left(
            PRICES, x=True, key=lambda price: self.plan(price).next_age(not_done_at) > age
        )
        return PRICES[count - 1] if count else 0.0


class Forecasts:
    """The forecasts of one client."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[Profile, ProfileForecast] = OrderedDict({ANY: ProfileForecast()})

    @property
    def overall(self) -> ProfileForecast:
        """What was learned of all kinds together."""
        return self._kinds[ANY]

    @property
    def version(self) -> int:
        """Changes whenever anything was learned."""
        return self.overall.forecast.version

    @property
    def observed(self) -> int:
        """How many generations were seen to end."""
        return self.overall.forecast.observed

    def of(self, kind: Profile) -> ProfileForecast:
        """Return the finest that is known about a kind."""
        for length in range(len(kind), 0, -1):
            learned = self._kinds.get(kind[:length])
            if learned is not None and learned.forecast.observed >= _ENOUGH:
                self._kinds.move_to_end(kind[:length])
                return learned
        return self.overall

    def observe(self, kind: Profile, longer_than: float, at_most: float) -> None:
        """Add one generation that took more than `longer_than` and at most `at_most` seconds."""
        for learned in self._path(kind):
            learned.forecast.observe(longer_than, at_most)

    def not_done(self, kind: Profile, before: float, at: float) -> None:
        """Add that a generation, not done `before` so many seconds, was not done `at` so many."""
        for learned in self._path(kind):
            learned.forecast.not_done(before, at)

    def dump(self) -> dict[str, Any]:
        """Return what was learned, as plain data."""
        return {_SEPARATOR.join(kind): one.forecast.dump() for kind, one in self._kinds.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Start from what `dump` described, unless something was learned since.

        Raises:
            ValueError: It is not of this version.
        """
        kinds = {
            tuple(name.split(_SEPARATOR)) if name else ANY: ProfileForecast(
                DurationForecast.load(one)
            )
            for name, one in state.items()
        }
        if not self.observed:
            self._kinds.update(kinds)

    def _path(self, kind: Profile) -> list[ProfileForecast]:
        path: list[ProfileForecast] = []
        for length in range(len(kind) + 1):
            name = kind[:length]
            learned = self._kinds.get(name)
            if learned is None:
                learned = self._kinds[name] = ProfileForecast()
                if len(self._kinds) > _MOST_KINDS:
                    oldest = next(one for one in self._kinds if one not in (ANY, name))
                    del self._kinds[oldest]
            path.append(learned)
        return path
