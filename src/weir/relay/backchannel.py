"""What servers ask their clients (sampling, elicitation, roots, ping): seen, traced and matched to its answer.

The bytes are relayed by whoever carries the stream; this only remembers which questions are open, so
that the answer, which arrives as a POST of its own, ends the right one.
"""

from collections.abc import Callable
from typing import Final, Protocol

from weir.core.call import Call, Transport, header
from weir.core.events import Ask, AskFinished, AskStarted, Emit, LimitReached, ServerNotified
from weir.core.outcome import Verdict
from weir.protocol.correlation import key_of
from weir.protocol.envelope import Message
from weir.protocol.verdicts import verdict_of

# a question waits for a person at worst; ten thousand waiting people is an attack or a leak
OPEN_ASKS_LIMIT: Final = 10_000


class AskTracing(Protocol):
    """Gives a question its place in the trace; returns the body to relay."""

    def begin_ask(self, ask: Ask, body: bytes) -> bytes:
        """Set the ask's contexts and return the body with the outbound one in `params._meta`."""


_Caller = tuple[str, str, bytes]


def _caller_of(call: Call) -> _Caller:
    """Whose questions and answers those of a call are: the session's, or where there is none the caller's.

    Servers without sessions ask many clients under the same id. A client's answer must not end another's question.
    """
    if call.session or call.peer.transport is Transport.STDIO:
        return call.session, "", b""
    return "", call.peer.address, header(call.headers, b"authorization")


class Backchannel:
    """The open questions of one upstream, keyed by who is asked, and id."""

    def __init__(self, upstream: str, tracing: AskTracing, emit: Emit, clock: Callable[[], float]) -> None:
        self._upstream = upstream
        self._tracing = tracing
        self._emit = emit
        self._clock = clock
        self._open: dict[tuple[_Caller, bytes], Ask] = {}

    def asked(self, call: Call, message: Message, body: bytes) -> bytes:
        """The server asks on `call`'s stream: its clocks stand still until the answer. Returns the body to relay."""
        now = self._clock()
        ask = Ask(self._upstream, message, now, call)
        relayed = self._tracing.begin_ask(ask, body)
        key = (_caller_of(call), key_of(message.id))
        self._end(self._open.pop(key, None), None)
        if len(self._open) >= OPEN_ASKS_LIMIT:
            self._emit(LimitReached(self._upstream, "open_asks"))
            self._end(self._open.pop(next(iter(self._open))), None)
        self._open[key] = ask
        call.ask_began(now, message.method)
        self._emit(AskStarted(ask))
        return relayed

    def told(self, call: Call, message: Message) -> None:
        """The server sent a notification on `call`'s stream."""
        if message.method == "notifications/progress" and not call.is_stream:
            call.progressed(self._clock())
        self._emit(ServerNotified(call, message))

    def answered(self, call: Call, message: Message) -> None:
        """The client answered: a JSON-RPC response that is on its way to the server, as `call` or in its batch."""
        if not self._open:
            return
        ask = self._open.pop((_caller_of(call), key_of(message.id)), None)
        if ask is None:
            return
        self._end(ask, verdict_of(message))

    def finished(self, call: Call) -> None:
        """The stream that carried questions ended: those still open will not be answered on it."""
        if not call.pending_asks or call.is_stream:
            return
        for key in [key for key, ask in self._open.items() if ask.call is call]:
            self._end(self._open.pop(key), None)

    def _end(self, ask: Ask | None, verdict: Verdict | None) -> None:
        if ask is None:
            return
        ask.answered_at = self._clock()
        if ask.call is not None:
            ask.call.ask_ended(ask.answered_at)
        self._emit(AskFinished(ask, verdict))
