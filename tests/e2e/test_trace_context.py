"""Trace context on the wire and in the spans that weir exports: every way in which a caller may bring it.

All calls are made through one weir, which is stopped before anything is looked at: then every span has been exported.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.limits import HANG_SECONDS
from support.otlp_sink import http_sink
from support.rawhttp import Exchange, Headers, Request, ScriptedServer, post
from support.weirs import UNTRACED, Config, weir_http, weir_stdio_argv
from transparency.ends import stdio_client

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

TRACED: Config = {"telemetry": {"traces": {"exporter": "otlp"}}}
TRACE_A, SPAN_A = "a" * 32, "1" * 16
TRACE_B, SPAN_B = "b" * 32, "2" * 16
A, B = f"00-{TRACE_A}-{SPAN_A}-01", f"00-{TRACE_B}-{SPAN_B}-01"
UNSAMPLED = f"00-{TRACE_A}-{SPAN_A}-00"


@dataclass(frozen=True)
class Case:
    """What the caller brings, and what must come of it: trace and span of weir's parent ("" for none), and a link."""

    meta: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "tools/call"
    trace: str = TRACE_A
    parent: str = SPAN_A
    linked: str = ""
    is_sampled: bool = True
    carried: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The message."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": self.method, "params": {"name": "t"}}
        if not self.method.startswith("notifications/"):
            message["id"] = 7
        if self.meta:
            message["params"]["_meta"] = self.meta
        return json.dumps(message).encode()

    def lines(self) -> Headers:
        """The HTTP headers."""
        return [(name.encode(), value.encode()) for name, value in self.headers.items()]


STATE, BAGGAGE = "vendor=x1,other=y:2", "user=ada;p=1,k=%20v"
CASES = {
    "_meta only": Case(meta={"traceparent": A}),
    "header only": Case(headers={"traceparent": A}),
    "both, agreeing": Case(meta={"traceparent": A}, headers={"traceparent": A}),
    "both, disagreeing": Case(meta={"traceparent": A}, headers={"traceparent": B}, linked=TRACE_B),
    "neither": Case(trace="", parent=""),
    "malformed in _meta": Case(meta={"traceparent": "00-zz-1-01"}, headers={"traceparent": A}),
    "malformed everywhere": Case(meta={"traceparent": "no"}, headers={"traceparent": "00-0-0-0"}, trace="", parent=""),
    "all zero": Case(meta={"traceparent": f"00-{'0' * 32}-{SPAN_A}-01"}, trace="", parent=""),
    "of another type": Case(meta={"traceparent": 7}, trace="", parent=""),
    "unsampled": Case(meta={"traceparent": UNSAMPLED}, is_sampled=False),
    "unsampled by header": Case(headers={"traceparent": UNSAMPLED}, is_sampled=False),
    "state and baggage in _meta": Case(
        meta={"traceparent": A, "tracestate": STATE, "baggage": BAGGAGE, "progressToken": 1.5},
        carried={"tracestate": STATE, "baggage": BAGGAGE},
    ),
    "state and baggage in headers": Case(
        headers={"traceparent": A, "tracestate": STATE, "baggage": BAGGAGE},
        carried={"tracestate": STATE, "baggage": BAGGAGE},
    ),
    "a notification": Case(meta={"traceparent": A}, method="notifications/progress"),
    "a method nobody knows": Case(meta={"traceparent": A}, method="vendor.example/do"),
}


@dataclass(frozen=True)
class Observed:
    """What the server got, and the spans of that call as exported: weir's CLIENT span and the SERVER span above it."""

    request: Request
    context: str
    spans: dict[str, Span]

    @property
    def meta(self) -> dict[str, Any]:
        """`params._meta` as the server reads it."""
        return dict(json.loads(self.request.body)["params"].get("_meta", {}))


