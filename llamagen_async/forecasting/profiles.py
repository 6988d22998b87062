"""The forecasts of one client, one for each profile of generations.

A profile is a path from coarse to fine such as `("comic", "4 panels", "1024x1024")`. What is
observed of a generation is learned for its profile and for all coarser ones; a question about a
profile is answered by the finest one of which enough was observed. The profiles that were not used
for longest are forgotten, not what they taught the coarser ones.

Nothing here reads a clock, does I/O or decides anything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from llamagen_async.forecasting.poll_plan import ProfileForecast

__all__ = ["ANY", "Forecasts", "Profile"]

_ENOUGH: Final = 5
"""Generations of a profile observed to end after which coarser ones are not asked (chosen)."""
_MOST_PROFILES: Final = 128
"""Profiles that are remembered, at most (chosen: about 0.3 MB)."""

Profile = tuple[str, ...]
"""The features of a generation that decide how long it takes, from coarse to fine."""
ANY: Final[Profile] = ()
"""The profile of a generation of which nothing is known."""


class Forecasts:
    """The forecasts of one client, one for each profile."""

    def __init__(self) -> None:
        self.observed: int = 0
        """How many generations were observed to end."""
        self.overall: ProfileForecast = ProfileForecast()
        """The forecast of all profiles together."""
        self.profiles: OrderedDict[Profile, ProfileForecast] = OrderedDict({ANY: self.overall})
        """All forecasts, the one that was not used for longest first after `overall`."""

    def of(self, profile: Profile) -> ProfileForecast:
        """Return the finest forecast that rests on enough observations."""
        for length in range(len(profile), 0, -1):
            one = self.profiles.get(profile[:length])
            if one is not None and one.forecast.observed >= _ENOUGH:
                self.profiles.move_to_end(profile[:length])
                return one
        return self.overall

    def observe(self, profile: Profile, longer_than: float, at_most: float) -> None:
        """Add one generation that took more than `longer_than` and at most `at_most` seconds."""
        self.observed += 1
        for one in self.path(profile):
            one.forecast.observe(longer_than, at_most)

    def take_over(self, profiles: Mapping[Profile, ProfileForecast]) -> None:
        """Start from the forecasts of an earlier run, unless something was observed since."""
        if not self.observed:
            self.profiles.update(profiles)
            self.overall = self.profiles[ANY]
            self.observed = self.overall.forecast.observed

    def path(self, profile: Profile) -> list[ProfileForecast]:
        """Return the forecasts of a profile and of all coarser ones, made where there are none."""
        path: list[ProfileForecast] = []
        for length in range(len(profile) + 1):
            name = profile[:length]
            one = self.profiles.get(name)
            if one is None:
                one = self.profiles[name] = ProfileForecast()
                if len(self.profiles) > _MOST_PROFILES:
                    oldest = next(other for other in self.profiles if other not in (ANY, name))
                    del self.profiles[oldest]
            path.append(one)
        return path
