"""One message of a client on its way to the server, and which of its requests still wait for their answer."""

from collections.abc import Callable

from weir.core.call import Call, Headers
from weir.core.outcome import Outcome
from weir.protocol import edit
from weir.protocol.correlation import key_of
from weir.protocol.envelope import Kind, Message, peek
from weir.protocol.error_codes import HEADER_MISMATCH
from weir.protocol.salvage import salvage
from weir.relay.unwrap import Unwrap


class Posting:
    """A message and what became of it.

    `unanswered` holds its requests that have no answer yet. It is settled once none is left,
    or none can come any more. `held` is an answer that blames the headers, while weir mends them.
    """

    __slots__ = (
        "_when_settled",
        "body",
        "call",
        "held",
        "is_accepted",
        "is_settled",
        "is_withdrawn",
        "may_hold",
        "message",
        "mirrored",
        "outcome",
        "stream",
        "unanswered",
    )

    def __init__(self, body: bytes, message: Message) -> None:
        self.body = body
        self.message = message
        self.unanswered = {key_of(each.id): each for each in _parts(message, body) if each.kind is Kind.REQUEST}
        self.is_settled = False
        self.is_accepted = False
        """The server has taken a message that has no answer; its reply may go on."""
        self._when_settled: Callable[[], None] | None = None
        self.call: Call | None = None
        self.mirrored: Headers = []
        self.outcome: Outcome | None = None
        self.stream: Unwrap | None = None
        self.is_withdrawn = False
        self.may_hold = False
        self.held = b""

    @property
    def is_sent(self) -> bool:
        """The server can have seen it."""
        call = self.call
        return self.is_settled or (call is not None and any(attempt.sent_at for attempt in call.attempts))

    def accept(self) -> None:
        """The server has taken the message, and no answer will come."""
        self.is_accepted = True
        self.settle()

    def settle(self) -> None:
        """Nothing is left to wait for. What waits for that is told once."""
        self.is_settled = True
        then, self._when_settled = self._when_settled, None
        if then is not None:
            then()

    def let_go(self) -> None:
        """It is over: let go of what points back at it, which only the garbage collector would free."""
        self.call = self.stream = None

    def on_settled(self, then: Callable[[], None]) -> None:
        """Have `then` called when this is settled, at once when it is."""
        if self.is_settled:
            then()
        else:
            self._when_settled = then

    def cut(self, after_seconds: float) -> None:
        """Let the exchange under way end by then."""
        if self.stream is not None:
            self.stream.cut(after_seconds)

    def blames_headers(self, message: Message) -> bool:
        """True for an answer that only weir can do something about: it composed the headers."""
        return self.may_hold and message.error is not None and message.error.code == HEADER_MISMATCH

    def note(self, message: Message, data: bytes) -> bool:
        """A message went to the client: cross off what it answers. True when that was the last open request."""
        if not self.unanswered:
            return False
        for each in _parts(message, data):
            if each.kind is Kind.RESPONSE:
                self.unanswered.pop(key_of(each.id), None)
        if not self.unanswered:
            self.settle()
        return not self.unanswered


def posting_of(line: bytes) -> Posting:
    """One line of a client."""
    return Posting(line, peek(line))


def with_id(body: bytes, message: Message, raw_id: bytes) -> bytes:
    """An error under the id of the request it answers: servers send null or a word where they read no id."""
    if message.id:
        try:
            return edit.set_id(body, raw_id)
        except ValueError:
            return body
    brace = body.index(b"{") + 1
    return body[:brace] + b'"id":' + raw_id + b"," + body[brace:]


def _parts(message: Message, body: bytes) -> tuple[Message, ...]:
    if message.kind is Kind.OPAQUE:
        return (salvage(body) or message,)
    return message.members or (message,)
