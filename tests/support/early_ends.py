"""A server that ends unused connections early and without a word, and how many calls that costs.

`python tests/support/early_ends.py` measures at size: calls of a running weir whose outcome is unknown, for several
delays between a reply and the end of its connection.
"""

import asyncio
import contextlib
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from support.rawhttp import JSON_POST, LIMIT_SECONDS, await_head, connection, read_chunks, read_head, request_bytes
from support.weirs import UNTRACED, weir_http

CALLERS = 10
"""Clients at a time, each with a connection of its own."""


class EarlyServer:
    """Answers each request, and ends the connection after a random time up to `seconds` unless another comes."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.port = 0
        self._draws = random.Random(7)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        seconds = LIMIT_SECONDS
        with contextlib.suppress(TimeoutError, ConnectionError):
            while True:
                async with asyncio.timeout(seconds):
                    head = await read_head(reader)
                if head is None:
                    break
                raw = b"".join([piece async for piece in read_chunks(reader, head, until_close=False)])
                seconds = self._draws.uniform(0, self.seconds)
                body = b'{"jsonrpc":"2.0","id":%b,"result":{}}' % json.dumps(json.loads(raw)["id"]).encode()
                reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                writer.write(reply + body)
        writer.close()


@contextlib.asynccontextmanager
async def early_server(seconds: float) -> AsyncIterator[EarlyServer]:
    """One that listens."""
    one = EarlyServer(seconds)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    async with server:
        yield one


async def ends(port: int, calls: int, pause_seconds: float, method: str = "tools/call") -> Counter[str]:
    """How the calls of CALLERS clients ended: "result", or the reason of an error."""
    found: Counter[str] = Counter()
    draws = random.Random(11)

    async def client() -> None:
        async with connection(port) as (reader, writer):
            for number in range(calls // CALLERS):
                body = {"jsonrpc": "2.0", "id": number, "method": method, "params": {"name": "add"}}
                writer.write(request_bytes("POST", "/mcp", JSON_POST, json.dumps(body).encode()))
                head = await await_head(reader)
                reply = json.loads(b"".join([piece async for piece in read_chunks(reader, head, until_close=False)]))
                found["result" if "result" in reply else reply["error"]["data"]["reason"]] += 1
                await asyncio.sleep(draws.uniform(0, pause_seconds))

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(client())
    return found


async def measure(calls: int) -> None:
    """Print a line for each delay."""
    for seconds in (0.0, 0.001, 0.003, 0.01, 0.1, 1.0):
        with tempfile.TemporaryDirectory() as folder:
            async with early_server(seconds) as server:
                url = f"http://127.0.0.1:{server.port}/mcp"
                with weir_http(Path(folder), {"url": url}, {**UNTRACED, "policies": {"retry": {}}}) as weir:
                    found = await ends(weir.port, calls, 2 * seconds)
        sys.stdout.write(f"ends after up to {seconds * 1000:g} ms: {dict(found)}\n")


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 5000))
