"""The load generator: its own process, a closed loop over keep-alive connections, every reply checked.

It makes the MCP handshake, warms up, prints `ready`, waits for a line on stdin, runs, and prints one JSON line.
That way whoever measures can read the clocks of what stands between at the right instants.
Run: python -m bench.load '{"port": 8931, "connections": 16, "seconds": 2}'
"""

import asyncio
import http.client
import json
import re
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any, cast

import httptools
import msgspec
import uvloop

from bench.lines import BIG_TEXT, TEXT, call_result
from bench.origin import sse_event

FIRST_ID = 1_000_000_001  # ids of one width: every request has the same length
MAX_FAULTS_KEPT = 5
STALL_SECONDS = 60.0
MODERN = "2026-07-28"


class Plan(msgspec.Struct, kw_only=True):
    """What to do. Exactly one of `seconds` and `calls` ends the run."""

    port: int
    path: str = "/mcp"
    tool: str = "echo"
    connections: int = 16
    seconds: float = 0.0
    calls: int = 0
    warm_up_calls: int = 400
    warm_up_seconds: float = 1.0
    revision: str = "2025-11-25"
    exact: bool = True
    """True: the reply's bytes must be the server's own. False (re-typing proxies): its id and text must."""


class Report(msgspec.Struct, kw_only=True):
    """What came of it. Latencies in milliseconds."""

    calls: int
    seconds: float
    p50: float
    p95: float
    p99: float
    faults: int
    first_faults: list[str]


class Wire:
    """The bytes of one call and what a right answer looks like."""

    def __init__(self, plan: Plan, session: str) -> None:
        params: dict[str, Any] = {"name": plan.tool, "arguments": {"city": "Torino", "days": 3, "units": "metric"}}
        if plan.revision == MODERN:
            client = {"name": "bench-load", "version": "1"}
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": client,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        tail = ',"method":"tools/call","params":' + json.dumps(params, separators=(",", ":")) + "}"
        self._lead, self._tail = b'{"jsonrpc":"2.0","id":', tail.encode()
        length = len(self._lead) + len(str(FIRST_ID)) + len(self._tail)
        self._head = _head(plan, session, length)
        self._plan = plan

    def request(self, number: int) -> bytes:
        """One HTTP request, whole."""
        return b"%b%b%d%b" % (self._head, self._lead, number, self._tail)

    def check(self) -> Callable[[int, int, bytes], str]:
        """A function of (number, status, body) that says what is wrong with a reply, or ""."""
        return self._check_bytes() if self._plan.exact else _check_meaning

    def _check_bytes(self) -> Callable[[int, int, bytes], str]:
        lead, rest = call_result(b"0", big=self._plan.tool == "big").split(b"0,", 1)
        before, after = lead, b"," + rest
        if self._plan.tool == "sse":
            before, after = sse_event(lead + b"0" + after).split(lead + b"0" + after)
            before, after = before + lead, b"," + rest + after

        def check(number: int, status: int, body: bytes) -> str:
            if status == 200 and body == b"%b%d%b" % (before, number, after):
                return ""
            return f"call {number}: status {status}, {len(body)} bytes: {body[:200]!r}"

        return check


