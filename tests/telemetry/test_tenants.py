"""Clients of other keys: observed as the client is from which they are made."""

from __future__ import annotations

import asyncio

import pytest

from llamagen_async import InvalidRequestError, Plan, RateLimit
from llamagen_async import tenants as tenants_module
from llamagen_async.telemetry.core import ObservedTenantCore
from tests.support.scripted import Network, minute
from tests.support.telemetry import Recording
from tests.support.tenants import TenantNetwork, tenant_key

pytestmark = pytest.mark.virtual_time

FOUR = Plan("four", limits=RateLimit(4, per=60))
TENANTS = ["ann", "bob", "cy"]


async def test_each_tenants_requests_are_in_its_callers_trace() -> None:
    seen = Recording()
    network = TenantNetwork.of(*TENANTS)
    async with network.client(telemetry=seen.telemetry) as client:

        async def backend(name: str) -> None:
            with seen.tracer.start_as_current_span(name):
                comic = await client.with_key(tenant_key(name)).comics.create_and_wait(name)
                assert comic.succeeded

        await asyncio.gather(*map(backend, TENANTS))
        sent = len(network.sent)
    requests = [*seen.named("POST"), *seen.named("GET")]
    assert len(requests) == sent
    assert {seen.above(span)[-1] for span in requests} == set(TENANTS)
    assert len(seen.named("POST")) == len(TENANTS)
    assert sum(seen.values("llamagen.requests", "llamagen.request.kind").values()) == sent
    told = "".join(span.to_json() for span in seen.spans)
    assert not [name for name in TENANTS if tenant_key(name) in told]


async def test_slots_are_added_up_over_the_keys() -> None:
    seen = Recording()
    network = TenantNetwork.of(*TENANTS, plan=FOUR)
    async with network.client(plan=FOUR, telemetry=seen.telemetry) as client:
        # A client that nobody keeps is still read while its rooms are open.
        clients = [client.with_key(tenant_key(name)) for name in TENANTS]
        await asyncio.gather(*(one.comics.create("a") for one in clients))
        assert seen.values("llamagen.slot.usage", "llamagen.plan") == {"four": 3}
        assert seen.values("llamagen.slot.limit", "llamagen.plan") == {"four": 4 * 4}


async def test_a_key_that_rests_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was dropped takes nothing."""
    monkeypatch.setattr(tenants_module, "_WARM", 0)
    seen = Recording()
    network = TenantNetwork.of(*TENANTS)
    async with network.client(telemetry=seen.telemetry) as client:
        kept = [client.with_key(tenant_key(name)) for name in TENANTS]
        assert all(isinstance(one._core, ObservedTenantCore) for one in kept)
        for one in kept:
            await one.comics.create_and_wait("a")
            await asyncio.sleep(3_600)
        await kept[0].comics.usage()
        await asyncio.sleep(1)
        read = len(seen.telemetry.instruments._sources)
        assert read < 1 + len(TENANTS)
    assert not seen.telemetry.instruments._sources


async def test_a_transport_of_one_key_is_still_refused() -> None:
    seen = Recording()
    network = Network(minute())
    network.telemetry = seen.telemetry
    async with network.client() as client:
        with pytest.raises(InvalidRequestError, match="with_key"):
            await client.with_key(tenant_key("a")).comics.create("a")
