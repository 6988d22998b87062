"""What is sent when a slot is free, and when a generation is looked at again."""

from llamagen_async.forecasting.distribution import DurationForecast
from llamagen_async.forecasting.forecasts import ANY, Forecasts, Kind
from llamagen_async.scheduling.dispatcher import Dispatcher
from llamagen_async.scheduling.policy import Action, Situation, choose
from llamagen_async.scheduling.poll_set import Watches
from llamagen_async.scheduling.poll_target import Bar, Generation, Watch
from llamagen_async.scheduling.poller import Poller
from llamagen_async.scheduling.sender import DispatchStats, RequestReport

__all__ = [
    "ANY",
    "Action",
    "Bar",
    "DispatchStats",
    "Dispatcher",
    "DurationForecast",
    "Forecasts",
    "Generation",
    "Kind",
    "Poller",
    "RequestReport",
    "Situation",
    "Watch",
    "Watches",
    "choose",
]
