"""One HTTP request and its reply on a connection.

uvicorn's own cycle speaks ASGI, writes head and body in two system calls, and knows of a vanished client only
when asked. This one is called directly, joins what is written together into one system call, and its task is
ended by the connection when the client goes, so that nothing upstream works for nobody.
"""

import asyncio
import http
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from weir.core.budget import Account
from weir.core.call import Call, Headers
from weir.downstream.body_errors import BodyTooLargeError, ClientGoneError, MalformedBodyError, OverloadedError
from weir.downstream.pace import Pace
from weir.downstream.request_head import Head
from weir.protocol.media_types import EVENT_STREAM, media_type
from weir.protocol.numbers import whole_number

if TYPE_CHECKING:
    from weir.downstream.server import ClientConnection

STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in http.HTTPStatus
}
_NO_BODY: Final = frozenset({204, 304})
_JOIN_LIMIT_BYTES: Final = 16 * 1024
"""Up to here one copy costs less than the system's gathering of pieces."""
_WAIT_LIMIT_BYTES: Final = 64 * 1024
"""What may wait for the end of the loop's turn to be written; the transport's own high-water mark."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange:
    """One request until its reply is written; the sink of a reply that streams (core/call.py).

    `headers` have names in lower case; `path` and `query` are as they were sent. `task` runs it; `has_waited`: for the
    body.
    """

    __slots__ = (
        "_call",
        "_charged_bytes",
        "_chunked",
        "_clock",
        "_connection",
        "_expects_continue",
        "_fault",
        "_is_flush_due",
        "_left",
        "_out",
        "_out_bytes",
        "_received",
        "_waiter",
        "account",
        "address",
        "bytes_sent",
        "has_waited",
        "headers",
        "http_version",
        "is_complete",
        "is_event_stream",
        "is_gone",
        "is_open",
        "is_request_complete",
        "keep_alive",
        "method",
        "path",
        "query",
        "status",
        "task",
    )

    def __init__(self, connection: "ClientConnection", method: str, head: Head) -> None:
        self._connection = connection
        self.method = method
        self.path = head.path
        self.query = head.query
        self.headers = head.headers
        self.http_version: str = head.version
        self.keep_alive: bool = connection.parser.should_keep_alive()
        self.status = 0
        self.bytes_sent = 0
        self._call: Call | None = None
        self._clock: Callable[[], float]
        self.is_open = False
        self.is_event_stream = False
        self.is_complete = False
        self.is_gone = False
        self._expects_continue = connection.expect_100_continue
        self._received: bytes | bytearray = b""
        self.address: str = connection.client[0] if connection.client else ""
        self.account: Account = connection.account
        """Counts what this request's client holds: the connection's peer, unless a proxy forwards for others."""
        self._charged_bytes = 0
        self._fault: Exception | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_request_complete = False
        self.has_waited = False
        self._waiter: asyncio.Future[None] | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._is_flush_due = False
        self._chunked = False
        self._left = -1

    @property
    def client(self) -> tuple[str, int]:
        """Address and port of the client's end of the connection."""
        return self._connection.client or ("", 0)

    def replies_to(self, call: Call, clock: Callable[[], float]) -> None:
        """The reply is the call's: what its client takes to read is told to it, on its clock."""
        self._call, self._clock = call, clock

    async def run(self, app: Any) -> None:
        """Let the application answer; the connection learns how it went."""
        try:
            await app(self)
        finally:
            self._let_go()
            self._connection.exchange_over(self)
            self.task = None

    # from the connection

    def feed(self, data: bytes) -> bool:
        """Take bytes of the request's body. True when more have come than anybody has asked for so far."""
        if self._fault is not None:
            return False
        lack = self.account.take(len(data))
        if lack is not None:
            self._fail(OverloadedError(lack))
            return False
        self._charged_bytes += len(data)
        received = self._received
        if not received:
            # most bodies come in one piece
            self._received = data
        elif isinstance(received, bytearray):
            received += data
        else:
            # one buffer and not a list of pieces: a body in pieces of one byte would cost fifty times its size
            self._received = bytearray(received)
            self._received += data
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
            return False
        return len(self._received) > HIGH_WATER_LIMIT

    def feed_end(self) -> None:
        """The request's body is complete."""
        self.is_request_complete = True
        self._wake()

    def broke_off(self) -> None:
        """The rest of the request's body cannot be read."""
        self._fail(MalformedBodyError())

    def _fail(self, fault: Exception) -> None:
        self._fault, self._received = fault, b""
        self._wake()

    def client_gone(self) -> None:
        """The connection is lost."""
        self.is_gone = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # the request

    def body_at_once(self, limit_bytes: int) -> bytes | None:
        """The whole body, when it has come already and nothing is wrong with it; None: `body` says more."""
        if not self.is_request_complete or self._fault is not None or self.is_gone:
            return None
        return self._taken() if len(self._received) <= limit_bytes else None

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body.

        Raises:
            BodyTooLargeError: it is over the limit, by its own word or by counting.
            MalformedBodyError: its framing is broken.
            OverloadedError: weir, or its client, holds as much as it may.
            TimeoutError: less than the least rate came within `body_silence_seconds`.
            ClientGoneError: the client left.
        """
        if not self.is_request_complete:
            self.has_waited = True
            self._check_announced(limit_bytes)
            await self._rest_of_body(limit_bytes)
        if self._fault is not None:
            raise self._fault
        if self.is_gone:
            raise ClientGoneError
        if len(self._received) > limit_bytes:
            raise BodyTooLargeError
        return self._taken()

    def _taken(self) -> bytes:
        # a large body that came at once has left the socket unread, and only reading tells that the client leaves
        if self._connection.flow.read_paused:
            self._connection.flow.resume_reading()
        received, self._received = self._received, b""
        return received if isinstance(received, bytes) else bytes(received)

    def _check_announced(self, limit_bytes: int) -> None:
        """Refuse a body by its own word, before it takes any room."""
        for name, value in self.headers:
            if name != b"content-length":
                continue
            announced = whole_number(value) or 0
            if announced > limit_bytes:
                raise BodyTooLargeError
            if (lack := self.account.lack_of(announced - self._charged_bytes)) is not None:
                raise OverloadedError(lack)

    async def _rest_of_body(self, limit_bytes: int) -> None:
        loop, settings = self._connection.loop, self._connection.settings
        pace = Pace(loop.time(), settings.body_silence_seconds, settings.least_bytes_per_second)
        while not self.is_request_complete and not self.is_gone and self._fault is None:
            if len(self._received) > limit_bytes:
                raise BodyTooLargeError
            await self._more(pace)

    async def _more(self, pace: Pace) -> None:
        if self._expects_continue:
            self._expects_continue = False
            self._connection.transport.write(_CONTINUE)
        self._connection.flow.resume_reading()
        self._waiter = self._connection.loop.create_future()
        try:
            async with asyncio.timeout_at(pace.until):
                await self._waiter
        except TimeoutError:
            if not pace.goes_on(self._charged_bytes):
                raise

    def is_from(self, address: str) -> None:
        """The request is a proxy's, for a client at this address: what it takes is that client's."""
        if address == self.address:
            return
        self.address = address
        own, self.account = self.account, self._connection.settings.budget.account(address)
        own.give_back(self._charged_bytes)
        self.account.hold(self._charged_bytes)

    def _let_go(self) -> None:
        """It is over: give back what it held, and let go of what points back at it (an error has its frames)."""
        self._call = self._fault = None
        self.account.give_back(self._charged_bytes)
        self._charged_bytes = 0
        if self.account is not self._connection.account:
            self.account.leave()
            self.account = self._connection.account

    # the reply

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a whole reply at once."""
        if self.is_gone or self.is_open:
            # a second head would be read as the next caller's reply
            return
        self._begin(status, headers)
        self._put(body)
        self._finish()

    async def open(self, status: int, headers: Headers) -> None:
        """Write the head, at the latest when the loop's turn ends: a stream may stay silent for long."""
        if self.is_gone or self.is_open:
            return
        self.is_open = True
        self._begin(status, headers)
        self._flush_soon()

    async def write(self, chunk: bytes) -> None:
        """Write bytes of the body; returns when the client's connection takes more."""
        if self.is_gone:
            return
        self._put(chunk)
        self._flush_soon()
        if self._connection.flow.write_paused:
            await self._drain()

    async def _drain(self) -> None:
        call = self._call
        if call is None:
            await self._connection.flow.drain()
            return
        call.unread_began(self._clock())
        try:
            await self._connection.flow.drain()
        finally:
            call.unread_ended(self._clock())

    async def close(self) -> None:
        """End a streamed body properly."""
        if not self.is_gone:
            self._finish()

    def _begin(self, status: int, headers: Headers) -> None:
        self.status = status
        out, length_at = self._out, -1
        out.append(STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status)
        for name, value in headers:
            out.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                self._left, length_at = whole_number(value) or 0, len(out) - 1
            elif name == b"content-type":
                self.is_event_stream = media_type(value) == EVENT_STREAM
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
        if self.is_event_stream and length_at >= 0:
            # whoever sent the head does not know what will be added to or left out of the stream
            del out[length_at]
            self._left = -1
        self._frame(status)

    def _frame(self, status: int) -> None:
        """Write how the body ends, and end the head."""
        out = self._out
        # a client that waits for 100 Continue may now send no body: what it sends next must not be taken for it
        self.keep_alive = self.keep_alive and self.is_request_complete
        if self.method == "HEAD" or status in _NO_BODY:
            self._left = 0
        elif self._left < 0:
            self._chunked = self.http_version == "1.1"
            self.keep_alive = self.keep_alive and self._chunked
            if self._chunked:
                out.append(b"transfer-encoding: chunked\r\n")
        out.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")

    def _put(self, data: bytes) -> None:
        if not data or self.method == "HEAD":
            return
        if len(data) > self._left >= 0:
            # behind the declared length the next caller's reply would begin
            self.keep_alive, data = False, data[: self._left]
        self.bytes_sent += len(data)
        self._out_bytes += len(data)
        if self._chunked:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)
            self._left -= len(data)

    def _flush_soon(self) -> None:
        """What follows in the same turn of the loop goes out in the same system call."""
        if self._out_bytes > _WAIT_LIMIT_BYTES:
            self.flush()
        elif not self._is_flush_due:
            self._is_flush_due = True
            self._connection.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits."""
        self._is_flush_due = False
        out, self._out = self._out, []
        if not out:
            return
        size, self._out_bytes = self._out_bytes, 0
        if size > _JOIN_LIMIT_BYTES:
            self._connection.transport.writelines(out)
        else:
            self._connection.transport.write(b"".join(out))

    def _finish(self) -> None:
        if self._chunked:
            self._out.append(b"0\r\n\r\n")
        self.flush()
        self.is_complete = True
        if self._left > 0:
            # fewer bytes than promised: only closing tells the client so
            self.keep_alive = False
        self._connection.exchange_complete(self)
