"""What happened, as frozen facts. Telemetry is a fold over these; policies and edges never log.

A member `at` is an instant on the monotonic clock; `seconds` and `size` are what they say.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from weir.core.call import Attempt, Call
from weir.core.outcome import Outcome, Verdict
from weir.protocol.envelope import Message
from weir.protocol.tracecontext import TraceContext


class CallStarted(Struct, frozen=True, gc=False):
    """A call's body is complete and peeked."""

    call: Call


class CallFinished(Struct, frozen=True, gc=False):
    """A call has its outcome, and the reply has been handed to the downstream transport."""

    call: Call
    outcome: Outcome


class AttemptStarted(Struct, frozen=True, gc=False):
    """A try begins."""

    attempt: Attempt


class AttemptFinished(Struct, frozen=True, gc=False):
    """A try has its outcome."""

    attempt: Attempt
    outcome: Outcome


class Outlived(Struct, frozen=True, gc=False):
    """A shared call has ended that had gone on without the caller whose call it was.

    Its `attempts` are those that were made since: no `CallFinished` tells of them.
    """

    call: Call
    outcome: Outcome


class Ask:
    """One server→client request (sampling, elicitation, roots, ping): the roles are reversed."""

    __slots__ = ("answered_at", "asked_at", "call", "message", "outbound", "parent", "revision", "trace", "upstream")

    def __init__(self, upstream: str, message: Message, asked_at: float, call: Call | None) -> None:
        self.upstream = upstream
        self.message = message
        self.asked_at = asked_at
        self.call = call
        self.revision = call.revision if call is not None else ""
        self.answered_at = 0.0
        self.parent: TraceContext | None = None
        self.trace: TraceContext | None = None
        """weir's SERVER span towards the asking server."""
        self.outbound: TraceContext | None = None
        """weir's CLIENT span towards the asked client."""


class AskStarted(Struct, frozen=True, gc=False):
    """The server's request was relayed to the client."""

    ask: Ask


class AskFinished(Struct, frozen=True, gc=False):
    """The client answered; verdict None: it never did (stream ended, session closed)."""

    ask: Ask
    verdict: Verdict | None


class ServerNotified(Struct, frozen=True, gc=False):
    """A notification from the server was relayed. `call` is the stream it travelled on."""

    call: Call
    message: Message


class SessionOpened(Struct, frozen=True, gc=False):
    """A session began on one side of weir: side is "client" (downstream) or "server" (upstream)."""

    upstream: str
    side: str
    revision: str


class SessionClosed(Struct, frozen=True, gc=False):
    """A session ended. `reason` is a word of a closed list: deleted, idle, gone, exited, shutdown, evicted."""

    upstream: str
    side: str
    revision: str
    seconds: float
    reason: str


class ConnectionOpened(Struct, frozen=True, gc=False):
    """An upstream connection stands."""

    upstream: str
    seconds: float


class ChildStarted(Struct, frozen=True, gc=False):
    """A stdio server was started."""

    upstream: str
    pid: int


class ChildExited(Struct, frozen=True, gc=False):
    """A stdio server ended; `code` as in subprocess (negative: the signal). `expected`: weir asked it to."""

    upstream: str
    pid: int
    code: int
    expected: bool
    stderr_tail: str


class LineSkipped(Struct, frozen=True, gc=False):
    """A stdio server wrote something to stdout that is no JSON-RPC message. `size` in bytes."""

    upstream: str
    size: int


class LimitReached(Struct, frozen=True, gc=False):
    """A bound was hit. `limit` is a word of a closed list (max_body, header_size, orphans, sessions, ...)."""

    upstream: str
    limit: str


class RequestRefused(Struct, frozen=True, gc=False):
    """A request was refused before it became a call: nothing of it went to an upstream.

    `reason` is a word of a closed list; `address` is the client's; `upstream` is "" where the path named none.
    """

    upstream: str
    status: int
    reason: str
    address: str


class Listed(Struct, frozen=True, gc=False):
    """A server answered tools/list or prompts/list: `body` is the whole JSON-RPC response."""

    upstream: str
    method: str
    body: bytes


class Decided(Struct, frozen=True, gc=False):
    """A policy did something that the outcome alone does not tell, or in shadow mode would have done it.

    `policy` and `action` are words of closed lists (each policy's docstring names its own).
    """

    policy: str
    action: str
    call: Call
    is_shadow: bool = False
    seconds: float = 0.0
    detail: str = ""


class LevelChanged(Struct, frozen=True, gc=False):
    """A quantity a policy keeps: retry budget left, queue depth, concurrency limit, breaker state (0, 1, 2)."""

    policy: str
    upstream: str
    scope: str
    value: float


class BreakerMoved(Struct, frozen=True, gc=False):
    """A breaker changed its state. `traces`: trace ids of the calls that tripped it, newest last."""

    upstream: str
    scope: str
    before: str
    after: str
    reason: str
    traces: tuple[str, ...] = ()
    is_shadow: bool = False


class StoodStill(Struct, frozen=True, gc=False):
    """The process could not run for so long: it was stopped, or its event loop was blocked. No deadline counted it."""

    seconds: float


class Notice(Struct, frozen=True, gc=False):
    """Something an operator should read once: started, draining, a misconfiguration. Level as in logging."""

    level: str
    text: str
    fields: dict[str, str | int | float | bool]


Event = (
    CallStarted
    | CallFinished
    | AttemptStarted
    | AttemptFinished
    | Outlived
    | AskStarted
    | AskFinished
    | ServerNotified
    | SessionOpened
    | SessionClosed
    | ConnectionOpened
    | ChildStarted
    | ChildExited
    | LineSkipped
    | LimitReached
    | RequestRefused
    | Listed
    | Decided
    | LevelChanged
    | BreakerMoved
    | StoodStill
    | Notice
)

Emit = Callable[[Any], None]
