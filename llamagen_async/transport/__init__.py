"""One request out, one decoded answer in.

This folder never waits for a rate limit, never decides when to send, and never sends a request
twice. `message` and `decoding` do no I/O, `http` is the thin aiohttp edge, `attempt` observes what
becomes of a request, `retries` says what may be tried again and after which delay.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from llamagen_async.transport.message import (
    AnsweredCancelledError,
    APIRequest,
    APIResponse,
    AssetSource,
    AssetStream,
    FormFile,
    Transport,
    UnsentCancelledError,
)
from llamagen_async.transport.secret import check_key

if TYPE_CHECKING:
    from llamagen_async.transport.accepted import accepted_id
    from llamagen_async.transport.address import (
        check_proxy,
        is_vendors,
        normalize_base_url,
        proxy_for,
    )
    from llamagen_async.transport.assets import HTTPAssets
    from llamagen_async.transport.decoding import (
        REDIRECT,
        decode,
        error_for,
        parse_retry_after,
    )
    from llamagen_async.transport.failures import failure_words
    from llamagen_async.transport.http import HTTPTransport
    from llamagen_async.transport.retries import (
        as_uncertain,
        asked_wait,
        bounds,
        delays,
        is_outage,
        is_retriable,
        is_told,
        may_pass,
        retry_span,
        says_later,
    )
    from llamagen_async.transport.sessions import check_session

__all__ = [
    "REDIRECT",
    "APIRequest",
    "APIResponse",
    "AnsweredCancelledError",
    "AssetSource",
    "AssetStream",
    "FormFile",
    "HTTPAssets",
    "HTTPTransport",
    "Transport",
    "UnsentCancelledError",
    "accepted_id",
    "as_uncertain",
    "asked_wait",
    "bounds",
    "check_key",
    "check_proxy",
    "check_session",
    "decode",
    "delays",
    "error_for",
    "failure_words",
    "is_outage",
    "is_retriable",
    "is_told",
    "is_vendors",
    "may_pass",
    "normalize_base_url",
    "parse_retry_after",
    "proxy_for",
    "retry_span",
    "says_later",
]

_LATER = {
    "HTTPAssets": "assets",
    "HTTPTransport": "http",
    "REDIRECT": "decoding",
    "accepted_id": "accepted",
    "as_uncertain": "retries",
    "asked_wait": "retries",
    "bounds": "retries",
    "check_proxy": "address",
    "check_session": "sessions",
    "decode": "decoding",
    "delays": "retries",
    "error_for": "decoding",
    "failure_words": "failures",
    "is_outage": "retries",
    "is_retriable": "retries",
    "is_told": "retries",
    "is_vendors": "address",
    "may_pass": "retries",
    "normalize_base_url": "address",
    "parse_retry_after": "decoding",
    "proxy_for": "address",
    "retry_span": "retries",
    "says_later": "retries",
}
"""The modules of what only those need who send something, or know where to: who only reads stories
or counts slots does without it, and above all without aiohttp, which takes longer to load than all
else here."""

if not TYPE_CHECKING:  # else type checkers would take any name for an export

    def __getattr__(name):
        """Load what only senders need when it is first used."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
        globals()[name] = value
        return value