def _head(plan: Plan, session: str, length: int) -> bytes:
    lines = [
        f"POST {plan.path} HTTP/1.1",
        f"host: 127.0.0.1:{plan.port}",
        "accept: application/json, text/event-stream",
        "content-type: application/json",
        "user-agent: weir-bench/1",
        f"mcp-protocol-version: {plan.revision}",
        f"content-length: {length}",
    ]
    if plan.revision == MODERN:
        lines += ["mcp-method: tools/call", f"mcp-name: {plan.tool}"]
    elif session:
        lines.append(f"mcp-session-id: {session}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


_DATA = re.compile(rb"^data: ?(.*)$", re.MULTILINE)


def _check_meaning(number: int, status: int, body: bytes) -> str:
    texts = (TEXT, BIG_TEXT)
    try:
        for part in [body] if body[:1] == b"{" else _DATA.findall(body):
            message = json.loads(part) if part.strip() else {}
            if message.get("id") == number and message["result"]["content"][0]["text"] in texts and status == 200:
                return ""
    except (ValueError, LookupError, AttributeError, TypeError):
        pass
    return f"call {number}: status {status}, {body[:200]!r}"


class Shared:
    """What the connections of one run share: numbers to hand out, latencies, faults."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.check = wire.check()
        self.next_number = FIRST_ID
        self.latencies = array("d")
        self.faults = 0
        self.first_faults: list[str] = []
        self.left = 0
        self.until = 0.0
        self.busy = 0
        self.idle = asyncio.Event()

    def fault(self, text: str) -> None:
        """Something was wrong with a reply."""
        self.faults += 1
        if len(self.first_faults) < MAX_FAULTS_KEPT:
            self.first_faults.append(text)


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one call in flight."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.WriteTransport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._number = 0
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are not subclasses

    def connection_lost(self, exc: Exception | None) -> None:
        if self._number:
            self._shared.fault(f"call {self._number}: the connection was closed ({exc})")
            self._rest()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """From the parser."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """From the parser: the reply is whole."""
        now = time.perf_counter()
        shared = self._shared
        shared.latencies.append(now - self._sent_at)
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        wrong = shared.check(self._number, self._parser.get_status_code(), body)
        if wrong:
            shared.fault(wrong)
        self.send(now)

    def start(self) -> None:
        """The first call of a run."""
        self._shared.busy += 1
        self.send(time.perf_counter())

    def send(self, now: float) -> None:
        """The next call, if the run has one left."""
        shared = self._shared
        if shared.left <= 0 or now >= shared.until:
            self._rest()
            return
        shared.left -= 1
        number = self._number = shared.next_number
        shared.next_number += 1
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(shared.wire.request(number))

    def _rest(self) -> None:
        self._number = 0
        self._shared.busy -= 1
        if not self._shared.busy:
            self._shared.idle.set()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


async def run(shared: Shared, connections: list[Connection], *, calls: int, seconds: float) -> float:
    """Calls in a closed loop until `calls` were made or `seconds` passed (0: no such end). Returns seconds taken."""
    shared.latencies = array("d")
    shared.left = calls or sys.maxsize
    started = time.perf_counter()
    shared.until = started + (seconds or 3600.0)
    shared.idle.clear()
    for connection in connections:
        connection.start()
    async with asyncio.timeout((seconds or 600.0) + STALL_SECONDS):
        await shared.idle.wait()
    return time.perf_counter() - started


def handshake(plan: Plan) -> str:
    """initialize, initialized, tools/list, as a client does. Returns the session id, "" if the server gives none."""
    if plan.revision == MODERN:
        return ""
    client = http.client.HTTPConnection("127.0.0.1", plan.port, timeout=STALL_SECONDS)
    info = {"name": "bench-load", "version": "1"}
    opening = {"protocolVersion": plan.revision, "capabilities": {}, "clientInfo": info}
    session = _ask(client, plan, "", {"id": 1, "method": "initialize", "params": opening})
    _ask(client, plan, session, {"method": "notifications/initialized"})
    _ask(client, plan, session, {"id": 2, "method": "tools/list"})
    client.close()
    return session


def _ask(client: http.client.HTTPConnection, plan: Plan, session: str, message: dict[str, Any]) -> str:
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    if session:
        headers["mcp-session-id"] = session
    if message["method"] != "initialize":
        headers["mcp-protocol-version"] = plan.revision
    client.request("POST", plan.path, json.dumps({"jsonrpc": "2.0", **message}), headers)
    reply = client.getresponse()
    body = reply.read()
    if reply.status not in (200, 202):
        raise ConnectionError(f"{message['method']} was answered {reply.status}: {body[:300]!r}")
    return reply.headers.get("mcp-session-id") or ""


def end_session(plan: Plan, session: str) -> None:
    """DELETE, so that a proxy that keeps a child for the session lets it go."""
    if session:
        client = http.client.HTTPConnection("127.0.0.1", plan.port, timeout=STALL_SECONDS)
        client.request("DELETE", plan.path, headers={"mcp-session-id": session, "mcp-protocol-version": plan.revision})
        client.getresponse().read()
        client.close()


def _report(shared: Shared, seconds: float) -> Report:
    sorted_ms = sorted(1000 * latency for latency in shared.latencies)

    def quantile(share: float) -> float:
        return round(sorted_ms[min(len(sorted_ms) - 1, int(share * len(sorted_ms)))], 4) if sorted_ms else 0.0

    return Report(
        calls=len(sorted_ms),
        seconds=round(seconds, 4),
        p50=quantile(0.50),
        p95=quantile(0.95),
        p99=quantile(0.99),
        faults=shared.faults,
        first_faults=shared.first_faults,
    )


async def drive(plan: Plan, go: Callable[[], None], *, session: str) -> Report:
    """Connect, warm up, call `go` (which blocks until the run may begin), run. The connections stay until the end."""
    loop = asyncio.get_running_loop()
    shared = Shared(Wire(plan, session))
    connections = []
    for _ in range(plan.connections):
        _, connection = await loop.create_connection(lambda: Connection(shared), "127.0.0.1", plan.port)
        connections.append(connection)
    if plan.warm_up_calls:
        await run(shared, connections, calls=plan.warm_up_calls, seconds=plan.warm_up_seconds)
    go()
    seconds = await run(shared, connections, calls=plan.calls, seconds=plan.seconds)
    for connection in connections:
        connection.close()
    return _report(shared, seconds)


def main() -> None:
    """One run, as the plan on the command line says."""
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    session = handshake(plan)

    def go() -> None:
        print("ready", flush=True)
        sys.stdin.readline()

    report = uvloop.run(drive(plan, go, session=session))
    print(msgspec.json.encode(report).decode(), flush=True)
    sys.stdin.readline()  # the session (and a stdio server) stays until the clocks were read
    end_session(plan, session)


if __name__ == "__main__":
    main()
