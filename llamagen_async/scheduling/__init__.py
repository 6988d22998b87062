"""What is sent when a slot is free, and when a generation is looked at again."""

from llamagen_async.forecasting.distribution import DurationForecast
from llamagen_async.forecasting.forecasts import ANY, Forecasts, Profile
from llamagen_async.scheduling.dispatcher import Dispatcher
from llamagen_async.scheduling.policy import Action, Situation, choose
from llamagen_async.scheduling.poll_set import PollSet
from llamagen_async.scheduling.poll_target import Generation, PollTarget, PollThreshold
from llamagen_async.scheduling.poller import Poller
from llamagen_async.scheduling.sender import DispatchStats, RequestReport

__all__ = [
    "ANY",
    "Action",
    "DispatchStats",
    "Dispatcher",
    "DurationForecast",
    "Forecasts",
    "Generation",
    "PollSet",
    "PollTarget",
    "PollThreshold",
    "Poller",
    "Profile",
    "RequestReport",
    "Situation",
    "choose",
]
