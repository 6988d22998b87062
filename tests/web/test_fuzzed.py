"""Bodies, headers, paths and queries of all kinds: the answer is never a mistake of this server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamagen_async.web import create_app
from tests.support.machine import Machine, Pictures, fetching
from tests.support.web import SECRET, asgi_client

Send = Callable[..., httpx.Response]

FUZZED = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
FIELDS = ("prompt", "prompt_url", "size", "fix_panel_num", "pagination", "comic_roles", "images")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
HEADER = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40
)


@pytest.fixture
def send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Send]:
    """Send a request to a backend that lives as long as the test."""
    monkeypatch.setattr("llamagen_async.comics.Comics.download", fetching(Pictures()))
    machine = Machine(tmp_path)
    with asyncio.Runner() as runner:
        client = machine.open()
        app = create_app(client, out=tmp_path / "out", webhook_secret=SECRET)
        lifespan, connected = app.lifespan(), asgi_client(app, raise_app_exceptions=True)
        runner.run(lifespan.__aenter__())
        http = runner.run(connected.__aenter__())

        def once(method: str, path: str, **more: Any) -> httpx.Response:
            return runner.run(http.request(method, httpx.URL(f"http://localhost{path}"), **more))

        yield once
        runner.run(connected.__aexit__(None, None, None))
        runner.run(lifespan.__aexit__(None, None, None))
        runner.run(client.aclose())


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        if answer.request.method != "HEAD":
            assert json.loads(answer.content)["status"] == answer.status_code


@FUZZED
@given(fields=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=10), JSON, max_size=5))
def test_any_json(send: Send, fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode("utf-8", "surrogatepass")
    check(send("POST", "/comics", content=body, headers={"content-type": "application/json"}))


@FUZZED
@given(body=st.binary(max_size=200))
def test_any_bytes(send: Send, body: bytes) -> None:
    check(send("POST", "/comics", content=body, headers={"content-type": "application/json"}))
    check(send("POST", "/webhooks", content=body))


@FUZZED
@given(key=HEADER, kind=HEADER, seen=HEADER)
def test_any_headers(send: Send, key: str, kind: str, seen: str) -> None:
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = send("POST", "/comics", content=b'{"prompt": "a"}', headers=raw)
    check(answer)
    if answer.status_code == 202:
        path = answer.headers["location"]
        check(send("GET", path, headers={"Last-Event-ID": seen.encode("latin-1")}))
        check(send("DELETE", path))
    check(send("POST", "/comics", content=b"{}", headers={"Content-Type": kind.encode("latin-1")}))


@FUZZED
@given(
    parts=st.lists(st.text(max_size=12) | st.sampled_from(["comics", "events", ".."]), max_size=5),
    query=st.dictionaries(st.sampled_from(["limit", "after", "state", "x"]), st.text(max_size=12)),
    method=st.sampled_from(["GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE"]),
)
def test_any_path_and_query(
    send: Send, parts: list[str], query: dict[str, str], method: str
) -> None:
    encoded = [quote(part.encode("utf-8", "surrogatepass"), safe="") for part in parts]
    named = [f"{name}={quote(value.encode('utf-8', 'replace'))}" for name, value in query.items()]
    check(send(method, f"/{'/'.join(encoded)}?{'&'.join(named)}"))
    check(send("GET", f"/comics?{'&'.join(named)}"))
