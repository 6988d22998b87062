"""Signs in an answer that a billed request was accepted, wherever they stand.

Servers also answer a create with nothing but the address of what it made (RFC 9110, 10.2.2 and
15.4.4). Nothing here does I/O.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from llamagen_async.errors import InvalidResponseError
from llamagen_async.models.places import fields_of
from llamagen_async.plans import RequestKind
from llamagen_async.validation import generation_id

__all__ = ["accepted_id", "may_be_done"]

_ADDRESS: Final = r"^[^?#]*/generations/([^/?#…]+)/?(?:[?#]|$)"
"""The end of the address of a generation. An error keeps the beginning of a long one only."""


def accepted_id(body: object, location: str | None) -> str | None:
    """Return the id of the generation that an answer names in its body, or else leads to."""
    if (id_ := generation_id(fields_of(body).get("id"))) is not None:
        return id_
    address = re.search(_ADDRESS, location or "")
    return generation_id(unquote(address[1])) if address else None


def may_be_done(redirect: InvalidResponseError, kind: RequestKind) -> bool:
    """Whether a redirect may stand for what was asked for, instead of where to ask for it.

    That it is done is what a 303 says. A create has no id before, while the address of a change has
    one, wherever it has moved.
    """
    location = redirect.headers.get("location") if kind is RequestKind.CREATE else None
    is_done = redirect.status == HTTPStatus.SEE_OTHER
    return is_done or accepted_id(redirect.body, location) is not None
