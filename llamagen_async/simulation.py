"""The real client against the sandbox's service in virtual time: a day passes in milliseconds.

Everything in the client is what users get, except for two parts: a delay and the sandbox's drawings
replace the network, and the event loop's clock jumps to the next event instead of waiting. Use the
simulation to test a program that uses this package, or to see how long a batch would take.

```
async def main():
    service = SandboxService(seed=7)
    async with simulated_client(service, plan="paid") as client:
        ...

run(main())
```
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import json
import random
import selectors
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, TypeVarTuple
from urllib.parse import parse_qsl, urlsplit

import attrs

from llamagen_async.client import LlamaGenClient
from llamagen_async.errors import APIConnectionError, APITimeoutError
from llamagen_async.plans import Plan, PlanName
from llamagen_async.sandbox import DEMO_KEY, PAID_KEY, Call, SandboxService
from llamagen_async.sandbox.generations import has_expired
from llamagen_async.sandbox.pictures.cache import PictureCache
from llamagen_async.scheduling import RequestReport
from llamagen_async.telemetry import Telemetry
from llamagen_async.transport import (
    APIRequest,
    APIResponse,
    AssetStream,
    FormFile,
    Transport,
    decode,
)

__all__ = ["SimulatedAssets", "SimulatedTransport", "VirtualTimeLoop", "run", "simulated_client"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_STALLED_STEPS: Final = 1_000
"""The number of loop steps at one virtual time after which a rounding error is assumed: no sound
program takes so many."""
_NANOSECOND: Final = 1e-9
"""Seconds by which a stalled clock is moved: more than the rounding error of a day in seconds."""
_BOUNDARY: Final = "a-boundary-that-no-file-has-in-it"
_numbers: Final = itertools.count(1)
"""The numbers that give each simulated client a server name of its own."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and jumps to the next event.

    The loop never waits for the outside world: if nothing is scheduled, it raises `RuntimeError`
    instead of waiting for ever.
    """

    is_virtual = True
    """Tells clients that what they send takes no real time: they count in memory by themselves."""

    def __init__(self) -> None:
        super().__init__(_JumpingSelector(self))
        self._virtual_now = 0.0

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._virtual_now

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002  # part of the base class's signature
        func: Callable[[*_Ts], _T],
        *args: *_Ts,
    ) -> asyncio.Future[_T]:
        """Call `func` at once instead of in a thread: it takes no virtual time."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # raised where the future is awaited
            future.set_exception(error)
        return future

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self._virtual_now += seconds


class _JumpingSelector(selectors.SelectSelector):
    """A selector that moves the loop's clock where another one would wait."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop
        self._stalled = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("every task waits, and nothing will ever happen")
        if ready or timeout:
            self._stalled = 0
        if not ready and timeout:
            self._loop.advance(timeout)
        elif not ready:
            # A timer whose time is computed with floats may wake a rounding error too early and
            # sleep again for no time at all. Real time would move on meanwhile; this clock is
            # moved.
            self._stalled += 1
            if self._stalled > _STALLED_STEPS:
                self._stalled = 0
                self._loop.advance(_NANOSECOND)
        return ready


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """Run `main` in virtual time and return what it returns."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop, debug=debug) as runner:
        return runner.run(main)


