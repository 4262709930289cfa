"""Sessions of clients, seen in the calls that pass: when each began, was last used, and ended.

Before an HTTP server weir keeps no session, so nobody else could tell. What a client does towards weir, weir does
towards that server: both sides of such a session are told here. Those with stdio servers are told by who runs them
(relay/stdio_server.py); only their client's side is told here. Revisions from 2026-07-28 on have no sessions.
"""

from collections.abc import Callable
from typing import Final

from weir.core.call import Call, Transport, header
from weir.core.events import Emit, SessionClosed, SessionOpened
from weir.core.outcome import Outcome, RefusalKind, Refused, Replied
from weir.protocol.envelope import peek
from weir.protocol.statuses import ends_session
from weir.telemetry.reading import OK, Reading

SESSIONS_LIMIT: Final = 10_000
"""As many as the Python SDK's server opens. A few megabytes; over it the oldest is no longer watched ("evicted")."""
SWEEP_SECONDS: Final = 10.0

_BOTH: Final = ("client", "server")
_CLIENT: Final = ("client",)

Key = tuple[str, str]
"""Upstream and `Mcp-Session-Id`, which is a secret and leaves this module nowhere."""


class _Session:
    __slots__ = ("is_lasting", "opened_at", "revision", "sides", "used_at")

    def __init__(self, call: Call, revision: str, sides: tuple[str, ...]) -> None:
        self.opened_at, self.used_at = call.received_at, call.ended_at
        self.revision = revision
        self.sides = sides
        self.is_lasting = call.peer.transport is Transport.STDIO
        """Its client is on weir's own pipe: it is there as long as weir is."""


class Sessions:
    """A fold over finished calls. `streaming` names the sessions that have a stream open now: those are in use."""

    def __init__(
        self,
        emit: Emit,
        clock: Callable[[], float],
        idle_seconds: float,
        streaming: Callable[[], set[Key]],
        limit: int = SESSIONS_LIMIT,
    ) -> None:
        self._emit = emit
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._streaming = streaming
        self._limit = limit
        self._sessions: dict[Key, _Session] = {}
        self._swept_at = clock()

    def read(self, reading: Reading) -> None:
        """One finished request or notification."""
        call = reading.call
        if call.session:
            session = self._sessions.get((call.upstream, call.session))
            if session is not None:
                self._used(call, reading.outcome, session)
                return
        if call.message.method == "initialize" and reading.judgement is OK:
            self._open(call, reading.outcome)

    def exchanged(self, call: Call, outcome: Outcome) -> None:
        """One finished GET, DELETE, or answer of the client's."""
        session = self._sessions.get((call.upstream, call.session))
        if session is None:
            return
        if call.verb == b"DELETE" and isinstance(outcome, Replied) and 200 <= outcome.status < 300:
            _note_use(session, call)
            self._close((call.upstream, call.session), "deleted")
        else:
            self._used(call, outcome, session)

    def sweep(self) -> None:
        """Close what nobody has used for long. Cheap to call often."""
        now = self._clock()
        if now - self._swept_at < SWEEP_SECONDS:
            return
        self._swept_at = now
        streaming, since = self._streaming(), now - self._idle_seconds
        idle = [key for key, one in self._sessions.items() if one.used_at <= since and not one.is_lasting]
        for key in idle:
            # a stream is a use when it ends
            if key not in streaming:
                self._close(key, "idle")

    def close(self) -> None:
        """Weir stops, and with it the sessions of clients on its own pipe. Those over HTTP may go on with another."""
        for key in [key for key, one in self._sessions.items() if one.is_lasting]:
            self._sessions[key].used_at = self._clock()
            self._close(key, "shutdown")

    def _open(self, call: Call, outcome: Outcome) -> None:
        is_piped = call.peer.transport is Transport.STDIO
        said = header(outcome.headers, b"mcp-session-id").decode("latin-1") if isinstance(outcome, Replied) else ""
        key = (call.upstream, call.session or said)
        if not key[1] and not is_piped:
            # a server without sessions
            return
        if key in self._sessions:
            self._close(key, "deleted")
        elif len(self._sessions) >= self._limit:
            self._close(next(iter(self._sessions)), "evicted")
        server = call.attempts[-1].peer if call.attempts else None
        is_http = server is not None and server.transport is Transport.HTTP
        session = self._sessions[key] = _Session(call, _agreed(call, outcome), _BOTH if is_http else _CLIENT)
        for side in session.sides:
            self._emit(SessionOpened(call.upstream, side, session.revision))

    def _used(self, call: Call, outcome: Outcome, session: _Session) -> None:
        _note_use(session, call)
        is_unknown = isinstance(outcome, Refused) and outcome.kind is RefusalKind.UNKNOWN_SESSION
        if is_unknown or (isinstance(outcome, Replied) and ends_session(call.verb, outcome.status)):
            self._close((call.upstream, call.session), "gone")

    def _close(self, key: Key, reason: str) -> None:
        session = self._sessions.pop(key)
        seconds = session.used_at - session.opened_at
        for side in session.sides:
            self._emit(SessionClosed(key[0], side, session.revision, seconds, reason))


def _note_use(session: _Session, call: Call) -> None:
    session.used_at = call.ended_at
    session.revision = call.revision or session.revision


def _agreed(call: Call, outcome: Outcome) -> str:
    """The revision of the answer to `initialize`; where that was streamed, the calls behind it will tell."""
    result = peek(outcome.body).result if isinstance(outcome, Replied) and outcome.body else None
    return result.protocol_version if result is not None and result.protocol_version else call.revision
