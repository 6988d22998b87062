"""Requests and files hold what is secret or long, and their reprs do not show it."""

from __future__ import annotations

from llamagen_async.plans import RequestKind
from llamagen_async.transport import APIRequest, FormFile


def test_reprs_show_neither_bodies_nor_headers() -> None:
    request = APIRequest(RequestKind.CREATE, "POST", "/a", json={"prompt": "secret story"})
    assert "secret" not in repr(request)
    assert "secret" not in repr(FormFile("a.png", b"secret"))
