"""The collector itself, with the file that is shipped: spans go in from weir by both protocols, and come out."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.otlp_sink import Sink, grpc_sink
from support.processes import Running, free_port, running
from support.rawhttp import Exchange, ScriptedServer, fetch, post
from support.weirs import weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

ROOT = Path(__file__).parents[2]
CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}'
TRACED = {"telemetry": {"traces": {"exporter": "otlp"}}}
PORTS = {"grpc": 4317, "http/protobuf": 4318, "health": 13133, "metrics": 8888}
"""Of the shipped file, by what they are for."""


@pytest.fixture
def tempo() -> Iterator[Sink]:
    """What stands where Tempo would."""
    with grpc_sink() as sink:
        yield sink


@pytest.fixture
def ports() -> dict[str, int]:
    """Free ones in place of PORTS."""
    return {name: free_port() for name in PORTS}


@pytest.fixture
def collector(tempo: Sink, ports: dict[str, int], tmp_path: Path) -> Iterator[Running]:
    """The collector with the shipped file, only at other addresses."""
    program = shutil.which("otelcol")
    if program is None:
        pytest.skip("needs otelcol: build it (tests/stack/otelcol-builder.yaml says how)")
    text = (ROOT / "otel-collector.yaml").read_text().replace("tempo:4317", tempo.endpoint.removeprefix("http://"))
    for name, port in PORTS.items():
        text, count = re.subn(rf"\b{port}\b", str(ports[name]), text)
        assert count, name
    path = tmp_path / "collector.yaml"
    path.write_text(text.replace("0.0.0.0", "127.0.0.1"))
    with running([program, f"--config={path}"], port=ports["health"]) as one:
        yield one


def test_what_is_built_is_what_the_compose_file_runs() -> None:
    """The same version."""
    versions = {
        re.findall(pattern, (ROOT / path).read_text())[0]
        for path, pattern in (
            ("docker-compose.yml", r"collector-contrib:(\S+)"),
            ("tests/stack/otelcol-builder.yaml", r"\nprocessors:\n.* v(\S+)"),
        )
    }
    assert 1 == len(versions)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_spans_go_through_the_collector(
    collector: Running, ports: dict[str, int], tempo: Sink, tmp_path: Path, protocol: str
) -> None:
    """Both spans of a call; the collector counts them and is healthy."""

    async def answers(exchange: Exchange) -> None:
        await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{}}')

    endpoint = f"http://127.0.0.1:{ports[protocol]}"
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    async with ScriptedServer(answers) as server:
        with weir_http(tmp_path, {"url": server.url}, TRACED, env) as weir:
            assert 200 == (await post(weir.port, CALL)).status
    assert {"tools/call echo"} == {span.name for span in tempo.await_spans(2)}
    assert 200 == (await fetch(ports["health"], "GET", "/")).status
    metrics = (await fetch(ports["metrics"], "GET", "/metrics")).body.decode()
    assert re.search(r"^otelcol_receiver_accepted_spans.* 2$", metrics, re.MULTILINE), collector.log()
