"""The HTTP client of weir, pointed at a scripted server."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable

from support.scripted import ENOUGH_SECONDS, Scripted
from weir.core.call import Headers
from weir.upstream.dialing import Dialer, Proxy, origin_of
from weir.upstream.exchange import Exchange
from weir.upstream.http1 import Pool, PoolSettings, Request, Watcher


class Clock:
    """The real clock, which a test can set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic() + self.ahead


@contextlib.asynccontextmanager
async def pool_to(
    server: Scripted | str,
    settings: PoolSettings | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    proxy: Proxy | None = None,
    clock: Callable[[], float] = time.monotonic,
    watcher: Watcher | None = None,
) -> AsyncIterator[Pool]:
    """A pool of connections to a server (or a URL), closed at the end."""
    url = server if isinstance(server, str) else server.url("https" if tls else "http")
    pool = Pool(Dialer(origin_of(url), tls, proxy), settings or PoolSettings(), clock, watcher)
    try:
        yield pool
    finally:
        await pool.aclose()


async def start(
    pool: Pool, target: bytes = b"/", *, verb: bytes = b"POST", body: bytes = b"{}", headers: Headers | None = None
) -> Exchange:
    """Send one request."""
    lines = [b"host: test", *(b": ".join(each) for each in headers or []), b"content-length: %d" % len(body)]
    request = Request(verb, target, lines, body)
    return pool.send(request) or await pool.connect_and_send(request)


async def ask(
    pool: Pool, target: bytes = b"/", *, verb: bytes = b"POST", body: bytes = b"{}", headers: Headers | None = None
) -> Exchange:
    """Send one request, and wait until its reply is complete or known to be a stream."""
    async with asyncio.timeout(ENOUGH_SECONDS):
        exchange = await start(pool, target, verb=verb, body=body, headers=headers)
        await exchange.arrived
    return exchange


async def read_all(exchange: Exchange) -> bytes:
    """The rest of a stream."""
    taken = b""
    async with asyncio.timeout(ENOUGH_SECONDS):
        while data := await exchange.read():
            taken += data
    return taken
