"""The document that describes the routes to programs (OpenAPI 3.1). No I/O."""

from __future__ import annotations

from typing import Any, Final

from llamagen_async._version import __version__
from llamagen_async.models import BatchState
from llamagen_async.web.schemas import REQUEST, TEXT

__all__ = ["document"]

_Json = dict[str, Any]

_KEY: Final[_Json] = {
    "name": "key",
    "in": "path",
    "required": True,
    "description": "The comic's key, percent-encoded.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 500},
}
_COMIC: Final[_Json] = {
    "type": "object",
    "required": [
        *("key", "state", "id", "position", "expected_at", "pictures", "error", "links"),
        *("prompt", "captions", "queued_at"),
    ],
    "properties": {
        "key": TEXT,
        "state": {"enum": list(BatchState)},
        "id": {"type": ["string", "null"], "description": "The id at the vendor, once accepted."},
        "position": {"type": ["integer", "null"], "description": "Place in the queue, from 1."},
        "expected_at": {"type": ["string", "null"], "format": "date-time"},
        "pictures": {
            "type": "array",
            "description": "While it runs, null for each panel that is not drawn yet.",
            "items": {"type": ["string", "null"], "format": "uri-reference"},
        },
        "error": {
            "type": ["object", "null"],
            "required": ["type", "message"],
            "properties": {"type": TEXT, "message": {"type": "string"}},
        },
        "links": {
            "type": "object",
            "required": ["self", "events"],
            "properties": {"self": TEXT, "events": TEXT},
        },
        "prompt": {"type": ["string", "null"]},
        "captions": {"type": "array", "items": {"type": ["string", "null"]}},
        "queued_at": {"type": "string", "format": "date-time"},
    },
}
_EVENT: Final[_Json] = {
    "type": "object",
    "description": "One event. `data` is a comic as JSON; `retry` comes alone, before the end of a "
    "stream that is to be continued.",
    "properties": {
        "id": TEXT,
        "event": {"enum": ["queued", "running", "done"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
}
_PROBLEM: Final[_Json] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "A word for programs."},
        "field": {"type": "string"},
        "allowed": {"type": "string"},
    },
}


def document(root: str) -> _Json:
    """Return the document.

    Args:
        root: The path at which the routes are mounted.
    """
    comic = {"application/json": {"schema": {"$ref": "#/components/schemas/Comic"}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Comics",
            "version": __version__,
            "description": "Orders for comics, which are made within the API's limits and paid "
            "for once.",
        },
        "servers": [{"url": root or "/"}],
        "paths": {
            "/comics": {"get": _list(), "post": _submit(comic)},
            "/comics/{key}": {
                "parameters": [_KEY],
                "get": _operation("getComic", "The comic as it stands.", comic, 404),
                "delete": _operation(
                    "cancelComic",
                    "Cancel a queued comic; nothing is paid.",
                    comic,
                    404,
                    409,
                ),
            },
            "/comics/{key}/events": {"parameters": [_KEY], "get": _events()},
            "/comics/{key}/pictures/{number}": {"parameters": [_KEY], "get": _picture()},
            "/webhooks": {"post": _webhook()},
            "/limits": {"get": _operation("getLimits", "What may still be sent.", _any())},
            "/healthz": {"get": _operation("isLive", "Whether the server runs.", _any())},
            "/readyz": {
                "get": _operation("isReady", "Whether journal, store and key can be used.", _any())
            },
            "/openapi.json": {"get": _operation("describe", "This document.", _any())},
        },
        "components": {
            "schemas": {"ComicRequest": REQUEST, "Comic": _COMIC, "Problem": _PROBLEM},
            "responses": {
                "Problem": {
                    "description": "What is wrong (RFC 9457).",
                    "content": {
                        "application/problem+json": {
                            "schema": {"$ref": "#/components/schemas/Problem"}
                        }
                    },
                }
            },
        },
    }


def _operation(name: str, summary: str, content: _Json, *problems: int) -> _Json:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "As asked.", "content": content}, **_bad(*problems)},
    }


def _submit(comic: _Json) -> _Json:
    return {
        "operationId": "orderComic",
        "summary": "Order a comic. The same key with the same comic is the same order.",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The order's name, with or without quotes. Without it, each call "
                "is a new order.",
                "schema": {
                    "type": "string",
                    "pattern": "^[!#-~]{1,500}$",
                    "not": {"enum": [".", ".."]},
                },
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/ComicRequest"}}
            },
        },
        "responses": {
            "202": {
                "description": "Recorded. It will be sent in its turn.",
                "headers": {"Location": {"schema": {"type": "string"}}},
                "content": comic,
            },
            **_bad(413, 415, 422),
        },
    }


def _list() -> _Json:
    comics = {"type": "array", "items": {"$ref": "#/components/schemas/Comic"}}
    schema = {"type": "object", "required": ["comics"], "properties": {"comics": comics}}
    operation = _operation(
        "listComics", "Comics, the newest first.", {"application/json": {"schema": schema}}
    )
    limit = {"type": "integer", "minimum": 1, "maximum": 100, "default": 100}
    operation["parameters"] = [
        {"name": "limit", "in": "query", "schema": limit},
        {
            "name": "after",
            "in": "query",
            "description": "The key of the last comic of an earlier answer: older ones follow.",
            "schema": _KEY["schema"],
        },
        {
            "name": "state",
            "in": "query",
            "description": "One or more states, separated by commas.",
            "style": "form",
            "explode": False,
            "schema": {"type": "array", "items": {"enum": list(BatchState)}},
        },
    ]
    return operation


def _events() -> _Json:
    operation = _operation(
        "followComic",
        "Server-sent events: `queued`, `running` and `done`, each with a comic as its data.",
        {"text/event-stream": {"schema": _EVENT}},
        404,
    )
    operation["responses"]["204"] = {"description": "The reader has seen the end."}
    operation["parameters"] = [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The last event that was seen: only what came after it is sent.",
            "schema": {"type": "string"},
        }
    ]
    return operation


def _picture() -> _Json:
    binary = {"image/*": {"schema": {"type": "string", "format": "binary"}}}
    operation = _operation("getPicture", "One picture, counted from 0.", binary, 404, 502)
    operation["responses"]["307"] = {"description": "The video is at the vendor."}
    number = {"type": "integer", "minimum": 0}
    operation["parameters"] = [{"name": "number", "in": "path", "required": True, "schema": number}]
    return operation


def _webhook() -> _Json:
    return {
        "operationId": "takeEvent",
        "summary": "An event of the vendor, verified by its signature.",
        "requestBody": {"required": True, "content": _any()},
        "responses": {"204": {"description": "Taken."}, **_bad(413)},
    }


def _any() -> _Json:
    return {"application/json": {"schema": {"type": "object"}}}


def _bad(*statuses: int) -> _Json:
    """Return the answers that say what is wrong: those of all routes, and some more."""
    problem = {"$ref": "#/components/responses/Problem"}
    return {str(status): problem for status in sorted({400, 403, 405, 503, *statuses})}
