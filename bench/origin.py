"""The HTTP server at the far end: a raw asyncio protocol that answers from templates (see lines.py).

A POST that calls the tool `sse` is answered as an SSE stream of one event, everything else as JSON; a GET is
a stream that stays open and carries a comment every 15 s; a DELETE is 200. Run: python -m bench.origin PORT
"""

import asyncio
import itertools
import re
import sys
from typing import cast

import uvloop

from bench.lines import answer

COMMENT_EVERY_SECONDS = 15.0
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_SSE_TOOL = re.compile(rb'"name"\s*:\s*"sse"')

_JSON_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Fri, 21 Nov 2025 09:00:00 GMT\r\nserver: bench\r\ncontent-type: application/json\r\n"
)
_SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Fri, 21 Nov 2025 09:00:00 GMT\r\nserver: bench\r\ncontent-type: text/event-stream\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
_EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_OPENING_COMMENT = b": open\n\n"

_sessions = itertools.count(1)


def sse_event(reply: bytes) -> bytes:
    """The one event that carries a reply."""
    return b"event: message\ndata: %b\n\n" % reply


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def post_reply(body: bytes) -> bytes:
    """The whole HTTP reply to a POST of `body`."""
    reply = answer(body)
    if reply is None:
        return _ACCEPTED
    if _SSE_TOOL.search(body) is not None:
        return _SSE_HEAD + _chunk(sse_event(reply)) + b"0\r\n\r\n"
    session = b"mcp-session-id: bench-%d\r\n" % next(_sessions) if b'"initialize"' in body else b""
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (_JSON_HEAD, session, len(reply), reply)


class Origin(asyncio.Protocol):
    """One connection. Requests are answered in order, as soon as each is complete."""

    def __init__(self) -> None:
        self._seen = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not subclasses

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._seen = self._seen + data if self._seen else data
        while (end := self._seen.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._seen, 0, end)
            complete = end + 4 + (int(length.group(1)) if length else 0)
            if len(self._seen) < complete:
                return
            request, self._seen = self._seen[:complete], self._seen[complete:]
            self._serve(request, end + 4)

    def _serve(self, request: bytes, body_at: int) -> None:
        assert self._transport is not None
        if request.startswith(b"POST"):
            self._transport.write(post_reply(request[body_at:]))
        elif request.startswith(b"GET"):
            self._transport.write(_SSE_HEAD + _chunk(_OPENING_COMMENT))
            self._comment_later()
        else:
            self._transport.write(_EMPTY)

    def _comment_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(COMMENT_EVERY_SECONDS, self._comment)

    def _comment(self) -> None:
        assert self._transport is not None
        self._transport.write(_chunk(b": still here\n\n"))
        self._comment_later()


async def serve(port: int) -> None:
    """Listen on the loopback until cancelled."""
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", port, backlog=2048)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
