"""Signed URLs: for how long they are valid, as far as they say so. No I/O.

The stores of files write it into the query: as a date with seconds from there (Amazon, Google and
those that copy them), as a unix time (older ones, CloudFront), or as a date (Azure).
"""

from __future__ import annotations

import contextlib
import re
import time
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, urlsplit

__all__ = ["expires_at", "is_lasting"]

_LASTING: Final = 1_800.0
"""Seconds for which a URL has to be valid yet if it is to be used again (chosen: as long as a comic
is waited for; nobody knows when the server fetches what a request names)."""
_SPAN: Final = r"(x-\w+)-expires"
"""The name of the seconds; that of the date ends in `-date`."""
_MOST_FIELDS: Final = 100
"""Fields of the longest query that is read."""
_DIGITS: Final = 18
"""Digits of the longest number that is read."""


def is_lasting(url: str) -> bool:
    """Whether the URL of a file may be used in a request that is yet to be drawn."""
    until = expires_at(url)
    return until is None or until - time.time() >= _LASTING


def expires_at(url: str) -> float | None:
    """Return the unix time until which a URL says that it is valid; `None` if it does not say."""
    try:
        query = parse_qsl(urlsplit(url).query, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return None
    fields = {name.lower(): value for name, value in query}
    with contextlib.suppress(ValueError, OverflowError):
        for name, value in fields.items():
            if span := re.fullmatch(_SPAN, name):
                since = datetime.strptime(fields.get(f"{span[1]}-date", ""), "%Y%m%dT%H%M%S%z")
                return since.timestamp() + int(value[:_DIGITS])
        if "expires" in fields:
            return float(int(fields["expires"][:_DIGITS]))
        if "se" in fields and "sig" in fields:
            until = datetime.fromisoformat(fields["se"])
            return (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp()
    return None
