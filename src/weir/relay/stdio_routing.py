"""Who gets each message of one stdio server: by id, by progress token, by subscription, or by what is open.

A server on a pipe says everything in one stream; over HTTP each message travels on one reply. An answer
goes to its request, progress to the request that gave the token. What has no owner (in the revisions up to
2025-11-25 that is what a server asks, logs and announces) goes to the session's GET stream, else to the
newest POST still waiting, else it waits for one of them.
"""

import math
from collections.abc import Callable

from weir.core.call import Attempt
from weir.core.events import Emit, LimitReached, LineSkipped, Listed
from weir.core.outcome import Blame, Failed, FailureKind, Sent
from weir.protocol import edit, scan
from weir.protocol.correlation import is_same, key_of
from weir.protocol.envelope import Kind, Message, peek
from weir.protocol.methods import LISTS
from weir.relay.stdio_asks import Asks
from weir.relay.stdio_exchanges import Abandoned, Exchanges, answer_restored, subscription_restored
from weir.relay.stdio_mailbox import Exchange, Letter, Mailbox
from weir.relay.stdio_mailbox import RoutingSettings as RoutingSettings
from weir.relay.stdio_orphans import Orphans, refusal
from weir.relay.stdio_pipe import Pipe

AMBIGUOUS_ANSWER = Failed(
    FailureKind.PROTOCOL, "its answer can be read in two ways: it has a member twice", sent=Sent.ANSWERED
)

LOST = Failed(FailureKind.INTERNAL, "weir could not read this answer; its log has the reason", Blame.WEIR)


