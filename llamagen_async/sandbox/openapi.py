"""The sandbox's description of itself: an OpenAPI 3.1 document of all endpoints.

What is accepted comes from `schemas`, which the checks read, too; the endpoints from `routes`, the
errors from `faults`, the status words from `generations`. Only the answers are described here, and
the tests compare them with what is answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from llamagen_async._version import __version__
from llamagen_async.sandbox.faults import ERRORS, FAULTS
from llamagen_async.sandbox.generations import WORDS
from llamagen_async.sandbox.routes import PREFIX, ROUTES, Operation, Route
from llamagen_async.sandbox.schemas import ANIMATION, CONTINUE, CREATE, INDEX, REDRAW, Schema
from llamagen_async.sandbox.settings import Dialect

__all__ = ["OPENAPI_PATHS", "openapi_document"]

OPENAPI_PATHS: Final = ("/openapi.json", f"{PREFIX}/openapi.json")
"""The paths at which the document is served: without a key, and not counted."""

_SUMMARIES: Final[Mapping[Operation, str]] = {
    "createComic": "Start a comic. Billed.",
    "getComic": "The state of a comic, and its result.",
    "changeComic": "Continue a comic, or redraw one of its panels. Billed.",
    "getUsage": "Everything that the key has used.",
    "uploadFile": "Upload a picture or a document to refer to.",
    "createAnimation": "Start an animation. Billed.",
    "getAnimation": "The state of an animation, and its result.",
}
_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "integer", "minimum": 0}
_URL: Final[Schema] = {"type": "string", "format": "uri"}
_NEVER: Final = {HTTPStatus.METHOD_NOT_ALLOWED}
"""The errors that no endpoint of the document answers, unless a fault makes it do so."""


def openapi_document(dialect: Dialect, public_url: str) -> dict[str, Any]:
    """Return the document of a sandbox.

    Args:
        dialect: The source of status words and error bodies.
        public_url: The first part of the sandbox's URLs, without a slash at its end.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    faults = ", ".join(name for name, kind in FAULTS.items() if not kind.is_of_events)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sandbox of the LlamaGen Comic API",
            "version": __version__,
            "description": "A stand-in that enforces the API's rate limits. It speaks the "
            f"{dialect} dialect. Not described are answers changed by --fault: {faults}.",
        },
        "servers": [{"url": f"{public_url}{PREFIX}"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "CreateComic": CREATE,
                "ContinueComic": CONTINUE,
                "RedrawPanel": REDRAW,
                "CreateAnimation": ANIMATION,
                **_answers(dialect),
            },
            "responses": {str(status): _error(status) for status in ERRORS},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    answer, body = _BODIES[route.operation]
    success: dict[str, Any] = {"description": "Done.", **_json(_ref(answer))}
    if route.operation in _LINKS:
        success["links"] = {
            operation: {"operationId": operation, "parameters": {"id": "$response.body#/id"}}
            for operation in _LINKS[route.operation]
        }
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": _SUMMARIES[route.operation],
        "responses": {
            "200": success,
            **{
                str(status): {"$ref": f"#/components/responses/{status}"}
                for status in ERRORS
                if status not in _NEVER
            },
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    parameters = list(_parameters(route))
    return {**operation, "parameters": parameters} if parameters else operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if route.path.endswith("{id}"):
        parameters.append({"name": "id", "in": "path", "required": True, "schema": _TEXT})
    if route.operation == "getComic":
        parameters += [
            {"name": name, "in": "query", "description": f"Only this {name}.", "schema": INDEX}
            for name in ("page", "panel")
        ]
    return parameters


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _error(status: int) -> dict[str, Any]:
    _, message = ERRORS[status]
    headers = {"Retry-After": {"schema": _TEXT, "description": "Seconds, or a date."}}
    return {
        "description": message,
        **({"headers": headers} if status == HTTPStatus.TOO_MANY_REQUESTS else {}),
        **_json(_ref("Error")),
    }


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties}


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _answers(dialect: Dialect) -> dict[str, Schema]:
    """Return the schemas of all answers."""
    words = sorted(set(WORDS[dialect].values()) - {"CANCELLED"})
    always: dict[str, Schema] = {
        "id": _TEXT,
        "status": {"enum": words},
        "createdAt": {"type": "string", "format": "date-time"},
        "prompt": _TEXT,
        "sandbox": {"const": True, "description": "Nothing here was drawn by the vendor."},
    }
    ended: dict[str, Schema] = {"output": _URL, "failureReason": _TEXT}
    panel = _object({"panel": _NUMBER, "assetUrl": _TEXT, "caption": _TEXT})
    page = _object({"page": _NUMBER, "panels": _list(panel)})
    counts = dict.fromkeys(("amount", "total_comics", "redraw_panels"), _NUMBER)
    usage = _object({"unit": _TEXT, **counts})
    coded = _object({"code": _TEXT, "message": _TEXT})
    return {
        "Comic": _object(always, {**ended, "comics": _list(page), "usage": usage}),
        "Animation": _object(
            always, {**ended, "videoUrl": _URL, "videoOptions": {"type": "object"}}
        ),
        "Usage": _object(
            {
                "apiUsageCount": _NUMBER,
                "apiMaxUsage": {"type": ["integer", "null"]},
                "credits": _NUMBER,
                "isPaidPlan": {"type": "boolean"},
            }
        ),
        "Upload": _object(
            {
                "fileUrl": _URL,
                "code": _TEXT,
                "fileName": _TEXT,
                "contentType": _TEXT,
                "size": _NUMBER,
            }
        ),
        "Error": _object(
            {"error": _TEXT, "message": _TEXT} if dialect == "documented" else {"error": coded}
        ),
    }


_CREATE: Final = _json(_ref("CreateComic"))["content"]
_CHANGE: Final = _json({"oneOf": [_ref("ContinueComic"), _ref("RedrawPanel")]})["content"]
_UPLOAD: Final = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "string", "format": "binary"}},
        }
    }
}
_BODIES: Final[Mapping[Operation, tuple[str, dict[str, Any] | None]]] = {
    "createComic": ("Comic", _CREATE),
    "getComic": ("Comic", None),
    "changeComic": ("Comic", _CHANGE),
    "getUsage": ("Usage", None),
    "uploadFile": ("Upload", _UPLOAD),
    "createAnimation": ("Animation", _json(_ref("CreateAnimation"))["content"]),
    "getAnimation": ("Animation", None),
}
"""The schema of each answer, and the body that is sent, by media type."""
_LINKS: Final[Mapping[Operation, tuple[Operation, ...]]] = {
    "createComic": ("getComic", "changeComic"),
    "changeComic": ("getComic", "changeComic"),
    "createAnimation": ("getAnimation",),
}
"""Operations that take the id of an answer."""
