"""An MCP server of so many places: each `tools/call` takes one for so long, and those beyond wait in their order.

What has no tool is answered at once. Run: python -m bench.slots PORT PLACES SECONDS JITTER
"""

import asyncio
import random
import sys
from collections import deque
from collections.abc import Callable

import uvloop

from bench.origin import Origin, post_reply


class Places:
    """The places, and who waits for one."""

    def __init__(self, places: int, seconds: float, jitter: float) -> None:
        self._free = places
        self._seconds = seconds
        self._jitter = jitter
        self._draws = random.Random(1)
        self._waiting: deque[Callable[[], None]] = deque()

    def work(self, then: Callable[[], None]) -> None:
        """Take a place as soon as there is one, keep it for a while, then go on."""
        if not self._free:
            self._waiting.append(then)
            return
        self._free -= 1
        seconds = self._seconds * self._draws.uniform(1 - self._jitter, 1 + self._jitter)
        asyncio.get_running_loop().call_later(seconds, self._done, then)

    def _done(self, then: Callable[[], None]) -> None:
        self._free += 1
        then()
        if self._waiting:
            self.work(self._waiting.popleft())


class Busy(Origin):
    """One connection, with one request at a time."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self._places = places

    def _serve(self, request: bytes, body_at: int) -> None:
        if b'"tools/call"' not in request:
            super()._serve(request, body_at)
            return
        reply = post_reply(request[body_at:])
        self._places.work(lambda: self._transport.write(reply) if self._transport is not None else None)


async def serve(port: int, places: Places) -> None:
    """Listen on the loopback until cancelled."""
    server = await asyncio.get_running_loop().create_server(lambda: Busy(places), "127.0.0.1", port, backlog=2048)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Places(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))))
