"""What the HTTP server makes of heads that mean more than they should, and of bodies that nobody wants."""

import asyncio
import contextlib
import socket
import ssl

import pytest
import trustme

from support.limits import HANG_SECONDS
from support.ports import LIMIT, post, serving
from weir.downstream.exchange import Exchange
from weir.downstream.server import LINGER_SECONDS

pytestmark = pytest.mark.anyio

CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n0\r\n"


async def tell(exchange: Exchange) -> None:
    """Answer with the request: its target, its headers' names, its body."""
    body = await exchange.body(LIMIT)
    names = b",".join(name for name, _ in exchange.headers)
    text = b"%b|%b|%b;" % (exchange.path, names, body)
    exchange.reply(200, [(b"content-length", b"%d" % len(text))], text)


def told(reply: bytes) -> list[bytes]:
    """What the replies of `tell` say."""
    return [part.rpartition(b"\r\n\r\n")[2].split(b";")[0] for part in reply.split(b"HTTP/1.1 200")[1:]]


async def test_trailers_are_no_headers() -> None:
    """What comes behind the body was not there when Host and Origin were checked, and names nobody's session."""
    async with serving(tell) as port:
        reply = await port.ask(CHUNKED + b"authorization: Bearer late\r\nx-late: 1\r\n\r\n")
    assert [b"/|host,transfer-encoding,connection|ok"] == told(reply)


async def test_trailers_without_end_cost_no_memory() -> None:
    """No limit on heads holds for them, so they are not kept."""
    kept: list[int] = []

    async def app(exchange: Exchange) -> None:
        await exchange.body(LIMIT)
        kept.append(len(exchange.headers))
        exchange.reply(204, [], b"")

    async with serving(app, header_limit_count=10) as port:
        await port.ask(CHUNKED + b"x: y\r\n" * 20_000 + b"\r\n")
    assert [3] == kept


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_request_that_offers_an_upgrade_keeps_its_body(framing: str) -> None:
    """Java's HttpClient offers h2c with the first request of each connection; it is served as if it had not."""
    offer = (b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAEAAEAAAAIAAAAB")
    first = post(b"body", *offer, close=False)
    if framing == "chunks":
        first = first.replace(b"content-length: 4", b"transfer-encoding: chunked").replace(
            b"\r\n\r\nbody", b"\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
        )
    async with serving(tell) as port:
        reply = await port.ask(first + post(b"next"))
    bodies = [text.rpartition(b"|")[2] for text in told(reply)]
    assert [b"body", b"next"] == bodies


async def test_an_upgrade_that_comes_in_pieces_keeps_its_body() -> None:
    """Head and body are two packets of that client's, and may be more."""
    request = post(b"body", b"upgrade: h2c", b"connection: upgrade", close=False) + post(b"next")
    async with serving(tell) as port:
        reply = await port.ask_slowly(request)
    assert [b"body", b"next"] == [text.rpartition(b"|")[2] for text in told(reply)]


async def test_an_upgrade_hides_no_headers_from_the_limits() -> None:
    """They are counted as for any other request."""
    offer = (b"connection: upgrade", b"upgrade: websocket")
    async with serving(tell, header_limit_count=10) as port:
        reply = await port.ask(post(b"", *offer, *[b"x-%d: 1" % number for number in range(20)]))
    assert reply.startswith(b"HTTP/1.1 431 ")
    assert ["header_count"] == port.limits


async def test_a_handshake_has_the_time_of_a_head() -> None:
    """A client that connects and says nothing holds a connection no longer over TLS than without."""
    authority = trustme.CA()
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(own)
    async with serving(tell, head_seconds=0.1, tls=own) as port, asyncio.timeout(HANG_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        assert b"" == await reader.read()
        writer.close()
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        reader, writer = await asyncio.open_connection("localhost", port.port, ssl=trusting)
        writer.write(post(b"body"))
        assert [b"/mcp|host,content-length,connection|body"] == told(await reader.read())
        writer.close()


async def test_a_tunnel_is_not_opened() -> None:
    """CONNECT is for proxies of another kind."""
    async with serving(tell) as port:
        reply = await port.ask(b"CONNECT /mcp HTTP/1.1\r\nhost: x\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 400 ")


async def refuse(exchange: Exchange) -> None:
    """Answer without reading."""
    exchange.reply(413, [(b"content-length", b"5"), (b"connection", b"close")], b"large")


def send_all(port: int, size: int) -> bytes:
    """A client that sends its whole body before it looks for an answer."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        client.sendall(b"x" * size)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


async def test_a_client_that_sends_before_it_listens_gets_its_refusal() -> None:
    """Many do. The rest of the body goes nowhere."""
    async with serving(refuse) as port:
        reply = await asyncio.to_thread(send_all, port.port, 20_000_000)
    assert (True, True) == (reply.startswith(b"HTTP/1.1 413 "), reply.endswith(b"large"))


async def test_a_body_that_was_refused_is_not_awaited_on_the_next_request() -> None:
    """Who asks before it sends (`Expect: 100-continue`) sends nothing after a refusal: the connection ends with it."""

    async def app(exchange: Exchange) -> None:
        exchange.reply(404, [(b"content-length", b"0")], b"")

    async with serving(app) as port:
        reply = await port.ask(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
    assert b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" == reply


async def test_a_client_that_goes_on_sending_is_not_listened_to_for_ever() -> None:
    """It has its answer and its end at once, and some seconds to take them."""
    async with serving(refuse) as port, asyncio.timeout(3 * LINGER_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nx")
        assert (await reader.read()).endswith(b"large")
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.1)
        assert 0.5 * LINGER_SECONDS < asyncio.get_running_loop().time() - began < 2 * LINGER_SECONDS
        writer.close()
