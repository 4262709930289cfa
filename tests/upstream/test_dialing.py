"""Reaching a server: names, families, proxies, TLS."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from support.pools import ask, pool_to
from support.processes import free_port
from support.scripted import ENOUGH_SECONDS, Visit, black_hole, scripted
from weir.core.outcome import FailureKind, Sent
from weir.upstream.dialing import (
    NEXT_ADDRESS_SECONDS,
    Origin,
    Proxy,
    TlsSettings,
    client_context,
    connect_to,
    origin_of,
    proxy_at,
    proxy_for,
)
from weir.upstream.exchange import Unanswered
from weir.upstream.http1 import PoolSettings

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: weir runs on uvloop where there is one."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


class Authority:
    """A certificate authority with its files."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self._folder = folder
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)

    def server(self, *names: str) -> ssl.SSLContext:
        """A server's context for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        self.ca.issue_cert(*names).configure_cert(context)
        return context

    def client(self) -> TlsSettings:
        """Files that name a client."""
        issued = self.ca.issue_cert("client@example.org")
        cert, key = self._folder / "client.pem", self._folder / "client.key"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        return TlsSettings(self.ca_file, str(cert), str(key))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A fresh one."""
    return Authority(tmp_path)


async def hello(visit: Visit) -> None:
    """A server that answers."""
    while True:
        await visit.request()
        await visit.answer(b"hello")


async def failure_at(url: str, tls: ssl.SSLContext | None = None, proxy: Proxy | None = None) -> Unanswered:
    """How reaching a server fails."""
    async with pool_to(url, tls=tls, proxy=proxy) as pool:
        with pytest.raises(Unanswered) as caught:
            await ask(pool)
    return caught.value


async def test_a_server_behind_tls_is_reached(authority: Authority) -> None:
    """By name, with a given authority, and on one connection."""
    context = client_context(TlsSettings(authority.ca_file))
    async with scripted(hello, tls=authority.server("localhost")) as server:
        async with pool_to(server.url("https", "localhost"), tls=context) as pool:
            for _ in range(3):
                assert b"hello" == (await ask(pool)).body()
        assert 1 == server.connections


async def test_large_bodies_pass_through_tls(authority: Authority) -> None:
    """Both ways."""
    body, seen = bytes(range(256)) * 20_000, []

    async def script(visit: Visit) -> None:
        seen.append((await visit.request())[1])
        await visit.answer(body)

    context = client_context(TlsSettings(authority.ca_file))
    async with scripted(script, tls=authority.server("127.0.0.1")) as server, pool_to(server, tls=context) as pool:
        exchange = await ask(pool, body=body)
        assert exchange.is_stream
        received = b""
        while data := await exchange.read():
            received += data
    assert [body] == seen
    assert body == received


