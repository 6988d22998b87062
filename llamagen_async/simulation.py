"""The real client against the sandbox's service in virtual time: a day passes in milliseconds.

The dispatcher, the poller and the limiter are the ones that users get; only the network is
replaced by a delay, and the event loop's clock jumps to the next event instead of waiting. Use it
to test a program that uses this package, or to see how long a batch would take.

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
import itertools
import json
import random
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, TypeVarTuple

from llamagen_async.client import LlamaGenClient
from llamagen_async.errors import APIConnectionError, APITimeoutError
from llamagen_async.plans import Plan
from llamagen_async.sandbox import DEMO_KEY, PAID_KEY, Call, SandboxService
from llamagen_async.scheduling import RequestReport
from llamagen_async.transport import APIRequest, APIResponse, Transport, decode

__all__ = ["SimulatedTransport", "VirtualTimeLoop", "run", "simulated_client"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_MANY: Final = 1_000
"""Steps of a loop without anything to wait for that no sound program takes at one time."""
_NANOSECOND: Final = 1e-9
_numbers: Final = itertools.count(1)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and jumps to whatever comes next.

    Nothing in it waits for the outside world: a loop that has nothing scheduled and would wait
    for ever raises `RuntimeError` instead.
    """

    def __init__(self) -> None:
        super().__init__(_JumpingSelector(self))
        self._virtual_now = 0.0

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._virtual_now

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002  # the base class's
        func: Callable[[*_Ts], _T],
        *args: *_Ts,
    ) -> asyncio.Future[_T]:
        """Do at once what is meant for a thread: it takes no virtual time, and nobody else runs."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # it belongs to whoever awaits
            future.set_exception(error)
        return future

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self._virtual_now += seconds


class _JumpingSelector(selectors.SelectSelector):
    """Moves the loop's clock where another selector would wait."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop
        self._stalled = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everyone waits, and nothing will ever happen")
        if ready or timeout:
            self._stalled = 0
        if not ready and timeout:
            self._loop.advance(timeout)
        elif not ready:
            # A timer that computes its time by floats may be due a rounding error too early, for
            # ever: real time would have moved on meanwhile.
            self._stalled += 1
            if self._stalled > _MANY:
                self._stalled = 0
                self._loop.advance(_NANOSECOND)
        return ready


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """Run `main` in virtual time and return what it returns."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop, debug=debug) as runner:
        return runner.run(main)


class SimulatedTransport:
    """Carries requests to a sandbox's service with a delay instead of a network.

    Args:
        service: Who answers.
        api_key: The key to send.
        latency: The least and the most seconds that a request and its answer take together;
            each is drawn evenly, and split at random between the way there and the way back.
        seed: Of the draws.
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

    async def send(self, request: APIRequest) -> APIResponse:
        """Send one request; see `Transport.send`."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._exchange(request)
        except TimeoutError:
            raise APITimeoutError(f"no answer within {self._timeout:g} s") from None

    async def aclose(self) -> None:
        """Do nothing: nothing is held."""

    async def _exchange(self, request: APIRequest) -> APIResponse:
        latency = self._random.uniform(*self._latency)
        there = latency * self._random.random()
        if there:
            await asyncio.sleep(there)
        call = Call(
            request.method,
            f"/v1{request.path}",
            self._headers,
            dict(request.params or {}),
            b"" if request.json is None else json.dumps(request.json).encode(),
        )
        reply = self._service.handle(call, asyncio.get_running_loop().time())
        if latency - there + reply.delay:
            await asyncio.sleep(latency - there + reply.delay)
        if reply.drop:
            raise APIConnectionError("the server dropped the connection")
        now = self._service.epoch + asyncio.get_running_loop().time()
        return decode(reply.status, reply.headers, reply.body, now=datetime.fromtimestamp(now, UTC))


def simulated_client(
    service: SandboxService,
    *,
    plan: Plan | str = Plan.PAID,
    api_key: str | None = None,
    latency: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
    timeout: float = 30.0,
    max_retries: int = 4,
    polling: float | None = None,
    webhooks: bool = False,
    on_request: Callable[[RequestReport], None] | None = None,
    transport: Transport | None = None,
) -> LlamaGenClient:
    """Return a client whose requests reach `service` without a network.

    Each client has a count of its own, as if it were alone with a server of its own.

    Args:
        service: Who answers.
        plan: Whose limits the client keeps.
        api_key: The key to send; the sandbox's key of that plan if not given.
        latency: The least and the most seconds that a request and its answer take together.
        seed: Of the latencies.
        timeout: Seconds after which a request is given up.
        max_retries: How often a request that failed is repeated, where repeating is safe.
        polling: Seconds between two checks of the same generation, at least.
        webhooks: Whether ends are handed to the client's `deliver`.
        on_request: Called after each request with what became of it.
        transport: Reaches `service` in another way; `latency`, `seed` and `timeout` are then its.
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
        transport=transport
        or SimulatedTransport(service, key, latency=latency, seed=seed, timeout=timeout),
    )
