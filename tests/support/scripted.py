"""A network in virtual time whose failures and answers a test decides, and clients on it."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs

from llamagen_async import LlamaGenClient, Plan, RateLimit, RequestKind
from llamagen_async.plans import PlanName
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxService
from llamagen_async.sandbox.accounts import label_of
from llamagen_async.scheduling import RequestReport
from llamagen_async.simulation import SimulatedTransport
from llamagen_async.telemetry import Telemetry
from llamagen_async.transport import APIRequest, APIResponse, AssetSource

__all__ = ["ROOMY", "Network", "Recorder", "Sent", "left_over", "minute", "now"]

Hook = Callable[["Sent"], Exception | None]

_numbers = itertools.count()

ROOMY = Plan("roomy", limits=RateLimit(1_000, per=60))
"""A plan whose limit is never in the way."""


@attrs.frozen
class Sent:
    """One request that left the client."""

    kind: RequestKind
    n: int
    """Number of the request among those of its kind, from 0."""
    target: str
    """The last part of the path: the id, for a status check."""
    prompt: str
    """The story, for a create."""
    at: float
    """Virtual time at which the request was sent, in seconds."""

    def __str__(self) -> str:
        return f"{self.kind.value} {self.prompt or self.target}"


class Network:
    """A transport that records every request and may fail it before or after it arrives.

    Args:
        service: The server; one whose comics take 60 s if not given.
        key: The key to send.
        latency: Seconds of each exchange.
        before: Returns the error that a request meets before the service sees it.
        after: Returns the error that takes the place of its answer.
        body: Changes the answer's body.
        assets: Opens the pictures.
    """

    def __init__(
        self,
        service: SandboxService | None = None,
        *,
        key: str = PAID_KEY,
        latency: float | tuple[float, float] = 0.0,
        before: Hook | None = None,
        after: Hook | None = None,
        body: Callable[[Sent, Any], Any] | None = None,
        assets: AssetSource | None = None,
        seed: int = 0,
    ) -> None:
        self.service = service or SandboxService(durations=Durations.constant(60))
        self.key = key
        self.sent: list[Sent] = []
        self.closed = 0
        self.telemetry: Telemetry | None = None
        """Where the spans and metrics of its clients go."""
        self._before = before
        self._after = after
        self._body = body
        self._assets = assets
        spread = latency if isinstance(latency, tuple) else (latency, latency)
        self._inner = SimulatedTransport(self.service, key, latency=spread, seed=seed)
        self._counts: Counter[RequestKind] = Counter()

    def client(
        self,
        plan: Plan | PlanName = Plan.PAID,
        *,
        max_retries: int = 4,
        base_url: str | None = None,
        on_request: Callable[[RequestReport], None] | None = None,
    ) -> LlamaGenClient:
        """Return a client with a ledger of its own that sends its requests through this network."""
        return LlamaGenClient(
            self.key,
            plan=plan,
            base_url=base_url or f"https://scripted-{next(_numbers)}.invalid",
            transport=self,
            assets=self._assets,
            max_retries=max_retries,
            on_request=on_request,
            telemetry=self.telemetry,
        )

    async def send(self, request: APIRequest) -> APIResponse:
        """Carry a request."""
        payload = request.json if isinstance(request.json, dict) else {}
        sent = Sent(
            request.kind,
            self._counts[request.kind],
            request.path.rpartition("/")[2],
            str(payload.get("prompt", "")),
            now(),
        )
        self._counts[request.kind] += 1
        self.sent.append(sent)
        if self._before is not None and (error := self._before(sent)):
            raise error
        response = await self._inner.send(request)
        if self._after is not None and (error := self._after(sent)):
            raise error
        if self._body is None:
            return response
        return attrs.evolve(response, body=self._body(sent, response.body))

    async def aclose(self) -> None:
        """Count that the client has closed this network."""
        self.closed += 1

    @property
    def order(self) -> list[str]:
        """The requests as text, such as "status c1", in the order in which they were sent."""
        return [str(sent) for sent in self.sent]

    def of(self, kind: RequestKind) -> list[Sent]:
        """Return the requests of one kind."""
        return [sent for sent in self.sent if sent.kind is kind]

    @property
    def creates(self) -> list[Sent]:
        """The creates that left."""
        return self.of(RequestKind.CREATE)

    @property
    def checks(self) -> list[Sent]:
        """The status checks that left."""
        return self.of(RequestKind.STATUS)

    @property
    def refused(self) -> int:
        """Number of requests that the service refused with 429."""
        return self._seen("refused")

    @property
    def accepted(self) -> int:
        """Number of creates that the service accepted, and would bill."""
        return self._seen("creates_accepted")

    @property
    def stories(self) -> Counter[str]:
        """Number of times that each story was accepted."""
        return Counter(one["prompt"] for one in self.service.stats(0.0)["generations"])

    def _seen(self, name: str) -> int:
        number: int = self.service.stats(0.0)["keys"][label_of(self.key)][name]
        return number


class Recorder(Network):
    """A network with a roomy plan that keeps the requests themselves."""

    def __init__(self, service: SandboxService | None = None, **settings: Any) -> None:
        super().__init__(service or minute(plans={"the-key": ROOMY}), key="the-key", **settings)
        self.requests: list[APIRequest] = []

    async def send(self, request: APIRequest) -> APIResponse:
        """Carry a request."""
        self.requests.append(request)
        return await super().send(request)


def minute(seconds: float = 60.0, **settings: Any) -> SandboxService:
    """Return a service whose comics take `seconds` each."""
    return SandboxService(durations=Durations.constant(seconds), **settings)


def now() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


def left_over() -> set[asyncio.Task[Any]]:
    """Return the tasks that run beside this one."""
    return asyncio.all_tasks() - {asyncio.current_task()}
