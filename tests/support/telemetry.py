"""Telemetry that a test can read: spans and metrics in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from llamagen_async.telemetry import Telemetry

__all__ = ["Recording"]


class Recording:
    """Providers that keep what they are given, and the telemetry for them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self._meters = MeterProvider([self._reader])
        self.telemetry = Telemetry(tracer_provider=tracers, meter_provider=self._meters)
        self.tracer: Tracer = tracers.get_tracer("the application")

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order of their ends."""
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the spans of a name, in the order of their beginnings."""
        found = [span for span in self.spans if span.name == name]
        return sorted(found, key=lambda span: span.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        """Return the only span of a name."""
        (span,) = self.named(name)
        return span

    def above(self, span: ReadableSpan) -> list[str]:
        """Return the names of all spans around one, the innermost first."""
        by_id = {one.context.span_id: one for one in self.spans}
        names: list[str] = []
        while span.parent is not None:
            span = by_id[span.parent.span_id]
            names.append(span.name)
        return names

    def of_metric(self, name: str) -> Metric:
        """Return a metric as it is exported now."""
        data = self._reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        (metric,) = found
        return metric

    def values(self, name: str, *attributes: str) -> dict[Any, Any]:
        """Return the values of a metric by some attributes (of one, by itself).

        The value of a histogram is the number of what was measured, and its sum.
        """
        return {
            _key(point.attributes or {}, attributes): getattr(point, "value", None)
            if hasattr(point, "value")
            else (point.count, round(point.sum, 3))
            for point in self.of_metric(name).data.data_points
        }


def _key(known: Mapping[str, Any], attributes: tuple[str, ...]) -> Any:
    found = tuple(known.get(name) for name in attributes)
    return found[0] if len(found) == 1 else found