async def answer(exchange: Exchange) -> None:
    """A result, or the acceptance of a notification."""
    if b'"id"' in exchange.request.body:
        await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}')
    else:
        await exchange.reply(202)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for what the module shares."""
    return "asyncio"


@pytest.fixture(scope="module")
async def observed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Observed]]:
    """Every case, sent once through one weir."""
    with http_sink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        async with ScriptedServer(answer) as server:
            with weir_http(tmp_path_factory.mktemp("weir"), {"url": server.url}, TRACED, env) as weir:
                for case in CASES.values():
                    await post(weir.port, case.body(), case.lines())
                await asyncio.to_thread(weir.stop)
            requests = server.got
        spans = {span.span_id.hex(): span for span in sink.spans}
        yield {name: observe(request, spans) for name, request in zip(CASES, requests, strict=True)}


def observe(request: Request, spans: dict[str, Span]) -> Observed:
    """Put together what belongs to one request."""
    context = json.loads(request.body)["params"].get("_meta", {}).get("traceparent", "")
    found: dict[str, Span] = {}
    if client := spans.get(context[36:52]):
        found = {"client": client, "server": spans[client.parent_span_id.hex()]}
    return Observed(request, context, found)


@pytest.mark.parametrize("name", CASES)
async def test_the_server_is_told_of_weirs_own_span_in_the_callers_trace(
    observed: dict[str, Observed], name: str
) -> None:
    """In `_meta` and in the header alike, sampled as the caller has it."""
    case, got = CASES[name], observed[name]
    assert [got.context.encode()] == got.request.all(b"traceparent")
    assert case.trace in ("", got.context[3:35])
    assert got.context[36:52] != case.parent
    assert ("01" if case.is_sampled else "00") == got.context[53:55]


@pytest.mark.parametrize("name", CASES)
async def test_state_baggage_and_the_rest_of_meta_survive(observed: dict[str, Observed], name: str) -> None:
    """tracestate and baggage go on in both places; nothing else is added or lost."""
    case, got = CASES[name], observed[name]
    others = {key: value for key, value in case.meta.items() if key != "traceparent"}
    assert {**others, **case.carried, "traceparent": got.context} == got.meta
    for key, value in case.carried.items():
        assert [value.encode()] == got.request.all(key.encode())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.is_sampled])
async def test_the_spans_stand_below_the_caller(observed: dict[str, Observed], name: str) -> None:
    """caller → SERVER span → CLIENT span → the server; the context that is not the parent is linked."""
    case, got = CASES[name], observed[name]
    client, server = got.spans["client"], got.spans["server"]
    assert (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER) == (client.kind, server.kind)
    assert case.parent == server.parent_span_id.hex()
    assert [case.linked] * bool(case.linked) == [link.trace_id.hex() for link in server.links]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.is_sampled])
async def test_an_unsampled_call_leaves_no_span(observed: dict[str, Observed], name: str) -> None:
    """The caller's decision holds."""
    assert {} == observed[name].spans


async def test_without_an_exporter_the_callers_keys_pass_untouched(tmp_path: Path) -> None:
    """Byte for byte, in the body and in the headers."""
    async with ScriptedServer(answer) as server:
        with weir_http(tmp_path, {"url": server.url}, UNTRACED) as weir:
            for case in CASES.values():
                await post(weir.port, case.body(), case.lines())
    for case, got in zip(CASES.values(), server.got, strict=True):
        assert case.body() == got.body
        assert set(case.lines()) <= set(got.headers)


async def test_a_stdio_client_stands_in_the_tree_by_its_meta(tmp_path: Path) -> None:
    """There are no headers to bring it in; towards the server there are both."""
    case = CASES["state and baggage in _meta"]
    with http_sink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        async with ScriptedServer(answer) as server:
            argv = ["env", *(f"{key}={value}" for key, value in env.items())]
            argv += map(str, weir_stdio_argv(tmp_path, {"url": server.url}, TRACED))
            async with asyncio.TaskGroup() as group, stdio_client(argv, tmp_path / "log", group) as client:
                await client.say(case.body())
                async with asyncio.timeout(HANG_SECONDS):
                    await client.inbox.get()
        (request,) = [one for one in server.got if one.verb == b"POST"]
        got = observe(request, {span.span_id.hex(): span for span in sink.spans})
    assert [got.context.encode()] == got.request.all(b"traceparent")
    assert (TRACE_A, SPAN_A) == (got.context[3:35], got.spans["server"].parent_span_id.hex())
    assert STATE.encode() == got.request.get(b"tracestate")
