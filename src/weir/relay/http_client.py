"""The client's half of Streamable HTTP: replies unwrapped, the GET stream, resumption, the session's end.

A pipe knows none of these. This plays them towards weir's own call handler for a client that only
sends and receives messages (MCP 2025-03-26 to 2025-11-25, basic/transports; 2026-07-28,
basic/transports/streamable-http).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from weir.core.call import Call, Headers
from weir.core.events import Emit, LimitReached, Notice
from weir.core.layer import CallHandler
from weir.core.outcome import STOPPED, Blame, Failed, FailureKind, Outcome, Refused, Replied, Sent, bug_in
from weir.protocol.correlation import key_of, typed_key_of
from weir.protocol.envelope import Kind, Message, peek
from weir.protocol.methods import is_modern
from weir.protocol.salvage import salvage
from weir.protocol.statuses import NO_STREAM, ends_session
from weir.relay.backchannel import Backchannel
from weir.relay.http_session import HttpSession
from weir.relay.posting import Posting, with_id
from weir.relay.reconnect import ReconnectSettings, Streak, is_passing, is_stream
from weir.relay.tool_headers import list_request
from weir.relay.unwrap import Unwrap

Deliver = Callable[[bytes], Awaitable[None]]
TakeWhole = Callable[[Replied], Awaitable[None]]

RESUME_FAILURES_LIMIT = 5
"""Failures in a row after which an answer counts as lost."""
TOOL_PAGES_LIMIT = 50
"""Pages of weir's own tools/list: with 40 tools a page, more than are remembered."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WITHDRAWN = Failed(FailureKind.CANCELLED, "the client withdrew the request or left", Blame.DOWNSTREAM)
_TOO_LARGE = Failed(FailureKind.TOO_LARGE, "a message of the reply is over weir's limit", sent=Sent.ANSWERED)


@dataclass(frozen=True, slots=True)
class HttpClientSettings:
    """`target` is the path of the server's MCP endpoint, `url` its URL; "" for a server that is a child process."""

    upstream: str
    target: bytes
    url: str = ""
    reply_limit_bytes: int = 64 * 1024 * 1024  # a message is held whole: lines cannot be interleaved
    reconnect: ReconnectSettings = field(default_factory=ReconnectSettings)
    linger_seconds: float = 1.0  # a server closes a stream itself once it has answered; one that forgets to is cut
    delete_seconds: float = 3.0
    list_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Wiring:
    """What an edge without a server of its own is given: where calls go, who is told, whose time it is.

    `finish` is called once for each call when its reply has been handed on. `draw` gives numbers in [0, 1).
    """

    handler: CallHandler
    finish: Callable[[Call, Outcome], None]
    emit: Emit
    clock: Callable[[], float]
    backchannel: Backchannel | None = None
    draw: Callable[[], float] = random.random


