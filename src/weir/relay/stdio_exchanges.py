"""The requests that one stdio server has not answered, by the ids and progress tokens that the server knows.

Ids repeat: a client may number every request 1. An id that is in flight, or was abandoned before its answer came, goes
to the server under a fresh one, and so does a progress token. Every other message keeps its bytes.
"""

from typing import Final, NamedTuple

from weir.protocol import edit, scan
from weir.protocol.correlation import is_same, key_of
from weir.protocol.envelope import Kind, Message
from weir.protocol.shapes import SUBSCRIPTION_KEY
from weir.relay.stdio_mailbox import Exchange

FIRST_ID: Final = 1_000_000_001
"""Below 2^31, as some servers read ids as 32-bit numbers; ten digits, as a text so long stands in few messages."""
ABANDONED_LIMIT: Final = 1024
"""Abandoned requests that are remembered one by one. Beyond that every request of the server gets a fresh id."""

_SUBSCRIPTION: Final = SUBSCRIPTION_KEY.encode()


class Abandoned(NamedTuple):
    """A request that nobody waits for, and that the server may still answer."""

    own: bytes
    """The id that its client knows."""
    passes: bool
    """Its client may still have the answer."""
    tokens: tuple[bytes, ...]
    wire_id: bytes
    """The id that the server knows."""


