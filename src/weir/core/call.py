"""A call is one thing a client asks for, until its outcome; an attempt is one try of it against the upstream.

Instants are seconds on one monotonic clock that the caller of this room chooses; durations are seconds.
"""

import enum
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from weir.protocol.correlation import is_same
from weir.protocol.envelope import NOTHING, Kind, Message, is_ambiguous
from weir.protocol.methods import LONG_LIVED, facts
from weir.protocol.tracecontext import TraceContext

if TYPE_CHECKING:
    from weir.core.budget import Account
    from weir.core.delivery import Delivery
    from weir.core.outcome import Outcome, Verdict
    from weir.protocol.cookies import Jar

Headers = list[tuple[bytes, bytes]]
"""End-to-end HTTP headers, names in lower case, in the order received. Empty on stdio."""


class Transport(enum.Enum):
    """How a side is connected; the value is the convention's `network.transport`."""

    HTTP = "tcp"
    STDIO = "pipe"


class Peer:
    """The other end of a hop. Address and port are absent on stdio."""

    # no NamedTuple: made for each call, and compiled it costs a tenth of one
    __slots__ = ("address", "http_version", "port", "transport")

    def __init__(self, transport: Transport, address: str = "", port: int = 0, http_version: str = "") -> None:
        self.transport: Final = transport
        self.address: Final = address
        self.port: Final = port
        self.http_version: Final = http_version


class Sink(Protocol):
    """Where a reply goes that is relayed while it arrives. Awaiting it is the backpressure."""

    async def open(self, status: int, headers: Headers) -> None:
        """Send the head of a streamed reply."""

    async def write(self, chunk: bytes) -> None:
        """Send bytes of the body: whole SSE events, or a piece of an opaque body."""


class _Nowhere:
    """The sink of a call that has none yet, or no longer."""

    async def open(self, status: int, headers: Headers) -> None: ...
    async def write(self, chunk: bytes) -> None: ...


NOWHERE: Final[Sink] = _Nowhere()


class Slot(Protocol):
    """A place in an upstream's bounded concurrency, which a call gives back while it merely waits."""

    def release(self) -> None:
        """Give the place to somebody else."""

    async def acquire(self) -> bool:
        """Take a place again; False: none came in time."""

    def hand_over(self, heir: "Slot") -> None:
        """The call it is for goes, and what it takes goes on for another one: a place that is held is that one's."""


class Asker(Protocol):
    """Told about what a server sends the client on a call's stream (or on the GET stream)."""

    def asked(self, call: "Call", message: Message, body: bytes) -> bytes:
        """The server asks the client. Returns the body to relay (trace context may have been set)."""

    def told(self, call: "Call", message: Message) -> None:
        """The server sent a notification that belongs to this stream."""


FIELDS: Final = (
    "_ambiguity",
    "_asking_since",
    "_standing",
    "_standing_since",
    "_unread_before",
    "_unread_since",
    "account",
    "answer",
    "asked_method",
    "asked_path",
    "asker",
    "attempts",
    "body",
    "body_at",
    "bytes_sent",
    "client_seconds",
    "committed",
    "connect_left_seconds",
    "cookies",
    "deadline_at",
    "delivery",
    "ended_at",
    "head_sent",
    "headers",
    "idle_seconds",
    "is_request",
    "is_stream",
    "joined",
    "link",
    "members",
    "message",
    "parent",
    "peer",
    "pending_asks",
    "progress_at",
    "queued_seconds",
    "received_at",
    "revision",
    "session",
    "sink",
    "slot",
    "status",
    "target",
    "trace",
    "upstream",
    "verb",
)
"""What a Call holds. A compiled class has no `__slots__` to ask."""


