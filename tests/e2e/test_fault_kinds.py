"""Every kind of fault, at a server that speaks HTTP and at one on a pipe: what clients see, and that it is counted."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from support.processes import Running, free_port
from support.rawhttp import JSON_POST, Exchange, Reply, ScriptedServer, fetch, post
from support.stdio_script import COMMAND
from support.weirs import UNTRACED, Config, command, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

PROGRESS = '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":$TOKEN,"progress":%d}}'
RESULT = '{"jsonrpc":"2.0","id":$ID,"result":{"content":[]}}'
LINES = [PROGRESS % 1, PROGRESS % 2, RESULT]
STREAMED = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "say", "arguments": {"lines": LINES}, "_meta": {"progressToken": "t"}},
    }
).encode()
SILENCE_SECONDS = 0.4
INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}'


async def script(exchange: Exchange) -> None:
    """As the server on the pipe does: the lines of the request, as events."""
    asked = json.loads(exchange.request.body)
    if asked["method"] == "initialize":
        await exchange.json(b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25"}}')
        return
    await exchange.open()
    for line in asked["params"]["arguments"]["lines"]:
        told = line.replace("$ID", "7").replace("$TOKEN", '"t"')
        await exchange.write(f"data: {told}\n\n".encode())
    await exchange.end()


@dataclass(frozen=True)
class Bench:
    """A running weir whose faults can be changed."""

    weir: Running
    diagnostics: int
    session: list[tuple[bytes, bytes]]

    async def call(self) -> tuple[Reply, float]:
        """The reply to a call whose answer is a stream, and the seconds it took."""
        began = time.monotonic()
        reply = await post(self.weir.port, STREAMED, self.session)
        return reply, time.monotonic() - began

    async def counted(self, kind: str) -> float:
        """How often a kind has befallen a call."""
        text = (await fetch(self.diagnostics, "GET", "/metrics")).body.decode()
        series = f'weir_policy_decisions_total{{upstream="one",policy="fault",action="{kind}",mode="enforce"}} '
        return sum(float(line.removeprefix(series)) for line in text.splitlines() if line.startswith(series))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module's server."""
    return "asyncio"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream that speaks HTTP."""
    async with ScriptedServer(script) as one:
        yield one


@pytest.fixture(scope="module", params=["http", "stdio"])
def started(
    request: pytest.FixtureRequest, server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Running, int]]:
    """weir before one of both kinds of server, and its diagnostics port."""
    upstream: Config = {"url": server.url} if request.param == "http" else command(COMMAND)
    port = free_port()
    config: Config = {
        **UNTRACED,
        "listen": {"diagnostics": f"127.0.0.1:{port}"},
        "policies": {"timeout": {"idle": f"{round(SILENCE_SECONDS * 1000)}ms"}},
        "faults": {"allow": True},
    }
    with weir_http(tmp_path_factory.mktemp("weir"), upstream, config) as one:
        yield one, port


@pytest.fixture
async def bench(started: tuple[Running, int]) -> AsyncIterator[Bench]:
    """With a session, and no fault but those of the test."""
    weir, port = started
    session = (await post(weir.port, INITIALIZE)).get(b"mcp-session-id")
    yield Bench(weir, port, [(b"Mcp-Session-Id", session)] if session else [])
    await fetch(port, "DELETE", "/faults")


def events(reply: Reply) -> list[Any]:
    """The messages of a reply, of a stream or not."""
    if reply.get(b"content-type").startswith(b"text/event-stream"):
        lines = reply.body.replace(b"\r\n", b"\n").split(b"\n")
        return [json.loads(line[5:]) for line in lines if line.startswith(b"data:") and line[5:].strip()]
    return [json.loads(reply.body)]


@dataclass(frozen=True)
class Seen:
    """What a client sees of a fault. `shape`: progress, result or error for each message; `reason`: of the error."""

    fault: dict[str, Any]
    kind: str
    shape: str = "progress progress result"
    status: int = 200
    reason: object = None
    least_seconds: float = 0.0
    data: dict[str, Any] = field(default_factory=dict)


KINDS = [
    Seen({"latency": "300ms"}, "latency", least_seconds=0.3),
    Seen({"latency": "300ms", "jitter": "100ms"}, "jitter", least_seconds=0.2),
    Seen({"slow_stream": "150ms"}, "slow_stream", least_seconds=0.45),
    Seen({"drop_stream": 1}, "drop_stream", "progress error", reason="upstream_reset"),
    Seen({"duplicate": True}, "duplicate", "progress progress progress progress result result"),
    Seen(
        {"timeout": True},
        "timeout",
        "error",
        504,
        "upstream_timeout",
        SILENCE_SECONDS,
        {"timer": "idle", "afterMs": round(SILENCE_SECONDS * 1000), "blame": "upstream"},
    ),
    Seen({"reset": True}, "reset", "error", 502, "upstream_reset"),
    Seen({"error": -32603}, "jsonrpc_error", "error", reason=-32603),
    Seen({"is_error": True}, "is_error", "result"),
    Seen({"garbage": True}, "garbage", "error", 502, "upstream_protocol_error"),
]


@pytest.mark.parametrize("seen", KINDS, ids=lambda seen: seen.kind)
async def test_a_fault_looks_like_the_real_one(bench: Bench, seen: Seen) -> None:
    """To the client and to the metrics; without it all is well again."""
    before = await bench.counted(seen.kind)
    added = await fetch(
        bench.diagnostics, "POST", "/faults", JSON_POST, json.dumps({"upstream": "one", **seen.fault}).encode()
    )
    assert 201 == added.status, added.body
    reply, seconds = await bench.call()
    told = events(reply)
    assert (seen.status, seen.shape) == (reply.status, " ".join(map(shape, told)))
    assert seconds >= seen.least_seconds
    if "error" in told[-1]:
        error = told[-1]["error"]
        assert (7, seen.reason) == (told[-1]["id"], error.get("data", {}).get("reason", error["code"]))
        assert seen.data.items() <= error.get("data", {}).items()
    assert seen.fault.get("is_error", False) == told[-1].get("result", {}).get("isError", False)
    assert before + 1 == await bench.counted(seen.kind)
    await fetch(bench.diagnostics, "DELETE", "/faults")
    assert "progress progress result" == " ".join(map(shape, events((await bench.call())[0])))


def shape(message: dict[str, Any]) -> str:
    """What a message is."""
    return "progress" if "method" in message else "error" if "error" in message else "result"


async def test_an_error_status_is_the_servers_page(bench: Bench) -> None:
    """It passes as any other would: no JSON-RPC error of weir's."""
    body = b'{"upstream":"one","status":503}'
    assert 201 == (await fetch(bench.diagnostics, "POST", "/faults", JSON_POST, body)).status
    reply, _ = await bench.call()
    assert (503, b"injected fault\n") == (reply.status, reply.body)
    assert 1 == await bench.counted("error_status")
