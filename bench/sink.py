"""Swallows OTLP over HTTP: POST /v1/traces is decoded, its spans are counted, 200. GET answers the count so far.

Run: python -m bench.sink PORT
"""

import asyncio
import gzip
import re
import sys
from typing import cast

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_GZIP = re.compile(rb"\r\ncontent-encoding:\s*gzip", re.IGNORECASE)


def spans_in(body: bytes) -> int:
    """How many spans one export request holds."""
    request = ExportTraceServiceRequest.FromString(body)
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


class Sink(asyncio.Protocol):
    """One connection of an exporter, or of whoever asks for the count."""

    received = 0

    def __init__(self) -> None:
        self._seen = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        while (end := self._seen.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._seen, 0, end)
            complete = end + 4 + (int(length.group(1)) if length else 0)
            if len(self._seen) < complete:
                return
            head, body = bytes(self._seen[:end]), bytes(self._seen[end + 4 : complete])
            del self._seen[:complete]
            self._serve(head, body)

    def _serve(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        if head.startswith(b"POST /v1/traces"):
            Sink.received += spans_in(gzip.decompress(body) if _GZIP.search(head) else body)
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
            )
            return
        count = b"%d" % Sink.received
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(count), count))


async def serve(port: int) -> None:
    """Listen on the loopback until cancelled."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
