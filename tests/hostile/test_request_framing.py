"""Heads that two recipients could read in two ways, and framing that weir does not have: each gets an answer."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.rawhttp import JSON_POST, Exchange, ScriptedServer, await_head, connection, request_bytes
from support.weirs import UNTRACED, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

PING = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'
PONG = b'{"jsonrpc":"2.0","id":7,"result":{}}'
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PING), PING)


async def pong(exchange: Exchange) -> None:
    """Answer every request."""
    await exchange.json(PONG)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer(pong) as one:
        yield one


async def status_of(port: int, request: bytes) -> int:
    """The status of the answer to these bytes, which there must be."""
    async with connection(port) as (reader, writer):
        writer.write(request)
        return int((await await_head(reader)).line.split()[1])


def post(*lines: bytes, target: bytes = b"/mcp", version: bytes = b"1.1", body: bytes = PING) -> bytes:
    """A POST with exactly these header lines, and Content-Length unless one of them frames the body."""
    framing = () if any(b"ength" in line or b"ncoding" in line for line in lines) else (b"Content-Length: 40",)
    head = (b"POST %b HTTP/%b" % (target, version), b"Content-Type: application/json", *lines, *framing)
    return b"\r\n".join(head) + b"\r\n\r\n" + body


HOST = b"Host: localhost"
FRAMINGS = {
    "a coding that weir does not have before chunked": (
        post(HOST, b"Transfer-Encoding: gzip, chunked", body=CHUNKS),
        501,
    ),
    "a coding that only looks like chunked": (post(HOST, b"Transfer-Encoding: xchunked", body=CHUNKS), 501),
    "identity": (post(HOST, b"Transfer-Encoding: identity", body=CHUNKS), 501),
    "gzip alone": (post(HOST, b"Transfer-Encoding: gzip", body=CHUNKS), 501),
    "gzip in a header of its own": (
        post(HOST, b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=CHUNKS),
        501,
    ),
    "chunked before another coding": (post(HOST, b"Transfer-Encoding: chunked, gzip", body=CHUNKS), 400),
    "chunked twice": (post(HOST, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=CHUNKS), 400),
    "no coding": (post(HOST, b"Transfer-Encoding:", body=CHUNKS), 400),
    "both framings": (post(HOST, b"Transfer-Encoding: chunked", b"Content-Length: 40", body=CHUNKS), 400),
    "both framings the other way": (post(HOST, b"Content-Length: 40", b"Transfer-Encoding: chunked", body=CHUNKS), 400),
    "chunked from HTTP/1.0": (post(HOST, b"Transfer-Encoding: chunked", version=b"1.0", body=CHUNKS), 400),
    "a chunk size that overflows": (post(HOST, b"Transfer-Encoding: chunked", body=b"f" * 17 + b"\r\n{}"), 400),
    "a chunk size that is no number": (post(HOST, b"Transfer-Encoding: chunked", body=b"0x2\r\n{}\r\n"), 400),
    "a chunk longer than its size": (post(HOST, b"Transfer-Encoding: chunked", body=b"2\r\n{}{}\r\n0\r\n\r\n"), 400),
    "bad framing in a later chunk": (post(HOST, b"Transfer-Encoding: chunked", body=b"2\r\n{}\r\n-1\r\n"), 400),
    "a coding in the trailers": (
        post(HOST, b"Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n"),
        400,
    ),
    "a negative length": (post(HOST, b"Content-Length: -1"), 400),
    "a length with a sign": (post(HOST, b"Content-Length: +40"), 400),
    "an empty length": (post(HOST, b"Content-Length:"), 400),
    "a length that overflows": (post(HOST, b"Content-Length: " + b"9" * 400), 400),
    "a length behind many zeros": (post(HOST, b"Content-Length: " + b"0" * 40 + b"40"), 400),
    "two lengths": (post(HOST, b"Content-Length: 40", b"Content-Length: 40"), 400),
    "a list of lengths": (post(HOST, b"Content-Length: 40, 40"), 400),
    "HTTP/2.0 as text": (post(HOST, version=b"2.0"), 505),
    "HTTP/0.9": (b"GET /mcp\r\n\r\n", 505),
    "no Host": (post(), 400),
    "no Host in the absolute form": (post(target=b"http://localhost/mcp"), 400),
    "an empty Host": (post(b"Host:"), 400),
    "two Hosts": (post(HOST, HOST), 400),
    "a bracket without its end": (post(b"Host: [::1"), 400),
    "text behind a bracket": (post(b"Host: [::1].evil.example"), 400),
    "a port of letters behind a bracket": (post(b"Host: [::1]:x"), 400),
    "a port of letters": (post(b"Host: localhost:x"), 400),
    "a port that is too large": (post(b"Host: localhost:65536"), 400),
    "a name in brackets": (post(b"Host: [localhost]"), 400),
    "a zone in brackets": (post(b"Host: [::1%25eth0]"), 400),
    "user information in Host": (post(b"Host: evil.example@localhost"), 400),
    "a path in Host": (post(b"Host: localhost/evil"), 400),
    "two names in Host": (post(b"Host: localhost, evil.example"), 400),
    "user information in the target": (post(HOST, target=b"http://evil@localhost/mcp"), 400),
    "no authority in the target": (post(HOST, target=b"http:///mcp"), 400),
    "another scheme in the target": (post(HOST, target=b"ftp://localhost/mcp"), 400),
    "a foreign Host": (post(b"Host: evil.example"), 421),
    "a foreign target beside our Host": (post(HOST, target=b"http://evil.example/mcp"), 421),
    "a broken target beside our Host": (post(HOST, target=b"http://[::1].evil.example/mcp"), 400),
}


async def test_a_head_with_two_readings_is_refused_with_an_answer(server: ScriptedServer, tmp_path: Path) -> None:
    """No request of them reaches the server, and no connection ends without a word."""
    with weir_http(tmp_path, {"url": server.url}, UNTRACED) as weir:
        statuses = {name: await status_of(weir.port, request) for name, (request, _) in FRAMINGS.items()}
    assert {name: status for name, (_, status) in FRAMINGS.items()} == statuses
    assert [] == server.got


FANCY_CHUNKS = b"%x;a=b\r\n%b\r\n0\r\nX: y\r\n\r\n" % (len(PING), PING)
PASSING = {
    "a Host with a port": post(b"Host: localhost:8931"),
    "an address in brackets": post(b"Host: [::1]:8931"),
    "the same address in full": post(b"Host: [0:0:0:0:0:0:0:1]"),
    "no Host from HTTP/1.0": post(version=b"1.0"),
    "the absolute form": post(HOST, target=b"http://127.0.0.1:8931/mcp"),
    "the absolute form beside a foreign Host": post(b"Host: evil.example", target=b"http://localhost/mcp"),
    "chunks": post(HOST, b"Transfer-Encoding: Chunked", body=CHUNKS),
    "chunks with an extension and a trailer": post(HOST, b"Transfer-Encoding: chunked", body=FANCY_CHUNKS),
    "lines before the request": b"\r\n\r\n\r\n" + post(HOST),
    "an upgrade that is declined": post(HOST, b"Connection: Upgrade", b"Upgrade: h2c"),
}


async def test_what_has_one_reading_passes(server: ScriptedServer, tmp_path: Path) -> None:
    """The same message arrives each time."""
    with weir_http(tmp_path, {"url": server.url}, UNTRACED) as weir:
        statuses = {name: await status_of(weir.port, request) for name, request in PASSING.items()}
    assert dict.fromkeys(PASSING, 200) == statuses
    assert {PING} == {request.body for request in server.got}


async def test_the_authority_of_the_absolute_form_replaces_host(server: ScriptedServer, tmp_path: Path) -> None:
    """The server hears the name that was checked (RFC 9112, section 3.2.2)."""
    request = post(b"Host: evil.example", target=b"http://localhost:1234/mcp")
    with weir_http(tmp_path, {"url": server.url, "preserve_host": True}, UNTRACED) as weir:
        assert 200 == await status_of(weir.port, request)
    assert [b"localhost:1234"] == server.got[0].all(b"host")


async def test_a_connection_ends_with_the_answer_to_what_is_malformed(server: ScriptedServer, tmp_path: Path) -> None:
    """What comes behind bytes that nobody can read may be anything."""
    bad = post(HOST, b"Transfer-Encoding: chunked", body=b"zz\r\n")
    with weir_http(tmp_path, {"url": server.url}, UNTRACED) as weir:
        async with connection(weir.port) as (reader, writer):
            writer.write(bad + request_bytes("POST", "/mcp", JSON_POST, PING))
            head = await await_head(reader)
            rest = await reader.read()
    assert (b"close", []) == (head.get(b"connection"), server.got)
    assert b"HTTP/1.1" not in rest
