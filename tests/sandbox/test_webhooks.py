"""The sandbox's events: what is sent when, how it is signed, and what goes wrong on request."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import Any

import pytest

from llamagen_async.errors import InvalidRequestError
from llamagen_async.sandbox import Durations, Fault, SandboxService, Webhook
from llamagen_async.sandbox.webhooks import RETRIES
from tests.support.sandbox import change, create, roomy_service
from tests.support.webhooks import SECRET, Endpoint, sending

pytestmark = pytest.mark.virtual_time


def comic(service: SandboxService) -> str:
    return str(create(service, asyncio.get_running_loop().time()).json()["id"])


async def all_events(*faults: Fault, seconds: float = 2_000.0) -> Endpoint:
    """Return what an endpoint got of one comic of 60 seconds."""
    service, endpoint = roomy_service(faults=faults), Endpoint()
    async with sending(service, endpoint):
        comic(service)
        await asyncio.sleep(seconds)
    return endpoint


async def test_a_comic_has_three_events_each_when_it_happens() -> None:
    endpoint = await all_events()
    assert endpoint.types == ["created", "updated", "completed"]
    assert endpoint.arrived == [0.0, 5.0, 60.0]
    assert [event.data["status"] for event in endpoint.events] == [
        "PENDING",
        "PROCESSING",
        "SUCCEEDED",
    ]
    assert {len(event.data) for event in endpoint.events} == {2}
    assert len({event.id for event in endpoint.events}) == 3
    assert len({event.request_id for event in endpoint.events}) == 3


async def test_an_event_tells_the_time_of_the_apis_clock() -> None:
    first, _, last = (await all_events()).events
    assert first.created
    assert last.created
    assert (last.created - first.created).total_seconds() == 60


async def test_the_result_comes_with_the_event_if_asked_for() -> None:
    service, endpoint = roomy_service(dialect="production"), Endpoint()
    async with sending(service, endpoint, "result"):
        id_ = comic(service)
        await asyncio.sleep(61)
    shown = endpoint.events[-1].data
    assert (shown["id"], shown["status"]) == (id_, "PROCESSED")
    assert len(shown["comics"][0]["panels"]) == 4


async def test_a_failure_is_an_event_of_its_own() -> None:
    service, endpoint = roomy_service(failure_rate=1.0), Endpoint()
    async with sending(service, endpoint, "result"):
        comic(service)
        await asyncio.sleep(61)
    assert endpoint.types[-1] == "failed"
    assert endpoint.events[-1].data["failureReason"]


async def test_a_change_has_events_too() -> None:
    """A comic that is continued is updated and completed a second time."""
    service, endpoint = roomy_service(), Endpoint()
    async with sending(service, endpoint):
        id_ = comic(service)
        await asyncio.sleep(100)
        assert change(service, id_, 100.0, action="continueWrite", prompt="more").status == 200
        await asyncio.sleep(100)
    assert endpoint.types[3:] == ["updated", "completed"]
    assert {event.data["id"] for event in endpoint.events} == {id_}


async def test_the_signature_is_the_vendors() -> None:
    """Headers and signature, beside the standard library written out."""
    service, sent = roomy_service(), list[tuple[bytes, dict[str, str]]]()

    class Listening(Endpoint):
        async def post(self, body: bytes, headers: dict[str, str]) -> int:
            sent.append((body, headers))
            return await super().post(body, headers)

    async with sending(service, Listening()):
        comic(service)
        await asyncio.sleep(61)
    for body, headers in sent:
        at = headers["X-Llama-Webhook-Timestamp"]
        digest = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        assert headers["X-Llama-Webhook-Signature"] == f"v1={digest}"
        assert headers["X-Llama-Webhook-Id"] == json.loads(body)["id"]
        assert headers["X-Llama-Webhook-Request-Id"].startswith("req_")


# What goes wrong.


async def test_an_event_that_was_not_accepted_comes_again() -> None:
    """Under its old id, and signed anew; later and later."""
    service, endpoint = roomy_service(), Endpoint()
    endpoint.next_answers = [500, 0, 404]
    async with sending(service, endpoint) as sender:
        comic(service)
        await asyncio.sleep(2_000)
        assert sender.counts == {"sent": 6, "refused": 3, "accepted": 3}
        assert service.stats(0.0)["webhooks"] == sender.counts
    assert sorted(endpoint.types) == ["completed", "created", "updated"]


async def test_an_event_that_is_never_accepted_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service, endpoint = roomy_service(), Endpoint()
    endpoint.next_answers = [500] * 100
    async with sending(service, endpoint) as sender:
        comic(service)
        await asyncio.sleep(2_000)
        assert sender.counts["sent"] == 3 * (1 + len(RETRIES))
        assert sender.counts["given up"] == 3
    assert not endpoint.events
    assert "given up" in caplog.text


async def test_lost_events_are_not_sent() -> None:
    assert not (await all_events(Fault("event-lost"))).answers


async def test_a_fault_of_one_type_leaves_the_others_alone() -> None:
    endpoint = await all_events(Fault("event-lost", on="completed"))
    assert endpoint.types == ["created", "updated"]


async def test_late_events() -> None:
    endpoint = await all_events(Fault("event-late", 45.0))
    assert endpoint.arrived == [45.0, 50.0, 105.0]
    assert endpoint.events[0].data["status"] == "PENDING"  # as it was then


async def test_doubled_events_are_the_same_event() -> None:
    endpoint = await all_events(Fault("event-doubled"))
    ids = [event.id for event in endpoint.events]
    assert len(ids) == 6
    assert len(set(ids)) == 3


async def test_events_that_are_out_of_order() -> None:
    """Each but the last is overtaken by the next one."""
    endpoint = await all_events(Fault("event-out-of-order"))
    assert endpoint.types == ["created", "completed", "updated"]


async def test_a_forged_event_comes_before_the_real_one() -> None:
    endpoint = await all_events(Fault("event-forged"))
    assert endpoint.answers == [400, 204] * 3


async def test_chance_is_the_seeds() -> None:
    """Faults hit the same events each time."""

    async def fates(seed: int) -> list[str]:
        faults = [Fault("event-lost", rate=0.3), Fault("event-doubled", rate=0.3)]
        durations = Durations.constant(9)
        service = SandboxService(seed=seed, durations=durations, faults=faults)
        endpoint = Endpoint()
        async with sending(service, endpoint):
            for _ in range(8):
                comic(service)
            await asyncio.sleep(100)
        return [f"{event.id}/{event.type}" for event in endpoint.events]

    assert await fates(1) == await fates(1)
    assert await fates(1) != await fates(2)


async def test_nothing_is_sent_once_the_sender_is_closed() -> None:
    service, endpoint = roomy_service(), Endpoint()
    async with sending(service, endpoint):
        comic(service)
        await asyncio.sleep(1)
    comic(service)
    await asyncio.sleep(1_000)
    assert endpoint.types == ["created"]


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("url", {"url": "backend"}),
        ("url", {"url": "ftp://backend"}),
        ("url", {"url": "http://[backend"}),
        ("secret", {"secret": ""}),
        ("data", {"data": "pictures"}),
    ],
)
def test_an_endpoint_that_is_wrong(field: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=field):
        Webhook(**{"url": "http://backend.invalid", "secret": SECRET, **arguments})
    assert SECRET not in repr(Webhook("http://backend.invalid", SECRET))
