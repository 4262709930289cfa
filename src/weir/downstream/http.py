"""The MCP port: turns each HTTP exchange into a Call, and its Outcome into a reply."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from weir.core.call import Call, Headers, Peer, Transport
from weir.core.events import Emit, LimitReached, Notice, RequestRefused
from weir.core.layer import CallHandler
from weir.core.outcome import STOPPED, Blame, Failed, FailureKind, Outcome, RefusalKind, Refused, Replied, bug_in
from weir.core.shortage import SHORTAGE_RETRY_SECONDS
from weir.downstream.body_errors import BodyTooLargeError, ClientGoneError, MalformedBodyError, OverloadedError
from weir.downstream.exchange import Exchange
from weir.downstream.gate import Gate
from weir.downstream.identity import Forwarded
from weir.downstream.rescue import TOO_LONG_BATCH, rescue
from weir.protocol import sse
from weir.protocol.envelope import NOTHING, OVERLONG_BATCH, Kind, Message, peek
from weir.protocol.headers import without_named
from weir.protocol.media_types import PLAIN_TEXT
from weir.protocol.paths import is_document, is_plain_document, is_unsafe
from weir.relay.routes import MCP_VERBS

_GONE: Final = Failed(FailureKind.CANCELLED, "the client disconnected", Blame.DOWNSTREAM)

_FULL: Final = "weir holds as many bytes of requests and replies as it may (listen.max_buffered)."
_CLIENT_FULL: Final = "This client's requests and replies under way take all the room that one client may have."

_SINGLE: Final = (b"host", b"origin", b"mcp-session-id")
"""What weir decides by: the gate by the first two (RFC 9112, section 3.2: two Hosts are a 400), routing by the last."""


_BODILESS: Final = ("GET", "HEAD", "DELETE", "OPTIONS")
"""Verbs whose body has no meaning (RFC 9110, section 9.3): no policy would look at it, and a server might."""


class PlainRefusal(NamedTuple):
    """A refusal in plain text. `reason` is a word of a closed list."""

    status: int
    reason: str
    text: str
    verbs: tuple[str, ...] = ()
    """The verbs that are allowed, for 405."""
    closes: bool = False
    """The rest of the request is not read."""


_UNSAFE_PATH: Final = PlainRefusal(
    400, "unsafe_path", "the path has dot segments or bytes that could be read as another path"
)
_UNWANTED_BODY: Final = PlainRefusal(400, "unwanted_body", "a request with this verb has no body")


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
    @property
    def verbs(self) -> tuple[str, ...]: ...


class Answered(Protocol):
    """Told of client→server responses, and of calls that ended (relay/backchannel.py)."""

    def asked(self, call: Call, message: Message, body: bytes) -> bytes: ...
    def told(self, call: Call, message: Message) -> None: ...
    def answered(self, call: Call, message: Message) -> None: ...
    def finished(self, call: Call) -> None: ...


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Limits of a request."""

    body_limit_bytes: int = 16 * 1024 * 1024
    refusals_as_200: bool = False
    forwarded: Forwarded | None = None
    """Whose word on the client's address is believed; None: nobody's."""
    served_at: str = "each is at /servers/<name>/mcp"
    """Where MCP servers are, for who asks elsewhere."""


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
        self._not_served = PlainRefusal(
            404, "not_served", f"weir serves no MCP server at this path; {settings.served_at}"
        )
        self._gate = gate
        self._match = match
        self._backchannels = backchannels
        self._finish = finish
        self._emit = emit
        self._clock = clock
        self._streams: set[asyncio.Task[Any] | None] = set()
        self._is_draining = False

    async def __call__(self, exchange: Exchange) -> None:
        """Serve one exchange."""
        received_at = self._clock()
        known = dict(exchange.headers)
        refusal = self._refusal_of_head(exchange, known)
        if refusal is not None:
            self._refuse(exchange, "", refusal)
            return
        route = self._match(exchange.path)
        refusal = _refusal_of_target(exchange, route)
        if route is None or refusal is not None:
            self._refuse(exchange, "", refusal or self._not_served)
            return
        if self._settings.forwarded is not None:
            exchange.is_from(self._settings.forwarded.client(exchange.address, without_named(exchange.headers)))
        try:
            # most bodies are there already: no coroutine is needed to get them, and no look at the clock
            body = exchange.body_at_once(self._settings.body_limit_bytes)
            if body is None:
                body = await self._body(exchange, route.upstream)
        except OverloadedError as error:
            self._refuse_for_room(exchange, self._call(exchange, known, route, b"", received_at), error.blame)
            return
        if body is None:
            return
        if body and exchange.method in _BODILESS:
            self._refuse(exchange, route.upstream, _UNWANTED_BODY)
            return
        await self._serve(self._call(exchange, known, route, body, received_at), route.handler, exchange)

    def _refusal_of_head(self, exchange: Exchange, known: dict[bytes, bytes]) -> PlainRefusal | None:
        if len(known) < len(exchange.headers) and (doubled := _doubled(exchange.headers)):
            return PlainRefusal(400, "doubled_header", f"the request has more than one {doubled} header")
        foreign = self._gate.refusal(known.get(b"host", b""), known.get(b"origin", b""))
        if foreign is None:
            return None
        self._emit(LimitReached("", foreign.setting))
        return PlainRefusal(foreign.status, foreign.setting, foreign.text)

    async def _body(self, exchange: Exchange, upstream: str) -> bytes | None:
        """Returns the request's body; None when there is none to serve, and the client has been told.

        Raises:
            OverloadedError: there is no room for it.
        """
        limit = self._settings.body_limit_bytes
        try:
            return await exchange.body(limit)
        except TimeoutError:
            self._emit(LimitReached(upstream, "body_silence"))
            refusal = PlainRefusal(408, "body_silence", "the body did not arrive in time", closes=True)
        except BodyTooLargeError:
            self._emit(LimitReached(upstream, "max_body"))
            refusal = PlainRefusal(413, "max_body", f"the body is over {limit} bytes (listen.max_body)", closes=True)
        except MalformedBodyError:
            refusal = PlainRefusal(400, "malformed_body", "the body's transfer coding is malformed", closes=True)
        except ClientGoneError:
            return None
        self._refuse(exchange, upstream, refusal)
        return None

    def _refuse_for_room(self, exchange: Exchange, call: Call, blame: Blame) -> None:
        """Answer a request whose body there is no room for; its id stays unknown."""
        limit = "max_buffered" if blame is Blame.WEIR else "max_buffered_of_client"
        self._emit(LimitReached(call.upstream, limit))
        text = _FULL if blame is Blame.WEIR else _CLIENT_FULL
        refused = Refused(RefusalKind.OVERLOADED, text, "", SHORTAGE_RETRY_SECONDS, blame)
        made = rescue(refused, call)
        body = made.body or b""
        length = (b"content-length", b"%d" % len(body))
        call.ended_at = self._clock()
        exchange.reply(made.status, [*made.headers, length, (b"connection", b"close")], body)
        self._finished(call, refused, exchange)

    def _refuse(self, exchange: Exchange, upstream: str, refusal: PlainRefusal) -> None:
        """Answer before there is a call: no JSON-RPC message has been read."""
        self._emit(RequestRefused(upstream, refusal.status, refusal.reason, exchange.address))
        body = refusal.text.encode() + b"\n"
        headers = [(b"content-type", PLAIN_TEXT), (b"content-length", b"%d" % len(body))]
        if refusal.verbs:
            headers.append((b"allow", ", ".join(refusal.verbs).encode()))
        if refusal.closes:
            headers.append((b"connection", b"close"))
        exchange.reply(refusal.status, headers, body)

    def end_streams(self) -> None:
        """Drain: end the long-lived streams, which would never end by themselves."""
        self._is_draining = True
        for task in self._streams:
            if task is not None:
                task.cancel("draining")

    def _call(
        self, exchange: Exchange, known: dict[bytes, bytes], route: Route, body: bytes, received_at: float
    ) -> Call:
        headers = exchange.headers
        if b"connection" in known:
            headers = without_named(headers)
            known = known if headers is exchange.headers else dict(headers)
        verb = exchange.method.encode()
        query = b"&".join(filter(None, (route.query, exchange.query))) if route.query else exchange.query
        call = Call(
            upstream=route.upstream,
            peer=Peer(Transport.HTTP, exchange.address, exchange.client[1], exchange.http_version),
            sink=exchange,
            received_at=received_at,
            verb=verb,
            target=route.path + b"?" + query if query else route.path,
            headers=headers,
            body=body,
            message=peek(body) if body else NOTHING,
        )
        call.asked_path = exchange.path
        session = known.get(b"mcp-session-id")
        if session is not None:
            call.session = session.decode("latin-1")
        revision = known.get(b"mcp-protocol-version")
        if revision is not None:
            call.revision = revision.decode("latin-1")
        call.account = exchange.account
        call.asker = self._backchannels.get(route.upstream)
        exchange.replies_to(call, self._clock)
        call.body_at = self._clock() if exchange.has_waited else received_at
        return call

    async def _serve(self, call: Call, handler: CallHandler, exchange: Exchange) -> None:
        kind = call.message.kind
        if kind is Kind.RESPONSE or kind is Kind.BATCH:
            self._note_answers(call)
        outcome: Outcome = _GONE
        stream = self._began_stream() if call.is_stream else None
        try:
            outcome = TOO_LONG_BATCH if call.message is OVERLONG_BATCH else await handler(call)
        except asyncio.CancelledError:
            outcome = await self._cancelled(call, exchange)
            raise
        except Exception as error:  # noqa: BLE001 - the connection's last resort: a bug must still be one clear answer
            self._emit(Notice("error", "a bug in weir", {"error": repr(error), "upstream": call.upstream}))
            outcome = bug_in(call)
        finally:
            self._streams.discard(stream)
            try:
                if exchange.is_open:
                    await self._end_stream(call, outcome, exchange)
                else:
                    self._reply(call, outcome, exchange)
            finally:
                # also for a client that does not read, and goes while it is told
                self._finished(call, outcome, exchange)

    def _finished(self, call: Call, outcome: Outcome, exchange: Exchange) -> None:
        call.status, call.bytes_sent = exchange.status, exchange.bytes_sent
        if call.asker is not None:
            self._backchannels[call.upstream].finished(call)
        self._finish(call, outcome)

    def _began_stream(self) -> "asyncio.Task[Any] | None":
        task = asyncio.current_task()
        self._streams.add(task)
        return task

    def _reply(self, call: Call, outcome: Outcome, exchange: Exchange) -> None:
        made = outcome if isinstance(outcome, Replied) else self._rescued(outcome, call)
        body = made.body or b""
        headers = made.headers
        if made.status not in (204, 304) and not _has_length(headers):
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        # before the write: it wakes the client, which may run on this core
        call.ended_at = self._clock()
        exchange.reply(made.status, headers, body)

    async def _end_stream(self, call: Call, outcome: Outcome, exchange: Exchange) -> None:
        """After a head went out a failure is the stream's last event; where it cannot be, the stream just breaks."""
        if exchange.is_complete:
            return
        if not isinstance(outcome, Replied):
            if not exchange.is_event_stream:
                return
            if call.message.kind in (Kind.REQUEST, Kind.BATCH):
                # first the end of an event too large to be held back, of which the client may have a part
                await exchange.write(b"\n\n" + sse.encode(self._rescued(outcome, call).body or b""))
            elif call.verb != b"GET" or not _is_weirs_end(outcome):
                return
        await exchange.close()

    async def _cancelled(self, call: Call, exchange: Exchange) -> Outcome:
        if self._is_draining and exchange.is_open and call.is_stream:
            await exchange.close()
        if call.answer is not None:
            # many clients hang up as soon as they have their answer
            return Replied(exchange.status, [], None, call.answer)
        return _GONE if exchange.is_gone else STOPPED

    def _rescued(self, outcome: Any, call: Call) -> Replied:
        reply = rescue(outcome, call)
        # to a client that asks for the server's revisions, a JSON-RPC error means that it has only old ones
        if self._settings.refusals_as_200 and call.is_request and call.message.method != "server/discover":
            reply.status = 200
        return reply

    def _note_answers(self, call: Call) -> None:
        if call.asker is None:
            return
        backchannel = self._backchannels[call.upstream]
        for message in call.message.members or (call.message,):
            if message.kind is Kind.RESPONSE:
                backchannel.answered(call, message)


