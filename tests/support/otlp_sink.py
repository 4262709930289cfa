"""Real OTLP receivers, HTTP and gRPC, that keep what they are sent."""

import http.server
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.limits import HANG_SECONDS

ENOUGH_SECONDS = HANG_SECONDS
_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Sink:
    """What arrived, in order."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self._came = threading.Condition()

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        """Keep one request."""
        with self._came:
            self.raw.append(body)
            self.headers.append(headers)
            self._came.notify_all()

    @property
    def requests(self) -> list[ExportTraceServiceRequest]:
        """The requests, parsed."""
        return [ExportTraceServiceRequest.FromString(body) for body in self.raw]

    @property
    def spans(self) -> list[Span]:
        """Every span of every request."""
        return [
            span
            for request in self.requests
            for resource_spans in request.resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        ]

    def await_spans(self, count: int) -> list[Span]:
        """Block until that many spans have come.

        Raises:
            TimeoutError: they did not.
        """
        with self._came:
            if not self._came.wait_for(lambda: len(self.spans) >= count, ENOUGH_SECONDS):
                raise TimeoutError(f"{len(self.spans)} of {count} spans came")
        return self.spans


def _take_all(_: grpc.ServicerContext) -> ExportTraceServiceResponse:
    return ExportTraceServiceResponse()


GrpcAnswer = Callable[[grpc.ServicerContext], ExportTraceServiceResponse]


@contextmanager
def http_sink(
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    may_answer: threading.Event | None = None,
) -> Iterator[Sink]:
    """A collector on OTLP/HTTP that answers with this status, headers and body, once `may_answer` is set."""
    sink = Sink()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = self.rfile.read(int(self.headers["content-length"]))
            sink.take(request, {name.lower(): value for name, value in self.headers.items()} | {":path": self.path})
            if may_answer is not None:
                may_answer.wait(ENOUGH_SECONDS)
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Silence."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        sink.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield sink
        finally:
            server.shutdown()
            serving.join()


@contextmanager
def grpc_sink(answer: GrpcAnswer = _take_all) -> Iterator[Sink]:
    """A collector on OTLP/gRPC that answers as told."""
    sink = Sink()

    def export(request: bytes, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        sink.take(request, {item.key: str(item.value) for item in context.invocation_metadata()})
        return answer(context)

    class Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # the same
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            if handler_call_details.method != _EXPORT:
                return None
            serialize = ExportTraceServiceResponse.SerializeToString
            return grpc.unary_unary_rpc_method_handler(export, None, serialize)

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sink.endpoint = f"http://127.0.0.1:{port}"
    try:
        yield sink
    finally:
        server.stop(None).wait()


def attributes_of(span: Span) -> dict[str, str | int | float]:
    """A span's attributes as Python values."""
    return {item.key: getattr(item.value, str(item.value.WhichOneof("value"))) for item in span.attributes}
