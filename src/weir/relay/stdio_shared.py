"""Many callers on one stdio server (2026-07-28 and later): ids and tokens are renamed so that none meets another.

A request goes in under an id that only weir gives out, which also becomes its progress token and its
subscription. What comes back gets the caller's own texts again, JSON type included. Nothing else changes.
"""

from collections.abc import Callable

from weir.core.call import Call, header
from weir.core.events import Emit, LimitReached, LineSkipped
from weir.core.outcome import Replied
from weir.protocol import edit
from weir.protocol.envelope import Kind, Message
from weir.protocol.headers import decode_value, mcp_headers, unlike
from weir.protocol.shapes import SUBSCRIPTION_KEY
from weir.relay.stdio_ids import key_of
from weir.relay.stdio_mailbox import Exchange, Letter
from weir.relay.stdio_pipe import Pipe
from weir.relay.stdio_reply import refused_as_server
from weir.relay.stdio_routing import AMBIGUOUS_ANSWER, Router, RoutingSettings
from weir.relay.tool_headers import ToolHeaders

# below 2^31, as some servers read ids as 32-bit numbers, and ten digits, as a text so long stands in few messages
FIRST_ID = 1_000_000_001
HEADER_MISMATCH = -32020
_LOG_LEVEL = b"io.modelcontextprotocol/logLevel"
_SUBSCRIPTION = SUBSCRIPTION_KEY.encode()


class SharedRouter(Router):
    """The open replies of one server with many clients."""

    _next = FIRST_ID

    def __init__(
        self,
        upstream: str,
        pipe: Pipe,
        settings: RoutingSettings,
        emit: Emit,
        clock: Callable[[], float],
        *,
        tools: ToolHeaders,
    ) -> None:
        super().__init__(upstream, pipe, settings, emit, clock)
        self._tools = tools

    def expect(self, exchange: Exchange, body: bytes) -> bytes | None:
        message = exchange.call.message
        raw = b"%d" % self._next
        try:
            body = edit.set_id(body, raw)
            if message.progress_token:
                renamed = edit.set_meta(body, message, {b"progressToken": raw})
                if renamed is None:
                    return None
                body = renamed
        except ValueError:
            return None
        self._next += 1
        self._register(exchange, raw, raw)
        if message.progress_token:
            self._register_token(exchange, raw)
        exchange.renamed = raw
        self._begin(exchange)
        return body

    def forget(self, exchange: Exchange) -> bytes | None:
        is_open = exchange in self.open
        self._close(exchange)
        exchange.leftovers()
        self.taken(exchange)
        if not is_open or self.ended_by is not None:
            return None
        return b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b}}' % exchange.renamed

    def outgoing(self, call: Call, body: bytes, cancelled: Exchange | None) -> bytes | None:
        message = call.message
        if message.kind is Kind.RESPONSE:
            # any caller could send one: the server gets it only if it has asked
            return body if self._answered(message.id) is not None else None
        if message.method == "notifications/cancelled":
            return edit.set_param(body, b"requestId", cancelled.renamed) if cancelled is not None else None
        return body

    def cancelled(self, call: Call) -> Exchange | None:
        """Over HTTP a caller cancels by leaving. What it names is its own only if no other caller can be meant."""
        key = key_of(call.message.request_id)
        named = [each for each in self.open if key_of(each.call.message.id) == key and _is_same_caller(each.call, call)]
        return named[0] if len(named) == 1 else None

    def _answer(self, message: Message, body: bytes) -> None:
        exchange = self._find(message.id)
        if exchange is None:
            self._unclaimed(message, body)
            return
        self._settle(exchange, exchange.renamed)
        self._note_answer(exchange, message, body)
        try:
            body = _answer_restored(exchange, message, body)
        except ValueError:
            exchange.finish(AMBIGUOUS_ANSWER)
            return
        self._deliver(exchange, Letter(message, body, is_last=True))

    def _note_answer(self, exchange: Exchange, message: Message, body: bytes) -> None:
        super()._note_answer(exchange, message, body)
        if exchange.call.message.method == "tools/list":
            self._tools.learn(body)

    def _unclaimed(self, message: Message, body: bytes) -> None:
        if message.id.isdigit() and FIRST_ID <= int(message.id) < self._next:
            return  # late: its caller has gone
        super()._unclaimed(message, body)

    def _notified(self, message: Message, body: bytes) -> None:
        try:
            self._deliver_renamed(message, body)
        except ValueError:
            self._emit(LineSkipped(self._upstream, len(body)))

    def _deliver_renamed(self, message: Message, body: bytes) -> None:
        is_last = False
        if message.method == "notifications/progress":
            owner = self._tokens.get(key_of(message.progress_token))
            member = b"progressToken"
        elif message.method == "notifications/cancelled":
            withdrawn, is_last = self._withdrawn(message)
            owner = withdrawn if isinstance(withdrawn, Exchange) else None
            member = b"requestId" if is_last else b""
        else:
            owner, member = None, b""
        subscribed = self._subscribed(message)
        owner = owner or subscribed
        if owner is None:
            self._unowned(Letter(message, body))
            return
        own = owner.call.message
        if member:
            body = edit.set_param(body, member, own.progress_token if member == b"progressToken" else own.id)
        if subscribed is not None:
            body = edit.set_meta(body, message, {_SUBSCRIPTION: own.id}) or body
        self._deliver(owner, Letter(message, body, is_last))

    def _subscribed(self, message: Message) -> Exchange | None:
        return self._find(message.subscription_id) if message.subscription_id else None

    def _unowned(self, letter: Letter) -> None:
        """What names no caller may reach one only if no other can be meant."""
        if letter.message.method == "notifications/message":
            candidates = [exchange for exchange in self.open if _LOG_LEVEL in exchange.call.body]
        else:
            candidates = list(self.open)
        if len(candidates) == 1:
            self._deliver(candidates[0], letter)
        else:
            self._emit(LimitReached(self._upstream, "orphans"))


def _answer_restored(exchange: Exchange, message: Message, body: bytes) -> bytes:
    """`body` with the caller's id. The decoder saw the renamed id: where its text stands once, that is the place."""
    own = exchange.call.message.id
    at = body.find(message.id)
    if at >= 0 and at == body.rfind(message.id):
        return b"".join((body[:at], own, body[at + len(message.id) :]))
    body = edit.set_id(body, own)
    if key_of(message.subscription_id) == exchange.renamed:
        body = edit.set_result_meta(body, _SUBSCRIPTION, own)
    return body


def mismatch(call: Call, tools: ToolHeaders) -> Replied | None:
    """What a 2026-07-28 server says when the headers that mirror the body differ from it; None when they agree.

    Whoever processes the body must check (basic/transports/streamable-http). A server on a pipe cannot: weir is
    the one that reads the headers. Those of arguments it knows from the tools that were listed; of a tool that no
    list has named yet it knows none, and lets the call pass.
    """
    message = call.message
    for name, value in mcp_headers(message):
        given = decode_value(header(call.headers, name).strip())
        if given is None or given != decode_value(value):
            return _mismatched(call, name)
    params = tools.params(message.name) if message.method == "tools/call" else ()
    name = unlike(call.headers, call.body, params) if params else b""
    return _mismatched(call, name) if name else None


def _mismatched(call: Call, name: bytes) -> Replied:
    text = f"Header mismatch: {name.decode()} is missing, or is not what the body says"
    return refused_as_server(400, HEADER_MISMATCH, text, call.message.id)


def _is_same_caller(one: Call, other: Call) -> bool:
    if one.peer.address != other.peer.address:
        return False
    return header(one.headers, b"authorization") == header(other.headers, b"authorization")
