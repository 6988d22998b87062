"""The checked arguments of a client, as the rooms below `client.py` take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from llamagen_async.clock import Clock
from llamagen_async.plans import Plan
from llamagen_async.ratelimit import OnStoreFailure
from llamagen_async.scheduling import RequestReport
from llamagen_async.transport import AssetSource, Transport

if TYPE_CHECKING:
    import aiohttp

__all__ = ["ClientSettings"]


@attrs.frozen
class ClientSettings:
    """The checked arguments of a client; each is described at `LlamaGenClient`."""

    api_key: str = attrs.field(repr=False)
    base_url: str
    plan: Plan
    detect_plan: bool
    """Whether the server is asked for the plan before anything else is sent."""
    quota: str | None
    """The store's URL, `MEMORY`, or `None` for the default."""
    clock: Clock
    timeout: float
    max_retries: int
    polling: float | None
    webhooks: bool
    on_store_failure: OnStoreFailure
    session: aiohttp.ClientSession | None
    proxy: str | None = attrs.field(repr=False)
    """The URL of a proxy, which may hold a password."""
    transport: Transport | None
    assets: AssetSource | None
    on_request: Callable[[RequestReport], None] | None