class Router:
    """The open replies of one server with one client. Every byte stays, but for an id that is taken."""

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
        self._exchanges = Exchanges()
        self.open = self._exchanges.open
        self.listener: Mailbox | None = None
        """The GET stream."""
        self.ended_by: Failed | None = None
        self.has_answered = False
        self.resumed_at = 0.0
        """When the server last had no more to wait for a client: to answer, or to read."""
        self._asks = Asks(lambda: emit(LimitReached(upstream, "open_asks")))
        self._full: set[Mailbox] = set()
        self._orphans = Orphans(settings.orphans)
        self.answer: Callable[[bytes], None] = lambda body: None
        """Writes an answer of weir's own to the server; the session sets it."""

    # the client's side

    def expect(self, exchange: Exchange, body: bytes) -> bytes | None:
        """A POST with requests begins to wait. Returns the bytes to write, None when its ids are not clear."""
        expected = self._exchanges.expect(exchange, body)
        if expected is not None:
            self._begin(exchange)
        return expected

    def forget(self, exchange: Exchange) -> bytes | None:
        """A POST waits no more. Returns what the server is to be told of that, if anything."""
        if exchange in self.open:
            self._exchanges.abandon(exchange, passes=self._keeps_strays and exchange.is_cancelled)
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

    def outgoing(self, message: Message, body: bytes) -> bytes:
        """Returns what the server gets of a message that has no answer: an answer of its client under its own id."""
        if message.kind is Kind.BATCH:
            parts = [body[start:end] for start, end in scan.elements(body)]
            sent = [self.outgoing(member, part) for member, part in zip(message.members, parts, strict=True)]
            return body if sent == parts else edit.set_elements(body, sent)
        if message.kind is not Kind.RESPONSE:
            return body
        box, own = self._asks.answered(message.id)
        self._note_answered(box)
        return _with_id(body, own) if own is not message.id else body

    def cancelled(self, attempt: Attempt) -> tuple[Exchange | None, bytes]:
        """Returns the waiting request that a `notifications/cancelled` names, and the bytes that say so to the server.

        A client means the newest request with its id; weir names the attempt that it gave up.
        """
        raw, body = attempt.call.message.request_id, attempt.body
        if not raw or attempt.wire_id:
            return None, body
        exchange, wire = self._exchanges.named(raw)
        body = body if wire is raw else _with_param(body, b"requestId", wire)
        is_handshake = exchange is not None and exchange.call.message.method == "initialize"
        return (None if is_handshake else exchange), body

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
        exchange = self._exchanges.find(message.id) if message.kind is Kind.RESPONSE else None
        if exchange is not None:
            self._exchanges.close(exchange)
            exchange.finish(LOST)

    def overflowed(self) -> None:
        """A line was too long to be read. It is the answer of what waits alone; of several, nobody knows whose."""
        waiting = [each for each in self.open if each.call.message.method != "subscriptions/listen"]
        if len(waiting) == 1 and not self._has_departed:
            text = "the reply is over the limit for one line"
            self._exchanges.close(waiting[0])
            waiting[0].finish(Failed(FailureKind.TOO_LARGE, text, sent=Sent.ANSWERED))

    def ended(self, why: Failed) -> None:
        """The server is gone: everything that waits for it ends. What it said before comes first."""
        self.ended_by = self.ended_by or why
        if self.listener is not None:
            self.listener.finish(None)
        for exchange in list(self.open):
            self._exchanges.close(exchange)
            is_subscription = exchange.call.message.method == "subscriptions/listen" and exchange.is_streaming
            exchange.finish(None if is_subscription else why)

    def _answer(self, message: Message, body: bytes) -> None:
        exchange = self._exchanges.find(message.id)
        if exchange is None:
            self._unclaimed(message, body)
            return
        key = key_of(message.id)
        own = exchange.pending[key]
        self._exchanges.settle(exchange, key)
        self._note_answer(exchange, message, body)
        if not is_same(own, message.id):
            try:
                body = answer_restored(message, body, own)
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
        if (late := self._exchanges.late(message.id)) is not None:
            self._answered_late(late, message, body)
            return
        alone = len(self.open) == 1 and not self._has_departed
        if alone and message.id in (b"null", b"") and message.error is not None:
            exchange = next(iter(self.open))
            self._exchanges.close(exchange)
            exchange.answer = message
            self._deliver(exchange, Letter(message, body, is_last=True))
        elif self._keeps_strays:
            self._unowned(Letter(message, body))
        else:
            self._emit(LineSkipped(self._upstream, len(body)))

    def _answered_late(self, late: Abandoned, message: Message, body: bytes) -> None:
        """Its client has it, if it may, unless it would take it for the answer to a newer request."""
        own = late.own
        if late.passes and self._exchanges.named(own)[0] is None:
            self._unowned(Letter(message, body if is_same(own, message.id) else _with_id(body, own)))
        else:
            self._emit(LimitReached(self._upstream, "late_answer"))

    def _notified(self, message: Message, body: bytes) -> None:
        owner: Mailbox | None = None
        is_last = False
        if message.method == "notifications/progress":
            owner = self._exchanges.with_token(message.progress_token)
            if owner is None and self._exchanges.has_left(message.progress_token):
                return
            body = self._progress(owner, message, body)
        elif message.method == "notifications/cancelled":
            owner, is_last, body = self._withdrawn(message, body)
        elif message.subscription_id:
            owner, body = self._subscribed(message, body)
        if owner is None:
            self._unowned(Letter(message, body))
        else:
            self._deliver(owner, Letter(message, body, is_last))

    def _progress(self, owner: Exchange | None, message: Message, body: bytes) -> bytes:
        token = message.progress_token
        own = owner.tokens[key_of(token)] if owner is not None else token
        return body if is_same(own, token) else _with_param(body, b"progressToken", own)

    def _subscribed(self, message: Message, body: bytes) -> tuple[Exchange | None, bytes]:
        exchange = self._exchanges.find(message.subscription_id)
        own = exchange.call.message.id if exchange is not None else message.subscription_id
        return exchange, body if is_same(own, message.subscription_id) else subscription_restored(message, body, own)

    def _withdrawn(self, message: Message, body: bytes) -> tuple[Mailbox | None, bool, bytes]:
        """Whose the server's `notifications/cancelled` is: where it asked that, or the subscription it ends."""
        raw = message.request_id
        box, told = self._asks.withdrawn(raw)
        if box is not None:
            self._note_answered(box)
            body = body if told is raw else _with_param(body, b"requestId", told)
            return (box if self._is_open(box) else None), False, body
        exchange = self._exchanges.find(raw)
        if exchange is None or exchange.call.message.method != "subscriptions/listen":
            return None, False, body
        self._exchanges.close(exchange)
        own = exchange.call.message.id
        return exchange, True, body if is_same(own, raw) else _with_param(body, b"requestId", own)

    def _batch(self, message: Message, body: bytes) -> None:
        """An array of answers to one POST stays whole; any other is taken apart."""
        owners = [
            self._exchanges.find(member.id) if member.kind is Kind.RESPONSE else None for member in message.members
        ]
        first = owners[0]
        if first is not None and all(owner is first for owner in owners) and _has_own_ids(first, message):
            for member in message.members:
                self._exchanges.settle(first, key_of(member.id))
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

    def _begin(self, exchange: Exchange) -> None:
        self.open[exchange] = None
        if self._orphans and self.listener is None:
            self._deliver_orphans(exchange)

    def _is_open(self, box: Mailbox) -> bool:
        return box is self.listener or box in self.open

    def _deliver(self, box: Mailbox, letter: Letter) -> None:
        box.active_at = self._clock()
        if letter.message.kind is Kind.REQUEST:
            told = self._asks.note(letter.message.id, box, box.active_at)
            if told is not letter.message.id:
                body = _with_id(letter.body, told)
                letter = Letter(peek(body), body)
        box.put(letter)
        if box.is_full and not letter.is_last and box not in self._full:
            box.full_since = box.active_at
            self._full.add(box)
            self._hold_up(box)

    def _hold_up(self, box: Mailbox) -> None:
        """A reply is full: its server waits for the client to read."""
        self._pipe.pause()

    def _note_answered(self, box: Mailbox | None) -> None:
        """A question of the server, which was asked there, is answered or withdrawn."""
        if box is not None:
            self.resumed_at = self._clock()

    def _reroute(self, box: Mailbox) -> None:
        """What a reply did not write and does not own finds another one. A full reply that ended holds nobody up."""
        letters = box.leftovers()
        self.taken(box)
        for letter in letters:
            if letter.message.kind is Kind.REQUEST:
                self._unowned(self._unasked(letter))
            elif _is_announcement(letter.message):
                self._unowned(letter)

    def _unasked(self, letter: Letter) -> Letter:
        """A question that its client has not got, under its server's own id again."""
        _, own = self._asks.answered(letter.message.id)
        body = letter.body if own is letter.message.id else _with_id(letter.body, own)
        return letter if body is letter.body else Letter(peek(body), body)

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


def _has_own_ids(exchange: Exchange, batch: Message) -> bool:
    return all(is_same(exchange.pending[key_of(member.id)], member.id) for member in batch.members)


def _with_id(body: bytes, raw: bytes) -> bytes:
    """A message under another id, or as it is where it names two."""
    try:
        return edit.set_id(body, raw)
    except ValueError:
        return body


def _with_param(body: bytes, name: bytes, value: bytes) -> bytes:
    try:
        return edit.set_param(body, name, value)
    except ValueError:
        return body
