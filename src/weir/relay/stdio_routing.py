"""Who gets each message of one stdio server: by id, by progress token, by subscription, or by what is open.

A server on a pipe says everything in one stream; over HTTP each message travels on one reply. An answer
goes to its request, progress to the request that gave the token. What has no owner (in the revisions up to
2025-11-25 that is what a server asks, logs and announces) goes to the session's GET stream, else to the
newest POST still waiting, else it waits for one of them.
"""

import math
from collections.abc import Callable

from weir.core.call import Call
from weir.core.events import Emit, LimitReached, LineSkipped, Listed
from weir.core.outcome import Blame, Failed, FailureKind, Sent
from weir.protocol import edit, scan
from weir.protocol.correlation import key_of
from weir.protocol.envelope import Kind, Message
from weir.protocol.methods import LISTS
from weir.relay.stdio_asks import Asks
from weir.relay.stdio_mailbox import Exchange, Letter, Mailbox
from weir.relay.stdio_mailbox import RoutingSettings as RoutingSettings
from weir.relay.stdio_orphans import Orphans, refusal
from weir.relay.stdio_pipe import Pipe

# a client that left owes nothing; without a bound a server that answers none of its requests would grow this
ABANDONED_LIMIT = 1024
AMBIGUOUS_ANSWER = Failed(
    FailureKind.PROTOCOL, "its answer can be read in two ways: it has a member twice", sent=Sent.ANSWERED
)

LOST = Failed(FailureKind.INTERNAL, "weir could not read this answer; its log has the reason", Blame.WEIR)


