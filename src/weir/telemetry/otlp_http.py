"""OTLP over HTTP: the SDK's exporter around weir's encoder, and what the collector's replies mean for the batch."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from weir.protocol.media_types import is_json, media_type
from weir.protocol.numbers import whole_number
from weir.telemetry import otlp, receipt
from weir.telemetry.receipt import PauseAskedError, Receipt

_MAY_BE_SENT_AGAIN = frozenset((429, 502, 503, 504))
"""Statuses of OTLP/HTTP whose `Retry-After` counts; others refuse the batch for good."""


class _LastReply:
    """Stands between the SDK's client and its transport, and keeps the last reply, which the client does not return."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.reply: Any = None

    def request(self, *arguments: Any, **options: Any) -> Any:
        """Sends one request.

        Raises:
            PauseAskedError: the SDK's client would ask again at once where the pause is longer than its patience.
        """
        self.reply = None
        self.reply = self._inner.request(*arguments, **options)
        if _pause(self.reply) is not None:
            raise PauseAskedError
        return self.reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class HttpExporter(OTLPSpanExporter):
    """Posts what `otlp.encode` makes. Falls back to the SDK's own way if its inner client moves."""

    def __init__(self) -> None:
        super().__init__()
        client = getattr(self, "_client", None)
        self._last: _LastReply | None = None
        if client is not None and hasattr(client, "_transport"):
            self._last = client._transport = _LastReply(client._transport)

    def deliver(self, spans: Sequence[ReadableSpan]) -> Receipt:
        """Sends one batch; blocks for as long as the exporter's timeout."""
        if self._last is None:
            is_taken = self.export(spans) is SpanExportResult.SUCCESS
            return receipt.taken() if is_taken else receipt.failed(len(spans), "")
        self._last.reply = None
        is_taken = self._client.export(otlp.encode(spans)).success
        return _receipt(len(spans), is_taken, self._last.reply)


def _receipt(spans: int, is_taken: bool, reply: Any) -> Receipt:
    status = reply.status_code if reply is not None else None
    if status is None:
        text = str(reply.error) if reply is not None and reply.error else ""
        return receipt.taken() if is_taken else receipt.failed(spans, text)
    if 200 <= status < 300:
        return _partial(spans, reply)
    headers: Mapping[str, str] = reply.headers()
    if 300 <= status < 400:
        # not followed: the headers of the exporter hold credentials for the configured collector only
        return receipt.failed(spans, f"HTTP {status}: the collector redirects to {_place(headers)}; set that endpoint")
    text = f"HTTP {status} {reply.reason or ''}".strip()
    pause = _pause(reply)
    return receipt.failed(spans, text) if pause is None else receipt.asked_to_wait(pause, text)


def _pause(reply: Any) -> float | None:
    """Returns the seconds of `Retry-After`, where it counts."""
    if reply.status_code not in _MAY_BE_SENT_AGAIN:
        return None
    return receipt.retry_after(reply.headers().get("retry-after", ""))


def _place(headers: Mapping[str, str]) -> str:
    """Returns scheme, host and port of `Location`; paths and queries may hold secrets."""
    try:
        parts = urlsplit(headers.get("location", ""))
    except ValueError:
        return "a place that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if host else "another path"


def _partial(spans: int, reply: Any) -> Receipt:
    """Reads `partial_success`, as protobuf or JSON. A body that cannot be read rejects nothing."""
    body: bytes = reply.content()
    if not body:
        return receipt.taken()
    if is_json(media_type(reply.headers().get("content-type", "").encode())):
        return _partial_json(spans, body)
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        return receipt.taken()
    return receipt.rejected(spans, partial.rejected_spans, partial.error_message)


def _partial_json(spans: int, body: bytes) -> Receipt:
    try:
        partial = msgspec.json.decode(body, type=_JsonReply).partialSuccess
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return receipt.taken()
    # JSON of protobuf writes 64-bit numbers as strings; collectors write both
    count = partial.rejectedSpans
    return receipt.rejected(spans, whole_number(str(count)) or 0, partial.errorMessage)


class _JsonPartial(msgspec.Struct):
    rejectedSpans: int | str = 0  # noqa: N815 - the wire's name
    errorMessage: str = ""  # noqa: N815 - the wire's name


class _JsonReply(msgspec.Struct):
    partialSuccess: _JsonPartial = msgspec.field(default_factory=_JsonPartial)  # noqa: N815 - the wire's name
