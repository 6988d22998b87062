"""The edges: what travels to the API and from the hosts of pictures, each exchange with a span.

Spans and durations follow the conventions for HTTP clients. No URL has a query that may be a
signature, and no header of a trace is sent to anybody: the servers are other people's. That holds
for an instrumentation of aiohttp, too, which would also tell of each exchange a second time.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any, Final, Self

import attrs
from opentelemetry import context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from yarl import URL

from llamagen_async.clock import Clock
from llamagen_async.errors import APIError
from llamagen_async.telemetry.metrics import ERROR_TYPE, Instruments
from llamagen_async.telemetry.operations import RUNNING, known_ids
from llamagen_async.telemetry.telemetry import Telemetry
from llamagen_async.transport import APIRequest, APIResponse, AssetSource, AssetStream, Transport

__all__ = ["TracedAssets", "TracedTransport"]

_METHOD: Final = "http.request.method"
_STATUS: Final = "http.response.status_code"
_WAITED: Final = "llamagen.slot.wait_time"
_SUPPRESSED: Final[str | None] = getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None)
"""The key by which other instrumentations know that a request is told of already; the API has no
public name for it."""


@attrs.define(eq=False)
class _Exchange:
    """One exchange with a server, while its span runs."""

    span: Span
    status: int | None = None
    """The HTTP status, once it is known."""


class _Exchanges:
    """Makes the spans of exchanges, and measures them."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._tracer = telemetry.operations.tracer
        self.instruments: Final = telemetry.instruments

    @contextmanager
    def exchange(
        self,
        method: str,
        url: URL,
        attributes: Mapping[str, Any],
        linked: Sequence[SpanContext] = (),
    ) -> Generator[_Exchange]:
        """Observe one exchange while the result is entered."""
        measured: dict[str, Any] = {
            _METHOD: method,
            "server.address": url.host or "",
            "server.port": url.port or 0,
        }
        began = time.perf_counter()
        with self._tracer.start_as_current_span(
            method,
            kind=SpanKind.CLIENT,
            attributes={**measured, "url.full": str(url), **known_ids(), **attributes},
            links=[Link(one) for one in linked],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            exchange = _Exchange(span)
            quiet = context.set_value(_SUPPRESSED, value=True) if _SUPPRESSED else None
            token = context.attach(quiet) if quiet else None
            try:
                yield exchange
            except BaseException as error:
                measured[ERROR_TYPE] = self._fail(exchange, error)
                raise
            finally:
                if token is not None:
                    context.detach(token)
                if exchange.status is not None:
                    measured[_STATUS] = exchange.status
                    span.set_attribute(_STATUS, exchange.status)
                self.instruments.measure_http(time.perf_counter() - began, measured)

    @staticmethod
    def _fail(exchange: _Exchange, error: BaseException) -> str:
        """Tell the span of the error in which an exchange has ended; return of which sort it is."""
        if isinstance(error, APIError):
            exchange.status = error.status
        status, sort, text = exchange.status, type(error).__name__, str(error)
        if status is not None and status >= HTTPStatus.BAD_REQUEST:
            sort, text = str(status), ""  # that says it all
        exchange.span.set_attribute(ERROR_TYPE, sort)
        exchange.span.set_status(Status(StatusCode.ERROR, text or None))
        return sort


class TracedTransport:
    """A transport whose exchanges have spans.

    Args:
        inner: Carries the requests.
        base_url: Where the API is.
        clock: The server's clock.
        telemetry: Where the spans and metrics go.
    """

    def __init__(self, inner: Transport, base_url: str, clock: Clock, telemetry: Telemetry) -> None:
        self._inner = inner
        self._base_url = base_url
        self._clock = clock
        self._started = telemetry.started
        self._exchanges = _Exchanges(telemetry)

    def __getattr__(self, name: str) -> Any:
        """Return what else the inner transport can do, such as carry the requests of other keys."""
        return getattr(self._inner, name)

    async def send(self, request: APIRequest) -> APIResponse:
        """Carry a request, in the span of whoever asked for it."""
        kind, running = request.kind, RUNNING.get()
        attributes: dict[str, Any] = {"llamagen.request.kind": kind.value}
        linked: list[SpanContext] = []
        if running is not None and running.queued_at is not None:
            waited = max(0.0, self._clock.now() - running.queued_at)
            running.waited += waited
            running.span.set_attribute(_WAITED, running.waited)
            attributes[_WAITED] = waited
            self._exchanges.instruments.measure_wait(waited, kind)
            if running.attempts:
                attributes["http.request.resend_count"] = running.attempts
            running.attempts += 1
        elif request.generation_id is not None:
            linked = self._started.sharing(request.generation_id, running)
        if request.generation_id is not None:
            attributes["llamagen.generation.id"] = request.generation_id
        url = URL(self._base_url + request.path, encoded=True).with_query(request.params)
        try:
            with self._exchanges.exchange(request.method, url, attributes, linked) as exchange:
                response = await self._inner.send(request)
                exchange.status = response.status
        finally:
            if running is not None and running.queued_at is not None:
                running.queued_at = self._clock.now()
        return response

    async def aclose(self) -> None:
        """Close what carries the requests."""
        await self._inner.aclose()


@attrs.frozen
class _ObservedStream:
    """An asset's answer whose bytes are counted."""

    inner: AssetStream
    instruments: Instruments

    @property
    def status(self) -> int:
        return self.inner.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.inner.headers

    def chunks(self) -> AsyncIterator[bytes]:
        return _CountedChunks(aiter(self.inner.chunks()), self.instruments)


@attrs.frozen(eq=False)
class _CountedChunks:
    """The content of an asset, counted as it comes: no generator, which somebody had to close."""

    inner: AsyncIterator[bytes]
    instruments: Instruments

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self.inner)
        self.instruments.count_bytes(len(chunk))
        return chunk


class TracedAssets:
    """A source of pictures and videos whose exchanges have spans.

    Args:
        inner: Opens them.
        telemetry: Where the spans and metrics go.
    """

    def __init__(self, inner: AssetSource, telemetry: Telemetry) -> None:
        self._inner = inner
        self._exchanges = _Exchanges(telemetry)

    @asynccontextmanager
    async def open_asset(
        self, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[AssetStream]:
        """Open a picture's URL, of which the span has neither query nor user."""
        try:
            shown = URL(url).with_query(None).with_fragment(None).with_user(None)
        except ValueError:
            shown = URL()  # it is refused in a moment
        with self._exchanges.exchange("GET", shown, {}) as exchange:
            async with self._inner.open_asset(url, headers=headers) as stream:
                exchange.status = stream.status
                yield _ObservedStream(stream, self._exchanges.instruments)

    async def aclose(self) -> None:
        """Close what opens them."""
        await self._inner.aclose()
