"""One request through the real transport to a raw server, and what its error may not hold."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from llamagen_async.errors import APIConnectionError, LlamaGenError
from llamagen_async.plans import RequestKind
from llamagen_async.transport import APIRequest, HTTPTransport, is_retriable
from tests.support.rawserver import Handler, Received, answer, raw_server

__all__ = [
    "BOTH",
    "CREATE",
    "KEY",
    "STATUS",
    "assert_secret",
    "fails",
    "failure",
    "hang",
    "hang_in_the_body",
    "reply_ok",
]

TESTS: Final = Path(__file__).parent.parent
KEY = "lg_sk_0123456789abcdef"
STATUS = APIRequest(RequestKind.STATUS, "GET", "/comics/generations/c1")
CREATE = APIRequest(RequestKind.CREATE, "POST", "/comics/generations", json={"prompt": "é"})
BOTH = pytest.mark.parametrize("request_", [STATUS, CREATE])


async def reply_ok(received: Received) -> None:
    await received.reply(answer())


def assert_secret(error: BaseException) -> None:
    """Assert that neither the error nor anything that hangs on it holds the key.

    What reports errors may show the locals of their frames, so that these count, too.
    """
    seen: set[int] = set()
    todo: list[BaseException] = [error]
    while todo:
        current = todo.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        shown = [repr(current), str(current), repr(current.args), repr(vars(current))]
        shown += [repr(getattr(value, "__dict__", value)) for value in vars(current).values()]
        assert KEY not in "".join(shown)
        assert not isinstance(current, aiohttp.ClientError)
        todo += [e for e in (current.__cause__, current.__context__) if e is not None]
        for frame in traceback.StackSummary.extract(
            traceback.walk_tb(current.__traceback__), capture_locals=True
        ):
            assert "aiohttp" not in frame.filename.split("/")
            if not frame.filename.startswith(str(TESTS)):
                assert KEY not in repr(frame.locals), frame


async def failure(
    handler: Handler, request: APIRequest = STATUS, *, timeout: float = 5.0
) -> tuple[LlamaGenError, int]:
    """Send one request to a server of this kind; return the error and how many requests came."""
    async with raw_server(handler) as server:
        transport = HTTPTransport(server.url, KEY, timeout=timeout)
        try:
            with pytest.raises(LlamaGenError) as caught:
                await transport.send(request)
        finally:
            await transport.aclose()
        assert_secret(caught.value)
        return caught.value, len(server.received)


async def fails(
    transport: HTTPTransport, request: APIRequest = CREATE, *, sent: bool, retriable: bool = True
) -> APIConnectionError:
    """Send a request that fails, and check what its error says."""
    with pytest.raises(APIConnectionError) as caught:
        await transport.send(request)
    error = caught.value
    assert (error.request_sent, error.retriable) == (sent, retriable), error
    assert ("nothing was sent" in str(error)) is not sent
    assert is_retriable(error, request.kind) is (retriable and (request is STATUS or not sent))
    assert_secret(error)
    return error


async def hang(received: Received) -> None:
    await asyncio.Event().wait()


async def hang_in_the_body(received: Received) -> None:
    await received.reply(answer(b'{"id":', length=100))
    await asyncio.Event().wait()
