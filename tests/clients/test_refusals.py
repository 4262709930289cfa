"""What the SDKs' clients show of weir's refusals and failures: code, reason and when to come again, in both forms.

With HTTP's own status (the default) the Python SDK raises the JSON-RPC error, and the TypeScript SDKs an HTTP error
whose text has the JSON-RPC error in it. With `refusals: {http_200: true}` all of them raise the JSON-RPC error.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.programs import COMMANDS, HERE, run
from support.installs import require_installed
from support.processes import free_port, running
from support.weirs import UNTRACED, Config, weir_http, weir_stdio_argv

pytestmark = [pytest.mark.e2e, pytest.mark.node]

SERVER = [sys.executable, str(HERE.parent / "support/sdk_server.py"), "http"]
ONE_A_MINUTE: Config = {"policies": {"rate_limits": [{"per": "tool", "limit": 1, "window": "1m"}]}}
PYTHON = ["python-sdk-legacy", "python-sdk-modern"]
TYPESCRIPT = ["typescript-1", "typescript-2-legacy", "typescript-2-modern"]
FORMS: dict[str, Config] = {"status": UNTRACED, "http-200": {**UNTRACED, "refusals": {"http_200": True}}}
Shown = dict[str, Any]
"""What a program meets: the class that was raised, its code, its text, its data."""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    require_installed(HERE / "setup.sh")


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """How weir says no."""
    return str(request.param)


@pytest.fixture(params=[*PYTHON, *TYPESCRIPT])
def client(request: pytest.FixtureRequest) -> str:
    """Who asks."""
    return str(request.param)


@pytest.fixture
def server_port() -> int:
    """Where the server is, or will never be."""
    return free_port()


@pytest.fixture
def server_pid(server_port: int) -> Iterator[int]:
    """The SDK's server."""
    with running([*SERVER, str(server_port)], port=server_port) as server:
        yield server.pid


def seen(client: str, form: str, server_port: int, where: Path, policies: Config, kill: Config) -> list[Any]:
    """What the client shows of each of its calls (null: it went well), or of its connection."""
    server = f"http://127.0.0.1:{server_port}/mcp"
    with weir_http(where, {"url": server, **policies}, FORMS[form]) as weir:
        target = {"url": f"http://127.0.0.1:{weir.port}/mcp", "fails": True, "server": server, **kill}
        shown: list[Any] = json.loads(run([*COMMANDS[client], json.dumps(target)]))
    return shown


def error_of(client: str, shown: Shown, status: int | None) -> Shown:
    """The JSON-RPC error, from where this client shows it; `status`: when that came as an HTTP error."""
    if status is None or client in PYTHON:
        kind = "MCPError" if client in PYTHON else "McpError" if client == "typescript-1" else "ProtocolError"
        assert kind == shown["raised"]
        return {"code": shown["code"], "message": shown["text"], "data": shown["data"]}
    if client == "typescript-1":
        assert ("StreamableHTTPError", status) == (shown["raised"], shown["code"])
        text = shown["text"].removeprefix("Streamable HTTP error: Error POSTing to endpoint: ")
    else:
        assert ("SdkHttpError", status) == (shown["raised"], shown["data"]["status"])
        text = shown["data"]["text"]
    error: Shown = json.loads(text)["error"]
    return error


def test_a_rate_limit_is_shown_with_its_reason_and_when_to_come_again(
    client: str, form: str, server_port: int, server_pid: int, tmp_path: Path
) -> None:
    """One call a minute: the first goes well, the second is refused."""
    first, second = seen(client, form, server_port, tmp_path, ONE_A_MINUTE, {})
    error = error_of(client, second, 429 if form == "status" else None)
    milliseconds = error["data"].pop("retryAfterMs")
    assert (None, -33429) == (first, error["code"])
    assert {"reason": "rate_limited", "upstream": "one", "blame": "downstream", "scope": "tool"} == error["data"]
    assert 30_000 < milliseconds <= 60_000
    assert "Rate limit of MCP server 'one' reached: 1 call per 60 s per tool. Try again in " in error["message"]


@pytest.mark.parametrize("client", ["python-sdk-legacy", "python-sdk-modern", "typescript-1", "typescript-2-modern"])
def test_on_a_pipe_every_client_shows_the_json_rpc_error(
    client: str, server_port: int, server_pid: int, tmp_path: Path
) -> None:
    """There is no status on stdio."""
    upstream = {"url": f"http://127.0.0.1:{server_port}/mcp", **ONE_A_MINUTE}
    target = {"command": [str(part) for part in weir_stdio_argv(tmp_path, upstream)], "fails": True}
    first, second = json.loads(run([*COMMANDS[client], json.dumps(target)]))
    error = error_of(client, second, None)
    assert (None, -33429, "rate_limited") == (first, error["code"], error["data"]["reason"])
    assert 30_000 < error["data"]["retryAfterMs"] <= 60_000


def assert_unreached(error: Shown) -> None:
    """What is said of a server that is not there."""
    data = {"reason": "upstream_connect_error", "upstream": "one", "blame": "upstream", "sent": False}
    assert (-33502, data) == (error["code"], error["data"])
    assert "MCP server 'one': cannot connect" in error["message"]
    assert error["message"].endswith("The request was not sent; it can be tried again.")


def test_a_server_that_went_down_is_told_from_a_refusal(
    client: str, form: str, server_port: int, server_pid: int, tmp_path: Path
) -> None:
    """Between two calls of one session."""
    first, second = seen(client, form, server_port, tmp_path, {}, {"kill": server_pid})
    assert None is first
    assert_unreached(error_of(client, second, 502 if form == "status" else None))


def test_a_server_that_is_down_is_shown_to_a_client_that_connects(
    client: str, form: str, server_port: int, tmp_path: Path
) -> None:
    """The first thing that the client asks for tells it.

    `server/discover` fails with HTTP's own status in both forms: a JSON-RPC error says to a client that the server
    does not know the method, and so speaks an older revision.
    """
    last = seen(client, form, server_port, tmp_path, {}, {})[-1]
    is_discovery = client == "typescript-2-modern"
    if is_discovery:
        assert "Version negotiation failed: the server answered the probe with HTTP 502" == last["text"]
    assert_unreached(error_of(client, last, 502 if form == "status" or is_discovery else None))
