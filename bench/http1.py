"""What one exchange costs: CPU µs of this process, against a trivial server in another one.

    python bench/http1.py [--exchanges 20000] [--concurrency 16] [--loop uvloop|asyncio]

`client` is the HTTP client alone, `edge` the whole upstream edge: composing, peeking, judging.
"""

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe

import uvloop

from weir.core.call import Attempt, Call, Headers, Peer, Transport
from weir.core.outcome import Replied
from weir.protocol.envelope import peek
from weir.upstream.dialing import Dialer, origin_of
from weir.upstream.http import HttpSettings, HttpUpstream
from weir.upstream.http1 import Pool, PoolSettings, Request

ASK = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}'
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hello"}],"isError":false}}'
EVENT = b"event: message\r\ndata: " + ANSWER + b"\r\n\r\n"
LARGE = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%b"}]}}' % (b"x" * 1_000_000)
HEADERS: Headers = [
    (b"host", b"127.0.0.1:8931"),
    (b"accept", b"application/json, text/event-stream"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"python-httpx/0.28"),
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(ASK)),
    (b"mcp-protocol-version", b"2025-11-25"),
    (b"mcp-session-id", b"0123456789abcdef0123456789abcdef"),
]
LINES = [b": ".join(each) for each in HEADERS]
_SHARED = (
    b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: bench\r\nmcp-session-id: 0123456789abcdef\r\n"
)
REPLIES = {
    b"/json": _SHARED + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER,
    b"/large": _SHARED + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(LARGE) + LARGE,
    b"/sse": _SHARED
    + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT),
}


class Server(asyncio.Protocol):
    """Answers every request, which must arrive in one piece, with the reply of its path."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(REPLIES[data.split(b" ", 2)[1]])


def serve(pipe: Pipe) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    uvloop.run(main())


class Nowhere:
    """A sink that takes everything."""

    async def open(self, status: int, headers: Headers) -> None:
        pass

    async def write(self, chunk: bytes) -> None:
        pass


async def measure(name: str, once: Callable[[], Awaitable[None]], exchanges: int, concurrency: int) -> None:
    async def worker(count: int) -> None:
        for _ in range(count):
            await once()

    async def all_of(count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(worker(count // concurrency))

    await all_of(max(concurrency, exchanges // 10))
    cpu, wall = time.process_time(), time.perf_counter()
    await all_of(exchanges)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"{name:28} {cpu / exchanges * 1e6:8.1f} µs CPU {wall / exchanges * 1e6:8.1f} µs wall per exchange")


async def run(port: int, exchanges: int, concurrency: int) -> None:
    url = f"http://127.0.0.1:{port}"
    clock = time.monotonic
    pool = Pool(Dialer(origin_of(url), None, None), PoolSettings(), clock)
    edge = HttpUpstream(HttpSettings("bench", url), lambda _: None, clock)
    peer, sink, message = Peer(Transport.HTTP), Nowhere(), peek(ASK)

    async def by_client() -> None:
        request = Request(b"POST", b"/json", LINES, ASK)
        exchange = pool.send(request) or await pool.connect_and_send(request)
        await exchange.arrived
        assert exchange.body() == ANSWER
        exchange.close()

    def by_edge(target: bytes) -> Callable[[], Awaitable[None]]:
        async def once() -> None:
            call = Call(
                upstream="bench", peer=peer, sink=sink, received_at=0.0, target=target, headers=HEADERS, body=ASK,
                message=message,
            )  # fmt: skip
            outcome = await edge(Attempt(call, 1, 0.0))
            assert type(outcome) is Replied

        return once

    for several in (1, concurrency):
        await measure(f"client json        x{several}", by_client, exchanges, several)
        await measure(f"edge   json        x{several}", by_edge(b"/json"), exchanges, several)
        await measure(f"edge   one event   x{several}", by_edge(b"/sse"), exchanges, several)
    await measure("edge   1 MB json   x1", by_edge(b"/large"), max(20, exchanges // 100), 1)
    await pool.aclose()
    await edge.aclose()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--exchanges", type=int, default=20_000)
    options.add_argument("--concurrency", type=int, default=16)
    options.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    given = options.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    runner = uvloop.run if given.loop == "uvloop" else asyncio.run
    try:
        runner(run(ours.recv(), given.exchanges, given.concurrency))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
