"""Metrics: what is counted and measured, by the conventions' names and units."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from llamagen_async import (
    APIConnectionError,
    Plan,
    RateLimit,
    ServerError,
    SubmissionUncertainError,
)
from llamagen_async.plans import DAY, MINUTE
from llamagen_async.sandbox import Durations, SandboxService
from tests.support.scheduling import ONE, TWO, network_of, refusal
from tests.support.scripted import ROOMY, Network, Sent, minute
from tests.support.telemetry import Recording

pytestmark = pytest.mark.virtual_time

KIND, OUTCOME = "llamagen.request.kind", "llamagen.request.outcome"
DEMO = Plan("small", limits=(RateLimit(4, per=MINUTE), RateLimit(15, per=DAY)))


@pytest.fixture
def seen() -> Recording:
    return Recording()


def observed(seen: Recording, network: Network) -> Network:
    network.telemetry = seen.telemetry
    return network


async def test_requests_are_counted_by_kind_and_outcome(seen: Recording) -> None:
    errors: dict[str, Exception] = {
        "refused": refusal(1.0),
        "not sent": APIConnectionError("no route", request_sent=False),
        "lost": APIConnectionError("the line went dead", request_sent=True),
    }

    def before(sent: Sent) -> Exception | None:
        return errors.pop(sent.prompt, None)

    network = observed(seen, Network(minute(), before=before))
    async with network.client() as client:
        await client.comics.create_and_wait("fine")
        await client.comics.create("refused")
        await client.comics.create("not sent")
        with pytest.raises(SubmissionUncertainError):
            await client.comics.create("lost")
    counted = seen.values("llamagen.requests", KIND, OUTCOME)
    assert counted.pop(("status", "answered")) == len(network.checks)
    assert counted == {
        ("create", "answered"): 3,
        ("create", "refused"): 1,
        ("create", "not_sent"): 1,
        ("create", "uncertain"): 1,
    }


async def test_a_users_hook_is_called_as_well(seen: Recording) -> None:
    network = observed(seen, Network(minute()))
    reports: list[Any] = []
    async with network.client(on_request=reports.append) as client:
        await client.comics.create("a")
    assert [report.outcome for report in reports] == ["answered"]
    assert seen.values("llamagen.requests", OUTCOME) == {"answered": 1}


async def test_http_durations_have_the_attributes_and_buckets_of_the_conventions(
    seen: Recording,
) -> None:
    network = observed(seen, Network(minute(), before=lambda sent: [refusal(1.0), None][sent.n]))
    async with network.client(base_url="https://api.test:8443/v1") as client:
        await client.comics.create("a")
    metric = seen.of_metric("http.client.request.duration")
    assert metric.unit == "s"
    common = {
        "http.request.method": "POST",
        "server.address": "api.test",
        "server.port": 8443,
    }
    points = {point.attributes["http.response.status_code"]: point for point in _points(metric)}
    assert points[200].attributes == {**common, "http.response.status_code": 200}
    assert points[429].attributes == {
        **common,
        "http.response.status_code": 429,
        "error.type": "429",
    }
    assert points[200].explicit_bounds == (
        *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0),
        *(2.5, 5.0, 7.5, 10.0),
    )


def _points(metric: Any) -> Any:
    return metric.data.data_points


async def test_slots_are_measured_and_read(seen: Recording) -> None:
    network = observed(seen, network_of(TWO))
    async with network.client(TWO) as client:
        creating = [asyncio.create_task(client.comics.create(name)) for name in "abcd"]
        later = asyncio.create_task(collect_batch(client))
        await asyncio.sleep(1)
        assert seen.values("llamagen.slot.usage", "llamagen.plan", "llamagen.slot.window") == {
            ("two", 60.0): 2
        }
        assert seen.values("llamagen.slot.limit", "llamagen.plan") == {"two": 2}
        assert seen.values("llamagen.slot.pending_requests", "llamagen.request.priority") == {
            "interactive": 2,
            "read": 0,
            "batch": 1,
        }
        await asyncio.gather(*creating, later)
        await asyncio.sleep(3_600)
        assert seen.values("llamagen.slot.usage", "llamagen.plan") == {"two": 0}
    number, total = seen.values("llamagen.slot.wait_time", KIND)["create"]
    assert number == 5
    assert total == pytest.approx(60 + 60 + 120, abs=1)


async def collect_batch(client: Any) -> None:
    async for _ in client.comics.batch(["of a batch"]):
        break


async def test_the_quota_of_a_day_is_read(seen: Recording) -> None:
    network = observed(seen, network_of(DEMO))
    async with network.client(DEMO) as client:
        await client.comics.create("a")
        assert seen.values("llamagen.quota.remaining", "llamagen.plan") == {"small": 14}


async def test_comics_are_counted_while_they_run_and_measured_once(seen: Recording) -> None:
    service = SandboxService(durations=Durations.constant(60), failure_rate=0.0)
    network = observed(seen, Network(service))
    async with network.client(ROOMY) as client:
        comics = [await client.comics.create(name) for name in "ab"]
        waiting = [
            asyncio.create_task(client.comics.wait_for_completion(comic.id))
            for comic in (*comics, comics[0])  # two wait for the first one
        ]
        await asyncio.sleep(30)
        assert seen.values("llamagen.active_generations") == {(): 2}
        await asyncio.gather(*waiting)
        await client.comics.wait_for_completion(comics[0].id)  # and one once more
        assert seen.values("llamagen.active_generations") == {(): 0}
    (measured,) = seen.values(
        "llamagen.generation.duration", KIND, "llamagen.generation.state"
    ).items()
    assert measured[0] == ("create", "succeeded")
    assert measured[1][0] == 2
    assert measured[1][1] == pytest.approx(120, rel=0.2)


async def test_credits_are_what_the_server_says(seen: Recording) -> None:
    network = observed(seen, Network(minute()))
    async with network.client() as client:
        comic = await client.comics.create_and_wait("a", fix_panel_num=2)
        charged = comic.usage and comic.usage.amount
        assert charged
        assert seen.values("llamagen.credits", KIND) == {"create": charged}


async def test_the_state_of_the_server_is_read(seen: Recording) -> None:
    def away(sent: Sent) -> Exception | None:
        return ServerError(503, None, "away") if sent.at < 300 else None

    network = observed(seen, network_of(ROOMY, before=away))

    def states() -> list[str]:
        found = seen.values("llamagen.circuit.status", "llamagen.circuit.state")
        assert set(found) == {"closed", "half_open", "open", "reads_only"}
        return [state for state, keys in found.items() if keys]

    async with network.client(ROOMY) as client:
        creating = [
            asyncio.create_task(client.comics.create_and_wait(f"s{n}", timeout=900))
            for n in range(5)
        ]
        await asyncio.sleep(120)
        assert states() == ["open"]
        await asyncio.gather(*creating, return_exceptions=True)
        await client.comics.usage()
        assert states() == ["closed"]


async def test_clients_of_one_key_are_one_key(seen: Recording) -> None:
    network = observed(seen, network_of(TWO))
    url = "https://one-key.invalid"
    async with (
        network.client(TWO, base_url=url) as one,
        network.client(TWO, base_url=url) as other,
    ):
        await one.comics.create("a")
        await other.comics.create("b")
        assert seen.values("llamagen.slot.usage", "llamagen.plan") == {"two": 2}
        assert seen.values("llamagen.slot.limit", "llamagen.plan") == {"two": 2}


async def test_keys_of_one_plan_are_added_up(seen: Recording) -> None:
    networks = [observed(seen, network_of(ONE)) for _ in range(2)]
    async with networks[0].client(ONE) as one, networks[1].client(ONE) as other:
        await one.comics.create("a")
        await other.comics.usage()
        assert seen.values("llamagen.slot.usage", "llamagen.plan") == {"one": 2}
        assert seen.values("llamagen.slot.limit", "llamagen.plan") == {"one": 2}


async def test_a_client_that_is_closed_or_not_used_is_not_read(seen: Recording) -> None:
    network = observed(seen, network_of(ONE))
    unused = network.client(ONE)
    async with network.client(ONE) as client:
        await client.comics.create("a")
        assert seen.values("llamagen.active_generations") == {(): 0}
        assert seen.values("llamagen.slot.limit", "llamagen.plan") == {"one": 1}
    assert seen.values("llamagen.active_generations") == {(): 0}
    with pytest.raises(ValueError, match="not enough values"):
        seen.values("llamagen.slot.limit", "llamagen.plan")
    del unused


async def test_another_thread_may_read(seen: Recording) -> None:
    """Exporters have threads of their own."""
    network = observed(seen, network_of(TWO))
    found: list[Any] = []

    def read() -> None:
        found.append(seen.values("llamagen.slot.usage", "llamagen.plan"))

    async with network.client(TWO) as client:
        await client.comics.create("a")
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert found == [{"two": 1}]
