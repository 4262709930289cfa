"""Many callers on one stdio server (2026-07-28 and later): ids and tokens are renamed so that none meets another.

A request goes in under an id that only weir gives out, which also becomes its progress token and its
subscription. What comes back gets the caller's own texts again, JSON type included. Nothing else changes.
"""

import math
from collections.abc import Callable

from weir.core.events import Emit, LimitReached, LineSkipped
from weir.core.outcome import Blame, Failed, FailureKind, RefusalKind, Refused
from weir.core.shortage import SHORTAGE_RETRY_SECONDS
from weir.protocol import edit
from weir.protocol.correlation import key_of
from weir.protocol.envelope import Message
from weir.protocol.numbers import whole_number
from weir.relay.stdio_audience import Audience
from weir.relay.stdio_exchanges import answer_restored, subscription_restored
from weir.relay.stdio_mailbox import Exchange, Letter, Mailbox
from weir.relay.stdio_pipe import Pipe
from weir.relay.stdio_routing import AMBIGUOUS_ANSWER, Router, RoutingSettings
from weir.relay.tool_headers import ToolHeaders

OVERFULL = 16.0
"""Of the limit of a reply (4 MiB, 256 messages): what a client that reads slowly may leave waiting beside others."""
TOO_SLOW = Failed(
    FailureKind.TIMEOUT,
    "the client reads this reply more slowly than the server writes it, and others share the server",
    Blame.DOWNSTREAM,
    timer="client_read",
)
NO_ROOM = Refused(
    RefusalKind.OVERLOADED,
    "weir holds as many bytes as it may (listen.max_buffered), and others share the server of this reply.",
    "",
    SHORTAGE_RETRY_SECONDS,
)


class SharedRouter(Router):
    """The open replies of one server with many clients."""

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
        self._audience = Audience(self.open)

    @property
    def _has_departed(self) -> bool:
        return self._audience.has_departed

    def expect(self, exchange: Exchange, body: bytes) -> bytes | None:
        try:
            body = self._exchanges.rename(exchange, body)
        except ValueError:
            return None
        if self._full:
            # from now on the server has another caller, which must not wait for those that read slowly
            self._pipe.resume()
        self._begin(exchange)
        return body

    def forget(self, exchange: Exchange) -> bytes | None:
        is_open = exchange in self.open
        self._exchanges.close(exchange)
        exchange.leftovers()
        self.taken(exchange)
        if not is_open or self.ended_by is not None:
            return None
        self._audience.left(exchange)
        return b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b}}' % exchange.renamed

    @property
    def is_held(self) -> bool:
        """A slow reader holds the server up only while no other caller waits for it."""
        return bool(self._full) and len(self.open) <= 1

    def _hold_up(self, box: Mailbox) -> None:
        if not any(each is not box for each in self.open):
            self._pipe.pause()

    def unread_since(self, box: Mailbox) -> float:
        """From when it was full until half is read: its client has one total time, however little it reads between."""
        return box.full_since if box in self._full else math.inf

    def _has_room(self, box: Mailbox) -> bool:
        """Half of it has been read: a client that reads by drips stays a slow one (see stdio_sweep)."""
        return box.lack is None and not box.fills(0.5)

    def _deliver(self, box: Mailbox, letter: Letter) -> None:
        super()._deliver(box, letter)
        if not letter.is_last and (box.lack is not None or box.fills(OVERFULL)):
            box.abort(NO_ROOM if box.lack is Blame.WEIR else TOO_SLOW)
            self.taken(box)

    def _answer(self, message: Message, body: bytes) -> None:
        exchange = self._exchanges.find(message.id)
        if exchange is None:
            self._unclaimed(message, body)
            return
        self._exchanges.settle(exchange, exchange.renamed)
        self._note_answer(exchange, message, body)
        try:
            body = answer_restored(message, body, exchange.call.message.id)
        except ValueError:
            exchange.finish(AMBIGUOUS_ANSWER)
            return
        self._deliver(exchange, Letter(message, body, is_last=True))

    def _note_answer(self, exchange: Exchange, message: Message, body: bytes) -> None:
        super()._note_answer(exchange, message, body)
        if exchange.call.message.method == "tools/list":
            self._tools.learn(body)

    def _unclaimed(self, message: Message, body: bytes) -> None:
        key = key_of(message.id)
        number = whole_number(key)
        if number is not None and self._exchanges.was_minted(number):
            self._audience.answered(key)
            self._emit(LimitReached(self._upstream, "late_answer"))
        else:
            super()._unclaimed(message, body)

    def _notified(self, message: Message, body: bytes) -> None:
        try:
            self._deliver_renamed(message, body)
        except ValueError:
            self._emit(LineSkipped(self._upstream, len(body)))

    def _deliver_renamed(self, message: Message, body: bytes) -> None:
        owner, member, own = self._named(message)
        subscribed = self._exchanges.find(message.subscription_id) if message.subscription_id else None
        owner = owner or subscribed or self._audience.meant(message)
        if owner is None:
            self._drop(Letter(message, body))
            return
        if member:
            body = edit.set_param(body, member, own)
        if subscribed is not None:
            body = subscription_restored(message, body, owner.call.message.id)
        is_last = member == b"requestId"
        if is_last:
            self._exchanges.close(owner)
        self._deliver(owner, Letter(message, body, is_last))

    def _named(self, message: Message) -> tuple[Exchange | None, bytes, bytes]:
        """The request that a notification names, the member that names it, and the caller's own text for that."""
        if message.method == "notifications/progress":
            owner = self._exchanges.with_token(message.progress_token)
            if owner is not None:
                return owner, b"progressToken", owner.call.message.progress_token
        elif message.method == "notifications/cancelled":
            owner = self._exchanges.find(message.request_id)
            if owner is not None and owner.call.message.method == "subscriptions/listen":
                return owner, b"requestId", owner.call.message.id
        return None, b"", b""

    def _batch(self, message: Message, body: bytes) -> None:
        """2026-07-28 has no batches: each member goes its own way, under its caller's own id."""
        self._take_apart(message, body)

    def _unowned(self, letter: Letter) -> None:
        """A question: 2026-07-28 has none, and over HTTP no caller could answer it."""
        self._drop(letter)
