"""A stdio server that looks like a Streamable HTTP server inside weir.

Up to 2025-11-25 a session is a process: `initialize` starts one and mints its `Mcp-Session-Id`. From
2026-07-28 on all callers share one process. One process never serves two eras, as servers decide by the
first request they see. With exactly one client (`is_dedicated`) there is one process and nothing is renamed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from weir.core.call import Attempt, Call, Peer, Transport
from weir.core.events import Emit, LimitReached, SessionClosed, SessionOpened
from weir.core.origin import network_of
from weir.core.outcome import NO_ANSWER, Blame, Failed, FailureKind, Outcome, RefusalKind, Refused, Replied, Sent
from weir.core.shortage import SHORTAGE_RETRY_SECONDS
from weir.protocol.envelope import Kind
from weir.protocol.error_codes import INVALID_PARAMS, INVALID_REQUEST
from weir.protocol.methods import is_modern
from weir.relay.stdio_children import Children
from weir.relay.stdio_intake import ADDRESSED, mismatch, unfit
from weir.relay.stdio_pipe import Pipe
from weir.relay.stdio_reply import Head, accepted, refused_as_server
from weir.relay.stdio_restarts import Restarts, RestartSettings
from weir.relay.stdio_routing import Router, RoutingSettings
from weir.relay.stdio_session import Session
from weir.relay.stdio_shared import SharedRouter
from weir.relay.stdio_sweep import WaitSettings
from weir.relay.tool_headers import ToolHeaders

_PEER = Peer(Transport.STDIO)


@dataclass(frozen=True, slots=True)
class StdioSettings:
    """One stdio upstream. `is_dedicated`: it has exactly one client, on a pipe itself."""

    upstream: str
    is_dedicated: bool = False
    sessions_max: int = 1000
    connect_seconds: float = 5.0
    """For a process to be started."""
    stop_seconds: float = 8.0
    """For all children together to end; then they are killed."""
    waits: WaitSettings = field(default_factory=WaitSettings)
    restarts: RestartSettings = field(default_factory=RestartSettings)
    routing: RoutingSettings = field(default_factory=RoutingSettings)


class StdioUpstream:
    """The servers behind one stdio upstream. `run` owns their processes; attempts come in through `__call__`."""

    def __init__(
        self,
        settings: StdioSettings,
        spawn: Callable[[], Pipe],
        emit: Emit,
        clock: Callable[[], float],
        mint: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._spawn = spawn
        self._emit = emit
        self._clock = clock
        self._mint = mint
        self._sessions: dict[str, Session] = {}
        self._shared: Session | None = None
        """The one process of all modern callers, or of the only client."""
        self._tools = ToolHeaders()
        self._restarts = Restarts(settings.restarts)
        self._last_end = ""
        waits = settings.waits
        if settings.is_dedicated:
            waits = replace(waits, session_idle_seconds=None, client_read_seconds=None, keepalive_seconds=None)
        self._children = Children(settings.upstream, waits, self._end, emit, clock, places_max=settings.sessions_max)

    @property
    def sessions(self) -> int:
        """How many legacy sessions are open."""
        return len(self._sessions)

    async def run(self) -> None:
        """Own every child until `aclose`, and end them all. Cancelling this kills them at once."""
        await self._children.run(self._settings.stop_seconds)

    async def aclose(self) -> None:
        """End all children and return when none is left."""
        await self._children.aclose()

    async def __call__(self, attempt: Attempt) -> Outcome:
        """Answer one attempt as the server would over Streamable HTTP."""
        attempt.peer = _PEER
        if not self._children.is_running:
            return _DRAINING
        call = attempt.call
        if call.verb == b"POST":
            return await self._post(attempt)
        if is_modern(call.revision) and not self._settings.is_dedicated:
            return _not_allowed(b"POST")
        if call.verb not in (b"GET", b"DELETE"):
            return _not_allowed(b"GET, POST, DELETE")
        session = self._known(call)
        if isinstance(session, Refused):
            return session
        return await self._get(session, attempt) if call.verb == b"GET" else self._delete(session)

    async def _post(self, attempt: Attempt) -> Outcome:
        call = attempt.call
        if self._settings.is_dedicated:
            return await self._post_dedicated(attempt)
        if call.message.kind is Kind.OPAQUE:
            return Refused(RefusalKind.BAD_MESSAGE, "The body is no JSON-RPC message that a stdio server can be given.")
        if call.message.revision or is_modern(call.revision):
            return await self._post_modern(attempt)
        if call.message.method == "initialize" and call.message.kind is Kind.REQUEST and not call.session:
            return await self._initialize(attempt)
        session = self._known(call)
        if isinstance(session, Refused):
            return session
        call.revision = call.revision or session.revision
        return await session.carry(attempt)

    # up to 2025-11-25

    async def _initialize(self, attempt: Attempt) -> Outcome:
        refused = await self._place(attempt)
        if refused is not None:
            return refused
        session = self._begin(self._mint())
        session.client = network_of(attempt.call.peer.address)
        self._sessions[session.id] = session
        attempt.call.session = session.id
        is_open = False
        try:
            outcome = await self._first(session, attempt)
            is_open = isinstance(outcome, Replied) and outcome.verdict.answered and outcome.verdict.error_code is None
        finally:
            if not is_open:
                self._end(session, "refused")
        if not is_open and isinstance(outcome, Replied) and outcome.body is not None:
            outcome.headers = Head().json()
        elif is_open and session.id in self._sessions:
            self._note_open(session)
        return outcome

    async def _place(self, attempt: Attempt) -> Refused | None:
        call, began = attempt.call, self._clock()
        refused = await self._children.places.find(call, max(0.0, call.may_connect_for(self._settings.connect_seconds)))
        call.connect_left_seconds -= self._clock() - began
        if refused is not None:
            self._emit(LimitReached(self._settings.upstream, "sessions"))
        return refused if self._children.is_running else _DRAINING

    async def _first(self, session: Session, attempt: Attempt) -> Outcome:
        """A message for a process that may just have been started."""
        failed = None if session.is_started else await self._start(session, attempt)
        return failed or await session.carry(attempt)

    async def _start(self, session: Session, attempt: Attempt) -> Failed | Refused | None:
        call, began = attempt.call, self._clock()
        left = call.may_connect_for(self._settings.connect_seconds)
        try:
            async with asyncio.timeout(max(0.0, left)):
                failed = await session.pipe.started()
            session.is_started = failed is None
            return self._as_shortage(failed) if failed is not None and failed.blame is Blame.WEIR else failed
        except TimeoutError:
            text = f"not started within {left:.3g} s (timer 'connect')"
            return Failed(FailureKind.TIMEOUT, text, sent=Sent.NO, timer="connect", after_seconds=left)
        finally:
            attempt.connect_seconds = self._clock() - began
            call.connect_left_seconds -= attempt.connect_seconds

    def _as_shortage(self, failed: Failed) -> Refused:
        """The machine had no room for the process: weir's refusal, and no reason to leave the server alone."""
        self._emit(LimitReached(self._settings.upstream, "processes"))
        text = f"MCP server '{self._settings.upstream}' was not asked: {failed.detail}."
        return Refused(RefusalKind.OVERLOADED, text, "upstream", SHORTAGE_RETRY_SECONDS)

    def _known(self, call: Call) -> Session | Refused:
        if self._settings.is_dedicated:
            # without weir the server would run as soon as its client does
            session: Session | None = self._shared or self._begin(self._mint())
            self._shared = session
        elif not call.session:
            return Refused(RefusalKind.BAD_MESSAGE, "A session is needed: send `initialize`, then its Mcp-Session-Id.")
        else:
            session = self._sessions.get(call.session)
        if session is None or session.is_over:
            return _GONE
        session.has_spoken = True
        return session

    async def _get(self, session: Session, attempt: Attempt) -> Outcome:
        if session.router.listener is not None:
            return refused_as_server(409, INVALID_REQUEST, "Conflict: this session has its GET stream open already")
        return await session.listen(attempt)

    def _delete(self, session: Session) -> Outcome:
        self._end(session, "deleted")
        return Replied(200, [], b"", NO_ANSWER)

    # from 2026-07-28 on

    async def _post_modern(self, attempt: Attempt) -> Outcome:
        message = attempt.call.message
        problem = unfit(attempt.call)
        if problem is not None:
            return problem
        if message.kind is not Kind.REQUEST:
            session = self._shared
            if message.kind is Kind.RESPONSE or message.method in ADDRESSED or session is None or session.is_over:
                return accepted()
            return await session.carry(attempt)
        if not message.revision:
            # a server that sees no envelope in its first request takes itself for a legacy one, for all callers
            text = "params._meta lacks io.modelcontextprotocol/protocolVersion"
            return refused_as_server(400, INVALID_PARAMS, text, message.id)
        problem = mismatch(attempt.call, self._tools)
        if problem is not None:
            return problem
        common = self._for_all(attempt.call)
        return common if isinstance(common, Failed) else await self._first(common, attempt)

    def _for_all(self, call: Call) -> Session | Failed:
        if self._shared is not None and self._shared.is_over:
            # its process may take a while to end, and must not be replaced twice meanwhile
            self._note_end(self._shared, "exited")
        if self._shared is None:
            wait = self._restarts.wait_seconds(self._clock())
            if wait:
                # whoever tries again waits no longer for it than for a process that starts
                call.may_connect_for(self._settings.connect_seconds)
                text = f"{self._last_end}; it will be started again in {wait:.1f} s"
                return Failed(FailureKind.CONNECT, text, sent=Sent.NO)
            self._shared = self._begin("", is_shared=True)
        return self._shared

    # exactly one client

    async def _post_dedicated(self, attempt: Attempt) -> Outcome:
        message = attempt.call.message
        session = self._shared
        if session is None or session.is_over:
            if session is not None and message.method != "initialize" and not message.revision:
                return _GONE
            session = self._shared = self._begin(self._mint())
        outcome = await self._first(session, attempt)
        if session.revision and not session.is_counted and not session.is_over:
            self._note_open(session)
        return outcome

    # the children

    def _begin(self, name: str, *, is_shared: bool = False) -> Session:
        settings = self._settings
        pipe = self._spawn()
        given = (settings.upstream, pipe, settings.routing, self._emit, self._clock)
        router = (
            SharedRouter(*given, tools=self._tools) if is_shared else Router(*given, keeps_strays=settings.is_dedicated)
        )

        def make(tasks: asyncio.TaskGroup) -> Session:
            return Session(name, pipe, router, self._clock, tasks)

        return self._children.begin(make)

    def _end(self, session: Session, reason: str) -> None:
        """A session is over, or its process ended: forget it, and stop what is left."""
        if self._sessions.get(session.id) is session:
            del self._sessions[session.id]
        if session is self._shared:
            self._note_end(session, reason)
        if session.is_counted:
            session.is_counted = False
            seconds = self._clock() - session.opened_at
            self._emit(SessionClosed(self._settings.upstream, "server", session.revision, seconds, reason))
        self._children.stop(session, _ENDS.get(reason, _CLOSED))

    def _note_open(self, session: Session) -> None:
        session.is_counted = True
        self._emit(SessionOpened(self._settings.upstream, "server", session.revision))

    def _note_end(self, session: Session, reason: str) -> None:
        ended_by = session.router.ended_by
        if reason == "exited" and session.is_over:
            now = self._clock()
            self._last_end = ended_by.detail if ended_by is not None else "is ending"
            self._restarts.ended(now, now - session.opened_at, has_answered=session.router.has_answered)
        if not self._settings.is_dedicated:
            self._shared = None


_CLOSED = Failed(FailureKind.EXITED, "the session was closed")
_ENDS = {
    "deleted": Failed(FailureKind.CANCELLED, "the client ended the session", Blame.DOWNSTREAM),
    "shutdown": Failed(FailureKind.CANCELLED, "weir was stopped before the answer came", Blame.WEIR),
}
"""What is told to calls under way when a session ends, and not by its server."""
_DRAINING = Refused(RefusalKind.DRAINING, "weir is shutting down.")
_GONE = Refused(RefusalKind.UNKNOWN_SESSION, "This session has ended; send `initialize` for a new one.")


def _not_allowed(allow: bytes) -> Replied:
    reply = refused_as_server(405, INVALID_REQUEST, "Method Not Allowed")
    reply.headers.append((b"allow", allow))
    return reply
