"""The client's half of Streamable HTTP: session, headers, the GET stream, resumption.

A pipe knows none of these. This plays them towards weir's own call handler for a client that only
sends and receives messages (MCP 2025-03-26 to 2025-11-25, basic/transports; 2026-07-28,
basic/transports/streamable-http).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from weir.core.call import Call, Headers, Peer, Transport, header
from weir.core.events import CallFinished, Emit, LimitReached, Notice
from weir.core.layer import CallHandler
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, Replied, Sent
from weir.protocol import edit
from weir.protocol.envelope import NOTHING, Kind, Message, peek
from weir.protocol.headers import mcp_headers
from weir.protocol.methods import is_modern
from weir.relay.backchannel import Backchannel
from weir.relay.posting import Posting, plain
from weir.relay.reconnect import ReconnectSettings, is_passing, is_stream, wait_seconds
from weir.relay.tool_headers import ToolHeaders, list_request
from weir.relay.unwrap import Unwrap

Deliver = Callable[[bytes], Awaitable[None]]

LINGER_SECONDS = 1.0
"""A server closes a stream itself once it has answered; one that forgets to is cut after this."""
RESUME_FAILURES_LIMIT = 5
"""Failures in a row after which an answer counts as lost."""
TOOL_PAGES_LIMIT = 50
"""Pages of weir's own tools/list: with 40 tools a page, more than are learnt."""

_JSON = (b"content-type", b"application/json")
_ACCEPT = (b"accept", b"application/json, text/event-stream")
_ACCEPT_STREAM = (b"accept", b"text/event-stream")
_WITHDRAWN = Failed(FailureKind.CANCELLED, "the client withdrew the request or left", Blame.DOWNSTREAM)
_BUG = Failed(FailureKind.INTERNAL, "weir failed to handle this; its log has the reason", Blame.WEIR, Sent.NO)
_TOO_LARGE = Failed(FailureKind.TOO_LARGE, "a message of the reply is over weir's limit", sent=Sent.ANSWERED)


@dataclass(frozen=True, slots=True)
class HttpClientSettings:
    """`target` is the path of the server's MCP endpoint."""

    upstream: str
    target: bytes
    reply_limit_bytes: int = 64 * 1024 * 1024  # a message is held whole: lines cannot be interleaved
    reconnect: ReconnectSettings = field(default_factory=ReconnectSettings)
    delete_seconds: float = 3.0
    list_seconds: float = 10.0


