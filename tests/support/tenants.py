"""Many tenants over one network: each request is recorded with the key that sent it."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs

from llamagen_async import LlamaGenClient, Plan
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxService
from llamagen_async.simulation import SimulatedTransport
from llamagen_async.transport import APIRequest, APIResponse

__all__ = ["Instant", "TenantNetwork", "tenant_key"]

_numbers: Final = itertools.count()


def tenant_key(number: int | str) -> str:
    """Return the key of a tenant."""
    return f"sk-tenant-{number:>08}"


@attrs.define(eq=False, repr=False)
class TenantNetwork:
    """A transport for any number of keys whose answers a test may take the place of."""

    service: SandboxService
    """The server."""
    meet: Callable[[str, APIRequest], Awaitable[None]] | None = None
    """Called with key and request before the server is; it may wait, or raise an error."""
    key: str = PAID_KEY
    """The key that this one sends."""
    sent: list[tuple[str, str, float]] = attrs.field(factory=list)
    """Key, kind and virtual time of each request."""
    closed: list[str] = attrs.field(factory=list)
    """The keys whose transports were closed."""

    @classmethod
    def of(
        cls, *tenants: int | str, plan: Plan = Plan.PAID, seconds: float = 60.0
    ) -> TenantNetwork:
        """Return a network whose server knows some tenants, and the parent's key."""
        plans = {PAID_KEY: Plan.PAID} | {tenant_key(one): plan for one in tenants}
        return cls(SandboxService(plans=plans, durations=Durations.constant(seconds)))

    def client(self, **settings: Any) -> LlamaGenClient:
        """Return the client from which those of the tenants are made."""
        url = f"https://tenants-{next(_numbers)}.invalid"
        given: dict[str, Any] = {"plan": "paid", "base_url": url, "transport": self}
        return LlamaGenClient(self.key, **(given | settings))

    def with_key(self, api_key: str) -> TenantNetwork:
        """Return the same network for another key."""
        return attrs.evolve(self, key=api_key)

    async def send(self, request: APIRequest) -> APIResponse:
        """Carry a request."""
        self.sent.append((self.key, request.kind.value, asyncio.get_running_loop().time()))
        if self.meet is not None:
            await self.meet(self.key, request)
        return await SimulatedTransport(self.service, self.key).send(request)

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed.append(self.key)

    def times(self, tenant: int | str, kind: str = "create") -> list[float]:
        """Return the times at which a tenant has sent requests of one kind."""
        return [at for key, what, at in self.sent if (key, what) == (tenant_key(tenant), kind)]

    def kinds(self, tenant: int | str) -> Counter[str]:
        """Return how many requests of each kind a tenant has sent."""
        return Counter(what for key, what, _ in self.sent if key == tenant_key(tenant))


class Instant:
    """A transport of any key whose comics are done at once."""

    def with_key(self, api_key: str) -> Instant:
        """Return itself: it sends no key."""
        del api_key
        return self

    async def send(self, request: APIRequest) -> APIResponse:
        """Answer that the comic is done."""
        del request
        await asyncio.sleep(0.01)
        body = {"id": "comic", "status": "SUCCEEDED", "output": "https://pictures.invalid/1.png"}
        return APIResponse(200, {}, body)

    async def aclose(self) -> None:
        """Do nothing."""

    def client(self, **settings: Any) -> LlamaGenClient:
        """Return the client from which those of the tenants are made."""
        url = f"https://instant-{next(_numbers)}.invalid"
        return LlamaGenClient("sk-parent", plan="paid", base_url=url, transport=self, **settings)
