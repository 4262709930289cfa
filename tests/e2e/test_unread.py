"""A client that never reads its reply, or does not say goodbye, is not waited for by a running weir."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from support.processes import Running, free_port
from support.rawhttp import JSON_POST, LIMIT_SECONDS, Exchange, ScriptedServer, ask, connection, request_bytes
from support.seen import counted, logged
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}'
PIECE = b"data: " + b"x" * 65_528 + b"\n\n"
PIECES = 800
"""50 MB: more than the buffers of three sockets in a row hold."""
READ_SECONDS = 1.0
CUT_OFF = b'weir_limit_reached_total{limit="client_read"} 1'


@pytest.fixture
def weir(server: ScriptedServer, tmp_path: Path) -> Iterator[Running]:
    """weir that waits one second for a client to read."""
    config: Config = {**UNTRACED, "listen": {"client_read": f"{READ_SECONDS:g}s", "diagnostics": "127.0.0.1:0"}}
    with weir_http(tmp_path, {"url": server.url}, config) as one:
        yield one


class Flood:
    """A server that sends 50 MB of events and notes when weir hangs up on it."""

    def __init__(self) -> None:
        self.is_cut_off = asyncio.Event()
        self.is_over = asyncio.Event()

    async def script(self, exchange: Exchange) -> None:
        """Send until it ends or the other side goes."""
        await exchange.open()
        try:
            for _ in range(PIECES):
                await exchange.write(PIECE)
            await exchange.write(b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n')
            await exchange.end()
        except ConnectionError:
            self.is_cut_off.set()
        self.is_over.set()


async def test_a_client_that_stops_reading_is_cut_off(server: ScriptedServer, weir: Running) -> None:
    """The server is let go, the limit counted, and the client blamed."""
    flood = Flood()
    server.script = flood.script
    async with ask(weir.port, "POST", "/mcp", JSON_POST, CALL), asyncio.timeout(LIMIT_SECONDS):
        await flood.is_over.wait()
        assert flood.is_cut_off.is_set()
    [line] = await logged(weir, '"reason":"cancelled"')
    phases = json.loads(line)["phases"]
    assert phases["client"] > READ_SECONDS * 500 > phases.get("upstream_stream", 0.0)
    await counted(weir, CUT_OFF)


async def test_a_client_that_reads_slowly_gets_everything(server: ScriptedServer, weir: Running) -> None:
    """Each pause is shorter than the limit; all of them together are longer."""
    flood = Flood()
    server.script = flood.script
    async with connection(weir.port) as (reader, writer):
        writer.write(request_bytes("POST", "/mcp", [*JSON_POST, (b"Connection", b"close")], CALL))
        received = 0
        for _ in range(8):
            await asyncio.sleep(READ_SECONDS * 0.4)
            received += len(await reader.read(1 << 20))
        rest = await reader.read()
    assert received + len(rest) > PIECES * len(PIECE)
    assert rest.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("content_type", [b"text/event-stream", b"application/json"])
async def test_what_a_client_takes_to_read_is_no_time_of_the_servers(
    server: ScriptedServer, tmp_path: Path, content_type: bytes
) -> None:
    """It reads for longer than attempt and total allow: nothing runs out, and no circuit opens."""

    async def large(exchange: Exchange) -> None:
        await exchange.open(200, [(b"content-type", content_type)])
        for _ in range(PIECES):
            await exchange.write(PIECE)
        await exchange.write(b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n')
        await exchange.end()

    server.script = large
    breaker = {"consecutive_failures": 1, "min_calls": 1, "slow_call": {"over": "2s", "rate": 0.01}}
    timeout = {"connect": "1s", "attempt": "2s", "total": "2200ms"}
    policies: Config = {"timeout": timeout, "breaker": breaker}
    with weir_http(tmp_path, {"url": server.url}, {**UNTRACED, "policies": policies}) as weir:
        for pause in (3.0, 0.0):
            async with ask(weir.port, "POST", "/mcp", JSON_POST, CALL) as answer:
                await asyncio.sleep(pause)
                assert PIECES * len(PIECE) < len(await answer.rest())


async def test_a_closed_connection_ends_though_its_client_never_read_it(server: ScriptedServer, weir: Running) -> None:
    """Its last reply is all in buffers; without a limit the connection would stay for ever."""

    async def large(exchange: Exchange) -> None:
        await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{"t":"' + b"x" * 3_900_000 + b'"}}')

    server.script = large
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", weir.port))
        client.sendall(request_bytes("POST", "/mcp", [*JSON_POST, (b"Connection", b"close")], CALL))
        await counted(weir, CUT_OFF)


async def test_a_tls_client_that_says_no_goodbye_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    """Idle ones, whether they have asked or not, and one in its handshake, are gone at once; the deadline is 20 s."""
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    config: Config = {**UNTRACED, "listen": {"tls": {"cert": str(tmp_path / "own.pem")}}, "drain": {"deadline": "20s"}}
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with weir_http(tmp_path, {"url": f"http://127.0.0.1:{free_port()}/mcp"}, config) as weir:
        silent, asking = await deaf(weir.port, context), await deaf(weir.port, context)
        shaking = socket.create_connection(("127.0.0.1", weir.port))
        asking.write(request_bytes("POST", "/mcp", JSON_POST, CALL))
        assert (await asyncio.to_thread(asking.read, 20)).startswith(b"HTTP/1.1 502 ")
        began = time.monotonic()
        weir.interrupt()
        assert 0 == await asyncio.to_thread(weir.wait, 10)
        assert time.monotonic() - began < 1.0
        for one in (silent, asking, shaking):
            one.close()


class Deaf:
    """A TLS client on a blocking socket: it reads when it is told, and answers no close_notify."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self.write, self.read, self.close = connection.sendall, connection.recv, connection.close


async def deaf(port: int, context: ssl.SSLContext) -> Deaf:
    """Connect."""

    def connect() -> Deaf:
        bare = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_SECONDS)
        return Deaf(context.wrap_socket(bare, server_hostname="localhost"))

    return await asyncio.to_thread(connect)
