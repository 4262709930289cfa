"""No message within the limits keeps the event loop's thread busy for long, from its first byte to its end.

CPU time of the loop's thread between two turns of a whole weir: a busy machine changes nothing about it. Client and
server run in threads of their own.
"""

import asyncio
import contextlib
import gc
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from support.limits import HANG_SECONDS
from support.weirs import GENEROUS
from weir.app import rooms
from weir.app.build import Weir
from weir.config.model import Config
from weir.downstream.serving import build_server

pytestmark = pytest.mark.anyio

LONGEST_SECONDS = 0.3
MEASUREMENTS = 3
"""A neighbour that takes the caches for a moment spoils one of them."""
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def only_own_objects() -> Iterator[None]:
    """A collection looks at what this test makes, and not at what a thousand tests have left in the process."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def call(arguments: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":%b}}' % arguments


BODIES: dict[str, Callable[[int], bytes]] = {
    "numbers": lambda size: call(b"[%b0]" % (b"0," * (size // 2))),
    "arrays": lambda size: call(b"[%b0]" % (b"[]," * (size // 3))),
    "twins": lambda size: b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":[%b0],"a":1}}' % (b"[]," * (size // 3)),
    "batch": lambda size: b"[%b0]" % (b"0," * (size // 2)),
    "nan": lambda size: call(b"[%b0]" % (b"NaN," * (size // 4))),
    "quotes": lambda size: call(b'"%b"' % (b'\\"' * (size // 2))),
}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
REPLIES: dict[str, Callable[[int], bytes]] = {
    "json numbers": lambda size: reply(b"application/json", result(b"0," * (size // 2))),
    "json arrays": lambda size: reply(b"application/json", result(b"[]," * (size // 3))),
    "one event": lambda size: reply(b"text/event-stream", b"data: " + result(b"0," * (size // 2)) + b"\n\n"),
    "tiny events": lambda size: reply(b"text/event-stream", b"data:x\n\n" * (size // 8)),
    "blank lines": lambda size: reply(b"text/event-stream", b"\n" * size),
    "comments": lambda size: reply(b"text/event-stream", b":\n\n" * (size // 3)),
    "data lines": lambda size: reply(b"text/event-stream", b"data\n" * (size // 5)),
}


def result(members: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"result":{"content":[%b0]}}' % members


def reply(media_type: bytes, body: bytes) -> bytes:
    return HEAD % (media_type, len(body)) + body


@contextlib.contextmanager
def answering(data: bytes) -> Iterator[int]:
    """A server in a thread of its own that answers each connection's first request with these bytes, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(HANG_SECONDS)


@contextlib.asynccontextmanager
async def weir_before(upstream_port: int) -> AsyncIterator[int]:
    """A whole weir in this thread's loop, with every policy on; yields its port."""
    upstream = {"name": "one", "url": f"http://127.0.0.1:{upstream_port}/mcp"}
    weir = Weir(Config.model_validate({"upstreams": [upstream], **GENEROUS}))
    server = build_server(weir.downstream, rooms.server(weir.config, weir.budget, 100, 100), lambda limit: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            services = [tasks.create_task(service()) for service in weir.services()]
            yield listener.getsockname()[1]
            server.should_exit = True
            await weir.aclose()
            for service in services:
                service.cancel()


def exchange(port: int, body: bytes) -> bytes:
    """One request of a client in another thread; the first bytes of its reply, of which it reads everything."""
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", port), HANG_SECONDS) as connection:
        connection.sendall(head)
        connection.sendall(body)
        first = connection.recv(65536)
        while connection.recv(65536):
            pass
    return first


async def longest_stretch(port: int, body: bytes) -> tuple[float, bytes]:
    """The longest CPU time of this thread between two turns of its loop while one request is served, in seconds."""
    async with asyncio.timeout(HANG_SECONDS):
        serving = asyncio.get_running_loop().run_in_executor(None, exchange, port, body)
        longest, last = 0.0, time.thread_time()
        while not serving.done():
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now
        return longest, await serving


async def check(port: int, body: bytes, is_reply: Callable[[bytes], bool]) -> None:
    found: list[Any] = []
    for _ in range(MEASUREMENTS):
        longest, first = await longest_stretch(port, body)
        assert is_reply(first), first[:300]
        if longest < LONGEST_SECONDS:
            return
        found.append(longest)
    raise AssertionError(found)


@pytest.mark.parametrize("name", BODIES)
async def test_no_request_of_16_mib_keeps_the_loop_for_long(name: str) -> None:
    """Read, peeked at, judged by every policy, and sent on to a server that answers."""
    body = BODIES[name](16 * MIB - 200)
    with answering(reply(b"application/json", result(b""))) as upstream:
        async with weir_before(upstream) as port:
            await check(port, body, lambda first: first.startswith(b"HTTP/1.1 "))


@pytest.mark.parametrize("name", REPLIES)
async def test_no_reply_of_4_mib_keeps_the_loop_for_long(name: str) -> None:
    """Held back as long as it may be, judged, and relayed."""
    with answering(REPLIES[name](4 * MIB - 200)) as upstream:
        async with weir_before(upstream) as port:
            await check(port, call(b"{}"), lambda first: first.startswith(b"HTTP/1.1 200"))
