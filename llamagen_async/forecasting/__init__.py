"""Forecasts of how long generations take, and of when a status check is worth its slot."""

from llamagen_async.forecasting.poll_plan import PollThreshold, ProfileForecast, due_times
from llamagen_async.forecasting.profiles import ANY, Forecasts, Profile
from llamagen_async.forecasting.slot_price import (
    FREE_POLLS,
    PollGroup,
    Quote,
    SlotForecast,
    SlotPrice,
    arrival_rate,
    arrival_weight,
    faded_weight,
)

__all__ = [
    "ANY",
    "FREE_POLLS",
    "Forecasts",
    "PollGroup",
    "PollThreshold",
    "Profile",
    "ProfileForecast",
    "Quote",
    "SlotForecast",
    "SlotPrice",
    "arrival_rate",
    "arrival_weight",
    "due_times",
    "faded_weight",
]