def _doubled(headers: Headers) -> str:
    """A header that stands there twice and must not: weir and the server could each believe another one."""
    names = [name for name, _ in headers]
    return next((name.decode() for name in _SINGLE if names.count(name) > 1), "")


def _has_length(headers: Headers) -> bool:
    for name, _ in headers:  # noqa: SIM110 - compiled, a generator costs ten times as much
        if name == b"content-length":
            return True
    return False


def _is_weirs_end(outcome: Any) -> bool:
    """Whether a timer of weir's ends the stream: nothing was cut off, and the client may come back."""
    return isinstance(outcome, Failed) and outcome.kind is FailureKind.TIMEOUT


def _refusal_of_target(exchange: Exchange, route: Route | None) -> PlainRefusal | None:
    """Why this path, or this verb on it, is refused, whatever is served there; None when it is not."""
    if route is None or route.verbs != MCP_VERBS:
        # else the path is one that the operator named
        path = exchange.path
        if is_unsafe(path) or (is_document(path) and not is_plain_document(path)):
            return _UNSAFE_PATH
    if route is None:
        return None
    if exchange.method == "TRACE" or (route.verbs and exchange.method not in route.verbs):
        # a server that answers TRACE would show the client the credentials that weir adds
        verbs = route.verbs or MCP_VERBS
        return PlainRefusal(405, "verb", f"only {', '.join(verbs)} may be asked here", verbs)
    return None