class Call:
    """One downstream request until its outcome: a POST body, a GET stream, a DELETE, any other exchange.

    `target` is path and query as they go upstream, `asked_path` the path that an HTTP client asked weir for. `session`
    is the value of `Mcp-Session-Id`; like the headers it is a secret of the two ends and is never written down.
    `is_request`: a JSON-RPC request, which has an id and exactly one answer. `is_stream`: long-lived by nature, no
    latency objective applies, only the idle timer. `answer` is what the answer said, once it has been relayed: a client
    that then hangs up has not cancelled. `deadline_at` is when the whole call must have ended; it moves on by
    `client_seconds`, the time the client took to answer the server's questions and to read. `connect_left_seconds` is
    what all attempts together may still spend on reaching the upstream, waits between them included (inf: nobody has
    tried yet, and the upstream's own limit holds); `idle_seconds` how long the upstream may be silent, None: as the
    edge is set. `progress_at` is when the server last told of progress, in the call's own time (0.0: never). `account`
    is what its client holds of weir's memory, and stands for the client (None: a pipe's). `joined` is the call of
    others that answers this one, too: it has no attempts of its own then. `cookies` are those of the conversation where
    weir is the HTTP client; None where it relays.
    """

    __slots__ = FIELDS

    def __init__(
        self,
        *,
        upstream: str,
        peer: Peer,
        sink: Sink,
        received_at: float,
        verb: bytes = b"POST",
        target: bytes = b"",
        headers: Headers | None = None,
        body: bytes = b"",
        message: Message = NOTHING,
    ) -> None:
        self.upstream = upstream
        self.peer = peer
        self.sink = sink
        self.verb = verb
        self.target = target
        self.headers: Headers = headers if headers is not None else []
        self.body = body
        self.message = message
        self.is_request = message.kind is Kind.REQUEST
        self.is_stream = verb == b"GET" or message.method in LONG_LIVED
        # a 2025-03-26 batch is watched member by member: one call each, made by telemetry
        self.members: tuple[Call, ...] = ()
        self.session, self.asked_path = "", b""
        self.revision = message.revision
        self.asker: Asker | None = None
        self.attempts: list[Attempt] = []
        self.joined: Call | None = None
        self.answer: Verdict | None = None
        self.committed = self.head_sent = False
        self.deadline_at = self.connect_left_seconds = math.inf
        self.idle_seconds: float | None = None
        self.slot: Slot | None = None
        self.cookies: Jar | None = None
        self.delivery: Delivery | None = None
        self.account: Account | None = None
        # where it stands in a trace: its own SERVER span, that span's parent, and a context to link to
        self.trace: TraceContext | None = None
        self.parent: TraceContext | None = None
        self.link: TraceContext | None = None
        # instants and durations; see core/phases.py for what they mean together
        self.received_at = self.body_at = received_at
        self.ended_at = self.queued_seconds = self.client_seconds = 0.0
        self.status = self.bytes_sent = self.pending_asks = self._standing = 0
        self.asked_method, self.progress_at = "", 0.0
        self._ambiguity: bool | None = None
        self._asking_since = self._standing_since = self._unread_before = 0.0
        self._unread_since = math.inf

    @property
    def is_exempt(self) -> bool:
        """Passes limits, queues and an open breaker: a refusal downgrades a client, or blocks what waits.

        What cannot be read, or can be read in two ways, may be anything and is not exempt; nor is a known request
        that came without an id, which a lenient server may carry out. A batch is exempt when every member is.
        """
        message = self.message
        if message.kind is Kind.NONE:
            return True
        if message.kind is Kind.REQUEST:
            known = facts(message.method)
            return (known.is_exempt or known.is_long_lived) and not self.is_ambiguous
        if message.kind is Kind.BATCH:
            return all(map(is_exempt, message.members)) and not self.is_ambiguous
        return is_exempt(message) and not self.is_ambiguous

    @property
    def is_ambiguous(self) -> bool:
        """Whether two readers can see two different messages in its body (protocol/envelope.py). Looked up once."""
        if self._ambiguity is None:
            self._ambiguity = is_ambiguous(self.body)
        return self._ambiguity

    @property
    def tries(self) -> "list[Attempt]":
        """What was done upstream for it: its own attempts, or those of the call that it has joined."""
        return (self.joined or self).attempts

    def may_connect_for(self, seconds: float) -> float:
        """What is left for reaching the upstream, of the limit in `seconds` unless the call has one of its own."""
        if self.connect_left_seconds == math.inf:
            self.connect_left_seconds = seconds
        return self.connect_left_seconds

    def answered(self, raw_id: bytes, verdict: "Verdict") -> None:
        """The answer to this call (or to the member of a batch with that id) was seen."""
        if self.answer is None:
            self.answer = verdict
        for member in self.members:
            if is_same(member.message.id, raw_id):
                member.answer = verdict

    def forget(self) -> None:
        """Nobody will ask about this call again: let go of what points back at it.

        Freed at once, a call's memory is still warm for the next one; left to the collector, it cost a sixth
        of the CPU of each call.
        """
        self.attempts.clear()
        self.joined = None
        self.sink = NOWHERE
        self.asker = None

    def ask_began(self, now: float, method: str = "") -> None:
        """A server→client request went out on this call's stream: the upstream's clocks stand still."""
        if self.pending_asks == 0:
            self._asking_since = now
        self.pending_asks += 1
        self.asked_method = method
        self._stop_clocks(now)

    def ask_ended(self, now: float) -> None:
        """The client answered (or the request was withdrawn)."""
        if self.pending_asks:
            self.pending_asks -= 1
            self._start_clocks(now)

    def unread_began(self, now: float) -> None:
        """The client takes no more of the reply for now: the upstream's clocks stand still too."""
        self._unread_since = now
        self._stop_clocks(now)
        if self.delivery is not None:
            self.delivery.held_up(self, self._unread_before)

    def unread_ended(self, now: float) -> None:
        """It reads on."""
        self._unread_before += now - self._unread_since
        self._unread_since = math.inf
        self._start_clocks(now)
        if self.delivery is not None:
            self.delivery.goes_on()

    def _stop_clocks(self, now: float) -> None:
        if self._standing == 0:
            self._standing_since = now
        self._standing += 1

    def _start_clocks(self, now: float) -> None:
        self._standing -= 1
        if self._standing == 0:
            seconds = now - self._standing_since
            self.client_seconds += seconds
            self.deadline_at += seconds

    @property
    def is_standing(self) -> bool:
        """It waits for the client, to answer or to read, and the upstream's clocks stand still."""
        return self._standing > 0

    def asked_seconds(self, now: float) -> float:
        """How long it has waited for the client so far: `client_seconds`, and the wait that is not over."""
        return self.client_seconds + (now - self._standing_since if self._standing else 0.0)

    def client_input_seconds(self, now: float) -> float:
        """How long the client has been asked without a pause, or has let its reply wait, all those waits together."""
        unread_seconds = self._unread_before + max(0.0, now - self._unread_since)
        return max(unread_seconds, now - self._asking_since if self.pending_asks else 0.0)

    def own_time(self, now: float) -> float:
        """`now` on a clock that stands still while the client is waited for."""
        # asked_seconds, without the call: this is asked several times in each call
        return (self._standing_since if self._standing else now) - self.client_seconds

    def progressed(self, now: float) -> None:
        """The server told of progress."""
        self.progress_at = self.own_time(now)


