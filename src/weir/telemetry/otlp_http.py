"""OTLP over HTTP: the SDK's exporter around weir's encoder."""

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from weir.telemetry import otlp


class HttpExporter(OTLPSpanExporter):
    """Posts what `otlp.encode` makes. Falls back to the SDK's own way if its inner client moves."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one batch; blocks for as long as the exporter's timeout."""
        client = getattr(self, "_client", None)
        if client is None:
            return super().export(spans)
        return SpanExportResult.SUCCESS if client.export(otlp.encode(spans)).success else SpanExportResult.FAILURE
