"""A stdio server that looks like a Streamable HTTP server inside weir.

Up to 2025-11-25 a session is a process: `initialize` starts one and mints its `Mcp-Session-Id`. From
2026-07-28 on all callers share one process. One process never serves two eras, as servers decide by the
first request they see. With exactly one client (`dedicated`) there is one process and nothing is renamed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from weir.core.call import Attempt, Call, Peer, Transport
from weir.core.events import Emit, LimitReached, Notice, SessionClosed, SessionOpened
from weir.core.outcome import NO_ANSWER, Blame, Failed, FailureKind, Outcome, RefusalKind, Refused, Replied, Sent
from weir.protocol.envelope import Kind
from weir.protocol.methods import is_modern
from weir.relay.stdio_mailbox import Exchange, Mailbox
from weir.relay.stdio_pipe import Pipe
from weir.relay.stdio_reply import KEEPALIVE, accepted
from weir.relay.stdio_routing import Router, RoutingSettings
from weir.relay.stdio_session import Session
from weir.relay.stdio_shared import SharedRouter

_PEER = Peer(Transport.STDIO)
_NOT_ALLOWED = (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Method Not Allowed"}}', 405)
_CONFLICT = (
    b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Conflict: this session has its GET stream open"}}',
    409,
)


@dataclass(frozen=True, slots=True)
class StdioSettings:
    """Limits of the bridge. Reasons: the always-on limits of weir, and what intermediaries put up with."""

    upstream: str
    dedicated: bool = False
    """Exactly one client, on a pipe itself."""
    sessions_max: int = 1000
    session_idle_seconds: float = 1800.0
    silence_seconds: float = 300.0
    """A request whose server says nothing to it for so long has failed."""
    client_read_seconds: float = 30.0
    """A full reply whose client reads nothing for so long is given up: it holds up everybody on its pipe."""
    keepalive_seconds: float = 15.0
    """Between comments on a silent stream; the SDK's servers do the same."""
    stop_seconds: float = 8.0
    """For all children together to end; then they are killed."""
    routing: RoutingSettings = field(default_factory=RoutingSettings)


