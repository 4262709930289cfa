"""The MCP port: an ASGI application that turns each HTTP exchange into a Call and its Outcome into a reply."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from weir.core.call import NOWHERE, Call, Headers, Peer, Transport, header
from weir.core.events import Emit, LimitReached, Notice
from weir.core.layer import CallHandler
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, Replied, Sent
from weir.downstream.gate import Gate
from weir.downstream.identity import Forwarded
from weir.downstream.rescue import rescue
from weir.protocol import sse
from weir.protocol.envelope import NOTHING, Kind, Message, peek

Send = Callable[[dict[str, Any]], Any]
Receive = Callable[[], Any]
Reply = Callable[[int, Headers, bytes], None]
"""Writes a whole reply at once (downstream/exchange.py)."""

_GONE = Failed(FailureKind.CANCELLED, "the client disconnected", Blame.DOWNSTREAM)
_BUG = Failed(FailureKind.INTERNAL, "weir failed to handle this; its log has the reason", Blame.WEIR, Sent.NO)


class Route(Protocol):
    """What a path leads to (relay/routes.py)."""

    @property
    def upstream(self) -> str: ...
    @property
    def handler(self) -> CallHandler: ...
    @property
    def path(self) -> bytes: ...
    @property
    def query(self) -> bytes: ...


class Answered(Protocol):
    """Told of client→server responses, and of calls that ended (relay/backchannel.py)."""

    def asked(self, call: Call, message: Message, body: bytes) -> bytes: ...
    def told(self, call: Call, message: Message) -> None: ...
    def answered(self, session: str, message: Message) -> None: ...
    def finished(self, call: Call) -> None: ...


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Limits of a request."""

    body_limit_bytes: int = 16 * 1024 * 1024
    refusals_as_200: bool = False
    forwarded: Forwarded | None = None
    """Whose word on the client's address is believed; None: nobody's."""


