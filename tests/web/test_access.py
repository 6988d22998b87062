"""Access to the routes: for this machine alone, or for whom the hook allows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from starlette.exceptions import HTTPException

from llamagen_async.web.access import loopback_problem
from llamagen_async.web.messages import WebRequest
from llamagen_async.webhooks import sign
from tests.support.web import BORDERS, SECRET, backend

LOCAL = {"host": "localhost:8000"}
GUARDED = ["", "comics", "comics/k", "comics/k/events", "comics/k/pictures/0", "limits"]


async def no_body() -> AsyncIterator[bytes]:
    """A body of nothing."""
    return
    yield b""


def request(peer: str | None = "127.0.0.1", **headers: str) -> WebRequest:
    named = {name.replace("_", "-"): value for name, value in {**LOCAL, **headers}.items()}
    return WebRequest("GET", ("comics",), "", {}, named, peer, no_body(), None)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1", "::1%lo"])
@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:80", "[::1]:8000"])
def test_programs_on_this_machine_are_answered(peer: str, host: str) -> None:
    assert loopback_problem(request(peer, host=host)) is None
    assert loopback_problem(request(peer, host=host, origin=f"http://{host}")) is None


@pytest.mark.parametrize(
    ("peer", "headers", "named"),
    [
        ("192.0.2.1", {}, "comes from 192.0.2.1"),
        ("::2", {}, "comes from ::2"),
        ("", {}, "an unknown address"),
        (None, {}, "an unknown address"),
        ("127.0.0.1.evil.example", {}, "comes from"),
        ("127.0.0.1", {"x_forwarded_for": "127.0.0.1"}, "proxy"),
        ("127.0.0.1", {"x_forwarded_for": ""}, "proxy"),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}, "proxy"),
        ("127.0.0.1", {"x_real_ip": "::1"}, "proxy"),
        ("127.0.0.1", {"via": "1.1 proxy"}, "proxy"),
        ("127.0.0.1", {"host": "evil.example"}, "another host"),
        ("127.0.0.1", {"host": "localhost.evil.example"}, "another host"),
        ("127.0.0.1", {"host": ""}, "another host"),
        ("127.0.0.1", {"host": "[::1"}, "another host"),
        ("127.0.0.1", {"origin": "https://evil.example"}, "a page of another host"),
        ("127.0.0.1", {"origin": "null"}, "a page of another host"),
    ],
)
def test_others_are_not(peer: str | None, headers: dict[str, str], named: str) -> None:
    """Requests that come by a proxy are refused, and those of a web page from elsewhere."""
    problem = loopback_problem(request(peer, **headers))
    assert problem is not None
    assert named in problem


@pytest.mark.parametrize("border", BORDERS)
async def test_without_a_hook_the_refusal_says_how_to_serve_others(
    border: str, tmp_path: Path
) -> None:
    async with backend(border, tmp_path, webhook_secret=SECRET) as shop:
        proxied = {"X-Forwarded-For": "192.0.2.1"}
        for path in (*GUARDED, "openapi.json"):
            answer = await shop.http.get(path, headers=proxied)
            assert answer.status_code == 403
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == "not_authorized"
            assert "create_app(authorize=" in answer.json()["detail"]
        answer = await shop.http.post("comics", json={"prompt": "a"}, headers=proxied)
        assert answer.status_code == 403
        assert (await shop.http.delete("comics/k", headers=proxied)).status_code == 403
        # The vendor and those who look after the server come from elsewhere.
        for path in ("healthz", "readyz"):
            assert (await shop.http.get(path, headers=proxied)).status_code == 200
        signed = {**proxied, **sign("{}", SECRET)}
        taken = await shop.http.post("webhooks", content="{}", headers=signed)
        assert taken.status_code == 204
        assert (await shop.http.get("comics")).json() == {"comics": []}


def by_header(native: Any) -> bool:
    return bool(native.headers.get("authorization") == "Bearer token")


async def by_header_later(native: Any) -> bool:
    return by_header(native)


def by_error(native: Any) -> bool:
    if not by_header(native):
        raise PermissionError("who are you?")
    return True


def forgets_to_say() -> Any:
    return lambda native: None


def by_framework(native: Any) -> bool:
    if not by_header(native):
        headers = {"WWW-Authenticate": "Bearer"}
        if isinstance(native, web.BaseRequest):
            raise web.HTTPUnauthorized(headers=headers)
        raise HTTPException(401, "Unauthorized", headers)
    return True


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(
    ("hook", "refused"),
    [(by_header, 403), (by_header_later, 403), (by_error, 403), (by_framework, 401)],
)
async def test_a_hook_decides(border: str, hook: Any, refused: int, tmp_path: Path) -> None:
    """From wherever a request comes; what the hook raises becomes the answer."""
    async with backend(border, tmp_path, authorize=hook) as shop:
        elsewhere = {"X-Forwarded-For": "192.0.2.1", "Host": "comics.example"}
        allowed = {**elsewhere, "Authorization": "Bearer token"}
        for path in GUARDED:
            answer = await shop.http.get(path, headers=elsewhere)
            assert answer.status_code == refused
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == "not_authorized"
            if refused == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
        assert (await shop.http.get("comics", headers=allowed)).json() == {"comics": []}
        assert (await shop.http.get("healthz", headers=elsewhere)).status_code == 200


@pytest.mark.parametrize("border", BORDERS)
async def test_a_hook_that_says_nothing_allows_nothing(border: str, tmp_path: Path) -> None:
    async with backend(border, tmp_path, authorize=forgets_to_say()) as shop:
        assert (await shop.http.get("comics")).status_code == 403


@pytest.mark.parametrize("border", BORDERS)
async def test_a_hook_may_read_the_body(border: str, tmp_path: Path) -> None:
    """Such as one that verifies a signature of it; the order still has it."""
    bodies: list[bytes] = []

    async def signed(native: Any) -> bool:
        bodies.append(await (native.read() if border == "aiohttp" else native.body()))
        return True

    async with backend(border, tmp_path, authorize=signed) as shop:
        answer = await shop.order("k", "a story")
        assert answer.status_code == 202
        assert answer.json()["prompt"] == "a story"
        assert b"a story" in bodies[0]


async def test_what_a_hook_reads_of_a_body_is_bounded(tmp_path: Path) -> None:
    """A visitor who is not allowed can't fill the memory."""

    async def signed(native: Any) -> bool:
        return bool(await native.read())

    async with backend("aiohttp", tmp_path, authorize=signed) as shop:
        answer = await shop.http.post("comics", content=b"x" * 6_000_000)
        assert answer.status_code == 413


@pytest.mark.parametrize("status", [303, 419, 599])
async def test_a_hook_may_refuse_by_any_status(status: int, tmp_path: Path) -> None:
    """Also by one that is nobody's standard, such as 419 for a session that is over."""

    def over(_native: Any) -> bool:
        raise HTTPException(status, "the session is over", {"Location": "/login"})

    async with backend("starlette", tmp_path, authorize=over) as shop:
        answer = await shop.http.get("comics")
        assert answer.status_code == answer.json()["status"] == status
        assert answer.json()["detail"] == "the session is over"
        assert answer.headers["location"] == "/login"
