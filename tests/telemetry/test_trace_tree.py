"""One tree through real processes: the SDK's client, weir, a second weir, the SDK's server."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.otlp_sink import Sink, http_sink
from support.processes import free_port, running
from support.weirs import command, weir_http, weir_stdio_argv

pytestmark = pytest.mark.e2e

SUPPORT = Path(__file__).parents[1] / "support"
TRACED = {"telemetry": {"traces": {"exporter": "otlp"}}}
ENOUGH_SECONDS = 60
SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT


def script(name: str, *args: str) -> list[str]:
    """A script of ours with the SDK's spans exported."""
    return [sys.executable, str(SUPPORT / "traced.py"), str(SUPPORT / name), *args]


def named(service: str, sink: Sink) -> dict[str, str]:
    """The environment of one process of the tree."""
    return {
        "OTEL_SERVICE_NAME": service,
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }


def ask(argv: list[str], sink: Sink) -> None:
    """Let the client make its calls."""
    subprocess.run(script("asking_client.py", *argv), env={**named("client", sink)}, check=True, timeout=ENOUGH_SECONDS)


@contextmanager
def two_weirs_over_http(directory: Path, sink: Sink) -> Iterator[list[str]]:
    """HTTP all the way."""
    port = free_port()
    with (
        running(script("sdk_server.py", "http", str(port)), port=port, env=named("server", sink)),
        weir_http(directory, {"url": f"http://127.0.0.1:{port}/mcp"}, TRACED, named("second", sink)) as second,
        weir_http(directory, {"url": f"http://127.0.0.1:{second.port}/mcp"}, TRACED, named("first", sink)) as first,
    ):
        yield [f"http://127.0.0.1:{first.port}/mcp"]


@contextmanager
def two_weirs_between_pipes(directory: Path, sink: Sink) -> Iterator[list[str]]:
    """stdio at both ends: the client starts the first weir, the second weir the server."""
    server = script("sdk_server.py", "stdio")
    child = {**command(server), "env": named("server", sink)}
    with weir_http(directory, child, TRACED, named("second", sink)) as second:
        first = weir_stdio_argv(directory, {"url": f"http://127.0.0.1:{second.port}/mcp"}, TRACED)
        env = [f"{name}={value}" for name, value in named("first", sink).items()]
        yield ["env", *env, *map(str, first)]


Chain = Callable[[Path, Sink], Any]


@pytest.mark.parametrize("chain", [two_weirs_over_http, two_weirs_between_pipes])
def test_two_weirs_between_sdk_ends_are_one_connected_tree(chain: Chain, tmp_path: Path) -> None:
    """client → weir → weir → server for a call, and back again for what the server asks during it."""
    with http_sink() as sink:
        with chain(tmp_path, sink) as argv:
            ask(argv, sink)
        spans = {span.span_id: (service, span) for service, span in services(sink)}
    for tool in ("add", "think"):
        (leaf,) = [one for one in spans.values() if one[0] == "server" and one[1].name == f"tools/call {tool}"]
        assert [
            ("server", SERVER),
            ("second", CLIENT),
            ("second", SERVER),
            ("first", CLIENT),
            ("first", SERVER),
            ("client", CLIENT),
        ] == ancestry(leaf, spans)[:6]
    (leaf,) = [one for one in spans.values() if one[0] == "first" and is_question(one[1], CLIENT)]
    assert [
        ("first", CLIENT),
        ("first", SERVER),
        ("second", CLIENT),
        ("second", SERVER),
        ("server", CLIENT),
    ] == ancestry(leaf, spans)[:5]


def is_question(span: Span, kind: int) -> bool:
    return span.name == "sampling/createMessage" and span.kind == kind


def services(sink: Sink) -> Iterator[tuple[str, Span]]:
    """Every span with the name of the service that made it."""
    for request in sink.requests:
        for one in request.resource_spans:
            name = next(item.value.string_value for item in one.resource.attributes if item.key == "service.name")
            for scope in one.scope_spans:
                for span in scope.spans:
                    yield name, span


def ancestry(leaf: tuple[str, Span], spans: dict[bytes, tuple[str, Span]]) -> list[tuple[str, int]]:
    """Service and kind of a span and of all above it."""
    found: list[tuple[str, int]] = []
    at: tuple[str, Span] | None = leaf
    while at is not None:
        found.append((at[0], at[1].kind))
        assert at[1].trace_id == leaf[1].trace_id
        at = spans.get(at[1].parent_span_id)
    return found
