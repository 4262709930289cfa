"""One HTTP request and its reply on a connection: the ASGI `receive` and `send` of weir's server.

uvicorn's own cycle writes head and body in two system calls and knows a vanished client only when
asked. This one joins head and first body, and ends the application's task when the client goes, so
that nothing upstream works for nobody.
"""

import asyncio
import http
from typing import TYPE_CHECKING, Any

from weir.core.call import Headers

if TYPE_CHECKING:
    from weir.downstream.server import ClientConnection

STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in http.HTTPStatus
}
_NO_BODY = frozenset({204, 304})
_JOIN_LIMIT_BYTES = 16 * 1024
"""Up to here one copy costs less than the system's gathering of pieces."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange:
    """One request until its reply is written. Made at the end of the request's head."""

    __slots__ = (
        "_body",
        "_chunked",
        "_connection",
        "_expects_continue",
        "_head",
        "_is_head_request",
        "_is_request_complete",
        "_left",
        "_waiter",
        "is_complete",
        "is_gone",
        "keep_alive",
        "scope",
        "started",
    )

    def __init__(
        self, connection: "ClientConnection", scope: dict[str, Any], *, keep_alive: bool, expects_continue: bool
    ) -> None:
        self._connection = connection
        self.scope = scope
        scope["extensions"] = {"weir.reply": self.reply}
        self.keep_alive = keep_alive
        self.started = False
        self.is_complete = False
        self.is_gone = False
        self._expects_continue = expects_continue
        self._is_head_request = scope["method"] == "HEAD"
        self._body: list[bytes] = []
        self._is_request_complete = False
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._chunked = False
        self._left = -1

    async def run(self, app: Any) -> None:
        """Let the application answer; the connection learns how it went."""
        try:
            await app(self.scope, self.receive, self.send)
        finally:
            self._connection.exchange_over(self)

    # from the connection

    def feed(self, data: bytes) -> int:
        """Take bytes of the request's body; returns how many are waiting to be received."""
        self._body.append(data)
        self._wake()
        return sum(map(len, self._body))

    def feed_end(self) -> None:
        """The request's body is complete."""
        self._is_request_complete = True
        self._wake()

    def client_gone(self) -> None:
        """The connection is lost."""
        self.is_gone = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # the ASGI interface

    async def receive(self) -> Any:
        """The next piece of the request's body, or the client's disconnect.

        Raises:
            TimeoutError: nothing came for `body_silence_seconds`.
        """
        while not (self._body or self._is_request_complete or self.is_gone):
            if self._expects_continue:
                self._expects_continue = False
                self._connection.transport.write(_CONTINUE)
            self._connection.flow.resume_reading()
            self._waiter = self._connection.loop.create_future()
            async with asyncio.timeout(self._connection.settings.body_silence_seconds):
                await self._waiter
        if self.is_gone or self.is_complete:
            return {"type": "http.disconnect"}
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        return {"type": "http.request", "body": body, "more_body": not self._is_request_complete}

    async def send(self, message: Any) -> None:
        """Write the reply's head (held back until the first body message) or a piece of its body."""
        if self.is_gone:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message["headers"])
            return
        data, more = message.get("body", b""), message.get("more_body", False)
        self._write(data, more)
        if not more:
            self._finish()
        elif self._connection.flow.write_paused:
            await self._connection.flow.drain()

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a whole reply at once: weir's extension of the ASGI interface, `weir.reply` in the scope."""
        if self.is_gone:
            return
        self._begin(status, headers)
        self._write(body, False)
        self._finish()

    def _begin(self, status: int, headers: Headers) -> None:
        parts = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        for name, value in headers:
            parts.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                self._left = int(value)
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
        if self._is_head_request or status in _NO_BODY:
            self._left = 0
        elif self._left < 0:
            self._chunked = self.scope["http_version"] == "1.1"
            self.keep_alive = self.keep_alive and self._chunked
            if self._chunked:
                parts.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        self._head = b"".join(parts)
        self.started = True

    def _write(self, data: bytes, more: bool) -> None:
        parts = [self._head] if self._head else []
        self._head = b""
        if self._chunked:
            if data:
                parts += (b"%x\r\n" % len(data), data, b"\r\n")
            if not more:
                parts.append(b"0\r\n\r\n")
        elif data and not self._is_head_request:
            parts.append(data)
            self._left -= len(data)
        if len(data) > _JOIN_LIMIT_BYTES:
            self._connection.transport.writelines(parts)
        elif parts:
            self._connection.transport.write(b"".join(parts))

    def _finish(self) -> None:
        self.is_complete = True
        if self._left > 0:
            # fewer bytes than promised: only closing tells the client so
            self.keep_alive = False
        self._connection.exchange_complete(self)