class Router:
    """The open replies of one server with one client. Nothing is renamed, every byte stays."""

    def __init__(
        self,
        upstream: str,
        pipe: Pipe,
        settings: RoutingSettings,
        emit: Emit,
        clock: Callable[[], float],
        *,
        keeps_strays: bool = False,
    ) -> None:
        self._upstream = upstream
        self._pipe = pipe
        self._settings = settings
        self._emit = emit
        self._clock = clock
        self._keeps_strays = keeps_strays
        self.bounds = settings.reply
        self.open: dict[Exchange, None] = {}
        """The POSTs still waiting, oldest first."""
        self.listener: Mailbox | None = None
        """The GET stream."""
        self.ended_by: Failed | None = None
        self.has_answered = False
        self._waiting: dict[bytes, list[Exchange]] = {}
        self._tokens: dict[bytes, Exchange] = {}
        self.resumed_at = 0.0
        """When the server last had no more to wait for a client: to answer, or to read."""
        self._asks = Asks(lambda: emit(LimitReached(upstream, "open_asks")))
        self._abandoned: dict[bytes, int] = {}
        self._abandoned_tokens: dict[bytes, None] = {}
        self._full: set[Mailbox] = set()
        self._orphans = Orphans(settings.orphans)
        self.answer: Callable[[bytes], None] = lambda body: None
        """Writes an answer of weir's own to the server; the session sets it."""

    # the client's side

    def expect(self, exchange: Exchange, body: bytes) -> bytes | None:
        """A POST with requests begins to wait. Returns the bytes to write, None when its ids are not clear."""
        message = exchange.call.message
        for member in message.members or (message,):
            if member.kind is Kind.REQUEST:
                raw = member.id if message.members else exchange.wire_id
                self._register(exchange, key_of(raw), raw)
                if member.progress_token:
                    self._register_token(exchange, key_of(member.progress_token))
        self._begin(exchange)
        return body

    def forget(self, exchange: Exchange) -> bytes | None:
        """A POST waits no more. Returns what the server is to be told of that, if anything."""
        if exchange in self.open:
            if not (self._keeps_strays and exchange.is_cancelled):
                self._abandon(exchange)
            self._close(exchange)
        self._reroute(exchange)
        return None

    def listen(self, box: Mailbox) -> None:
        """The GET stream opens."""
        self.listener = box
        self._deliver_orphans(box)

    def unlisten(self, box: Mailbox) -> None:
        """The GET stream ended; what it did not write waits for the next one."""
        if self.listener is box:
            self.listener = None
        self._reroute(box)

    def outgoing(self, call: Call, body: bytes, cancelled: Exchange | None) -> bytes | None:
        """What the server is to get of a message that has no answer; `cancelled` is the request it ends, if any."""
        for member in call.message.members or (call.message,):
            if member.kind is Kind.RESPONSE:
                self._answered(member.id)
        return body

    def cancelled(self, call: Call) -> Exchange | None:
        """The request that a client's `notifications/cancelled` names, while it waits."""
        raw = call.message.request_id
        self._abandoned.pop(key_of(raw), None)
        exchange = self._find(raw) if raw else None
        return exchange if exchange is not None and exchange.call.message.method != "initialize" else None

    @property
    def _has_departed(self) -> bool:
        """Another caller left before its answer came, so an answer without an id may be that one's."""
        return False

    @property
    def is_held(self) -> bool:
        """The server waits for a client, to answer or to read, and cannot be blamed for its silence."""
        return bool(self._asks or self._full)

    def forget_asks(self, before: float) -> None:
        """Questions asked before an instant are not waited for any longer. An answer still passes."""
        if self._asks.forget(before):
            self.resumed_at = self._clock()

    def taken(self, box: Mailbox) -> None:
        """A message was written: the server may go on when no reply is full any more."""
        if box in self._full and self._has_room(box):
            self._full.discard(box)
            if not self._full:
                self.resumed_at = self._clock()
                self._pipe.resume()

    def unread_since(self, box: Mailbox) -> float:
        """Since when a client has read too little of a full reply; inf when the reply is not full."""
        return max(box.full_since, box.written_at) if box.is_full else math.inf

    def _has_room(self, box: Mailbox) -> bool:
        return not box.is_full

    # the server's side

    def message(self, message: Message, body: bytes) -> None:
        """Give one message of the server to the reply it belongs to."""
        kind = message.kind
        if kind is Kind.RESPONSE:
            self._answer(message, body)
        elif kind is Kind.NOTIFICATION:
            self._notified(message, body)
        elif kind is Kind.REQUEST:
            self._unowned(Letter(message, body))
        elif kind is Kind.BATCH:
            self._batch(message, body)
        elif self._keeps_strays:
            self._unowned(Letter(message, body))
        else:
            self._emit(LineSkipped(self._upstream, len(body)))

    def spoiled(self, message: Message) -> None:
        """A bug of weir's cost one line. What waited for it must not wait any longer."""
        exchange = self._find(message.id) if message.kind is Kind.RESPONSE else None
        if exchange is not None:
            self._close(exchange)
            exchange.finish(LOST)

    def overflowed(self) -> None:
        """A line was too long to be read. It is the answer of what waits alone; of several, nobody knows whose."""
        waiting = [each for each in self.open if each.call.message.method != "subscriptions/listen"]
        if len(waiting) == 1 and not self._has_departed:
            text = "the reply is over the limit for one line"
            self._close(waiting[0])
            waiting[0].finish(Failed(FailureKind.TOO_LARGE, text, sent=Sent.ANSWERED))

    def ended(self, why: Failed) -> None:
        """The server is gone: everything that waits for it ends. What it said before comes first."""
        self.ended_by = self.ended_by or why
        if self.listener is not None:
            self.listener.finish(None)
        for exchange in list(self.open):
            self._close(exchange)
            is_subscription = exchange.call.message.method == "subscriptions/listen" and exchange.is_streaming
            exchange.finish(None if is_subscription else why)

    def _answer(self, message: Message, body: bytes) -> None:
        key = key_of(message.id)
        if self._abandoned and self._is_late(key):
            return
        exchange = self._find(message.id)
        if exchange is None:
            self._unclaimed(message, body)
            return
        self._settle(exchange, key)
        self._note_answer(exchange, message, body)
        own = exchange.call.message.id
        if exchange.call.is_request and exchange.wire_id != own:
            try:
                body = edit.set_id(body, own)
            except ValueError:
                exchange.finish(AMBIGUOUS_ANSWER)
                return
        self._deliver(exchange, Letter(message, body, not exchange.pending))

    def _note_answer(self, exchange: Exchange, message: Message, body: bytes) -> None:
        self.has_answered = True
        exchange.answer = message
        if exchange.call.message.method in LISTS:
            self._emit(Listed(self._upstream, exchange.call.message.method, body))

    def _unclaimed(self, message: Message, body: bytes) -> None:
        """An answer to nothing that waits. One with a null id can only be meant for what waits alone."""
        alone = len(self.open) == 1 and not self._has_departed
        if alone and message.id in (b"null", b"") and message.error is not None:
            exchange = next(iter(self.open))
            self._close(exchange)
            exchange.answer = message
            self._deliver(exchange, Letter(message, body, is_last=True))
        elif self._keeps_strays:
            self._unowned(Letter(message, body))
        else:
            self._emit(LineSkipped(self._upstream, len(body)))

    def _notified(self, message: Message, body: bytes) -> None:
        owner: Mailbox | None = None
        is_last = False
        if message.method == "notifications/progress":
            key = key_of(message.progress_token)
            if key in self._abandoned_tokens:
                return
            owner = self._tokens.get(key)
        elif message.method == "notifications/cancelled":
            owner, is_last = self._withdrawn(message)
        elif message.subscription_id:
            owner = self._find(message.subscription_id)
        if owner is None:
            self._unowned(Letter(message, body))
        else:
            self._deliver(owner, Letter(message, body, is_last))

    def _withdrawn(self, message: Message) -> tuple[Mailbox | None, bool]:
        """Whose the server's `notifications/cancelled` is: where it asked that, or the subscription it ends."""
        box = self._answered(message.request_id)
        if box is not None:
            return (box if self._is_open(box) else None), False
        exchange = self._find(message.request_id)
        if exchange is None or exchange.call.message.method != "subscriptions/listen":
            return None, False
        self._close(exchange)
        return exchange, True

    def _batch(self, message: Message, body: bytes) -> None:
        """An array of answers to one POST stays whole; any other is taken apart."""
        owners = [self._find(member.id) if member.kind is Kind.RESPONSE else None for member in message.members]
        first = owners[0]
        if first is not None and all(owner is first for owner in owners):
            for member in message.members:
                self._settle(first, key_of(member.id))
            first.answer = message
            self._deliver(first, Letter(message, body, not first.pending))
        else:
            self._take_apart(message, body)

    def _take_apart(self, message: Message, body: bytes) -> None:
        for member, (start, end) in zip(message.members, scan.elements(body), strict=True):
            self.message(member, body[start:end])

    def _unowned(self, letter: Letter) -> None:
        box: Mailbox | None = self.listener
        if box is None:
            box = next(reversed(self.open), None)
        if box is not None:
            self._deliver(box, letter)
        else:
            for fallen in self._orphans.keep(letter):
                self._drop(fallen)

    # the books

    def _register(self, exchange: Exchange, key: bytes, raw: bytes) -> None:
        exchange.pending[key] = raw
        self._waiting.setdefault(key, []).append(exchange)

    def _register_token(self, exchange: Exchange, key: bytes) -> None:
        self._tokens[key] = exchange
        self._abandoned_tokens.pop(key, None)
        exchange.tokens.append(key)

    def _begin(self, exchange: Exchange) -> None:
        self.open[exchange] = None
        if self._orphans and self.listener is None:
            self._deliver_orphans(exchange)

    def _find(self, raw: bytes) -> Exchange | None:
        """The request that waits under this id; of two under one key, the one with the same JSON text."""
        found = self._waiting.get(key_of(raw))
        if found is None:
            return None
        if len(found) > 1:
            key = key_of(raw)
            for exchange in found:
                if exchange.pending.get(key) == raw:
                    return exchange
        return found[0]

    def _settle(self, exchange: Exchange, key: bytes) -> None:
        """One id of a POST has its answer; with its last one the POST is no longer open."""
        exchange.pending.pop(key, None)
        self._unwait(exchange, key)
        if not exchange.pending:
            self._close(exchange)

    def _unwait(self, exchange: Exchange, key: bytes) -> None:
        found = self._waiting.get(key, [])
        if exchange in found:
            found.remove(exchange)
        if not found:
            self._waiting.pop(key, None)

    def _close(self, exchange: Exchange) -> None:
        self.open.pop(exchange, None)
        for key in exchange.pending:
            self._unwait(exchange, key)
        exchange.pending.clear()
        for key in exchange.tokens:
            if self._tokens.get(key) is exchange:
                del self._tokens[key]

    def _abandon(self, exchange: Exchange) -> None:
        for key in exchange.pending:
            self._abandoned[key] = self._abandoned.get(key, 0) + 1
        self._abandoned_tokens.update(dict.fromkeys(exchange.tokens))
        for known in (self._abandoned, self._abandoned_tokens):
            while len(known) > ABANDONED_LIMIT:
                del known[next(iter(known))]

    def _is_late(self, key: bytes) -> bool:
        """Whether this answers a request whose client has gone (its answer comes first when an id is used again)."""
        count = self._abandoned.get(key, 0)
        if count > 1:
            self._abandoned[key] = count - 1
        elif count:
            del self._abandoned[key]
        return count > 0

    def _is_open(self, box: Mailbox) -> bool:
        return box is self.listener or box in self.open

    def _deliver(self, box: Mailbox, letter: Letter) -> None:
        box.active_at = self._clock()
        if letter.message.kind is Kind.REQUEST:
            self._asks.note(key_of(letter.message.id), box, box.active_at)
        box.put(letter)
        if box.is_full and not letter.is_last and box not in self._full:
            box.full_since = box.active_at
            self._full.add(box)
            self._hold_up(box)

    def _hold_up(self, box: Mailbox) -> None:
        """A reply is full: its server waits for the client to read."""
        self._pipe.pause()

    def _answered(self, raw: bytes) -> Mailbox | None:
        """A question of the server is answered or withdrawn: where it was asked."""
        box = self._asks.pop(key_of(raw))
        if box is not None:
            self.resumed_at = self._clock()
        return box

    def _reroute(self, box: Mailbox) -> None:
        """What a reply did not write and does not own finds another one. A full reply that ended holds nobody up."""
        letters = box.leftovers()
        self.taken(box)
        for letter in letters:
            if letter.message.kind is Kind.REQUEST or _is_announcement(letter.message):
                self._unowned(letter)

    def _drop(self, letter: Letter) -> None:
        """Count a message that reaches nobody; the server must not wait for the answer to a question among them."""
        self._emit(LimitReached(self._upstream, "orphans"))
        self._pipe.unwanted(len(letter.body))
        answer = refusal(letter.message)
        if answer is not None:
            self.answer(answer)

    def _deliver_orphans(self, box: Mailbox) -> None:
        for letter in self._orphans.take():
            self._deliver(box, letter)


def _is_announcement(message: Message) -> bool:
    return message.kind is Kind.NOTIFICATION and message.method != "notifications/progress"
