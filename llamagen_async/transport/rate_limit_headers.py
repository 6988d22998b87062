"""Headers about rate limits, read in all the forms in which servers write them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["rate_limit_of"]

_PREFIXES: Final = ("ratelimit-", "x-ratelimit-", "x-rate-limit-")
_FIELD: Final = r"(?:^|[;,\s])(limit|remaining|r|q)\s*=\s*(\d{1,9})(?![\d.])"


def rate_limit_of(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return the limit that the headers speak of, and how many requests are left of it.

    Whether the API sends any is not documented. Where they come they have one of these spellings:
    `RateLimit-Limit` and `RateLimit-Remaining`, the same with `X-` before it, or one `RateLimit`
    with `limit=10, remaining=3` or `"minute";r=3` in it (IETF drafts of different ages).
    """
    known = {name.lower(): value for name, value in headers.items()}
    for prefix in _PREFIXES:
        left = _leading_number(known.get(f"{prefix}remaining"))
        if left is not None:
            return _leading_number(known.get(f"{prefix}limit")), left
    fields: dict[str, int] = {}
    for name in ("ratelimit", "ratelimit-policy"):
        for field, value in re.findall(_FIELD, known.get(name, "").lower()):
            fields.setdefault(field, int(value))
    left = fields.get("remaining", fields.get("r"))
    return (None if left is None else fields.get("limit", fields.get("q"))), left


def _leading_number(value: str | None) -> int | None:
    found = re.match(r"\s*(\d{1,9})\s*(?:$|[,;])", value or "")
    return int(found[1]) if found else None
