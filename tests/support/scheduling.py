"""Small plans, networks and steps that the tests of scheduling share."""

from __future__ import annotations

from typing import Any

from llamagen_async import (
    LlamaGenClient,
    Plan,
    RateLimit,
    RateLimitError,
)
from llamagen_async.plans import MINUTE
from llamagen_async.sandbox import SandboxService
from tests.support.scripted import Network, minute

__all__ = [
    "CREATES_ONLY",
    "ONE",
    "TWO",
    "accepted_id",
    "collect",
    "fill",
    "network_of",
    "refusal",
    "service_of",
]

TWO = Plan("two", limits=RateLimit(2, per=MINUTE))
ONE = Plan("one", limits=RateLimit(1, per=MINUTE))
CREATES_ONLY = Plan("creates", limits=RateLimit(2, per=MINUTE), metered={"create"})


def service_of(plan: Plan, seconds: float = 60.0, **settings: Any) -> SandboxService:
    """Return a service that lets a key do what the plan allows."""
    return minute(seconds, plans={"the-key": plan}, **settings)


def network_of(plan: Plan, seconds: float = 60.0, **settings: Any) -> Network:
    return Network(service_of(plan, seconds), key="the-key", **settings)


def refusal(retry_after: float | None) -> RateLimitError:
    return RateLimitError(429, "slow_down", "too many", None, retry_after)


async def fill(client: LlamaGenClient, slots: int) -> None:
    """Use up slots of the present window."""
    for n in range(slots):
        await client.comics.create(f"filler {n}")


def accepted_id(network: Network, story: str) -> str:
    ids = [one["id"] for one in network.service.stats(0)["generations"] if one["prompt"] == story]
    return str(ids[0])


async def collect(client: LlamaGenClient, stories: list[str], **settings: Any) -> list[Any]:
    return [item async for item in client.comics.batch(stories, **settings)]