async def test_the_server_learns_the_name_and_the_protocol(authority: Authority) -> None:
    """SNI and ALPN."""
    asked: list[str | None] = []
    chosen: list[str | None] = []
    context = authority.server("localhost")

    def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        asked.append(name)

    async def script(visit: Visit) -> None:
        chosen.append(visit.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await hello(visit)

    context.sni_callback = note
    client = client_context(TlsSettings(authority.ca_file))
    async with (
        scripted(script, tls=context) as server,
        pool_to(server.url("https", "localhost"), tls=client) as pool,
    ):
        await ask(pool)
    assert (["localhost"], ["http/1.1"]) == (asked, chosen)


async def test_a_client_certificate_is_shown(authority: Authority) -> None:
    """To a server that asks for one."""
    context = authority.server("127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    authority.ca.configure_trust(context)
    client = client_context(authority.client())
    async with scripted(hello, tls=context) as server, pool_to(server, tls=client) as pool:
        assert b"hello" == (await ask(pool)).body()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_missing_client_certificate_is_a_tls_failure(authority: Authority, version: ssl.TLSVersion) -> None:
    """With TLS 1.3 the server says so only after the request went out."""
    context = authority.server("127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    authority.ca.configure_trust(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=shake_hands, args=(listener, context))
        server.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        failure = await failure_at(url, client_context(TlsSettings(authority.ca_file)))
        server.join()
    is_late = version is ssl.TLSVersion.TLSv1_3
    assert (FailureKind.TLS, is_late) == (failure.kind, failure.is_undone)
    assert (Sent.YES if is_late else Sent.NO) is failure.sent
    if is_late:
        expected = "the server wants a client certificate (TLS alert 'certificate required') before the reply"
        assert expected == failure.detail


def shake_hands(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Accept one connection; the library tells the client what it does not like."""
    visitor, _ = listener.accept()
    with visitor.dup() as raw:
        with visitor, contextlib.suppress(ssl.SSLError):
            context.wrap_socket(visitor, server_side=True).close()
        # closing with the request unread would reset the connection, and take the alert with it
        while raw.recv(65536):
            pass


@pytest.mark.parametrize("fault", ["unknown authority", "other name", "no TLS"])
async def test_a_server_that_cannot_be_trusted_gets_nothing(authority: Authority, fault: str) -> None:
    """Not one byte of the request."""
    asked: list[bytes] = []

    async def script(visit: Visit) -> None:
        if fault == "no TLS":
            await visit.reader.read(100)
            await visit.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        else:
            asked.append((await visit.request())[0])

    name = "other.example" if fault == "other name" else "127.0.0.1"
    tls = None if fault == "no TLS" else authority.server(name)
    trusted = TlsSettings() if fault == "unknown authority" else TlsSettings(authority.ca_file)
    async with scripted(script, tls=tls) as server:
        failure = await failure_at(server.url("https"), client_context(trusted))
    assert (FailureKind.TLS, Sent.NO) == (failure.kind, failure.sent)
    assert "\n" not in failure.detail
    assert [] == asked


async def test_a_handshake_that_never_ends_is_given_up() -> None:
    """The limit for reaching a server covers TLS; the socket is closed."""

    async def script(visit: Visit) -> None:
        await visit.gone()

    async with scripted(script) as server:
        settings = PoolSettings(connect_seconds=0.2)
        async with pool_to(server.url("https"), settings, tls=client_context(TlsSettings())) as pool:
            with pytest.raises(Unanswered) as caught:
                await ask(pool)
            assert (FailureKind.TIMEOUT, Sent.NO, "connect") == (
                caught.value.kind,
                caught.value.sent,
                caught.value.timer,
            )
            await server.finished()


async def test_files_that_hold_no_certificates_are_an_error(tmp_path: Path) -> None:
    """At the start, not at the first request."""
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for settings in (TlsSettings(str(empty)), TlsSettings(cert=str(empty)), TlsSettings(str(tmp_path / "missing"))):
        with pytest.raises(OSError):  # noqa: PT011 - the system's own texts
            client_context(settings)


async def test_a_name_that_nobody_has_is_a_connect_failure() -> None:
    """Nothing was sent."""
    for host in ("a..b", "x" * 70 + ".localhost"):
        failure = await failure_at(f"http://{host}:1")
        assert (FailureKind.CONNECT, Sent.NO) == (failure.kind, failure.sent)


async def test_an_address_that_does_not_answer_does_not_hold_up_the_others() -> None:
    """The next one is tried a moment later, beside it."""
    async with scripted(hello) as server:
        with black_hole() as silent:
            began = time.monotonic()
            async with asyncio.timeout(ENOUGH_SECONDS):
                sock = await connect_to([(socket.AF_INET, silent), (socket.AF_INET, ("127.0.0.1", server.port))])
            with sock:
                assert server.port == sock.getpeername()[1]
            assert NEXT_ADDRESS_SECONDS * 0.9 <= time.monotonic() - began


async def test_an_address_that_refuses_is_passed_over_at_once() -> None:
    """Without waiting; and when all refuse, that is the error."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        refusing = (socket.AF_INET, nobody.getsockname())
    async with scripted(hello) as server:
        began = time.monotonic()
        with await connect_to([refusing, refusing, (socket.AF_INET, ("127.0.0.1", server.port))]) as sock:
            assert server.port == sock.getpeername()[1]
        assert time.monotonic() - began < NEXT_ADDRESS_SECONDS
    with pytest.raises(ConnectionRefusedError):
        await connect_to([refusing, refusing])


async def test_giving_up_the_race_leaves_no_socket_behind() -> None:
    """Unclosed sockets would be reported as warnings, which are errors here."""
    with black_hole() as silent, contextlib.suppress(TimeoutError):
        async with asyncio.timeout(NEXT_ADDRESS_SECONDS * 1.5):
            await connect_to([(socket.AF_INET, silent)] * 3)


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback")
async def test_a_server_is_reached_over_ipv6() -> None:
    """By a literal address."""
    async with scripted(hello, host="::1") as server, pool_to(server.url(host="[::1]")) as pool:
        assert b"hello" == (await ask(pool)).body()


async def test_a_server_on_one_family_is_reached_by_a_name_that_has_both() -> None:
    """`localhost` may mean ::1 first."""
    async with scripted(hello) as server, pool_to(server.url(host="localhost")) as pool:
        assert b"hello" == (await ask(pool)).body()


class Relay:
    """A proxy that accepts tunnels and plain requests."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.heads: list[bytes] = []
        self._answer = answer

    async def script(self, visit: Visit) -> None:
        """Play."""
        head = await visit.reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if not head.startswith(b"CONNECT"):
            await visit.answer(b"by proxy")
            return
        await visit.send(*(bytes((each,)) for each in self._answer))
        if b" 200 " in self._answer:
            host, _, port = head.split(b" ")[1].decode().rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(pump(visit.reader, writer))
                    group.create_task(pump(reader, visit.writer))
            finally:
                writer.transport.abort()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction of a tunnel."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_tls_goes_through_a_proxy_in_a_tunnel(authority: Authority) -> None:
    """The proxy sees the address and its own password, nothing else."""
    relay = Relay()
    async with (
        scripted(hello, tls=authority.server("127.0.0.1")) as server,
        scripted(relay.script) as proxy,
        pool_to(
            server,
            tls=client_context(TlsSettings(authority.ca_file)),
            proxy=proxy_at(f"http://me:p%40ss@127.0.0.1:{proxy.port}"),
        ) as pool,
    ):
        for _ in range(2):
            assert b"hello" == (await ask(pool)).body()
        port = server.port
    assert [
        b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
        b"proxy-authorization: Basic bWU6cEBzcw==\r\n\r\n" % (port, port)
    ] == relay.heads


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nforged",
        b"SSH-2.0\r\n\r\n",
        b"",
        b"x" * 70_000,
    ],
)
async def test_a_proxy_that_refuses_is_a_connect_failure(answer: bytes) -> None:
    """Nothing of the request was sent."""

    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.send(answer)

    async with scripted(script) as proxy:
        failure = await failure_at(
            "https://192.0.2.1", client_context(TlsSettings()), proxy_at(f"127.0.0.1:{proxy.port}")
        )
    assert (FailureKind.CONNECT, Sent.NO) == (failure.kind, failure.sent)
    assert "\n" not in failure.detail


async def test_a_proxy_that_is_not_there_is_not_taken_for_the_server() -> None:
    """Whoever mends it must know where to look."""
    failure = await failure_at("http://192.0.2.1", None, proxy_at(f"127.0.0.1:{free_port()}"))
    assert "cannot connect to the proxy: Connection refused" == failure.detail


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://example.org", Origin("http", "example.org", 80, "example.org")),
        ("https://example.org/mcp?x", Origin("https", "example.org", 443, "example.org")),
        ("https://Example.ORG:443/", Origin("https", "example.org", 443, "example.org")),
        ("http://example.org:8080", Origin("http", "example.org", 8080, "example.org:8080")),
        ("http://user:secret@example.org:81", Origin("http", "example.org", 81, "example.org:81")),
        ("http://[::1]:9/x", Origin("http", "::1", 9, "[::1]:9")),
        ("http://bücher.example", Origin("http", "xn--bcher-kva.example", 80, "xn--bcher-kva.example")),
    ],
)
def test_a_url_names_a_server(url: str, origin: Origin) -> None:
    """Scheme, host, port, and what belongs into Host."""
    assert origin == origin_of(url)


@pytest.mark.parametrize("url", ["", "example.org", "ftp://example.org", "http://", "http:///path", "http://h:x"])
def test_a_url_that_names_no_server_is_an_error(url: str) -> None:
    """For the configuration to show."""
    with pytest.raises(ValueError):  # noqa: PT011 - the library's text for a bad port
        origin_of(url)


HTTP, HTTPS = origin_of("http://api.example.org"), origin_of("https://api.example.org:8443")


@pytest.mark.parametrize(
    ("origin", "environ", "host"),
    [
        (HTTP, {}, None),
        (HTTP, {"HTTP_PROXY": "http://proxy:3128"}, "proxy"),
        (HTTP, {"http_proxy": "proxy:3128", "HTTP_PROXY": "http://other:1"}, "proxy"),
        (HTTP, {"HTTPS_PROXY": "http://proxy:3128"}, None),
        (HTTPS, {"HTTPS_PROXY": "http://proxy:3128"}, "proxy"),
        (HTTPS, {"HTTPS_PROXY": " "}, None),
        (HTTPS, {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, None),
        (HTTPS, {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "a.test, example.org"}, None),
        (HTTPS, {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": ".example.org"}, None),
        (HTTPS, {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "*.EXAMPLE.org"}, None),
        (HTTPS, {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "api.example.org:8443"}, None),
        (HTTPS, {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "api.example.org:443"}, "proxy"),
        (HTTPS, {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "ple.org,api.example.com"}, "proxy"),
        (origin_of("http://10.1.2.3"), {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "10.0.0.0/8"}, None),
        (origin_of("http://10.1.2.3"), {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "10.1.2.4"}, "proxy"),
        (origin_of("http://[fd00::1]"), {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "[fd00::1]"}, None),
        (origin_of("http://localhost:1"), {"HTTP_PROXY": "http://proxy:3128"}, None),
        (origin_of("http://127.8.8.8:1"), {"HTTP_PROXY": "http://proxy:3128"}, None),
        (origin_of("http://[::1]:1"), {"HTTP_PROXY": "http://proxy:3128"}, None),
    ],
)
def test_the_environment_names_the_proxy(origin: Origin, environ: dict[str, str], host: str | None) -> None:
    """As curl reads it, and never for loopback."""
    proxy = proxy_for(origin, environ)
    assert host == (proxy.host if proxy is not None else None)


@pytest.mark.parametrize("url", ["socks5://proxy:1080", "https://proxy:3128", "http://", "http://proxy:99999"])
def test_a_proxy_of_another_kind_is_an_error(url: str) -> None:
    """Better than going around it in silence."""
    with pytest.raises(ValueError, match=r"^https_proxy: "):
        proxy_for(HTTPS, {"HTTPS_PROXY": url})


def test_a_proxy_does_not_show_its_password() -> None:
    """Not even its encoded form."""
    assert "Proxy(proxy:3128)" == repr(proxy_at("http://me:secret@proxy:3128"))


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://me:SECRET#1@proxy:3128", id="hash"),
        pytest.param("http://me:SECRET/1@proxy:3128", id="slash"),
        pytest.param("http://proxy:\u00b2", id="superscript"),
        pytest.param("http://me:SECRET@a..b:3128", id="host"),
        pytest.param("http://me:SECRET@[proxy:3128", id="bracket"),
    ],
)
def test_a_proxy_that_cannot_be_read_is_an_error_without_its_password(url: str) -> None:
    """The library's own text quotes it."""
    with pytest.raises(ValueError, match=r"^https_proxy: a proxy's URL is http://HOST:PORT") as caught:
        proxy_for(HTTPS, {"HTTPS_PROXY": url})
    assert "SECRET" not in str(caught.value)
