"""The exporters that the standard OTEL_* variables choose, with weir's own encoder in them.

Endpoint, headers, certificates, compression, timeout and retries are the SDK's business.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_SDK_DISABLED,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

GRPC_PORT = 4317
OTLP, CONSOLE, NONE = "otlp", "console", "none"


class UnknownExporterError(ValueError):
    """A variable or setting names an exporter or protocol that weir does not have."""


def chosen(setting: str, environ: Mapping[str, str]) -> str:
    """otlp, console or none. The variables decide only where the setting is the default, `otlp`.

    Raises:
        UnknownExporterError: neither of the three.
    """
    if environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
        return NONE
    name = setting
    if setting == OTLP:
        name = environ.get(OTEL_TRACES_EXPORTER, "").split(",")[0].strip().lower() or OTLP
    if name not in (OTLP, CONSOLE, NONE):
        raise UnknownExporterError(f"traces exporter {name!r}: weir has otlp, console and none")
    return name


def protocol(environ: Mapping[str, str]) -> str:
    """grpc or http/protobuf: as the variables say, else grpc at its usual port, else http/protobuf.

    Raises:
        UnknownExporterError: another protocol.
    """
    named = environ.get(OTEL_EXPORTER_OTLP_TRACES_PROTOCOL) or environ.get(OTEL_EXPORTER_OTLP_PROTOCOL) or ""
    if not named:
        return "grpc" if urlsplit(endpoint(environ)).port == GRPC_PORT else "http/protobuf"
    if named not in ("grpc", "http/protobuf"):
        raise UnknownExporterError(f"OTLP protocol {named!r}: weir has grpc and http/protobuf")
    return named


def endpoint(environ: Mapping[str, str]) -> str:
    """Where spans go, "" for the exporter's own default."""
    return environ.get(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) or environ.get(OTEL_EXPORTER_OTLP_ENDPOINT) or ""


def otlp_exporter(environ: Mapping[str, str]) -> SpanExporter:
    """The exporter for the chosen protocol. Imported when needed: gRPC alone costs 15 MB."""
    if protocol(environ) == "grpc":
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
