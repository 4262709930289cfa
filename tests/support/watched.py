"""One call or many through the observe layers, and what telemetry made of them."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from weir.core.call import Attempt, Call, Headers, Peer, Transport
from weir.core.layer import compose
from weir.core.outcome import PLAIN, Outcome, Replied
from weir.protocol.envelope import NOTHING, peek
from weir.telemetry.build import Surroundings, Telemetry
from weir.telemetry.settings import LogsSettings, TelemetrySettings, TracesSettings

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
CLIENT = Peer(Transport.HTTP, "127.0.0.7", 51234, "1.1")
SERVER = Peer(Transport.HTTP, "mcp.example", 8000, "1.1")
CHILD = Peer(Transport.STDIO)
OK = Replied(200, [(b"content-type", b"application/json")], b'{"jsonrpc":"2.0","id":1,"result":{}}', PLAIN)

Upstream = Callable[[Attempt], Awaitable[Outcome]]


class NoSink:
    """Nobody reads."""

    async def open(self, status: int, headers: Headers) -> None:
        """Nothing."""

    async def write(self, chunk: bytes) -> None:
        """Nothing."""


class Collected(SpanExporter):
    """Keeps the spans it is given."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


def call_of(body: bytes = b"", headers: Headers | None = None, **facts: Any) -> Call:
    """A call as the HTTP edge makes it."""
    verb = facts.pop("verb", b"POST" if body else b"GET")
    call = Call(
        upstream=facts.pop("upstream", "search"),
        peer=facts.pop("peer", CLIENT),
        sink=NoSink(),
        received_at=facts.pop("received_at", 100.0),
        verb=verb,
        headers=headers or [],
        body=body,
        message=peek(body) if body else NOTHING,
    )
    for name, value in facts.items():
        setattr(call, name, value)
    return call


class Watch:
    """Telemetry on clocks that stand until moved, with its spans, lines and metrics at hand."""

    def __init__(self, settings: TelemetrySettings) -> None:
        self.now = 100.0
        self.collected = Collected()
        self.written: list[bytes] = []
        self.settings = settings
        self.world = world = Surroundings(
            clock=lambda: self.now,
            wall=lambda: self.now + 1_700_000_000,
            random_bits=random.Random(7).getrandbits,
            environ={},
            write=self.written.append,
        )
        self.telemetry = Telemetry(settings, world, exporter=self.collected)

    async def serve(self, call: Call, upstream: Upstream, tries: int = 1, seconds: float = 0.25) -> Outcome:
        """Run one call through the layers; every attempt takes `seconds`. Returns the last outcome."""
        watching = self.telemetry
        attempts = compose([watching.observe_attempt], upstream)

        async def hinge(call: Call) -> Outcome:
            for number in range(1, tries + 1):
                attempt = Attempt(call, number, self.now)
                attempt.peer = SERVER
                call.attempts.append(attempt)
                attempt.sent_at = self.now
                self.now += seconds
                attempt.first_byte_at = self.now
                outcome = await attempts(attempt)
            return outcome

        outcome = await compose([watching.observe_call], hinge)(call)
        if isinstance(outcome, Replied):
            call.status, call.bytes_sent = outcome.status, len(outcome.body or b"")
        watching.observe_call.finish(call, outcome)
        return outcome

    async def spans(self) -> list[ReadableSpan]:
        """Every span, in the order they were exported. Ends the telemetry."""
        await self.telemetry.aclose()
        return self.collected.spans

    async def lines(self) -> list[Any]:
        """Every log line, decoded. Ends the telemetry."""
        await self.telemetry.aclose()
        return [msgspec.json.decode(line) for line in b"".join(self.written).splitlines()]

    async def samples(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """The samples of that name, by their labels."""
        text = await self.exposition()
        return {
            frozenset(sample.labels.items()): sample.value
            for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # untyped library
            for sample in family.samples
            if sample.name == name
        }

    async def value(self, name: str, **labels: str) -> float:
        """The sample with at least these labels; 0 when there is none.

        Raises:
            ValueError: several have them.
        """
        wanted = set(labels.items())
        found = [value for has, value in (await self.samples(name)).items() if wanted <= has]
        if len(found) > 1:
            raise ValueError(f"{len(found)} samples of {name} with {labels}")
        return found[0] if found else 0.0

    async def exposition(self) -> str:
        """What /metrics says."""
        return (await self.telemetry.metrics.render(OPENMETRICS))[1].decode()


@asynccontextmanager
async def watching(**traces: Any) -> AsyncIterator[Watch]:
    """A Watch whose traces have these settings; logs are JSON at debug."""
    settings = TelemetrySettings(traces=TracesSettings(**traces), logs=LogsSettings("json", "debug"))
    watch = Watch(settings)
    try:
        yield watch
    finally:
        await watch.telemetry.aclose()


async def answer(attempt: Attempt) -> Outcome:
    """An upstream that says OK."""
    return replace(OK)


def giving(outcome: Outcome) -> Upstream:
    """An upstream with one outcome."""

    async def upstream(attempt: Attempt) -> Outcome:
        return outcome

    return upstream


def tool_call(name: str = "add", raw_id: str = "1", meta: str = "") -> bytes:
    """A tools/call; `meta` is the JSON text of members of `_meta`."""
    extra = f',"_meta":{{{meta}}}' if meta else ""
    params = f'{{"name":"{name}","arguments":{{}}{extra}}}'
    return f'{{"jsonrpc":"2.0","id":{raw_id},"method":"tools/call","params":{params}}}'.encode()
