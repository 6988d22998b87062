"""Metrics as Prometheus scrapes them, and the dashboard that asks for them."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import attrs
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from llamagen_async import LlamaGenClient, LlamaGenError, Plan, RateLimit
from llamagen_async.plans import DAY, MINUTE
from llamagen_async.sandbox import PAID_KEY, Durations, SandboxServer, SandboxService
from llamagen_async.telemetry import Telemetry

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "docs/grafana/llamagen.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PLAN = Plan("small", limits=(RateLimit(10, per=MINUTE), RateLimit(1_000, per=DAY)))
SPEED = 60.0
NO_METRIC = {"by", "or", "le", "vector"}
EXPECTED = {
    "http_client_request_duration_seconds",
    "llamagen_active_generations",
    "llamagen_circuit_status",
    "llamagen_credits_total",
    "llamagen_download_io_bytes_total",
    "llamagen_downloads_total",
    "llamagen_generation_duration_seconds",
    "llamagen_jobs_total",
    "llamagen_quota_remaining",
    "llamagen_requests_total",
    "llamagen_slot_limit",
    "llamagen_slot_pending_requests",
    "llamagen_slot_usage",
    "llamagen_slot_wait_time_seconds",
}
"""The names that users have in their queries: a change of one is told in the changelog."""


async def work(telemetry: Telemetry, folder: Path) -> str:
    """Make comics, fail in each way that has a label of its own, and return what is scraped."""
    service = SandboxService(durations=Durations.constant(10), plans={PAID_KEY: PLAN})
    async with SandboxServer(service, speed=SPEED) as server:
        client = LlamaGenClient(
            PAID_KEY,
            plan=PLAN,
            quota="memory",
            base_url=server.url,
            speed=SPEED,
            telemetry=telemetry,
        )
        async with client:
            comic = await client.comics.create_and_wait("a cat")
            with pytest.raises(LlamaGenError):
                await client.comics.get("no-such-comic")
            gone = f"{server.url.removesuffix('/v1')}/gone.png"
            lost = attrs.evolve(comic, id="no-such-comic", output=gone, pages=())
            with pytest.raises(LlamaGenError):
                await client.comics.download(lost, folder, timeout=1)
            async for item in client.comics.batch(["a dog"], out=folder):
                assert item.error is None
            return await asyncio.to_thread(scrape)


def scrape() -> str:
    """Return what Prometheus gets."""
    server, thread = start_http_server(0, addr="127.0.0.1")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            return str(answer.read().decode())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The labels of each sample that the exporter emits."""
    meters = MeterProvider([PrometheusMetricReader()])
    try:
        text = asyncio.run(work(Telemetry(meter_provider=meters), tmp_path_factory.mktemp("out")))
    finally:
        meters.shutdown()
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    assert "llamagen" not in generate_latest(REGISTRY).decode()
    return dict(found)


def asked(query: str) -> tuple[set[str], set[str]]:
    """Return the metrics and the labels of a query."""
    labels: set[str] = set()
    for inside in re.findall(r"by \(([^)]*)\)", query):
        labels |= {label.strip() for label in inside.split(",")}
    for inside in re.findall(r"\{([^}]*)\}", query):
        labels |= set(re.findall(r"(\w+)\s*[!=]", inside))
    rest = re.sub(r"by \([^)]*\)|\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", query)
    names = set(re.findall(r"[a-zA-Z_]\w*(?!\w|\s*\()", rest)) - NO_METRIC
    return names, labels


def test_the_names_are_those_of_the_documentation(scraped: dict[str, set[str]]) -> None:
    names = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for name in scraped
        if name.startswith(("llamagen_", "http_")) and not name.endswith("_created")
    }
    assert names == EXPECTED
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    assert [name for name in sorted(EXPECTED) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_each_query_of_the_dashboard_has_something_to_show(
    panel: dict[str, Any], scraped: dict[str, set[str]]
) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        names, labels = asked(target["expr"])
        assert names
        for name in names:
            assert name in scraped, f"{name} is not emitted"
            assert labels <= scraped[name], f"{name} has no {labels - scraped[name]}"
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert shown <= labels


def test_each_metric_is_on_the_dashboard() -> None:
    queries = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    assert [name for name in sorted(EXPECTED) if name not in queries] == []


def test_the_panels_lie_beside_each_other() -> None:
    """Grafana would move panels that overlap."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
