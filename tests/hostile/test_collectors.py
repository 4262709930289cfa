"""Collectors that reject, redirect, stall and ask for pauses: each span is exported, lost with a reason, or in hand."""

import asyncio
import json
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest
from google.protobuf.any_pb2 import Any as Packed  # type: ignore[import-untyped]  # nor does protobuf
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # nor do these
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # the same
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from support.limits import HANG_SECONDS
from support.otlp_sink import Sink, grpc_sink, http_sink
from support.processes import Running
from support.rawhttp import Exchange, ScriptedServer, post
from support.seen import logged, shown
from support.weirs import Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":%d,"method":"tools/list"}'
CALLS = 20
SPANS = 2 * CALLS
"""One SERVER span and one CLIENT span a call."""
TRACED: Config = {"telemetry": {"traces": {"exporter": "otlp"}}, "listen": {"diagnostics": "127.0.0.1:0"}}
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_BSP_MAX_QUEUE_SIZE": "16", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
LOSING = "spans are lost"
_SAMPLE = re.compile(
    r'^weir_(spans_exported_total|span_queue_size|spans_dropped_total)(?:\{reason="(\w+)"\})? (\S+)', re.MULTILINE
)
A_DAY_SECONDS = 86400

REJECTS = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=4, error_message="no"))
"""A whole batch."""
JSON = {"Content-Type": "application/json"}


def pause(context: grpc.ServicerContext, key: str, value: bytes) -> ExportTraceServiceResponse:
    """Refuses, and asks for a pause of a day."""
    context.set_trailing_metadata(((key, value),))
    context.abort(grpc.StatusCode.UNAVAILABLE, "later")
    raise AssertionError


def retry_info(context: grpc.ServicerContext) -> ExportTraceServiceResponse:
    """The pause in the status' details."""
    info = RetryInfo()
    info.retry_delay.seconds = A_DAY_SECONDS
    detail = Packed()
    detail.Pack(info)
    status = Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="later", details=[detail])
    return pause(context, "grpc-status-details-bin", status.SerializeToString())


def retry_info_alone(context: grpc.ServicerContext) -> ExportTraceServiceResponse:
    """The pause in a trailer of its own."""
    info = RetryInfo()
    info.retry_delay.seconds = A_DAY_SECONDS
    return pause(context, "google.rpc.retryinfo-bin", info.SerializeToString())


def refuses(context: grpc.ServicerContext) -> ExportTraceServiceResponse:
    """For good."""
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
    raise AssertionError


LOSES: dict[str, tuple[str, Callable[[], AbstractContextManager[Sink]]]] = {
    "http rejects": ("rejected", lambda: http_sink(body=REJECTS.SerializeToString())),
    "http rejects in JSON": (
        "rejected",
        lambda: http_sink(headers=JSON, body=b'{"partialSuccess":{"rejectedSpans":"4","errorMessage":"no"}}'),
    ),
    "http rejects more than it got": (
        "rejected",
        lambda: http_sink(headers=JSON, body=b'{"partialSuccess":{"rejectedSpans":99999999}}'),
    ),
    "http redirects": ("export_failed", lambda: http_sink(307, {"Location": "http://elsewhere.example/secret"})),
    "http redirects nowhere": ("export_failed", lambda: http_sink(304)),
    "http refuses": ("export_failed", lambda: http_sink(400)),
    "grpc rejects": ("rejected", lambda: grpc_sink(lambda _: REJECTS)),
    "grpc refuses": ("export_failed", lambda: grpc_sink(refuses)),
}
PAUSES: dict[str, Callable[[], AbstractContextManager[Sink]]] = {
    "http 429": lambda: http_sink(429, {"Retry-After": str(A_DAY_SECONDS)}),
    "http 503": lambda: http_sink(503, {"Retry-After": str(A_DAY_SECONDS)}),
    "http 503 with a date": lambda: http_sink(503, {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}),
    "grpc details": lambda: grpc_sink(retry_info),
    "grpc trailer": lambda: grpc_sink(retry_info_alone),
}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""

    async def answer(exchange: Exchange) -> None:
        number = json.loads(exchange.request.body)["id"]
        await exchange.json(b'{"jsonrpc":"2.0","id":%d,"result":{"tools":[]}}' % number)

    async with ScriptedServer(answer) as one:
        yield one


@contextmanager
def traced(server: ScriptedServer, sink: Sink, directory: Path, protocol: str) -> Iterator[Running]:
    """weir with a small queue before this collector."""
    env = {
        **QUICK,
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc" if protocol == "grpc" else "http/protobuf",
    }
    with weir_http(directory, {"url": f"http://127.0.0.1:{server.port}/mcp"}, TRACED, env) as weir:
        yield weir


