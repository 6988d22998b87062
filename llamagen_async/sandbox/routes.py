"""The endpoints of the API as data: method, path, and the kind of request for limits and faults."""

from __future__ import annotations

from typing import Final, Literal

import attrs

from llamagen_async.plans import RequestKind

__all__ = ["PREFIX", "ROUTES", "Operation", "Route"]

PREFIX: Final = "/v1"
"""The beginning of all paths."""

Operation = Literal[
    "createComic",
    "getComic",
    "changeComic",
    "getUsage",
    "uploadFile",
    "createAnimation",
    "getAnimation",
]
"""The names of what can be asked for, as the OpenAPI document has them."""


@attrs.frozen
class Route:
    """One method at one path."""

    method: str
    """The HTTP method."""
    path: str
    """The path below `PREFIX`; `{id}` at its end stands for a generation's id."""
    kind: RequestKind
    """The kind of request; a change is a continuation unless its body says otherwise."""
    operation: Operation
    """The name of what is asked for."""


_COMICS: Final = "/comics/generations"
_ANIMATIONS: Final = "/artworks/generations"

ROUTES: Final = (
    Route("POST", _COMICS, RequestKind.CREATE, "createComic"),
    Route("GET", f"{_COMICS}/{{id}}", RequestKind.STATUS, "getComic"),
    Route("PATCH", f"{_COMICS}/{{id}}", RequestKind.CONTINUE, "changeComic"),
    Route("GET", "/comics/usage", RequestKind.USAGE, "getUsage"),
    Route("POST", "/comics/upload", RequestKind.UPLOAD, "uploadFile"),
    Route("POST", _ANIMATIONS, RequestKind.CREATE, "createAnimation"),
    Route("GET", f"{_ANIMATIONS}/{{id}}", RequestKind.STATUS, "getAnimation"),
)
"""All endpoints of the API."""