class SimulatedTransport:
    """A transport that carries requests to a sandbox's service with a delay instead of a network.

    Args:
        service: The service that answers.
        api_key: The key to send.
        latency: The least and the most seconds that a request and its answer take together; the
            time is drawn evenly, and split at random between the way there and the way back.
        seed: The seed of these draws.
        timeout: Seconds after which a request is given up.
    """

    def __init__(
        self,
        service: SandboxService,
        api_key: str,
        *,
        latency: tuple[float, float] = (0.0, 0.0),
        seed: int = 0,
        timeout: float = 30.0,
    ) -> None:
        self._service = service
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._latency = latency
        self._random = random.Random(seed)
        self._timeout = timeout

    def with_key(self, api_key: str) -> SimulatedTransport:
        """Return a transport to the same service for another key."""
        other = copy.copy(self)
        # It is of this class.
        other._headers = {"Authorization": f"Bearer {api_key}"}  # noqa: SLF001
        return other

    async def send(self, request: APIRequest) -> APIResponse:
        """Send one request; see `Transport.send`."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._exchange(request)
        except TimeoutError:
            raise APITimeoutError(f"no answer within {self._timeout:g} s") from None

    async def aclose(self) -> None:
        """Do nothing: there is no connection to close."""

    async def _exchange(self, request: APIRequest) -> APIResponse:
        latency = self._random.uniform(*self._latency)
        there = latency * self._random.random()
        if there:
            await asyncio.sleep(there)
        headers, body = self._headers, b""
        if request.json is not None:
            body = json.dumps(request.json).encode()
        elif request.form is not None:
            headers, body = _multipart(request.form, headers)
        path, query = f"/v1{request.path}", dict(request.params or {})
        call = Call(request.method, path, headers, query, body)
        reply = self._service.handle(call, asyncio.get_running_loop().time())
        if latency - there + reply.delay:
            await asyncio.sleep(latency - there + reply.delay)
        if reply.drop:
            raise APIConnectionError("the server dropped the connection")
        now = self._service.epoch + asyncio.get_running_loop().time()
        return decode(
            reply.status,
            reply.headers,
            reply.body,
            now=datetime.fromtimestamp(now, UTC),
            is_billed=request.kind.is_billed,
        )


def _multipart(form: FormFile, headers: dict[str, str]) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of an upload."""
    content = form.content if isinstance(form.content, bytes) else form.content.read_bytes()
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{form.field}"; '
        f'filename="{form.filename}"\r\nContent-Type: {form.content_type}\r\n\r\n'
    )
    body = head.encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return {**headers, "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}, body


class SimulatedAssets:
    """A source of pictures that a sandbox's service draws, without a network.

    Args:
        service: The service that draws them; that needs Pillow.
    """

    def __init__(self, service: SandboxService) -> None:
        self._service = service
        self._pictures = PictureCache(lambda id_: service.pictured(id_, self._now()))

    @contextlib.asynccontextmanager
    async def open_asset(
        self, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[AssetStream, None]:
        """Open a picture; see `AssetSource.open_asset`."""
        del headers  # every answer is whole
        parts = urlsplit(url)
        if has_expired(dict(parse_qsl(parts.query)), self._service.epoch + self._now()):
            yield _Drawing(403, {}, b"")
            return
        picture = self._pictures.find(parts.path)
        if picture is None:
            yield _Drawing(404, {}, b"")
            return
        content = self._pictures.drawn(picture)
        if content is None:
            try:
                content = picture.draw()
            except ImportError:
                yield _Drawing(501, {}, b"pictures need Pillow")
                return
            self._pictures.keep(picture, content)
        sent = {"Content-Type": picture.content_type, "Content-Length": str(len(content))}
        yield _Drawing(200, sent, content)

    async def aclose(self) -> None:
        """Do nothing: there is no connection to close."""

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


@attrs.frozen
class _Drawing:
    """An open picture of a simulation."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.content


def simulated_client(
    service: SandboxService,
    *,
    plan: Plan | PlanName = Plan.PAID,
    api_key: str | None = None,
    latency: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
    timeout: float = 30.0,
    max_retries: int = 4,
    polling: float | None = None,
    webhooks: bool = False,
    on_request: Callable[[RequestReport], None] | None = None,
    telemetry: Telemetry | bool | None = None,
    transport: Transport | None = None,
) -> LlamaGenClient:
    """Return a client whose requests reach `service` without a network.

    Its pictures come from `service`, too. Each client has a ledger of its own, as if no other
    client used the same key, and the loop's clock is the server's, whatever `$LLAMAGEN_SPEED` says.

    Args:
        service: The service that answers.
        plan: The plan whose limits the client keeps.
        api_key: The key to send; the sandbox's key of that plan if not given.
        latency: The least and the most seconds that a request and its answer take together.
        seed: The seed of the latencies.
        timeout: Seconds after which a request is given up.
        max_retries: The number of times that a failed request is repeated, where that is safe.
        polling: The least number of seconds between two checks of one generation.
        webhooks: Whether webhook events are handed to the client's `deliver`.
        on_request: A function that is called after each request with a report of it.
        telemetry: Where the spans and metrics go, as for `LlamaGenClient`.
        transport: Another transport to `service`, for which `latency`, `seed` and `timeout` are
            not used.
    """
    plan = Plan.parse(plan)
    key = api_key or (DEMO_KEY if plan == Plan.DEMO else PAID_KEY)
    return LlamaGenClient(
        key,
        plan=plan,
        base_url=f"https://simulation-{next(_numbers)}.invalid",
        max_retries=max_retries,
        polling=polling,
        webhooks=webhooks,
        on_request=on_request,
        telemetry=telemetry,
        speed=1.0,
        assets=SimulatedAssets(service),
        transport=transport
        or SimulatedTransport(service, key, latency=latency, seed=seed, timeout=timeout),
    )
