"""The forecasts of all profiles: which one answers, and how many are kept."""

from __future__ import annotations

import pytest

from llamagen_async.forecasting.profiles import ANY, Forecasts


def test_a_profile_is_believed_once_enough_of_it_was_observed() -> None:
    """Before that the coarser profile answers; what was learned of one does not spoil another."""
    forecasts = Forecasts()
    quick, slow = ("comic", "1"), ("comic", "20")
    for _ in range(4):
        forecasts.observe(slow, 290.0, 310.0)
    assert forecasts.of(slow) is forecasts.overall
    for _ in range(8):
        forecasts.observe(slow, 290.0, 310.0)
        forecasts.observe(quick, 19.0, 21.0)
    assert forecasts.of(slow).forecast.age_when(0.5) > 200
    assert forecasts.of(quick).forecast.age_when(0.5) < 40
    assert forecasts.of(("comic", "7")).forecast is forecasts.of(("comic",)).forecast
    assert forecasts.of(("animation",)) is forecasts.overall


@pytest.mark.once
def test_profiles_take_bounded_memory() -> None:
    """A thousand profiles are not kept, and what they taught all is."""
    forecasts = Forecasts()
    for number in range(1_000):
        forecasts.observe(("comic", str(number)), 59.0, 61.0)
        for one in forecasts.path(("comic", str(number))):
            one.forecast.not_done(0.0, 5.0)
    assert len(forecasts.profiles) <= 129
    assert forecasts.observed == 1_000
    assert forecasts.of(ANY) is forecasts.overall
