"""Exchanges with servers: the attributes of the conventions, no secrets, nothing sent along."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry import context
from opentelemetry.propagate import inject
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from yarl import URL

from llamagen_async import LlamaGenClient, NotFoundError
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService
from llamagen_async.telemetry import edges
from llamagen_async.transport import HTTPAssets, HTTPTransport
from tests.support.telemetry import Recording

SPEED = 600.0


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def client_of(server: SandboxServer, seen: Recording, **settings: Any) -> LlamaGenClient:
    return LlamaGenClient(
        PAID_KEY,
        plan="paid",
        quota="memory",
        base_url=server.url,
        speed=SPEED,
        telemetry=seen.telemetry,
        **settings,
    )


def sandbox() -> SandboxServer:
    return SandboxServer(SandboxService(durations=Durations.constant(20)), speed=SPEED)


async def test_an_exchange_has_the_attributes_of_the_conventions() -> None:
    seen = Recording()
    async with sandbox() as server, client_of(server, seen) as client:
        comic = await client.comics.create_and_wait("a cat")
        with pytest.raises(NotFoundError):
            await client.comics.get("no-such-comic", page=0)
        address = server.url
    post, *_ = seen.named("POST")
    assert post.kind is SpanKind.CLIENT
    assert (
        attributes(post).items()
        >= {
            "http.request.method": "POST",
            "server.address": "127.0.0.1",
            "server.port": URL(address).port,
            "url.full": f"{address}/comics/generations",
            "http.response.status_code": 200,
        }.items()
    )
    missing = seen.named("GET")[-1]
    url = f"{address}/comics/generations/no-such-comic?page=0"
    assert (
        attributes(missing).items()
        >= {
            "url.full": url,
            "http.response.status_code": 404,
            "error.type": "404",
        }.items()
    )
    assert missing.status.status_code is StatusCode.ERROR
    check = seen.named("GET")[0]
    assert attributes(check)["url.full"] == f"{address}/comics/generations/{comic.id}"


async def test_pictures_have_spans_below_their_download_and_no_signatures(tmp_path: Path) -> None:
    seen = Recording()
    async with sandbox() as server, client_of(server, seen) as client:
        comic = await client.comics.create_and_wait("a cat", fix_panel_num=2)
        files = await client.comics.download(comic, tmp_path)
        pictures = [span for span in seen.named("GET") if seen.above(span)[0].endswith("download")]
        assert len(pictures) == len(files)
        expected = {url.partition("?")[0] for url in comic.asset_urls}
        assert {attributes(span)["url.full"] for span in pictures} == expected
        size = sum(file.stat().st_size for file in files)
        assert seen.values("llamagen.download.io") == {(): size}
        assert seen.values("llamagen.downloads") == {(): 1}
    download = seen.one("llamagen download")
    assert attributes(download)["llamagen.generation.id"] == comic.id


async def test_no_query_user_or_fragment_of_a_pictures_url_is_shown() -> None:
    seen = Recording()
    telemetry = seen.telemetry

    class Refusing:
        def open_asset(self, url: str, *, headers: Any = None) -> Any:
            raise ValueError("no")

        async def aclose(self) -> None: ...

    assets = edges.TracedAssets(Refusing(), telemetry)
    secret = "https://user:word@cdn.test/p/1.png?X-Signature=secret#part"
    for url in (secret, "http://[", "not a url"):
        with pytest.raises(ValueError, match="no"):
            async with assets.open_asset(url):
                pass
    first, *_ = seen.named("GET")
    assert attributes(first)["url.full"] == "https://cdn.test/p/1.png"
    assert first.status.status_code is StatusCode.ERROR


async def test_a_picture_that_is_read_in_part_leaves_nothing_to_close() -> None:
    """A generator that nobody has read to its end is closed by the loop, in a task of its own."""
    seen, begun = Recording(), list[Any]()
    firstiter, finalizer = sys.get_asyncgen_hooks()
    async with sandbox() as server, client_of(server, seen) as client:
        comic = await client.comics.create_and_wait("a cat", fix_panel_num=1)
        assets = edges.TracedAssets(HTTPAssets(HTTPTransport(server.url, PAID_KEY)), seen.telemetry)
        sys.set_asyncgen_hooks(begun.append)
        try:
            async with assets.open_asset(comic.asset_urls[0]) as stream:
                chunk = await anext(aiter(stream.chunks()))
        finally:
            sys.set_asyncgen_hooks(firstiter, finalizer)
        await assets.aclose()
    assert seen.values("llamagen.download.io") == {(): len(chunk)}
    assert begun
    assert all(one.ag_frame is None for one in begun)


async def test_no_trace_is_sent_to_the_vendor() -> None:
    """Not by an instrumentation of aiohttp either: it is told that the exchange has a span."""
    seen, headers = Recording(), list[dict[str, str]]()
    suppressed: list[Any] = []

    async def watch(request: aiohttp.ClientRequest, handler: Any) -> Any:
        suppressed.append(context.get_value(context._SUPPRESS_HTTP_INSTRUMENTATION_KEY))
        response = await handler(request)
        headers.append({name.lower(): value for name, value in request.headers.items()})
        return response

    async with (
        sandbox() as server,
        aiohttp.ClientSession(middlewares=[watch]) as session,
        client_of(server, seen, session=session) as client,
    ):
        await client.comics.create_and_wait("a cat")
    assert len(headers) == len(seen.named("POST")) + len(seen.named("GET")) > 1
    assert not [one for one in headers if {"traceparent", "tracestate", "baggage"} & one.keys()]
    assert set(suppressed) == {True}
    assert context.get_value(context._SUPPRESS_HTTP_INSTRUMENTATION_KEY) is None


async def test_a_middleware_of_the_users_may_send_it_on() -> None:
    """The span of the exchange is the current one where the request is made."""
    seen, sent = Recording(), list[str]()

    async def carry(request: aiohttp.ClientRequest, handler: Any) -> Any:
        inject(request.headers)
        sent.append(request.headers["traceparent"])
        return await handler(request)

    async with (
        sandbox() as server,
        aiohttp.ClientSession(middlewares=[carry]) as session,
        client_of(server, seen, session=session) as client,
    ):
        await client.comics.create("a cat")
    assert sent[0].split("-")[2] == f"{seen.one('POST').context.span_id:016x}"


async def test_nothing_that_is_told_has_the_key(caplog: pytest.LogCaptureFixture) -> None:
    seen = Recording()
    async with sandbox() as server, client_of(server, seen) as client:
        await client.comics.create_and_wait("a cat")
        with pytest.raises(NotFoundError):
            await client.comics.get("no-such-comic")
        metrics = seen._reader.get_metrics_data()
    told = "".join(span.to_json() for span in seen.spans)
    assert metrics is not None
    assert PAID_KEY not in told + metrics.to_json() + caplog.text
    assert json.loads(metrics.to_json())
