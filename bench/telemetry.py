"""What telemetry costs a call: drives the observers with synthetic calls and prints CPU µs a call.

    python -m bench.telemetry [--calls N] [--profile CASE]

Process CPU time of all threads, the best of several rounds, less the same loop with empty layers.
"""

import argparse
import asyncio
import cProfile
import gc
import http.server
import multiprocessing
import os
import pstats
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from weir.core.call import Attempt, Call, Peer, Transport
from weir.core.layer import compose
from weir.core.outcome import PLAIN, Outcome, Replied
from weir.protocol.envelope import peek
from weir.telemetry import otlp
from weir.telemetry.build import Surroundings, Telemetry
from weir.telemetry.settings import LogsSettings, TelemetrySettings, TracesSettings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ROUNDS = 5
# as many calls live at once as a busy proxy has in flight
CHUNK = 64
BODY = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2}%s}}'
META = b',"_meta":{"progressToken":1,"traceparent":"00-%032x-%016x-%02x"}'
REPLY = Replied(200, [(b"content-type", b"application/json")], b'{"jsonrpc":"2.0","id":1,"result":{}}', PLAIN)
HEADERS = [
    (b"host", b"127.0.0.1:8931"),
    (b"accept", b"application/json, text/event-stream"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"bench"),
    (b"mcp-session-id", b"0123456789abcdef"),
    (b"mcp-protocol-version", b"2025-06-18"),
    (b"content-length", b"99"),
]
CLIENT = Peer(Transport.HTTP, "127.0.0.1", 51234, "1.1")
SERVER = Peer(Transport.HTTP, "127.0.0.1", 8000, "1.1")


class Nowhere(SpanExporter):
    """A sink for replies that are never streamed, and an exporter that only encodes."""

    async def open(self, status: int, headers: object) -> None: ...
    async def write(self, chunk: bytes) -> None: ...

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        otlp.encode(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...


def make_call(number: int, flags: int | None) -> Call:
    meta = META % (random.getrandbits(128), random.getrandbits(64), flags) if flags is not None else b""
    body = BODY % (number, meta)
    call = Call(
        upstream="search",
        peer=CLIENT,
        sink=Nowhere(),
        received_at=time.monotonic(),
        headers=HEADERS,
        body=body,
        message=peek(body),
    )
    call.revision = "2025-06-18"
    return call


async def upstream(attempt: Attempt) -> Outcome:
    attempt.peer = SERVER
    attempt.sent_at = attempt.started_at + 0.00002
    attempt.first_byte_at = attempt.sent_at + 0.002
    return REPLY


def handler_of(telemetry: Telemetry | None) -> Callable[[Call], Awaitable[Outcome]]:
    attempts = compose([telemetry.observe_attempt] if telemetry is not None else [], upstream)

    async def once(call: Call) -> Outcome:
        attempt = Attempt(call, 1, time.monotonic())
        call.attempts.append(attempt)
        return await attempts(attempt)

    return compose([telemetry.observe_call] if telemetry is not None else [], once)


async def drive(telemetry: Telemetry | None, calls: int, flags: int | None) -> float:
    """CPU seconds of `calls` calls; making them is not counted, writing and exporting what they left is."""
    handler = handler_of(telemetry)
    spent = 0.0
    for first in range(0, calls, CHUNK):
        made = [make_call(number, flags) for number in range(first, first + CHUNK)]
        began = time.process_time()
        for call in made:
            outcome = await handler(call)
            call.status, call.bytes_sent = 200, 36
            if telemetry is not None:
                telemetry.observe_call.finish(call, outcome)
        if telemetry is not None:
            telemetry.flush()
        spent += time.process_time() - began
    began = time.process_time()
    if telemetry is not None:
        await telemetry.aclose()
    return spent + time.process_time() - began


class Case(NamedTuple):
    """`flags` of the caller's context in `_meta` (None: without one); `exporter` as in the settings."""

    name: str
    exporter: str
    flags: int | None
    sample_ratio: float = 1.0
    access: bool = True
    posts: bool = False


CASES = (
    Case("metrics", "none", None, access=False),
    Case("metrics, access log", "none", None),
    Case("metrics, access log, unsampled, no caller's context", "otlp", None, sample_ratio=0.0),
    Case("metrics, access log, unsampled, the caller's context in _meta", "otlp", 0),
    Case("metrics, access log, sampled, encoded", "otlp", 1),
    Case("metrics, access log, sampled, posted to a collector", "otlp", 1, posts=True),
)


def telemetry_of(case: Case, collector: str) -> Telemetry:
    """Telemetry as configured by the case; lines are thrown away."""
    os.environ.update(OTEL_EXPORTER_OTLP_ENDPOINT=collector, OTEL_BSP_MAX_QUEUE_SIZE="1000000")
    settings = TelemetrySettings(
        traces=TracesSettings(exporter=case.exporter, sample_ratio=case.sample_ratio, always=frozenset()),
        logs=LogsSettings(format="json", access=case.access),
    )
    world = Surroundings(environ=os.environ, write=lambda data: None)
    return Telemetry(settings, world, (), exporter=None if case.posts else Nowhere())


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None: ...


def serve(port: "Connection") -> None:
    """The collector's process."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        port.send(server.server_address[1])
        server.serve_forever()


def measure(case: Case | None, calls: int, collector: str) -> float:
    """CPU µs a call, the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        telemetry = telemetry_of(case, collector) if case is not None else None
        gc.collect()
        gc.freeze()
        best = min(best, asyncio.run(drive(telemetry, calls, case.flags if case is not None else None)))
        gc.unfreeze()
    return best / calls * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="CPU µs that telemetry costs a call")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--profile", type=int, help="profile the case of that number instead")
    options = parser.parse_args()
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    collector = f"http://127.0.0.1:{mine.recv()}"
    if options.profile is not None:
        telemetry = telemetry_of(CASES[options.profile], collector)
        with cProfile.Profile() as profile:
            asyncio.run(drive(telemetry, options.calls, CASES[options.profile].flags))
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)
        return
    bare = measure(None, options.calls, collector)
    print(f"{'the same loop with empty layers':68} {bare:6.1f} µs")
    for case in CASES:
        print(f"{case.name:68} {measure(case, options.calls, collector) - bare:+6.1f} µs", flush=True)
    process.terminate()


if __name__ == "__main__":
    main()
