"""What a client may not do to weir: too much, too slowly, from elsewhere. Real sockets against a running weir."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from support.limits import HANG_SECONDS
from support.processes import Running
from support.rawhttp import JSON_POST, Exchange, Headers, ScriptedServer, ask, await_head, connection, fetch, post
from support.weirs import UNTRACED, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}'
MAX_BODY_BYTES = 64 * 1024
MEBIBYTE = 1 << 20
STALL_SECONDS = 1.5
"""A writer that could not write for this long has been stopped by its reader."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module's server."""
    return "asyncio"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer() as one:
        yield one


@pytest.fixture(scope="module")
def weir(server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """weir with a small `max_body`, otherwise as it comes."""
    config = {**UNTRACED, "listen": {"max_body": "64KiB"}}
    with weir_http(tmp_path_factory.mktemp("weir"), {"url": server.url}, config) as one:
        yield one


async def echo(exchange: Exchange) -> None:
    """Answer the request with its own id."""
    await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{}}')


def call_of(size: int) -> bytes:
    """A call whose body has exactly that many bytes."""
    return CALL + b" " * (size - len(CALL))


async def test_a_body_of_exactly_the_limit_passes(server: ScriptedServer, weir: Running) -> None:
    """The limit is what may pass, not the first size that may not."""
    server.script = echo
    assert 200 == (await post(weir.port, call_of(MAX_BODY_BYTES))).status


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_a_larger_body_is_413_and_never_reaches_the_server(
    server: ScriptedServer, weir: Running, is_chunked: bool
) -> None:
    """Announced or not, what is over `max_body` is refused."""
    server.script = echo
    seen = len(server.got)
    body = call_of(MAX_BODY_BYTES + 1)
    if is_chunked:
        head: Headers = [*JSON_POST, (b"Transfer-Encoding", b"chunked")]
        reply = await fetch(weir.port, "POST", "/mcp", head, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    else:
        reply = await post(weir.port, body)
    assert (413, seen) == (reply.status, len(server.got))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"X-Large", b"x" * 70_000)],
        [(b"X-Part-%d" % number, b"x" * 7_000) for number in range(10)],
        [(b"X-%d" % number, b"x") for number in range(120)],
    ],
    ids=["one header too large", "all together too large", "too many"],
)
async def test_headers_over_the_limits_are_431(server: ScriptedServer, weir: Running, headers: Headers) -> None:
    """Bytes and number are both limited."""
    server.script = echo
    seen = len(server.got)
    assert (431, seen) == ((await post(weir.port, CALL, headers)).status, len(server.got))


async def test_a_head_and_a_body_that_trickle_are_ended(weir: Running) -> None:
    """Neither holds its connection for ever: a head has 10 s, a silent body 30 s."""
    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(_send_and_await_close(weir.port, b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "))
        head = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        group.create_task(_send_and_await_close(weir.port, head + CALL[:10]))


async def _send_and_await_close(port: int, start: bytes) -> None:
    async with connection(port) as (reader, writer):
        writer.write(start)
        answer = await reader.read()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408"), answer


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"Origin", b"https://evil.example")], 403),
        ([(b"Origin", b"null")], 403),
        ([(b"Origin", b"http://localhost:5173")], 200),
        ([(b"Host", b"evil.example")], 421),
        ([(b"Host", b"localhost")], 200),
        ([(b"Host", b"[::1]:8931")], 200),
    ],
)
async def test_a_foreign_page_is_kept_out(server: ScriptedServer, weir: Running, headers: Headers, status: int) -> None:
    """A browser page elsewhere, or one that rebound its name to loopback, reaches no server."""
    server.script = echo
    seen = len(server.got)
    reply = await post(weir.port, CALL, headers)
    assert (status, seen + (status == 200)) == (reply.status, len(server.got))


class Flood:
    """A server that writes far more than any buffer holds, and knows when it was made to wait."""

    def __init__(self, content_type: bytes) -> None:
        self._headers = [(b"content-type", content_type)]
        self.total = 64 * MEBIBYTE
        self.written = 0
        self.stalled = asyncio.Event()

    async def script(self, exchange: Exchange) -> None:
        """Write everything; note the first time that a write has to wait."""
        await exchange.open(200, self._headers)
        line = b"data: " + b"x" * (MEBIBYTE // 16 - 8) + b"\n\n"
        while self.written < self.total:
            await self._write(exchange, line)
        await self._write(exchange, b'data: {"jsonrpc":"2.0","id":7,"result":{}}\n\n')
        await exchange.end()

    async def _write(self, exchange: Exchange, data: bytes) -> None:
        exchange.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.written += len(data)
        await self._drain(exchange)

    async def _drain(self, exchange: Exchange) -> None:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await exchange.writer.drain()
        except TimeoutError:
            self.stalled.set()
            await exchange.writer.drain()


@pytest.mark.parametrize("content_type", [b"text/event-stream", b"application/json", b"application/octet-stream"])
async def test_a_slow_reader_slows_the_writer(server: ScriptedServer, weir: Running, content_type: bytes) -> None:
    """Nothing piles up in weir: the server waits for the client, then everything arrives."""
    flood = Flood(content_type)
    server.script = flood.script
    before = weir.rss_bytes()
    async with ask(weir.port, "POST", "/mcp", JSON_POST, CALL) as answer:
        await flood.stalled.wait()
        # how much the kernels hold on the way is theirs to say: tens of megabytes where tcp_rmem is large
        assert flood.written < flood.total
        assert weir.rss_bytes() - before < 24 * MEBIBYTE
        assert len(await answer.rest()) == flood.written


async def test_pipelined_requests_are_answered_in_order(server: ScriptedServer, weir: Running) -> None:
    """Two requests in one write get two answers, the first one's first."""

    async def name(exchange: Exchange) -> None:
        await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{"t":"%b"}}' % exchange.request.target)

    server.script = name
    head = b"POST /mcp?%d HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    async with connection(weir.port) as (reader, writer):
        writer.write(b"".join(head % (number, len(CALL)) + CALL for number in (1, 2)))
        bodies = []
        for _ in range(2):
            reply = await await_head(reader)
            bodies.append(await reader.readexactly(int(reply.get(b"content-length"))))
    assert [b"/mcp?1" in bodies[0], b"/mcp?2" in bodies[1]] == [True, True]
