"""A stand-in for the LlamaGen Comic API that enforces its limits: no key, no credits.

`SandboxService` is the API without sockets and without a clock, for tests and for simulations in
virtual time. `SandboxServer` puts it on a socket of this machine. The sandbox shares no logic with
the client, so that neither can hide a mistake of the other.
"""

from llamagen_async.sandbox.accounts import DEMO_KEY, EMPTY_KEY, PAID_KEY, SANDBOX_KEYS
from llamagen_async.sandbox.algorithms import ALGORITHMS, Algorithm
from llamagen_async.sandbox.best_possible import Bound, Schedule, best_possible, known_schedule
from llamagen_async.sandbox.faults import FAULTS, Fault, FaultKind, FaultName
from llamagen_async.sandbox.server import SandboxServer
from llamagen_async.sandbox.service import SandboxService
from llamagen_async.sandbox.settings import Dialect, Durations, RetryAfter
from llamagen_async.sandbox.webhooks import EventData, Webhook, WebhookSender
from llamagen_async.sandbox.wire import Call, Reply

__all__ = [
    "ALGORITHMS",
    "DEMO_KEY",
    "EMPTY_KEY",
    "FAULTS",
    "PAID_KEY",
    "SANDBOX_KEYS",
    "Algorithm",
    "Bound",
    "Call",
    "Dialect",
    "Durations",
    "EventData",
    "Fault",
    "FaultKind",
    "FaultName",
    "Reply",
    "RetryAfter",
    "SandboxServer",
    "SandboxService",
    "Schedule",
    "Webhook",
    "WebhookSender",
    "best_possible",
    "known_schedule",
]
