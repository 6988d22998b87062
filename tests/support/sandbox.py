"""Calls to the sandbox's service, as a client would make them."""

from __future__ import annotations

import json
from typing import Any

from llamagen_async.plans import Plan, RateLimit
from llamagen_async.sandbox import PAID_KEY, Call, Durations, Reply, SandboxService

ROOMY = Plan("roomy", limits=(RateLimit(10_000, per=60.0),))
GENERATIONS = "/v1/comics/generations"
ANIMATIONS = "/v1/artworks/generations"


def roomy_service(**options: Any) -> SandboxService:
    """A service whose paid key is never refused and whose comics take 60 seconds."""
    options.setdefault("plans", {PAID_KEY: ROOMY})
    options.setdefault("durations", Durations.constant(60.0))
    return SandboxService(**options)


def call(
    service: SandboxService,
    method: str,
    path: str,
    payload: object = None,
    *,
    now: float = 0.0,
    key: str | None = PAID_KEY,
    query: dict[str, str] | None = None,
) -> Reply:
    """Send one call to a service."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    body = b"" if payload is None else json.dumps(payload).encode()
    return service.handle(Call(method, path, headers, query or {}, body), now)


def create(service: SandboxService, now: float = 0.0, key: str = PAID_KEY, **fields: Any) -> Reply:
    """Send a create."""
    fields.setdefault("prompt", "A cat finds a hat")
    return call(service, "POST", GENERATIONS, fields, now=now, key=key)


def check(service: SandboxService, name: str, now: float, key: str = PAID_KEY) -> Reply:
    """Send a status check of a comic."""
    return call(service, "GET", f"{GENERATIONS}/{name}", now=now, key=key)


def multipart(name: str = "file", content: bytes = b"\x89PNG\r\n\x00") -> tuple[str, bytes]:
    """Return the content type and body of an upload."""
    body = (
        b"--edge\r\nContent-Disposition: form-data; "
        + f'name="{name}"; filename="hat.png"\r\nContent-Type: image/png\r\n\r\n'.encode()
        + content
        + b"\r\n--edge--\r\n"
    )
    return "multipart/form-data; boundary=edge", body


def finished_comic(service: SandboxService, **fields: Any) -> str:
    """Create a comic at 0 that is done at 60; return its id."""
    reply = create(service, 0.0, **fields)
    assert reply.status == 200
    return str(reply.json()["id"])


def change(service: SandboxService, name: str, now: float, **fields: Any) -> Reply:
    """Send a change of a comic."""
    return call(service, "PATCH", f"{GENERATIONS}/{name}", fields, now=now)


def upload(service: SandboxService, content_type: str, body: bytes) -> Reply:
    """Send an upload."""
    headers = {"authorization": f"Bearer {PAID_KEY}", "content-type": content_type}
    return service.handle(Call("POST", "/v1/comics/upload", headers, body=body), 0.0)
