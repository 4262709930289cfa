"""OTLP over gRPC: the SDK's exporter around weir's encoder, and what the collector's replies mean for the batch."""

from collections.abc import Sequence
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # nor does protobuf
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # nor do these
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # the same
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from weir.telemetry import otlp, receipt
from weir.telemetry.receipt import PauseAskedError, Receipt

_STATUS_DETAILS = "grpc-status-details-bin"
_RETRY_INFO = "google.rpc.retryinfo-bin"


class _LastReply:
    """Stands between the SDK's exporter and its stub, and keeps the last reply or error, which are not returned."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.reply: Any = None
        self.error: grpc.RpcError | None = None

    def Export(self, **call: Any) -> Any:  # noqa: N802 - the stub's name
        """Makes one call.

        Raises:
            PauseAskedError: the SDK's exporter would ask again at once where the pause is longer than its patience.
        """
        self.reply = self.error = None
        try:
            self.reply = self._stub.Export(**call)
        except grpc.RpcError as error:
            self.error = error
            if _pause(error) is not None:
                raise PauseAskedError from error
            raise
        return self.reply


class GrpcExporter(OTLPSpanExporter):
    """Sends what `otlp.encode` makes; parsing and writing it again in C costs 3 µs a span."""

    def _initialize_channel_and_stub(self) -> None:
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]  # the SDK's is not annotated
        self._client: Any = _LastReply(self._client)

    def _translate_data(self, data: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        request: ExportTraceServiceRequest = ExportTraceServiceRequest.FromString(otlp.encode(data))
        return request

    def deliver(self, spans: Sequence[ReadableSpan]) -> Receipt:
        """Sends one batch; blocks for as long as the exporter's timeout."""
        client = self._client
        client.error = None
        try:
            is_taken = self.export(spans) is SpanExportResult.SUCCESS
        except PauseAskedError:
            is_taken = False
        client = self._client  # the SDK makes another one after UNAVAILABLE
        if is_taken:
            partial = client.reply.partial_success
            return receipt.rejected(len(spans), partial.rejected_spans, partial.error_message)
        if client.error is None:
            return receipt.failed(len(spans), "")
        text = f"{client.error.code().name}: {client.error.details()}"
        pause = _pause(client.error)
        return receipt.failed(len(spans), text) if pause is None else receipt.asked_to_wait(pause, text)


def _pause(error: Any) -> float | None:
    """Returns the seconds of `RetryInfo`, which comes by itself or within the status' details; None without one."""
    trailers = dict(error.trailing_metadata() or ())
    info = RetryInfo()
    try:
        if _RETRY_INFO in trailers:
            info.ParseFromString(trailers[_RETRY_INFO])
            return _seconds(info)
        for detail in Status.FromString(trailers.get(_STATUS_DETAILS, b"")).details:
            if detail.Unpack(info):
                return _seconds(info)
    except DecodeError:
        pass
    return None


def _seconds(info: RetryInfo) -> float:
    return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
