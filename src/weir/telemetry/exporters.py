"""The exporters, with weir's own encoder in them.

Endpoint, headers, certificates, compression, timeout and retries are the SDK's business: it reads
them from the standard OTEL_* variables.
"""

import json
from collections.abc import Callable, Mapping, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from weir.telemetry import environment


def otlp_exporter(environ: Mapping[str, str]) -> SpanExporter:
    """The exporter for the chosen protocol. Imported when needed: gRPC alone costs 15 MB.

    Raises:
        environment.UnknownExporterError: a variable says what the exporter cannot do.
    """
    environment.check(environ)
    if environment.protocol(environ) == "grpc":
        from weir.telemetry.otlp_grpc import GrpcExporter  # noqa: PLC0415 - see above

        return GrpcExporter()
    from weir.telemetry.otlp_http import HttpExporter  # noqa: PLC0415 - see above

    return HttpExporter()


class ConsoleExporter(SpanExporter):
    """Spans as JSON, one a line, for people who try things out."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write them; cannot fail."""
        for span in spans:
            # the SDK has no public form but this text
            self._write(json.dumps(json.loads(span.to_json())).encode() + b"\n")
        return SpanExportResult.SUCCESS
