"""TLS on both sides of a running weir: its own certificate, a given CA, a client certificate, and clear failures."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from support.processes import free_port
from support.rawhttp import JSON_POST, LIMIT_SECONDS, Answer, NoReplyError, Reply, await_head, post, request_bytes
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}'
RESULT = b'{"jsonrpc":"2.0","id":7,"result":{}}'


@dataclass(frozen=True)
class Papers:
    """A certificate authority with a certificate for this machine, as files and as contexts."""

    authority: trustme.CA
    ca: Path
    cert: Path
    key: Path

    def server(self, *, asks_client: bool = False) -> ssl.SSLContext:
        """A server's context."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        if asks_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return context

    def client(self) -> ssl.SSLContext:
        """A client's context that trusts only this authority."""
        return ssl.create_default_context(cafile=str(self.ca))


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates for localhost and 127.0.0.1."""
    where = tmp_path_factory.mktemp("papers")
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(where / "ca.pem"))
    leaf.private_key_pem.write_to_path(str(where / "key.pem"))
    for number, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(str(where / "cert.pem"), append=number > 0)
    return Papers(authority, where / "ca.pem", where / "cert.pem", where / "key.pem")


@asynccontextmanager
async def tls_server(context: ssl.SSLContext) -> AsyncIterator[str]:
    """An upstream that answers one fixed result; gives its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(RESULT) + RESULT)
        await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/mcp"


async def post_tls(port: int, context: ssl.SSLContext) -> Reply:
    """The call over TLS, as a client that checks the name does it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            writer.write(request_bytes("POST", "/mcp", JSON_POST, CALL))
            answer = Answer(await await_head(reader), reader, writer)
            return Reply(answer.head.line, answer.head.headers, await answer.rest())
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)  # the loop closes the socket; a weir that is stopped meanwhile would wait for it


async def test_clients_reach_weir_over_tls(papers: Papers, tmp_path: Path) -> None:
    """With the certificate of `listen.tls`."""
    config: Config = {**UNTRACED, "listen": {"tls": {"cert": str(papers.cert), "key": str(papers.key)}}}
    with weir_http(tmp_path, {"url": f"http://127.0.0.1:{free_port()}/mcp"}, config) as weir:
        reply = await post_tls(weir.port, papers.client())
    assert (502, True) == (reply.status, b'"id":7' in reply.body)


async def test_weir_reaches_a_server_whose_ca_it_was_given(papers: Papers, tmp_path: Path) -> None:
    """`tls.ca` of the upstream."""
    async with tls_server(papers.server()) as url:
        with weir_http(tmp_path, {"url": url, "tls": {"ca": str(papers.ca)}}) as weir:
            reply = await post(weir.port, CALL)
    assert (200, RESULT) == (reply.status, reply.body)


async def test_weir_shows_its_client_certificate(papers: Papers, tmp_path: Path) -> None:
    """`tls.cert` and `tls.key` of the upstream, for a server that asks."""
    tls = {"ca": str(papers.ca), "cert": str(papers.cert), "key": str(papers.key)}
    async with tls_server(papers.server(asks_client=True)) as url:
        with weir_http(tmp_path, {"url": url, "tls": tls}) as weir:
            reply = await post(weir.port, CALL)
    assert (200, RESULT) == (reply.status, reply.body)


async def test_a_long_stream_passes_through_tls_on_both_sides(papers: Papers, tmp_path: Path) -> None:
    """Byte for byte, and no faster than the client reads."""
    event = b"data: " + b"x" * 65_528 + b"\n\n"
    stream = event * 128 + b"data: " + RESULT + b"\n\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for begin in range(0, len(stream), 100_000):
            writer.write(stream[begin : begin + 100_000])
            await writer.drain()
        writer.close()

    config: Config = {**UNTRACED, "listen": {"tls": {"cert": str(papers.cert), "key": str(papers.key)}}}
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=papers.server())
    async with server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/mcp"
        with weir_http(tmp_path, {"url": url, "tls": {"ca": str(papers.ca)}}, config) as weir:
            reply = await post_tls(weir.port, papers.client())
    assert (200, True) == (reply.status, stream == reply.body)


async def test_what_speaks_no_tls_gets_no_answer_and_harms_nobody(papers: Papers, tmp_path: Path) -> None:
    """A client that forgot the s of https."""
    config: Config = {**UNTRACED, "listen": {"tls": {"cert": str(papers.cert), "key": str(papers.key)}}}
    async with tls_server(papers.server()) as url:
        with weir_http(tmp_path, {"url": url, "tls": {"ca": str(papers.ca)}}, config) as weir:
            with pytest.raises((NoReplyError, ConnectionError)):
                await post(weir.port, CALL)
            reply = await post_tls(weir.port, papers.client())
    assert (200, RESULT) == (reply.status, reply.body)


@pytest.mark.parametrize("asks_client", [False, True], ids=["unknown CA", "client certificate missing"])
async def test_a_handshake_that_fails_is_one_clear_error(papers: Papers, tmp_path: Path, asks_client: bool) -> None:
    """Said as a TLS error, and nothing was sent."""
    async with tls_server(papers.server(asks_client=asks_client)) as url:
        tls = {"tls": {"ca": str(papers.ca)}} if asks_client else {}
        with weir_http(tmp_path, {"url": url, **tls}) as weir:
            reply = await post(weir.port, CALL)
    assert (502, True) == (reply.status, b'"id":7' in reply.body)
    assert b"upstream_tls_error" in reply.body or asks_client


async def test_a_certificate_of_another_name_is_refused_without_telling_the_name(
    papers: Papers, tmp_path: Path
) -> None:
    """The caller learns what is wrong, and not where the server is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    papers.authority.issue_cert("other.example").configure_cert(context)
    async with tls_server(context) as url:
        with weir_http(tmp_path, {"url": url, "tls": {"ca": str(papers.ca)}}) as weir:
            reply = await post(weir.port, CALL)
    assert (502, True) == (reply.status, b"TLS failed: the certificate is not for the server's name" in reply.body)
    assert b"localhost" not in reply.body
