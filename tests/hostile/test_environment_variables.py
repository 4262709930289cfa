"""Environment variables that say what cannot be: weir names the variable, or leaves the value alone."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.otlp_sink import http_sink
from support.processes import Running
from support.rawhttp import Exchange, ScriptedServer, post
from support.weirs import weir_http, write_config

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add"}}'
RESULT = b'{"jsonrpc":"2.0","id":7,"result":{}}'
TRACED = {"telemetry": {"traces": {"exporter": "otlp"}}}
REMOTE = {"url": "https://mcp.example/mcp", "headers": {"Authorization": "Bearer ${NONE:-x}"}}


def weir(directory: Path, command: str, env: Mapping[str, str]) -> tuple[int, str]:
    """The exit code and the words of one command before a server elsewhere."""
    file = write_config(directory, REMOTE, TRACED, "127.0.0.1:0")
    argv = [sys.executable, "-m", "weir", *(["check"] if command == "check" else ["run", "--config"]), str(file)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env={**os.environ, **env}, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("problem", "env"),
    [
        pytest.param(
            "OTEL_EXPORTER_OTLP_ENDPOINT: no URL; write for example 'http://127.0.0.1:4318'",
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:MARKER@h:\u00b2/"},
            id="endpoint",
        ),
        pytest.param(
            "OTEL_EXPORTER_OTLP_ENDPOINT: its host is no host name: it has two dots in a row",
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a..b:4318"},
            id="host",
        ),
        pytest.param(
            "OTEL_EXPORTER_OTLP_TIMEOUT: '\u00b2' is no number of seconds",
            {"OTEL_EXPORTER_OTLP_TIMEOUT": "\u00b2"},
            id="timeout",
        ),
        pytest.param(
            "OTEL_EXPORTER_OTLP_CERTIFICATE: there is no such file",
            {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such/file"},
            id="certificate",
        ),
        pytest.param(
            "OTEL_EXPORTER_OTLP_COMPRESSION: weir has none, gzip and deflate",
            {"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"},
            id="compression",
        ),
        pytest.param(
            "https_proxy: a proxy's URL is http://HOST:PORT; encode other characters in its user name and password",
            {"HTTPS_PROXY": "http://me:MARKER#1@proxy:3128"},
            id="proxy",
        ),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    tmp_path: Path, command: str, problem: str, env: Mapping[str, str]
) -> None:
    """One line, no traceback, and no password that stands in it."""
    code, said = weir(tmp_path, command, env)
    assert (1, True) == (code, problem in said), said
    assert ("Traceback" in said, "MARKER" in said) == (False, False)


def test_an_entry_of_no_proxy_that_exempts_nothing_is_warned_of(tmp_path: Path) -> None:
    """The server is reached through the proxy all the same."""
    code, said = weir(tmp_path, "check", {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "mcp.example:\u00b2"})
    assert (0, True) == (code, "no_proxy: 'mcp.example:\u00b2' is neither a name" in said)
    assert "no_proxy" not in weir(tmp_path, "check", {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "x.example."})[1]


@contextmanager
def traced(directory: Path, server: ScriptedServer, env: Mapping[str, str]) -> Iterator[Running]:
    """weir with these variables, and a collector."""
    with http_sink() as sink:
        collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        with weir_http(directory, {"url": server.url}, TRACED, {**collector, **env}) as one:
            yield one


@pytest.mark.parametrize("value", ["\u00b2", "9" * 5000, "-1", "0"], ids=["superscript", "digits", "negative", "zero"])
async def test_a_queue_size_that_is_no_number_leaves_the_default(tmp_path: Path, value: str) -> None:
    """weir starts and serves."""

    async def answers(exchange: Exchange) -> None:
        await exchange.json(RESULT)

    names = ("OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
    async with ScriptedServer(answers) as server:
        with traced(tmp_path, server, dict.fromkeys(names, value)) as one:
            assert 200 == (await post(one.port, CALL)).status
