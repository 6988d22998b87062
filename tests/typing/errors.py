"""Types of the attributes of errors, as a user's type checker sees them."""

from __future__ import annotations

from datetime import datetime
from typing import assert_type

from llamagen_async import (
    Animation,
    APIConnectionError,
    APIError,
    ComicGeneration,
    GenerationFailedError,
    InvalidRequestError,
    LlamaGenError,
    QuotaExhaustedError,
    RateLimit,
    RateLimitError,
    SubmissionUncertainError,
    WaitTimeoutError,
)
from llamagen_async.requests import AnyRequest


def what_errors_carry(error: LlamaGenError) -> None:
    match error:
        case RateLimitError():
            assert_type(error.retry_after, float | None)
        case APIError():
            assert_type((error.status, error.code), tuple[int, str | None])
        case APIConnectionError():
            assert_type(error.request_sent, bool)
        case QuotaExhaustedError():
            assert_type((error.resets_at, error.limit), tuple[datetime, RateLimit | None])
        case SubmissionUncertainError():
            assert_type(error.request, AnyRequest | None)
        case GenerationFailedError():
            assert_type(error.generation, ComicGeneration | Animation)
        case WaitTimeoutError():
            assert_type(error.id, str)
        case InvalidRequestError():
            value_error: ValueError = error
            assert_type((error.field, error.value), tuple[str, object])
            assert isinstance(value_error, LlamaGenError)
        case _:
            pass