class StdioUpstream:
    """The servers behind one stdio upstream. `run` owns their processes; calls come in through `__call__`."""

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
        self._tasks: asyncio.TaskGroup | None = None
        self._children: dict[asyncio.Task[None], Session] = {}
        self._closing = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    async def run(self) -> None:
        """Own every child until `aclose`, and end them all. Cancelling this kills them at once."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                sweeper = tasks.create_task(self._sweep())
                await self._closing.wait()
                sweeper.cancel()
                await self._stop_all()
        finally:
            self._tasks = None
            self._closed.set()

    async def aclose(self) -> None:
        """End all children and return when none is left."""
        self._closing.set()
        await self._closed.wait()

    async def __call__(self, attempt: Attempt) -> Outcome:
        """Answer one attempt as the server would over Streamable HTTP."""
        attempt.peer = _PEER
        if self._closing.is_set() or self._tasks is None:
            return Refused(RefusalKind.DRAINING, "weir is shutting down.")
        call = attempt.call
        if call.verb == b"POST":
            if self._settings.dedicated:
                return await self._post_dedicated(attempt)
            if call.message.revision or is_modern(call.revision):
                return await self._post_modern(attempt)
            return await self._post_legacy(attempt)
        if is_modern(call.revision) and not self._settings.dedicated:
            return _plain(_NOT_ALLOWED, b"POST")
        if call.verb not in (b"GET", b"DELETE"):
            return _plain(_NOT_ALLOWED, b"GET, POST, DELETE")
        session = self._known(call)
        if isinstance(session, Refused):
            return session
        return await self._get(session, attempt) if call.verb == b"GET" else self._delete(session)

    # up to 2025-11-25

    async def _post_legacy(self, attempt: Attempt) -> Outcome:
        call = attempt.call
        if call.message.kind is Kind.OPAQUE:
            return Refused(RefusalKind.BAD_MESSAGE, "the body is no JSON-RPC message that a stdio server could get.")
        if call.message.method == "initialize" and not call.session and call.message.kind is Kind.REQUEST:
            return await self._initialize(attempt)
        session = self._known(call)
        if isinstance(session, Refused):
            return session
        call.revision = call.revision or session.revision
        return await session.carry(attempt)

    async def _initialize(self, attempt: Attempt) -> Outcome:
        if len(self._sessions) >= self._settings.sessions_max:
            self._emit(LimitReached(self._settings.upstream, "sessions"))
            return Refused(RefusalKind.SESSIONS_FULL, "all sessions of this server are in use.")
        session = self._begin(self._mint())
        self._sessions[session.id] = session
        attempt.call.session = session.id
        is_open = False
        try:
            outcome = await self._first(session, attempt)
            is_open = isinstance(outcome, Replied) and outcome.verdict.answered and outcome.verdict.error_code is None
        finally:
            if not is_open:
                self._sessions.pop(session.id, None)
                session.pipe.stop()
        if is_open:
            session.is_counted = True
            self._emit(SessionOpened(self._settings.upstream, "server", session.revision))
        return outcome

    async def _first(self, session: Session, attempt: Attempt) -> Outcome:
        """The first message of a session: its process must run first."""
        began = self._clock()
        failed = await session.pipe.started()
        attempt.connect_seconds = self._clock() - began
        return failed or await session.carry(attempt)

    def _known(self, call: Call) -> Session | Refused:
        if not call.session:
            if self._settings.dedicated and self._shared is not None:
                return self._shared
            return Refused(RefusalKind.BAD_MESSAGE, "a session is needed: send `initialize`, then its Mcp-Session-Id.")
        session = self._sessions.get(call.session)
        if session is None or session.is_over:
            return Refused(RefusalKind.UNKNOWN_SESSION, "this session has ended; send `initialize` for a new one.")
        return session

    async def _get(self, session: Session, attempt: Attempt) -> Outcome:
        if session.router.listener is not None:
            return _plain(_CONFLICT)
        return await session.listen(attempt)

    def _delete(self, session: Session) -> Outcome:
        self._end(session, "deleted")
        return Replied(200, [], b"", NO_ANSWER)

    # from 2026-07-28 on

    async def _post_modern(self, attempt: Attempt) -> Outcome:
        call = attempt.call
        kind = call.message.kind
        if kind in (Kind.OPAQUE, Kind.BATCH):
            return Refused(RefusalKind.BAD_MESSAGE, "the body is no single JSON-RPC message.")
        if kind is not Kind.REQUEST:
            session = self._shared
            return accepted() if session is None or session.is_over else await session.carry(attempt)
        if not call.message.revision:
            # a server that sees no envelope in its first request takes itself for a legacy one, for all callers
            return Refused(
                RefusalKind.BAD_MESSAGE, 'params._meta["io.modelcontextprotocol/protocolVersion"] is missing.'
            )
        if self._shared is None or self._shared.is_over:
            self._shared = self._begin("", is_shared=True)
        return await self._first(self._shared, attempt)

    # exactly one client

    async def _post_dedicated(self, attempt: Attempt) -> Outcome:
        message = attempt.call.message
        session = self._shared
        if session is None or session.is_over:
            is_new = session is None or message.method == "initialize" or bool(message.revision)
            if not is_new:
                return Refused(RefusalKind.UNKNOWN_SESSION, "the server has ended; send `initialize` for a new one.")
            session = self._shared = self._begin(self._mint())
            self._sessions[session.id] = session
        return await self._first(session, attempt)

    # the children

    def _begin(self, name: str, *, is_shared: bool = False) -> Session:
        pipe = self._spawn()
        made = SharedRouter if is_shared else Router
        router = made(
            self._settings.upstream,
            pipe,
            self._settings.routing,
            self._emit,
            self._clock,
            keeps_strays=self._settings.dedicated,
        )
        assert self._tasks is not None
        session = Session(name, pipe, router, self._clock, self._tasks)
        self._children[self._tasks.create_task(self._own(session))] = session
        return session

    async def _own(self, session: Session) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await session.pipe.run(session.router)
        except Exception as error:  # noqa: BLE001 - one child's bug must not end the others
            self._emit(Notice("error", "a bug in weir", {"error": repr(error), "upstream": self._settings.upstream}))
        finally:
            del self._children[task]
            self._end(session, "exited")

    def _end(self, session: Session, reason: str) -> None:
        """Forget a session and stop its process."""
        if self._sessions.pop(session.id, None) is None and session is not self._shared:
            return
        if session is self._shared:
            self._shared = None
        if session.is_counted:
            seconds = self._clock() - session.opened_at
            self._emit(SessionClosed(self._settings.upstream, "server", session.revision, seconds, reason))
        session.router.ended(Failed(FailureKind.EXITED, f"the session was closed ({reason})"))
        session.pipe.stop()

    async def _stop_all(self) -> None:
        for session in list(self._children.values()):
            self._end(session, "shutdown")
            session.pipe.stop()
        if not self._children:
            return
        _, alive = await asyncio.wait(list(self._children), timeout=self._settings.stop_seconds)
        for task in alive:
            task.cancel()

    # the clock

    async def _sweep(self) -> None:
        """One look at everything that waits, now and then: cheaper than a timer for each."""
        settings = self._settings
        shortest = min(settings.silence_seconds, settings.client_read_seconds, settings.session_idle_seconds)
        pause = min(1.0, shortest / 4, settings.keepalive_seconds / 4)
        while True:
            await asyncio.sleep(pause)
            now = self._clock()
            for session in list(self._children.values()):
                self._look_at(session, now)

    def _look_at(self, session: Session, now: float) -> None:
        settings = self._settings
        if not settings.dedicated and session.is_idle(now, settings.session_idle_seconds):
            self._end(session, "idle")
            return
        boxes: list[Mailbox] = list(session.router.open)
        if session.router.listener is not None:
            boxes.append(session.router.listener)
        for box in boxes:
            self._look_at_box(session, box, now)

    def _look_at_box(self, session: Session, box: Mailbox, now: float) -> None:
        settings = self._settings
        if not settings.dedicated and box.is_full and now - box.full_since >= settings.client_read_seconds:
            box.abort(_unread(settings.client_read_seconds))
        elif isinstance(box, Exchange) and not box.asks and now - box.active_at >= settings.silence_seconds:
            if box.call.message.method != "subscriptions/listen":
                box.abort(_silent(settings.silence_seconds))
        elif box.scope is not None and now - box.written_at >= settings.keepalive_seconds and not settings.dedicated:
            box.written_at = now
            box.put(KEEPALIVE)


def _plain(body_and_status: tuple[bytes, int], allow: bytes = b"") -> Replied:
    body, status = body_and_status
    headers = [(b"content-type", b"application/json")]
    if allow:
        headers.append((b"allow", allow))
    return Replied(status, headers, body, NO_ANSWER)


def _silent(seconds: float) -> Failed:
    return Failed(FailureKind.TIMEOUT, f"said nothing for {seconds:g} s", timer="idle", after_seconds=seconds)


def _unread(seconds: float) -> Failed:
    text = f"the client read nothing of this reply for {seconds:g} s"
    return Failed(FailureKind.TIMEOUT, text, Blame.DOWNSTREAM, Sent.YES, "client_read", seconds)