class HttpSink:
    """Relays a streamed reply into one ASGI exchange."""

    __slots__ = ("_call", "_send", "is_open", "is_sse")

    def __init__(self, call: Call, send: Send) -> None:
        self._call = call
        self._send = send
        self.is_open = False
        self.is_sse = False

    async def open(self, status: int, headers: Headers) -> None:
        """Write the head at once: a GET stream may stay silent for long."""
        self.is_open = True
        self.is_sse = header(headers, b"content-type").startswith(b"text/event-stream")
        self._call.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"", "more_body": True})

    async def write(self, chunk: bytes) -> None:
        """Write bytes of the body; returns when the client's connection takes more."""
        self._call.bytes_sent += len(chunk)
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def close(self) -> None:
        """End the body properly."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class RequestRefusedError(Exception):
    """The request is answered before there is a call: status, the text, and the limit's name."""

    def __init__(self, status: int, text: str, limit: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.limit = limit


class ClientGoneError(Exception):
    """The client left before its request was complete."""


class HttpDownstream:
    """One MCP port. Streams that are open can be ended for a drain with `end_streams`."""

    def __init__(
        self,
        settings: HttpSettings,
        gate: Gate,
        match: Callable[[bytes], Route | None],
        backchannels: dict[str, Answered],
        finish: Callable[[Call, Outcome], None],
        emit: Emit,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._gate = gate
        self._match = match
        self._backchannels = backchannels
        self._finish = finish
        self._emit = emit
        self._clock = clock
        self._streams: set[asyncio.Task[Any] | None] = set()
        self._is_draining = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one exchange (ASGI)."""
        received_at = self._clock()
        known = dict(scope["headers"])
        refusal = self._gate.refusal(known.get(b"host", b""), known.get(b"origin", b""))
        if refusal is not None:
            await _plain(send, refusal.status, refusal.text)
            return
        route = self._match(scope["raw_path"])
        if route is None:
            await _plain(send, 404, "weir serves no MCP server at this path")
            return
        try:
            message = await receive()
            body = message["body"] if not message.get("more_body", True) else await self._rest(known, message, receive)
            self._check_size(len(body))
        except TimeoutError:
            self._emit(LimitReached(route.upstream, "body_silence"))
            await _plain(send, 408, "the body did not arrive in time", close=True)
        except RequestRefusedError as refused:
            self._emit(LimitReached(route.upstream, refused.limit))
            await _plain(send, refused.status, refused.text, close=True)
        except ClientGoneError:
            return
        else:
            call = self._call(scope, known, route, body, received_at)
            await self._serve(call, route.handler, scope["extensions"]["weir.reply"], send)

    def end_streams(self) -> None:
        """Drain: end the long-lived streams, which would never end by themselves."""
        self._is_draining = True
        for task in self._streams:
            if task is not None:
                task.cancel("draining")

    async def _rest(self, known: dict[bytes, bytes], message: Any, receive: Receive) -> bytes:
        """The whole body, of which `message` is the first piece."""
        length = known.get(b"content-length", b"")
        if length.isdigit():
            self._check_size(int(length))
        pieces: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            pieces.append(message["body"])
            size += len(message["body"])
            self._check_size(size)
            if not message["more_body"]:
                return b"".join(pieces)
            message = await receive()

    def _check_size(self, size: int) -> None:
        limit = self._settings.body_limit_bytes
        if size > limit:
            raise RequestRefusedError(413, f"the body is over {limit} bytes (listen.max_body)", "max_body")

    def _call(self, scope: Any, known: dict[bytes, bytes], route: Route, body: bytes, received_at: float) -> Call:
        verb = scope["method"].encode()
        query = b"&".join(filter(None, (route.query, scope["query_string"])))
        address, port = scope["client"] or ("", 0)
        if self._settings.forwarded is not None:
            address = self._settings.forwarded.client(address, scope["headers"])
        call = Call(
            upstream=route.upstream,
            peer=Peer(Transport.HTTP, address, port, scope["http_version"]),
            sink=NOWHERE,
            received_at=received_at,
            verb=verb,
            target=route.path + b"?" + query if query else route.path,
            headers=scope["headers"],
            body=body,
            message=peek(body) if body and verb == b"POST" else NOTHING,
        )
        session = known.get(b"mcp-session-id")
        if session is not None:
            call.session = session.decode("latin-1")
        revision = known.get(b"mcp-protocol-version")
        if revision is not None:
            call.revision = revision.decode("latin-1")
        call.asker = self._backchannels.get(route.upstream)
        call.body_at = self._clock()
        return call

    async def _serve(self, call: Call, handler: CallHandler, reply: Reply, send: Send) -> None:
        call.sink = sink = HttpSink(call, send)
        kind = call.message.kind
        if kind is Kind.RESPONSE or kind is Kind.BATCH:
            self._note_answers(call)
        outcome: Outcome = _BUG
        stream = self._began_stream() if call.is_stream else None
        try:
            outcome = await handler(call)
        except asyncio.CancelledError:
            outcome = await self._cancelled(call, sink)
            raise
        except Exception as error:  # noqa: BLE001 - the connection's last resort: a bug must still be one clear answer
            self._emit(Notice("error", "a bug in weir", {"error": repr(error), "upstream": call.upstream}))
        finally:
            self._streams.discard(stream)
            if sink.is_open:
                await self._end_stream(call, outcome, sink)
            else:
                self._reply(call, outcome, reply)
            if call.asker is not None:
                self._backchannels[call.upstream].finished(call)
            self._finish(call, outcome)
            call.sink = NOWHERE

    def _began_stream(self) -> "asyncio.Task[Any] | None":
        task = asyncio.current_task()
        self._streams.add(task)
        return task

    def _reply(self, call: Call, outcome: Outcome, reply: Reply) -> None:
        made = outcome if isinstance(outcome, Replied) else self._rescued(outcome, call)
        body = made.body or b""
        call.status = made.status
        call.bytes_sent = len(body)
        headers = made.headers
        if b"content-length" not in dict(headers) and made.status not in (204, 304):
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        reply(made.status, headers, body)

    async def _end_stream(self, call: Call, outcome: Outcome, sink: HttpSink) -> None:
        """After a head went out a failure is the stream's last event; where it cannot be, the stream just breaks."""
        if not isinstance(outcome, Replied):
            if not (sink.is_sse and call.message.kind in (Kind.REQUEST, Kind.BATCH)):
                return
            await sink.write(sse.encode(self._rescued(outcome, call).body or b""))
        await sink.close()

    async def _cancelled(self, call: Call, sink: HttpSink) -> Outcome:
        if self._is_draining and sink.is_open:
            await sink.close()
        if call.answer is not None:
            # many clients hang up as soon as they have their answer
            return Replied(call.status, [], None, call.answer)
        return _GONE

    def _rescued(self, outcome: Any, call: Call) -> Replied:
        reply = rescue(outcome, call)
        if self._settings.refusals_as_200 and call.is_request:
            reply.status = 200
        return reply

    def _note_answers(self, call: Call) -> None:
        if call.asker is None:
            return
        backchannel = self._backchannels[call.upstream]
        for message in call.message.members or (call.message,):
            if message.kind is Kind.RESPONSE:
                backchannel.answered(call.session, message)


async def _plain(send: Send, status: int, text: str, *, close: bool = False) -> None:
    """A refusal before there is a call: no JSON-RPC message has been read."""
    body = text.encode() + b"\n"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