def is_exempt(message: Message) -> bool:
    """See Call.is_exempt; of a message that is no batch and lasts no longer than its answer."""
    if message.kind is Kind.REQUEST:
        return facts(message.method).is_exempt
    if message.kind is Kind.NOTIFICATION:
        known = facts(message.method)
        return known.is_exempt or not known.revisions
    return message.kind is not Kind.OPAQUE


def withdraws(cancelling: Call, call: Call) -> bool:
    """Whether a `notifications/cancelled` is about this call.

    Without a session many clients use the same ids, and nobody can tell whose it is; on a pipe there is one client.
    """
    if cancelling.session != call.session or not is_same(cancelling.message.request_id, call.message.id):
        return False
    return bool(call.session) or (cancelling.peer.transport is call.peer.transport is Transport.STDIO)


class Attempt:
    """One try of a call, numbered from 1. What goes upstream may differ from what came: context, id, headers."""

    __slots__ = (
        "body",
        "call",
        "connect_seconds",
        "ended_at",
        "first_byte_at",
        "headers",
        "number",
        "outcome",
        "peer",
        "sent_at",
        "sink",
        "started_at",
        "target",
        "trace",
        "wire_id",
    )

    def __init__(self, call: Call, number: int, started_at: float) -> None:
        self.call = call
        self.number = number
        self.started_at = started_at
        self.body = call.body
        self.sink = call.sink
        self.wire_id = call.message.id
        """The id this attempt is known by upstream (raw JSON text); the edge restores the caller's in the answer."""
        self.headers = call.headers
        self.target = call.target
        self.peer: Peer | None = None
        self.trace: TraceContext | None = None
        self.outcome: Outcome | None = None
        self.connect_seconds = 0.0
        self.sent_at = 0.0
        self.first_byte_at = 0.0
        self.ended_at = 0.0

    @property
    def is_renamed(self) -> bool:
        """The upstream knows it by another id than the caller does."""
        return self.wire_id != self.call.message.id


def header(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes:
    """The first value of a header (name in lower case), b"" when absent."""
    for key, value in headers:
        if key == name:
            return value
    return b""
