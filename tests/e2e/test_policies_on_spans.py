"""What policies did to a call, on its span: as a collector gets it from a running weir."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.otlp_sink import http_sink
from support.rawhttp import LIMIT_SECONDS, Exchange, ScriptedServer, post
from support.weirs import Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

READ = b'{"jsonrpc":"2.0","id":%d,"method":"tools/list"}'
SERVER = Span.SPAN_KIND_SERVER


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer(answer) as one:
        yield one


async def answer(exchange: Exchange) -> None:
    """At once."""
    await exchange.json(b'{"jsonrpc":"2.0","id":%b,"result":{}}' % raw_id(exchange))


def raw_id(exchange: Exchange) -> bytes:
    """As it came."""
    return json.dumps(json.loads(exchange.request.body)["id"]).encode()


def events_of(span: Span) -> list[tuple[str, dict[str, Any]]]:
    """What policies did, in order."""
    return [
        (event.name, {item.key: getattr(item.value, str(item.value.WhichOneof("value"))) for item in event.attributes})
        for event in span.events
    ]


async def spans_of(tmp_path: Path, upstream: Config, config: Config, count: int) -> list[Span]:
    """All spans of so many reads at once."""
    with http_sink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        traced: Config = {"telemetry": {"traces": {"exporter": "otlp"}}, **config}
        with weir_http(tmp_path, upstream, traced, env) as weir:
            async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
                for number in range(count):
                    group.create_task(post(weir.port, READ % number))
            await asyncio.to_thread(weir.stop)
        return sink.spans


async def test_an_injected_fault_and_the_retries_after_it_are_told(server: ScriptedServer, tmp_path: Path) -> None:
    """A trace shows that the failure was made on purpose, by which fault, and what was done about it."""
    fault = {"upstream": "one", "reset": True}
    config: Config = {
        "faults": {"allow": True, "inject": [fault]},
        "policies": {"retry": {"attempts": 2, "backoff": {"initial": "1ms"}}},
    }
    spans = await spans_of(tmp_path, {"url": server.url}, config, 1)
    (call,) = [span for span in spans if span.kind == SERVER]
    assert [
        ("weir.policy.fault", "reset", "f1"),
        ("weir.policy.retry", "scheduled", "upstream_reset"),
        ("weir.policy.fault", "reset", "f1"),
        ("weir.policy.retry", "attempts_exhausted", "upstream_reset"),
    ] == [(name, said["weir.action"], said["weir.detail"]) for name, said in events_of(call)]
    assert [] == server.got
    assert 2 == len(spans) - 1


async def test_who_shares_a_read_links_to_the_call_that_was_made(server: ScriptedServer, tmp_path: Path) -> None:
    """One CLIENT span, below the leader's; the follower has none, and leads there."""

    async def late(exchange: Exchange) -> None:
        await asyncio.sleep(0.5)
        await answer(exchange)

    server.script = late
    spans = await spans_of(tmp_path, {"url": server.url}, {"policies": {"coalesce": {"mode": "enforce"}}}, 2)
    leader, follower = sorted((span for span in spans if span.kind == SERVER), key=lambda span: len(span.links))
    (attempt,) = [span for span in spans if span.kind != SERVER]
    assert leader.span_id == attempt.parent_span_id
    assert [leader.span_id] == [link.span_id for link in follower.links]
    assert [("weir.policy.coalesce", {"weir.action": "joined"})] == events_of(follower)
