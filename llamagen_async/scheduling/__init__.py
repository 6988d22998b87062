"""Scheduling: what is sent when a slot is free, and when a generation is checked again."""

from llamagen_async.scheduling.circuit import CircuitState, Outage
from llamagen_async.scheduling.load import Load
from llamagen_async.scheduling.poll_target import GenerationWait
from llamagen_async.scheduling.probing import PROBE
from llamagen_async.scheduling.request_report import RequestReport
from llamagen_async.scheduling.scheduler import Scheduler
from llamagen_async.scheduling.sender import DispatchStats
from llamagen_async.scheduling.submission import Submission, SubmissionHooks, tell_accepted

__all__ = [
    "PROBE",
    "CircuitState",
    "DispatchStats",
    "GenerationWait",
    "Load",
    "Outage",
    "RequestReport",
    "Scheduler",
    "Submission",
    "SubmissionHooks",
    "tell_accepted",
]