async def call(weir: Running) -> None:
    """Makes the calls, each answered whatever the collector does."""
    for number in range(CALLS):
        assert 200 == (await post(weir.port, CALL % number)).status


async def accounts(weir: Running) -> Counter[str]:
    """Spans that are exported, in hand (`queue`), and lost, by reason."""
    text = (await shown(weir, "/metrics")).decode()
    return Counter({reason or name.split("_")[1]: int(float(value)) for name, reason, value in _SAMPLE.findall(text)})


async def accounts_when(weir: Running, is_due: Callable[[Counter[str]], bool]) -> Counter[str]:
    """Waits until the accounts are as wanted.

    Raises:
        TimeoutError: they never are.
    """
    async with asyncio.timeout(HANG_SECONDS):
        while not is_due(found := await accounts(weir)):  # noqa: ASYNC110 - a number tells nobody that it changed
            await asyncio.sleep(0.02)
    return found


async def settled(weir: Running) -> Counter[str]:
    """Waits until no span is in hand.

    Raises:
        TimeoutError: some stay.
    """
    return await accounts_when(weir, lambda found: found.total() == SPANS and not found["queue"])


def told(lines: list[dict[str, int | str]]) -> int:
    """The spans that these lines say were lost."""
    return sum(count for line in lines for count in line.values() if isinstance(count, int))


def losses(weir: Running) -> list[dict[str, int | str]]:
    """The lines that say that spans were lost."""
    return [json.loads(line) for line in weir.log().splitlines() if LOSING in line]


@pytest.mark.parametrize("kind", LOSES)
async def test_spans_that_a_collector_does_not_take_are_lost_with_a_reason(
    kind: str, server: ScriptedServer, tmp_path: Path
) -> None:
    """They are not counted as exported, and the log has one line."""
    reason, collector = LOSES[kind]
    with collector() as sink, traced(server, sink, tmp_path, kind.split(maxsplit=1)[0]) as weir:
        await call(weir)
        found = await settled(weir)
        assert {reason} <= {name for name, count in found.items() if count} <= {reason, "queue_full"}
        assert SPANS == found.total()
        await logged(weir, LOSING)
        [line] = losses(weir)
        assert reason in line
        assert "secret" not in json.dumps(line)


async def test_a_redirect_is_named_and_not_followed(server: ScriptedServer, tmp_path: Path) -> None:
    """The exporter's headers hold credentials for the configured collector only."""
    with http_sink() as other, http_sink(307, {"Location": f"{other.endpoint}/v1/traces?key=secret"}) as sink:
        with traced(server, sink, tmp_path, "http") as weir:
            await call(weir)
            await settled(weir)
            await logged(weir, LOSING)
            [line] = losses(weir)
        assert [] == other.requests
    assert f"the collector redirects to {other.endpoint}; set that endpoint" in str(line["reason"])


@pytest.mark.parametrize("kind", PAUSES)
async def test_a_collector_that_asks_for_a_pause_is_not_asked_again_before(
    kind: str, server: ScriptedServer, tmp_path: Path
) -> None:
    """The spans stay in hand; those for which the queue has no room are lost."""
    with PAUSES[kind]() as sink, traced(server, sink, tmp_path, kind.split(maxsplit=1)[0]) as weir:
        await call(weir)
        found = await accounts_when(weir, lambda found: found["queue_full"] > 0)
        await asyncio.to_thread(weir.stop)
        assert 1 == len(sink.requests)
        assert SPANS == told(losses(weir))
    assert {"queue", "queue_full"} == {name for name, count in found.items() if count}
    assert SPANS == found.total()


@contextmanager
def stalling(is_grpc: bool) -> Iterator[Sink]:
    """A collector that answers nothing until the block ends."""
    may_answer = threading.Event()

    def wait(_: grpc.ServicerContext) -> ExportTraceServiceResponse:
        may_answer.wait(HANG_SECONDS)
        return ExportTraceServiceResponse()

    sink: AbstractContextManager[Sink] = grpc_sink(wait) if is_grpc else http_sink(may_answer=may_answer)
    with sink as one:
        try:
            yield one
        finally:
            may_answer.set()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_a_stop_with_a_full_queue_before_a_slow_collector_counts_every_span(
    protocol: str, server: ScriptedServer, tmp_path: Path
) -> None:
    """The last line of the log says how many were lost, and that weir stopped."""
    with stalling(protocol == "grpc") as sink, traced(server, sink, tmp_path, protocol) as weir:
        await call(weir)
        found = await accounts(weir)
        assert SPANS == found["queue"] + found["queue_full"]
        await asyncio.to_thread(weir.stop)
        lines = losses(weir)
    assert "stopped" in lines[-1]
    assert SPANS == told(lines)
