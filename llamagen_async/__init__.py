"""An async client for the LlamaGen Comic API that stays inside its limits and never pays twice."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from llamagen_async._version import __version__

if TYPE_CHECKING:
    from llamagen_async.batch.batch import Batch, BatchProgress
    from llamagen_async.batch.budget import Spending
    from llamagen_async.batch.events import ComicJob
    from llamagen_async.batch.queue import ComicQueue
    from llamagen_async.client import ClientStats, LlamaGenClient
    from llamagen_async.errors import (
        APIConnectionError,
        APIError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        BudgetReachedError,
        ClientClosedError,
        GenerationFailedError,
        InsufficientCreditsError,
        InvalidRequestError,
        InvalidResponseError,
        JournalError,
        LlamaGenError,
        NotFoundError,
        PermissionDeniedError,
        QuotaExhaustedError,
        QuotaStoreError,
        RateLimitError,
        ServerError,
        SubmissionUncertainError,
        WaitTimeoutError,
        WebhookSignatureError,
    )
    from llamagen_async.models import (
        Animation,
        BatchItem,
        BatchState,
        ComicGeneration,
        GenerationStatus,
        GenerationUsage,
        Page,
        Panel,
        Upload,
        Usage,
    )
    from llamagen_async.plans import Plan, RateLimit, RequestKind
    from llamagen_async.prices import Estimate, Prices
    from llamagen_async.ratelimit import LimitsSnapshot, LimitState, Priority
    from llamagen_async.redraw import Redraw
    from llamagen_async.requests import (
        SIZES,
        AnimationRequest,
        Attachment,
        BatchStory,
        Character,
        ComicRequest,
        ContinueRequest,
        Location,
        Pagination,
        RequestType,
        UpdateRequest,
        VideoOptions,
    )
    from llamagen_async.scheduling import Outage, RequestReport

__all__ = [
    "SIZES",
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "Animation",
    "AnimationRequest",
    "Attachment",
    "AuthenticationError",
    "BadRequestError",
    "Batch",
    "BatchItem",
    "BatchProgress",
    "BatchState",
    "BatchStory",
    "BudgetReachedError",
    "Character",
    "ClientClosedError",
    "ClientStats",
    "ComicGeneration",
    "ComicJob",
    "ComicQueue",
    "ComicRequest",
    "ContinueRequest",
    "Estimate",
    "GenerationFailedError",
    "GenerationStatus",
    "GenerationUsage",
    "InsufficientCreditsError",
    "InvalidRequestError",
    "InvalidResponseError",
    "JournalError",
    "LimitState",
    "LimitsSnapshot",
    "LlamaGenClient",
    "LlamaGenError",
    "Location",
    "NotFoundError",
    "Outage",
    "Page",
    "Pagination",
    "Panel",
    "PermissionDeniedError",
    "Plan",
    "Prices",
    "Priority",
    "QuotaExhaustedError",
    "QuotaStoreError",
    "RateLimit",
    "RateLimitError",
    "Redraw",
    "RequestKind",
    "RequestReport",
    "RequestType",
    "ServerError",
    "Spending",
    "SubmissionUncertainError",
    "UpdateRequest",
    "Upload",
    "Usage",
    "VideoOptions",
    "WaitTimeoutError",
    "WebhookSignatureError",
    "__version__",
]

_EXPORTS = {
    "batch.batch": (
        "Batch",
        "BatchProgress",
    ),
    "batch.budget": ("Spending",),
    "batch.events": ("ComicJob",),
    "batch.queue": ("ComicQueue",),
    "client": (
        "ClientStats",
        "LlamaGenClient",
    ),
    "errors": (
        "APIConnectionError",
        "APIError",
        "APITimeoutError",
        "AuthenticationError",
        "BadRequestError",
        "BudgetReachedError",
        "ClientClosedError",
        "GenerationFailedError",
        "InsufficientCreditsError",
        "InvalidRequestError",
        "InvalidResponseError",
        "JournalError",
        "LlamaGenError",
        "NotFoundError",
        "PermissionDeniedError",
        "QuotaExhaustedError",
        "QuotaStoreError",
        "RateLimitError",
        "ServerError",
        "SubmissionUncertainError",
        "WaitTimeoutError",
        "WebhookSignatureError",
    ),
    "models": (
        "Animation",
        "BatchItem",
        "BatchState",
        "ComicGeneration",
        "GenerationStatus",
        "GenerationUsage",
        "Page",
        "Panel",
        "Upload",
        "Usage",
    ),
    "plans": (
        "Plan",
        "RateLimit",
        "RequestKind",
    ),
    "prices": (
        "Estimate",
        "Prices",
    ),
    "ratelimit": (
        "LimitsSnapshot",
        "LimitState",
        "Priority",
    ),
    "redraw": ("Redraw",),
    "requests": (
        "SIZES",
        "AnimationRequest",
        "Attachment",
        "BatchStory",
        "Character",
        "ComicRequest",
        "ContinueRequest",
        "Location",
        "Pagination",
        "RequestType",
        "UpdateRequest",
        "VideoOptions",
    ),
    "scheduling": (
        "Outage",
        "RequestReport",
    ),
}
"""The modules of the exports. Each is loaded when one of its exports is first used: whoever imports
the package to catch its errors, and a command line that shows its help, wait for nothing else."""
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}
_PARTS = ("errors", "models", "sandbox", "simulation", "web", "webhooks")
"""The documented modules, which are loaded when they are first used, too."""

if not TYPE_CHECKING:  # else type checkers would take any name for an export

    def __getattr__(name):
        """Load an export, or a part of the package, when it is first used."""
        if name in _MODULE_OF:
            value = getattr(importlib.import_module(f"llamagen_async.{_MODULE_OF[name]}"), name)
        elif name in _PARTS:
            value = importlib.import_module(f"llamagen_async.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
