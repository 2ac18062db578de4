"""Tracing is on in these tests: spans and metrics are kept in memory."""

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Counter, Histogram
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from orders.tracing import telemetry
from orders.tracing.discreet import without_messages


class Memory(InMemorySpanExporter):
    """Keeps spans as the service would send them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keep spans."""
        return super().export([without_messages(span) for span in spans])


SPANS = Memory()

METRICS = InMemoryMetricReader(
    {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
)


class Recorded:
    """What the apps of a test have recorded."""

    def spans(self, library: str = "") -> list[ReadableSpan]:
        """Return the spans that have ended; library: the end of its name."""
        return [
            span
            for span in SPANS.get_finished_spans()
            if span.instrumentation_scope and span.instrumentation_scope.name.endswith(library)
        ]

    def trace_of(self, path: str) -> list[ReadableSpan]:
        """Return the spans of the last request for a path: that of the request comes last."""
        *_, request = (
            span for span in self.spans("asgi") if (span.attributes or {})["url.path"] == path
        )
        return [span for span in self.spans() if span.context.trace_id == request.context.trace_id]

    def points(self, metric: str) -> dict[str, Any]:
        """Return the points of a metric, by the values of their attributes in one text.

        Counts and histograms begin anew with each call.
        """
        data = METRICS.get_metrics_data()
        return {
            " ".join(str(value) for _, value in sorted((point.attributes or {}).items())): point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for found in scope.metrics
            for point in found.data.data_points
            if found.name == metric
        }


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Have the apps of the test record, and return what they record."""
    monkeypatch.setattr(telemetry, "BatchSpanProcessor", lambda _: SimpleSpanProcessor(SPANS))
    monkeypatch.setattr(telemetry, "PeriodicExportingMetricReader", lambda _: METRICS)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    telemetry.start(traced=True, measured=True)
    SPANS.clear()
    METRICS.get_metrics_data()
    return Recorded()
