"""Clients that others wrote see through weir, over every pairing, what they see of the server itself."""

import functools
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from clients.programs import COMMANDS, HERE, Seen, Target, inspect, see
from support.installs import require_installed
from support.processes import free_port, running
from support.weirs import command, weir_http, weir_stdio_argv

pytestmark = [pytest.mark.e2e, pytest.mark.node]

SERVER = [sys.executable, str(HERE.parent / "support/sdk_server.py")]
PAIRINGS = ["http-to-http", "http-to-stdio", "stdio-to-http", "stdio-to-stdio"]


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    require_installed(HERE / "setup.sh")


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    """Where a client is sent: the SDK's server on either transport, and weir before it on every pairing."""
    where = tmp_path_factory.mktemp("weir")
    port = free_port()
    url, child = {"url": f"http://127.0.0.1:{port}/mcp"}, command([*SERVER, "stdio"])
    traced: dict[str, Any] = {}
    with (
        running([*SERVER, "http", str(port)], port=port),
        weir_http(where, url, traced) as to_http,
        weir_http(where, child, traced) as to_stdio,
    ):
        yield {
            "http": url,
            "stdio": {"command": child["command"]},
            "http-to-http": {"url": f"http://127.0.0.1:{to_http.port}/mcp"},
            "http-to-stdio": {"url": f"http://127.0.0.1:{to_stdio.port}/mcp"},
            "stdio-to-http": {"command": [str(script(where, weir_stdio_argv(where, url, traced)))]},
            "stdio-to-stdio": {"command": [str(script(where, weir_stdio_argv(where, child, traced)))]},
        }


def script(directory: Path, argv: Sequence[str | Path]) -> Path:
    """A command without arguments: the Inspector takes options of a server's for its own."""
    path = directory / f"weir-{free_port()}"
    path.write_text(f"#!/bin/sh\nexec {shlex.join(map(str, argv))}\n")
    path.chmod(0o755)
    return path


See = Callable[[str, str], Seen]


@pytest.fixture(scope="module")
def seen(targets: dict[str, Target]) -> See:
    """What a client saw on a way; asked once."""
    return functools.cache(lambda client, way: see(client, targets[way]))


@pytest.mark.parametrize("client", COMMANDS)
def test_a_client_works_by_itself(seen: See, client: str) -> None:
    """Without weir all of them call tools and hear of progress: what follows is no empty comparison."""
    saw = seen(client, "http")
    assert {"add", "steps", "greet", "think"} <= set(saw.results["tools"])
    assert "5" in str(saw.results["add"])
    assert "from tést" in str(saw.results["query"])
    assert [1, 2, 3] == saw.progress


@pytest.mark.parametrize("client", ["python-sdk-legacy", "typescript-1", "typescript-2-legacy"])
def test_a_handshake_client_is_asked_and_answers_by_itself(seen: See, client: str) -> None:
    """Elicitation and sampling are part of what is compared."""
    results = seen(client, "http").results
    assert ("hello Ada" in str(results["greet"]), "42" in str(results["think"])) == (True, True)


@pytest.mark.parametrize("client", COMMANDS)
@pytest.mark.parametrize("pairing", PAIRINGS)
def test_a_client_sees_through_weir_what_it_sees_alone(seen: See, pairing: str, client: str) -> None:
    """Results, errors, what it was asked, in order; progress as far as the client's own haste lets it hear."""
    alone = seen(client, pairing.rpartition("-")[2])
    through = seen(client, pairing)
    assert alone.results == through.results
    heard = len(through.progress)
    assert [1, 2, 3][:heard] == through.progress
    assert heard == 3 or client.startswith("typescript")


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize(
    "options",
    [
        ("--method", "tools/list"),
        ("--method", "tools/call", "--tool-name", "add", "--tool-arg", "a=2", "b=3"),
        ("--method", "prompts/list"),
    ],
    ids=" ".join,
)
def test_the_inspector_prints_the_same(targets: dict[str, Target], pairing: str, options: tuple[str, ...]) -> None:
    """MCP Inspector's command line."""
    assert inspect(targets[pairing.rpartition("-")[2]], *options) == inspect(targets[pairing], *options)
