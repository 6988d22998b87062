"""Answers about an API key, and about a file that was uploaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import attrs

from llamagen_async.models.places import fields_of, refuses
from llamagen_async.models.reading import (
    flag_of,
    integer_of,
    is_url,
    mapping_of,
    number_of,
    single,
    url_of,
)
from llamagen_async.validation import shown

__all__ = ["Upload", "Usage"]

_LEFT: Final = ("credits", "creditBalance", "remaining")
"""The names under which the credits that are left come (vendor's clients)."""
_USAGE: Final = frozenset(("apiUsageCount", "apiMaxUsage", "isPaidPlan", *_LEFT))
"""The names of what a key has used (vendor's clients)."""
_URLS: Final = ("fileUrl", "file_url", "url")
"""The names under which the URL of an upload may come; the first one is the vendor's."""
_WITHIN: Final = ("data", "file", "result")
"""The names under which an upload may be that URL, or an object with it."""


@attrs.frozen
class Usage:
    """Use of a key, as the server counts. Any field may be missing."""

    api_usage_count: int | None = None
    """Requests used."""
    api_max_usage: int | None = None
    """Requests allowed."""
    credits: float | None = None
    """Credits left."""
    is_paid_plan: bool | None = None
    """Whether the key is on a paid plan."""
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False, hash=False)
    """The whole answer."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read the answer of the usage endpoint.

        Raises:
            ValueError: It is no object, or says that it is an error.
        """
        raw = mapping_of(value)
        if not (raw or value == {}):
            raise ValueError(f"it is no object, but {shown(value)}")
        inner = mapping_of(raw.get("data"))
        fields = raw if _USAGE.isdisjoint(inner) else {**raw, **inner}
        if _USAGE.isdisjoint(fields) and refuses(fields):
            raise ValueError("it says that it is an error")
        return cls(
            api_usage_count=integer_of(fields.get("apiUsageCount"), None),
            api_max_usage=integer_of(fields.get("apiMaxUsage"), None),
            credits=next(
                (left for left in map(number_of, map(fields.get, _LEFT)) if left is not None), None
            ),
            is_paid_plan=flag_of(fields.get("isPaidPlan")),
            raw=raw,
        )


@attrs.frozen
class Upload:
    """A file that was uploaded."""

    url: str
    """URL of the file, to stand in a request."""
    code: str | None = None
    """The server's code of the file."""
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False, hash=False)
    """The whole answer."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read the answer of the upload endpoint.

        Raises:
            ValueError: There is no URL in it.
        """
        raw, fields = mapping_of(value), fields_of(value)
        found = fields if any(map(fields.get, _URLS)) else mapping_of(single(fields.get("data")))
        named = [url for url in map(url_of, map(found.get, _URLS)) if url]
        others = map(url_of, (*map(fields.get, _WITHIN), value))
        url = next(filter(is_url, (*named, *others)), None) or next(iter(named), None)
        if url is None:
            raise ValueError(f"there is no fileUrl in it, but {shown(found.get(_URLS[0]))}")
        code = found.get("code")
        is_code = isinstance(code, str | int) and not isinstance(code, bool)
        return cls(url, str(code) if is_code else None, raw)