class HttpClient:
    """One client's conversation with one server. `deliver` takes each message for the client.

    For every message: `begin` in the order of the pipe, then `post` in a task, then `end`.
    """

    def __init__(self, settings: HttpClientSettings, wiring: Wiring, deliver: Deliver) -> None:
        self._settings = settings
        self._wiring = wiring
        self._deliver = deliver
        self._session = HttpSession(settings.upstream, settings.target, wiring.clock, settings.url)
        self._listing = asyncio.Lock()
        self._in_flight: dict[bytes, Posting] = {}
        self._own_ids = 0
        self.is_stopped = False
        """weir ends the conversation: what that cuts off is not the client's doing."""
        self.has_listened = False
        """A GET stream has been open."""
        self.is_listening = asyncio.Event()
        """The GET stream is open, or the server will have none."""

    @property
    def is_modern(self) -> bool:
        """The client speaks a stateless revision (2026-07-28 or later)."""
        return self._session.is_modern

    def in_flight(self, raw_id: bytes) -> Posting | None:
        """The request with this id that has no answer yet."""
        return self._in_flight.get(typed_key_of(raw_id))

    def begin(self, posting: Posting) -> None:
        """Note a message in the order of the pipe: what comes behind it may be about it."""
        message = posting.message
        self._session.begin(message)
        if message.method == "initialize":
            self.is_listening.clear()
        posting.may_hold = message.method == "tools/call" and is_modern(message.revision)
        for each in posting.unanswered.values():
            self._in_flight[typed_key_of(each.id)] = posting

    def end(self, posting: Posting) -> None:
        """Nothing more comes for this message."""
        posting.settle()
        posting.let_go()
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

    async def listen(self, *, reopens: bool = True) -> Outcome:
        """Keep a GET stream open for what the server says unasked, until the server will have none.

        Without `reopens` it is over when the stream has ended once.
        """
        streak = Streak()
        stream: Unwrap | None = None
        while True:
            began = self._wiring.clock()
            stream = Unwrap(self._stream_begun, self._take_unasked, self._settings.reply_limit_bytes, stream)
            outcome = await self._get(stream)
            if not (is_stream(outcome) or is_passing(outcome)) or (is_stream(outcome) and not reopens):
                self.is_listening.set()
                self._note_end(outcome)
                return outcome
            # a stream that stood for long was a good one, even if weir's own idle timer ended it
            if self._wiring.clock() - began >= self._settings.reconnect.max_seconds:
                streak.clear()
            else:
                streak.note(outcome, stream.messages)
            await self._wait(stream, streak)

    async def close(self) -> None:
        """End the session at the server, where there is one; the server may refuse (405)."""
        if not self._session.id or self._session.is_gone:
            return
        nothing = Unwrap(_ignore_head, _ignore, self._settings.reply_limit_bytes)
        try:
            async with asyncio.timeout(self._settings.delete_seconds):
                await self._exchange(self._session.delete(nothing), nothing, _ignore_reply)
        except TimeoutError:
            self._notice("the server did not end the session in time")

    # one exchange

    async def _send(self, posting: Posting) -> Unwrap:
        stream = Unwrap(partial(self._begun, posting), partial(self._take, posting), self._settings.reply_limit_bytes)
        posting.stream = stream
        posting.held = b""
        posting.mirrored = self._session.message_headers(posting.message, posting.body)
        posting.call = self._session.post(stream, posting.body, posting.message, posting.mirrored)
        self._note_answers(posting)
        posting.outcome = await self._exchange(posting.call, stream, partial(self._take_whole, posting))
        return stream

    async def _resume(self, posting: Posting) -> None:
        """The stream ended before the answer and after an event id: ask for the rest (2025-03-26 and later)."""
        streak, stream = Streak(), posting.stream
        if stream is not None and posting.outcome is not None and is_stream(posting.outcome):
            streak.note(posting.outcome, stream.messages)
        while stream is not None and self._is_resumable(posting) and streak.failures < RESUME_FAILURES_LIMIT:
            await self._wait(stream, streak)
            stream = Unwrap(_ignore_head, partial(self._take, posting), self._settings.reply_limit_bytes, stream)
            posting.stream = stream
            posting.outcome = await self._get(stream)
            streak.note(posting.outcome, stream.messages)

    def _is_resumable(self, posting: Posting) -> bool:
        outcome = posting.outcome
        if not posting.unanswered or posting.is_withdrawn or outcome is None:
            return False
        return is_stream(outcome) or is_passing(outcome)

    async def _wait(self, stream: Unwrap, streak: Streak) -> None:
        if streak.is_spinning:
            self._wiring.emit(LimitReached(self._settings.upstream, "empty_streams"))
        settings = self._settings.reconnect
        await asyncio.sleep(streak.wait_seconds(settings, stream.retry_seconds, self._wiring.draw()))

    async def _get(self, stream: Unwrap) -> Outcome:
        return await self._exchange(self._session.get(stream, stream.last_event_id), stream, _ignore_reply)

    async def _exchange(self, call: Call, stream: Unwrap, take_whole: TakeWhole) -> Outcome:
        backchannel = self._wiring.backchannel
        call.asker = backchannel
        outcome: Outcome = _WITHDRAWN
        try:
            outcome = await self._ask(call, stream)
            if isinstance(outcome, Replied):
                call.status = outcome.status
                call.bytes_sent = len(outcome.body or b"")
                await take_whole(outcome)
        except asyncio.CancelledError:
            outcome = STOPPED if self.is_stopped else _WITHDRAWN
            raise
        except Exception as error:  # noqa: BLE001 - one call's bug must be one clear answer, not the conversation's end
            self._wiring.emit(Notice("error", "a bug in weir", {"error": repr(error), "upstream": call.upstream}))
            outcome = bug_in(call)
        finally:
            call.bytes_sent += stream.received_bytes
            if backchannel is not None:
                backchannel.finished(call)
            self._wiring.finish(call, outcome)
        return outcome

    async def _ask(self, call: Call, stream: Unwrap) -> Outcome:
        try:
            async with asyncio.timeout(None) as stream.limit:
                return await self._wiring.handler(call)
        except TimeoutError:
            if stream.is_over_limit:
                self._wiring.emit(LimitReached(call.upstream, "reply_size"))
                return _TOO_LARGE
            return Replied(200, [], None)
        finally:
            stream.limit = None

    # what comes back

    def _begun(self, posting: Posting, status: int, headers: Headers) -> None:
        self._session.note_head(posting.message, status, headers)
        call = posting.call
        if call is None:
            return
        if not posting.unanswered and 200 <= status < 300:
            # whatever the server does with its reply, the message was accepted
            posting.accept()
            posting.cut(self._settings.linger_seconds)
        if ends_session(call.verb, status):
            self._note_gone(call.session)
        elif posting.message.method == "initialize":
            # what the server asks from here on belongs to the session it has just given
            call.session = self._session.id

    async def _take(self, posting: Posting, data: bytes) -> None:
        message = peek(data)
        if posting.blames_headers(message):
            posting.held = data
            posting.cut(self._settings.linger_seconds)
            return
        posting.may_hold = False
        if posting.is_accepted:
            posting.cut(self._settings.linger_seconds)
        self._session.note_answer(posting.message, message, data)
        await self._hand_on(posting, data, message)

    async def _hand_on(self, posting: Posting, data: bytes, message: Message) -> None:
        if await self._pass_on(data, message) and posting.note(message, data):
            posting.cut(self._settings.linger_seconds)

    async def _pass_on(self, data: bytes, message: Message) -> bool:
        """Deliver a message; anything else would break the client's pipe, and is counted."""
        found = salvage(data) if message.kind is Kind.OPAQUE else message
        if found is None or found.kind is Kind.OPAQUE:
            self._wiring.emit(LimitReached(self._settings.upstream, "not_a_message"))
            return False
        await self._deliver(data)
        return True

    async def _take_whole(self, posting: Posting, reply: Replied) -> None:
        self._begun(posting, reply.status, reply.headers)
        body = reply.body if reply.body is not None or posting.stream is None else posting.stream.body
        body = body and body.removeprefix(_BYTE_ORDER_MARK)
        if not body or not body.lstrip().startswith((b"{", b"[")):
            return
        message = peek(body)
        if posting.unanswered:
            await self._take_answer(posting, reply, body, message)
        elif posting.message.kind is Kind.OPAQUE or message.kind in (Kind.REQUEST, Kind.NOTIFICATION):
            await self._take(posting, body)

    async def _take_answer(self, posting: Posting, reply: Replied, body: bytes, message: Message) -> None:
        """A whole body for a request. Over HTTP the exchange says whose answer it is, on a pipe only the id does."""
        if message.error is not None and key_of(message.id) not in posting.unanswered:
            for each in list(posting.unanswered.values()):
                await self._take(posting, with_id(body, message, each.id))
        elif message.kind in (Kind.RESPONSE, Kind.BATCH) or 200 <= reply.status < 300:
            await self._take(posting, body)

    async def _take_unasked(self, data: bytes) -> None:
        """A message on the GET stream: for no request of the client's, unless the server answers there."""
        message = peek(data)
        if await self._pass_on(data, message) and message.kind is Kind.RESPONSE:
            key = key_of(message.id)
            posting = next((each for each in self._in_flight.values() if key in each.unanswered), None)
            if posting is not None and posting.note(message, data):
                posting.cut(self._settings.linger_seconds)

    def _note_answers(self, posting: Posting) -> None:
        if self._wiring.backchannel is None or posting.call is None:
            return
        for each in posting.message.members or (posting.message,):
            if each.kind is Kind.RESPONSE:
                self._wiring.backchannel.answered(posting.call, each)

    # headers that the server finds wrong

    async def _has_better_headers(self, posting: Posting) -> bool:
        """Ask for the tools once. True when the call's headers are other ones now than those it was sent with."""
        async with self._listing:
            if self._session.message_headers(posting.message, posting.body) == posting.mirrored:
                await self._list_tools(posting)
        return self._session.message_headers(posting.message, posting.body) != posting.mirrored

    async def _list_tools(self, posting: Posting) -> None:
        try:
            async with asyncio.timeout(self._settings.list_seconds):
                await self._learn_tools(posting.body)
        except TimeoutError:
            self._notice("the server did not list its tools in time")
        except ValueError:
            # the request has no envelope that could be used again: its answer stands
            return

    async def _learn_tools(self, caller: bytes) -> None:
        cursor = b""
        for _ in range(TOOL_PAGES_LIMIT):
            page = await self._tools_page(list_request(caller, cursor, self._own_id()))
            cursor = self._session.tools.learn(page) if page else b""
            if not cursor:
                return

    async def _tools_page(self, body: bytes) -> bytes:
        found: list[bytes] = []

        async def take(data: bytes) -> None:
            if peek(data).result is not None:
                found.append(data)

        async def take_whole(reply: Replied) -> None:
            await take(stream.body if reply.body is None else reply.body)

        message = peek(body)
        stream = Unwrap(_ignore_head, take, self._settings.reply_limit_bytes)
        call = self._session.post(stream, body, message, self._session.message_headers(message, body))
        await self._exchange(call, stream, take_whole)
        return found[0] if found else b""

    def _own_id(self) -> str:
        """An id that no request of the client's has: it may not equal that of another one in flight."""
        self._own_ids += 1
        return f"weir-tools-list-{self._own_ids}-{self._wiring.draw():.16f}"

    # what an operator should know

    def _stream_begun(self, status: int, headers: Headers) -> None:
        self.has_listened = True
        self.is_listening.set()

    def _note_end(self, outcome: Outcome) -> None:
        status = outcome.status if isinstance(outcome, Replied) else 0
        if status != 200 and status not in NO_STREAM and not isinstance(outcome, Refused):
            self._notice("what the server says outside of calls is not received: it would not open a GET stream")

    def _note_gone(self, session: str) -> None:
        """404 under a session: the server has forgotten it, and only the client can begin another."""
        if self._session.note_gone(session):
            self._notice("the server has ended the session (HTTP 404): the client has to initialize again")

    def _notice(self, text: str) -> None:
        self._wiring.emit(Notice("warning", text, {"upstream": self._settings.upstream}))


def _ignore_head(status: int, headers: Headers) -> None:
    return


async def _ignore(data: bytes) -> None:
    return


async def _ignore_reply(reply: Replied) -> None:
    return
