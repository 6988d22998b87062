"""One request out, one decoded answer in.

This folder never waits for a rate limit, never decides when to send, and never sends a request
twice. `message` and `decoding` do no I/O, `http` is the thin aiohttp edge, `retries` says what may
be tried again and after which delay.
"""

from __future__ import annotations

from llamagen_async.transport.decoding import decode, error_for, parse_retry_after
from llamagen_async.transport.http import HTTPTransport, normalize_base_url
from llamagen_async.transport.message import (
    APIRequest,
    APIResponse,
    AssetSource,
    AssetStream,
    FormFile,
    Transport,
)
from llamagen_async.transport.retries import (
    as_uncertain,
    bounds,
    delays,
    is_outage,
    is_retriable,
    retry_span,
    retrying,
)

__all__ = [
    "APIRequest",
    "APIResponse",
    "AssetSource",
    "AssetStream",
    "FormFile",
    "HTTPTransport",
    "Transport",
    "as_uncertain",
    "bounds",
    "decode",
    "delays",
    "error_for",
    "is_outage",
    "is_retriable",
    "normalize_base_url",
    "parse_retry_after",
    "retry_span",
    "retrying",
]
