"""What is sent when a slot is free, and when a generation is looked at again."""

from llamagen_async.scheduling.dispatcher import Dispatcher, DispatchStats, RequestReport
from llamagen_async.scheduling.forecast import DurationForecast
from llamagen_async.scheduling.policy import Action, Situation, choose
from llamagen_async.scheduling.poller import Poller
from llamagen_async.scheduling.watches import Generation, Watch, Watches

__all__ = [
    "Action",
    "DispatchStats",
    "Dispatcher",
    "DurationForecast",
    "Generation",
    "Poller",
    "RequestReport",
    "Situation",
    "Watch",
    "Watches",
    "choose",
]