class HttpClient:
    """One client's conversation with one server. `deliver` takes each message for the client.

    For every message: `begin` in the order of the pipe, then `post` in a task, then `end`.
    """

    def __init__(
        self,
        settings: HttpClientSettings,
        handler: CallHandler,
        deliver: Deliver,
        emit: Emit,
        clock: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._handler = handler
        self._deliver = deliver
        self._emit = emit
        self._clock = clock
        self._draw = draw
        self._tools = ToolHeaders()
        self._listing = asyncio.Lock()
        self._in_flight: dict[bytes, Posting] = {}
        self._session = ""
        self._negotiated = ""
        self._stated = ""
        self._is_gone = False
        self._own_ids = 0
        self.backchannel: Backchannel | None = None
        self.is_listening = asyncio.Event()

    @property
    def is_modern(self) -> bool:
        """The client speaks a stateless revision (2026-07-28 or later)."""
        return bool(self._stated) and not self._negotiated

    def in_flight(self, raw_id: bytes) -> Posting | None:
        """The request with this id, type included, that has no answer yet."""
        return self._in_flight.get(raw_id)

    def begin(self, posting: Posting) -> None:
        """Note a message in the order of the pipe: what comes behind it may be about it."""
        message = posting.message
        if message.method == "initialize":
            self._session = self._negotiated = self._stated = ""
            self._is_gone = False
            self.is_listening.clear()
        elif is_modern(message.revision):
            self._stated = message.revision
            posting.may_hold = message.method == "tools/call"
        for each in posting.unanswered.values():
            self._in_flight[each.id] = posting

    def end(self, posting: Posting) -> None:
        """Nothing more comes for this message."""
        posting.settled.set()
        for raw in [raw for raw, other in self._in_flight.items() if other is posting]:
            del self._in_flight[raw]

    async def post(self, posting: Posting) -> None:
        """Send one message; replies are delivered as they come. `posting.outcome` says how the last exchange ended."""
        stream = await self._send(posting)
        if posting.held and await self._has_better_headers(posting):
            stream = await self._send(posting)
        if posting.held:
            await self._hand_on(posting, posting.held, peek(posting.held))
        if stream.last_event_id and not is_modern(posting.message.revision):
            await self._resume(posting)

    async def listen(self) -> Outcome:
        """Keep a GET stream open for what the server says unasked, until the server will have none."""
        failures, stream = 0, None
        while True:
            stream = Unwrap(self._stream_begun, self._take_unasked, self._settings.reply_limit_bytes, stream)
            outcome = await self._get(stream)
            if not (is_stream(outcome) or is_passing(outcome)):
                self.is_listening.set()
                self._note_end(stream, outcome)
                return outcome
            is_fruitful = is_stream(outcome) and (stream.messages > 0 or stream.retry_seconds is not None)
            failures = 0 if is_fruitful else failures + 1
            await self._wait(stream, failures)

    async def close(self) -> None:
        """End the session at the server, where there is one; the server may refuse (405)."""
        if not self._session or self._is_gone:
            return
        nothing = Unwrap(_ignore_head, _ignore, self._settings.reply_limit_bytes)
        call = self._call(b"DELETE", nothing, [])
        try:
            async with asyncio.timeout(self._settings.delete_seconds):
                await self._exchange(call, nothing, _ignore_reply)
        except TimeoutError:
            self._notice("the server did not end the session in time")
        self._session = ""

    # one exchange

    async def _send(self, posting: Posting) -> Unwrap:
        stream = Unwrap(partial(self._begun, posting), partial(self._take, posting), self._settings.reply_limit_bytes)
        posting.stream = stream
        posting.held = b""
        posting.headers = self._headers(posting)
        call = self._call(b"POST", stream, [*posting.headers], posting.body, posting.message)
        posting.call = call
        self._note_answers(posting.message)
        posting.outcome = await self._exchange(call, stream, partial(self._take_whole, posting))
        return stream

    async def _resume(self, posting: Posting) -> None:
        """The stream ended before the answer and after an event id: ask for the rest (2025-03-26 and later)."""
        failures, stream = 0, posting.stream
        while stream is not None and self._is_resumable(posting) and failures < RESUME_FAILURES_LIMIT:
            await self._wait(stream, failures)
            stream = Unwrap(_ignore_head, partial(self._take, posting), self._settings.reply_limit_bytes, stream)
            posting.stream = stream
            posting.outcome = await self._get(stream)
            failures = 0 if is_stream(posting.outcome) else failures + 1

    def _is_resumable(self, posting: Posting) -> bool:
        outcome = posting.outcome
        if not posting.unanswered or posting.is_withdrawn or outcome is None:
            return False
        return is_stream(outcome) or is_passing(outcome)

    async def _wait(self, stream: Unwrap, failures: int) -> None:
        seconds = wait_seconds(self._settings.reconnect, stream.retry_seconds, failures, self._draw())
        await asyncio.sleep(seconds)

    async def _get(self, stream: Unwrap) -> Outcome:
        headers: Headers = [_ACCEPT_STREAM]
        if stream.last_event_id:
            headers.append((b"last-event-id", stream.last_event_id))
        return await self._exchange(self._call(b"GET", stream, headers), stream, _ignore_reply)

    def _call(
        self, verb: bytes, stream: Unwrap, headers: Headers, body: bytes = b"", message: Message = NOTHING
    ) -> Call:
        revision = message.revision or self._negotiated or self._stated
        if not is_modern(revision) and self._session:
            headers.append((b"mcp-session-id", self._session.encode("latin-1")))
        # a modern request states its revision in its own headers already
        if revision and not message.revision and message.method != "initialize":
            headers.append((b"mcp-protocol-version", revision.encode("latin-1", "replace")))
        call = Call(
            upstream=self._settings.upstream,
            peer=Peer(Transport.STDIO),
            sink=stream,
            received_at=self._clock(),
            verb=verb,
            target=self._settings.target,
            headers=headers,
            body=body,
            message=message,
        )
        call.revision = revision
        call.session = self._session
        call.asker = self.backchannel
        return call

    async def _exchange(self, call: Call, stream: Unwrap, take_whole: Callable[[Replied], Awaitable[None]]) -> Outcome:
        outcome: Outcome = _WITHDRAWN
        try:
            outcome = await self._ask(call, stream)
            if isinstance(outcome, Replied):
                call.status = outcome.status
                await take_whole(outcome)
            return outcome
        finally:
            call.ended_at = self._clock()
            call.bytes_sent = stream.received_bytes
            if self.backchannel is not None:
                self.backchannel.finished(call)
            self._emit(CallFinished(call, outcome))

    async def _ask(self, call: Call, stream: Unwrap) -> Outcome:
        try:
            async with asyncio.timeout(None) as stream.limit:
                return await self._handler(call)
        except TimeoutError:
            if stream.is_over_limit:
                self._emit(LimitReached(self._settings.upstream, "reply_size"))
                return _TOO_LARGE
            return Replied(200, [], None)
        except Exception as error:  # noqa: BLE001 - the last resort: a bug must still be one clear answer
            self._emit(Notice("error", "a bug in weir", {"error": repr(error), "upstream": self._settings.upstream}))
            return _BUG
        finally:
            stream.limit = None

    # what comes back

    def _begun(self, posting: Posting, status: int, headers: Headers) -> None:
        if posting.message.method == "initialize" and _is_success(status):
            self._session = header(headers, b"mcp-session-id").decode("latin-1")
        elif status == 404 and posting.call is not None:
            self._note_gone(posting.call.session)

    async def _take(self, posting: Posting, data: bytes) -> None:
        message = peek(data)
        if posting.blames_headers(message):
            posting.held = data
            posting.cut(LINGER_SECONDS)
            return
        posting.may_hold = False
        if posting.message.method == "initialize" and message.result is not None:
            self._negotiated = message.result.protocol_version
        elif posting.message.method == "tools/list" and message.result is not None and self.is_modern:
            self._tools.learn(data)
        await self._hand_on(posting, data, message)

    async def _hand_on(self, posting: Posting, data: bytes, message: Message) -> None:
        await self._deliver(data)
        if posting.note(message, data):
            posting.cut(LINGER_SECONDS)

    async def _take_whole(self, posting: Posting, reply: Replied) -> None:
        self._begun(posting, reply.status, reply.headers)
        body = reply.body if reply.body is not None or posting.stream is None else posting.stream.body
        if not body or not body.lstrip().startswith((b"{", b"[")):
            return
        message = peek(body)
        if posting.unanswered:
            await self._take_answer(posting, reply, body, message)
        elif posting.message.kind is Kind.OPAQUE or message.kind in (Kind.REQUEST, Kind.NOTIFICATION):
            await self._take(posting, body)

    async def _take_answer(self, posting: Posting, reply: Replied, body: bytes, message: Message) -> None:
        """A whole body for a request. Over HTTP the exchange says whose answer it is, on a pipe only the id does."""
        if message.error is not None and plain(message.id) not in posting.unanswered:
            for each in list(posting.unanswered.values()):
                await self._take(posting, with_id(body, message, each.id))
        elif message.kind in (Kind.RESPONSE, Kind.BATCH) or _is_success(reply.status):
            await self._take(posting, body)

    async def _take_unasked(self, data: bytes) -> None:
        """A message on the GET stream: for no request of the client's, unless the server answers there."""
        await self._deliver(data)
        message = peek(data)
        if message.kind is Kind.RESPONSE:
            posting = self._in_flight.get(message.id)
            if posting is not None and posting.note(message, data):
                posting.cut(LINGER_SECONDS)

    # what goes out

    def _headers(self, posting: Posting) -> Headers:
        message = posting.message
        headers: Headers = [_ACCEPT, _JSON]
        if is_modern(message.revision):
            headers += mcp_headers(message, posting.body, self._tools.params(message.name))
        return headers

    def _note_answers(self, message: Message) -> None:
        if self.backchannel is None:
            return
        for each in message.members or (message,):
            if each.kind is Kind.RESPONSE:
                self.backchannel.answered(self._session, each)

    async def _has_better_headers(self, posting: Posting) -> bool:
        """Ask for the tools once. True when the call's headers are other ones now than those it was sent with."""
        async with self._listing:
            if self._headers(posting) == posting.headers:
                await self._list_tools(posting)
        return self._headers(posting) != posting.headers

    async def _list_tools(self, posting: Posting) -> None:
        cursor = b""
        try:
            async with asyncio.timeout(self._settings.list_seconds):
                for _ in range(TOOL_PAGES_LIMIT):
                    page = await self._tools_page(list_request(posting.body, cursor, self._own_id()))
                    cursor = self._tools.learn(page) if page else b""
                    if not cursor:
                        return
        except TimeoutError:
            self._notice("the server did not list its tools in time")

    def _own_id(self) -> str:
        """An id no request of the client's has: it may not equal that of another one in flight."""
        self._own_ids += 1
        return f"weir-tools-list-{self._own_ids}-{self._draw():.16f}"

    async def _tools_page(self, body: bytes) -> bytes:
        found: list[bytes] = []

        async def take(data: bytes) -> None:
            if peek(data).result is not None:
                found.append(data)

        async def take_whole(reply: Replied) -> None:
            await take(stream.body if reply.body is None else reply.body)

        stream = Unwrap(_ignore_head, take, self._settings.reply_limit_bytes)
        listing = Posting(body, peek(body))
        await self._exchange(
            self._call(b"POST", stream, self._headers(listing), body, listing.message), stream, take_whole
        )
        return found[0] if found else b""

    # what an operator should know

    def _stream_begun(self, status: int, headers: Headers) -> None:
        self.is_listening.set()

    def _note_end(self, stream: Unwrap, outcome: Outcome) -> None:
        if isinstance(outcome, Replied) and outcome.status == 404 and self._session:
            self._note_gone(self._session)
        elif not (isinstance(outcome, Replied) and outcome.status in (404, 405)):
            self._notice("the server's messages outside of calls are not received: it refused the GET stream")

    def _note_gone(self, session: str) -> None:
        """404 under a session: the server has forgotten it, and only the client can begin another."""
        if session and session == self._session and not self._is_gone:
            self._is_gone = True
            self._notice("the server has ended the session (404): the client has to initialize again")

    def _notice(self, text: str) -> None:
        self._emit(Notice("warning", text, {"upstream": self._settings.upstream}))


def with_id(body: bytes, message: Message, raw_id: bytes) -> bytes:
    """An error under the id of the request it answers: servers send null or a word where they read no id."""
    if message.id:
        try:
            return edit.set_id(body, raw_id)
        except ValueError:
            return body
    brace = body.index(b"{") + 1
    return body[:brace] + b'"id":' + raw_id + b"," + body[brace:]


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _ignore_head(status: int, headers: Headers) -> None:
    return


async def _ignore(data: bytes) -> None:
    return


async def _ignore_reply(reply: Replied) -> None:
    return