class Exchanges:
    """What waits, oldest first, and what was abandoned. No key is in both, or twice in one."""

    def __init__(self) -> None:
        self.open: dict[Exchange, None] = {}
        """The POSTs still waiting, oldest first."""
        self._waiting: dict[bytes, Exchange] = {}
        self._tokens: dict[bytes, Exchange] = {}
        self._abandoned: dict[bytes, Abandoned] = {}
        self._abandoned_tokens: dict[bytes, None] = {}
        self._is_doubtful = False
        """More was abandoned than is remembered, so any id but a fresh one may be answered late."""
        self._next = FIRST_ID

    def expect(self, exchange: Exchange, body: bytes) -> bytes | None:
        """Notes the requests of a POST. Returns the bytes for the server; None: an id to be changed is not clear."""
        message = exchange.call.message
        try:
            if message.kind is Kind.BATCH:
                places = [body[start:end] for start, end in scan.elements(body)]
                parts = [
                    self._expect(exchange, member, member.id, part) if member.kind is Kind.REQUEST else part
                    for member, part in zip(message.members, places, strict=True)
                ]
                return body if parts == places else edit.set_elements(body, parts)
            return self._expect(exchange, message, exchange.wire_id, body)
        except ValueError:
            self.close(exchange)
            return None

    def rename(self, exchange: Exchange, body: bytes) -> bytes:
        """As `expect`, under a fresh id and token whatever the caller's are.

        Raises:
            ValueError: the id or the token is not clear.
        """
        message, key = exchange.call.message, self.fresh()
        body = edit.set_id(body, key)
        if message.progress_token:
            body = _with_token(body, message, key)
            self._note_token(exchange, key, message.progress_token)
        self._note(exchange, key, message.id)
        exchange.renamed = key
        return body

    def fresh(self) -> bytes:
        """Returns an id, or a token, that nothing on this pipe has."""
        while True:
            key = b"%d" % self._next
            self._next += 1
            if key not in self._waiting and key not in self._tokens and key not in self._abandoned:
                return key

    def was_minted(self, number: int) -> bool:
        """Whether `fresh` has given this number."""
        return FIRST_ID <= number < self._next

    def find(self, raw: bytes) -> Exchange | None:
        """Returns the request that waits under this id of the server's."""
        return self._waiting.get(key_of(raw)) if self._waiting else None

    def with_token(self, raw: bytes) -> Exchange | None:
        """Returns the request to which the server knows this token."""
        return self._tokens.get(key_of(raw))

    def has_left(self, token: bytes) -> bool:
        """Whether the request with this token was abandoned."""
        return bool(self._abandoned_tokens) and key_of(token) in self._abandoned_tokens

    def named(self, raw: bytes) -> tuple[Exchange | None, bytes]:
        """Returns the newest request that its client knows by this id, and the id by which the server knows it.

        None: it does not wait any more.
        """
        wanted = key_of(raw)
        for exchange in reversed(self.open):
            for key, own in exchange.pending.items():
                if own == raw or key_of(own) == wanted:
                    wire = exchange.wire_id if key_of(exchange.wire_id) == key else key
                    return exchange, raw if key == wanted else wire
        for key, left in reversed(self._abandoned.items()):
            if left.own == raw or key_of(left.own) == wanted:
                return None, raw if key == wanted else left.wire_id
        return None, raw

    def settle(self, exchange: Exchange, key: bytes) -> None:
        """One id of a POST has its answer; with its last one the POST is no longer open."""
        exchange.pending.pop(key, None)
        self._waiting.pop(key, None)
        if not exchange.pending:
            self.close(exchange)

    def close(self, exchange: Exchange) -> None:
        """Nothing waits for this POST's answers any more."""
        self.open.pop(exchange, None)
        for key in exchange.pending:
            self._waiting.pop(key, None)
        exchange.pending.clear()
        for key in exchange.tokens:
            self._tokens.pop(key, None)

    def abandon(self, exchange: Exchange, *, passes: bool) -> None:
        """Nobody waits for this POST, and the server may still answer it. `passes`: its client may have that answer."""
        tokens = tuple(exchange.tokens)
        for key, own in exchange.pending.items():
            self._abandoned[key] = Abandoned(
                own, passes, tokens, exchange.wire_id if key_of(exchange.wire_id) == key else key
            )
        self._abandoned_tokens.update(dict.fromkeys(tokens))
        self.close(exchange)
        while len(self._abandoned) > ABANDONED_LIMIT or len(self._abandoned_tokens) > ABANDONED_LIMIT:
            self._is_doubtful = True
            known = self._abandoned if len(self._abandoned) > ABANDONED_LIMIT else self._abandoned_tokens
            del known[next(iter(known))]

    def late(self, raw: bytes) -> Abandoned | None:
        """Returns the abandoned request that an answer is for, which is owed nothing from now on."""
        found = self._abandoned.pop(key_of(raw), None) if self._abandoned else None
        for token in found.tokens if found is not None else ():
            self._abandoned_tokens.pop(token, None)
        return found

    def _expect(self, exchange: Exchange, message: Message, wire: bytes, body: bytes) -> bytes:
        key = key_of(wire)
        if self._is_doubtful or key in self._waiting or key in self._abandoned:
            key = self.fresh()
            body = edit.set_id(body, key)
            if not exchange.call.message.members:
                exchange.wire_id = key
        self._note(exchange, key, message.id)
        token = message.progress_token
        if token:
            token_key = key_of(token)
            if self._is_doubtful or token_key in self._tokens or token_key in self._abandoned_tokens:
                token_key = self.fresh()
                body = _with_token(body, message, token_key)
            self._note_token(exchange, token_key, token)
        return body

    def _note(self, exchange: Exchange, key: bytes, own: bytes) -> None:
        exchange.pending[key] = own
        self._waiting[key] = exchange

    def _note_token(self, exchange: Exchange, key: bytes, own: bytes) -> None:
        exchange.tokens[key] = own
        self._tokens[key] = exchange


def _with_token(body: bytes, message: Message, token: bytes) -> bytes:
    edited = edit.set_meta(body, message, {b"progressToken": token})
    if edited is None:
        raise ValueError("the progress token is not clear")
    return edited


def answer_restored(message: Message, body: bytes, own: bytes) -> bytes:
    """An answer under its caller's id. The decoder saw the server's: where its text stands once, that is the place.

    Raises:
        ValueError: the answer names two ids.
    """
    at = body.find(message.id)
    if at >= 0 and at == body.rfind(message.id):
        return b"".join((body[:at], own, body[at + len(message.id) :]))
    body = edit.set_id(body, own)
    if message.subscription_id and is_same(message.subscription_id, message.id):
        body = edit.set_result_meta(body, _SUBSCRIPTION, own)
    return body


def subscription_restored(message: Message, body: bytes, own: bytes) -> bytes:
    """A notification of a subscription under its caller's id."""
    return edit.set_meta(body, message, {_SUBSCRIPTION: own}) or body
