"""Reaching a server: names, both address families, a proxy on the way, TLS."""

import asyncio
import base64
import ipaddress
import itertools
import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from weir.core.outcome import FailureKind, Sent
from weir.core.shortage import is_shortage, what_is_short
from weir.protocol import hosts
from weir.upstream.connection import Connection
from weir.upstream.exchange import Shortage, Unanswered
from weir.upstream.no_proxy import is_exempt
from weir.upstream.sockets import keep_alive
from weir.upstream.tls import load_certificate

NEXT_ADDRESS_SECONDS = 0.25
"""How long one address may take before the next is tried beside it (RFC 8305, section 5)."""
MAX_ADDRESSES = 16
"""Addresses tried for one name; more would not be reached within any sensible connect limit."""
_MISMATCHES = {
    62: "the certificate is not for the server's name",
    64: "the certificate is not for the server's address",
}
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH, whose own texts tell the name."""
_PROXY_FORM = "a proxy's URL is http://HOST:PORT"
MAX_PROXY_HEAD_BYTES = 64 * 1024
"""Of a proxy's answer to CONNECT."""

_TUNNEL_OPEN = re.compile(rb"HTTP/1\.[01] 2\d\d[ \r]")
_PORTS = {"http": 80, "https": 443}
Address = tuple[int, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
"""Family and socket address, as getaddrinfo gives them."""


@dataclass(slots=True, frozen=True)
class TlsSettings:
    """Files in PEM form, "" for none: `ca` instead of the system's authorities; `cert` and `key` name this client."""

    ca: str = ""
    cert: str = ""
    key: str = ""


@dataclass(slots=True, frozen=True)
class Origin:
    """A server as its URL names it. `authority` is what belongs into `Host`."""

    scheme: str
    host: str
    port: int
    authority: str


def origin_of(url: str) -> Origin:
    """The server that an http or https URL names.

    Raises:
        ValueError: no such URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("an upstream URL begins with http:// or https:// and names a host")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    authority = f"[{host}]" if ":" in host else host
    if parts.port is not None and parts.port != _PORTS[parts.scheme]:
        authority = f"{authority}:{parts.port}"
    return Origin(parts.scheme, host, parts.port or _PORTS[parts.scheme], authority)


def client_context(settings: TlsSettings) -> ssl.SSLContext:
    """A context that verifies servers; made once for an upstream.

    Raises:
        OSError: a file cannot be read, or (its subclass ssl.SSLError) holds nothing usable.
    """
    context = ssl.create_default_context(cafile=settings.ca or None)
    context.set_alpn_protocols(["http/1.1"])
    if settings.cert:
        load_certificate(context, settings.cert, settings.key or None)
    return context


@dataclass(slots=True, frozen=True)
class Proxy:
    """An HTTP proxy. `authorization` is the value of `Proxy-Authorization`, b"" for none; never shown."""

    host: str
    port: int
    authorization: bytes = b""

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


def proxy_for(origin: Origin, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for a server, lower case first as in curl.

    Loopback is never reached through a proxy.

    Raises:
        ValueError: see proxy_at.
    """
    name = f"{origin.scheme}_proxy"
    url = _variable(environ, name)
    if not url or hosts.is_loopback(origin.host) or is_exempt(origin.host, origin.port, _variable(environ, "no_proxy")):
        return None
    try:
        return proxy_at(url)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def proxy_at(url: str) -> Proxy:
    """The proxy at a URL; `http://` may be left out.

    Raises:
        ValueError: it is another scheme's, or names no host, or no port that there is.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError:
        # the library's own text quotes what it read, which may be the password
        raise ValueError(f"{_PROXY_FORM}; encode other characters in its user name and password (%23, %2F)") from None
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{_PROXY_FORM}; no other scheme is spoken with it")
    if ":" not in parts.hostname and (reason := hosts.objection(parts.hostname)):
        raise ValueError(f"{_PROXY_FORM}, and its host is no host name: {reason}")
    return Proxy(parts.hostname, port or _PORTS["http"], _basic(parts))


def _variable(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.upper()) or "").strip()


def _basic(parts: SplitResult) -> bytes:
    if parts.username is None:
        return b""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return b"Basic " + base64.b64encode(pair.encode())


class Dialer:
    """Opens connections to one server. `tls` is None for plain text."""

    def __init__(self, origin: Origin, tls: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        self._origin = origin
        self._tls = tls
        self._proxy = proxy

    async def dial(self, protocol: Callable[[], Connection]) -> Connection:
        """A connection that stands, over TLS and through the proxy where there are such.

        Raises:
            Unanswered: with `Sent.NO`.
        """
        try:
            sock = await self._reach()
        except (OSError, UnicodeError) as met:
            # UnicodeError: a name that IDNA cannot encode
            error = _behind(met)
            if is_shortage(error):
                raise Shortage(_short(error), limit="descriptors") from None
            whom = "" if self._proxy is None else " to the proxy"
            raise Unanswered(FailureKind.CONNECT, f"cannot connect{whom}: {_reason(error)}", Sent.NO) from None
        try:
            # from here on the transport owns the socket, and closes it when this fails
            _, connection = await asyncio.get_running_loop().create_connection(
                protocol,
                sock=sock,
                ssl=self._tls,
                server_hostname=self._origin.host.removesuffix(".") if self._tls else None,
            )
        except OSError as error:
            if is_shortage(error):
                raise Shortage(_short(error), limit="descriptors") from None
            if self._tls is None:
                raise Unanswered(FailureKind.CONNECT, f"cannot connect: {_reason(error)}", Sent.NO) from None
            raise Unanswered(FailureKind.TLS, f"TLS failed: {_reason(error)}", Sent.NO) from None
        return connection

    async def _reach(self) -> socket.socket:
        """A connected socket that leads to the server."""
        proxy = self._proxy
        if proxy is None:
            return await _connect(self._origin.host, self._origin.port)
        sock = await _connect(proxy.host, proxy.port)
        if self._tls is None:
            return sock
        try:
            await _tunnel(sock, self._origin, proxy.authorization)
        except BaseException:
            sock.close()
            raise
        return sock


def _short(error: Exception) -> str:
    return f"There is no connection to it: {what_is_short(error)}."


def _behind(error: Exception) -> Exception:
    """The cause of a failed lookup: a resolver that gets no descriptor says that the name is not known."""
    if isinstance(error, socket.gaierror):
        try:
            socket.socket().close()
        except OSError as cause:
            return cause
    return error


def _reason(error: Exception) -> str:
    """What the system says, in one line: callers read it, and are not told where the server is."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _MISMATCHES.get(error.verify_code) or str(error.verify_message)
    if isinstance(error, ssl.SSLError):
        return error.reason or "the handshake failed"
    if isinstance(error, OSError) and error.strerror:
        # event loops write the address into the text of an errno; those of a lookup are negative
        return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    return type(error).__name__


async def _tunnel(sock: socket.socket, origin: Origin, authorization: bytes) -> None:
    """Ask a proxy for a tunnel (RFC 9110, section 9.3.6)."""
    loop = asyncio.get_running_loop()
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}".encode()
    head = b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n" % (target, target)
    if authorization:
        head += b"proxy-authorization: %b\r\n" % authorization
    await loop.sock_sendall(sock, head + b"\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = await loop.sock_recv(sock, 4096)
        answer += piece
        if not piece or len(answer) > MAX_PROXY_HEAD_BYTES:
            raise Unanswered(FailureKind.CONNECT, "the proxy did not answer CONNECT", Sent.NO)
    said = answer.partition(b"\r\n")[0][:40].decode("latin-1")
    # a server that speaks TLS waits for the client: bytes behind the head are not its
    if not _TUNNEL_OPEN.match(answer) or not answer.endswith(b"\r\n\r\n"):
        raise Unanswered(FailureKind.CONNECT, f"the proxy refused the tunnel: {said}", Sent.NO)


async def _connect(host: str, port: int) -> socket.socket:
    """A connected socket. The name is looked up anew each time; the families take turns."""
    return await connect_to(await _addresses(host, port))


async def connect_to(addresses: Sequence[Address]) -> socket.socket:
    """A socket connected to whichever address answers first; each gets a head start on the next.

    Raises:
        OSError: none answers (the first one's error).
    """
    if len(addresses) == 1:
        return await _connect_one(addresses[0])
    return await _Race(addresses).run()


async def _addresses(host: str, port: int) -> list[Address]:
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return [(socket.AF_INET if literal.version == 4 else socket.AF_INET6, (host, port))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    families: dict[int, list[Address]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, []).append((family, address))
    turns = itertools.zip_longest(*families.values())
    return [each for turn in turns for each in turn if each is not None][:MAX_ADDRESSES]


async def _connect_one(address: Address) -> socket.socket:
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock)
        await asyncio.get_running_loop().sock_connect(sock, address[1])
    except BaseException:
        sock.close()
        raise
    return sock


class _Race:
    """Several addresses of one name, each started a moment after the one before; the first to connect wins."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self._moved = asyncio.Event()
        self._winner: socket.socket | None = None
        self._errors: list[OSError] = []

    async def run(self) -> socket.socket:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [await self._start(group, address) for address in self._addresses]
                await self._decide()
                for task in filter(None, tasks):
                    task.cancel()
        except BaseException:
            if self._winner is not None:
                self._winner.close()
            raise
        if self._winner is None:
            raise self._errors[0]
        return self._winner

    async def _decide(self) -> None:
        """Wait for a winner, or for the last of them to fail."""
        while self._winner is None and len(self._errors) < len(self._addresses):
            await self._moved.wait()
            self._moved.clear()

    async def _start(self, group: asyncio.TaskGroup, address: Address) -> "asyncio.Task[None] | None":
        """Start one, and wait until it is time for the next: something ended, or it takes long."""
        if self._winner is not None:
            return None
        task = group.create_task(self._try(address))
        try:
            async with asyncio.timeout(NEXT_ADDRESS_SECONDS):
                await self._moved.wait()
        except TimeoutError:
            pass
        self._moved.clear()
        return task

    async def _try(self, address: Address) -> None:
        try:
            sock = await _connect_one(address)
        except OSError as error:
            self._errors.append(error)
        else:
            if self._winner is None:
                self._winner = sock
            else:
                sock.close()
        self._moved.set()
