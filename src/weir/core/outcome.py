"""How a call or an attempt ended. Outcomes are values: an exception inside the stack is a bug.

`Replied`: the upstream answered, errors and `isError` results included; it passes unchanged.
`Failed`: nobody answered; the edge that saw it says where, whose fault, and whether it was sent.
`Refused`: a policy said no; the upstream was not asked.
"""

import enum
from dataclasses import dataclass
from typing import Final

from weir.core.call import Call, Headers
from weir.protocol.verdicts import NO_ANSWER as NO_ANSWER
from weir.protocol.verdicts import PLAIN as PLAIN
from weir.protocol.verdicts import Verdict as Verdict


class Blame(enum.Enum):
    """Whose fault a failure is."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"
    WEIR = "weir"


class Sent(enum.Enum):
    """What the upstream can have seen of an attempt. Only NO makes trying an unsafe call again safe."""

    NO = "not_sent"
    YES = "sent"
    ANSWERED = "answered"


class FailureKind(enum.Enum):
    """Why nobody answered. The value is the `error.type` and the `reason` on the wire (a closed list)."""

    CONNECT = "upstream_connect_error"
    TLS = "upstream_tls_error"
    RESET = "upstream_reset"
    EXITED = "upstream_exited"
    PROTOCOL = "upstream_protocol_error"
    TOO_LARGE = "upstream_reply_too_large"
    TIMEOUT = "upstream_timeout"
    CANCELLED = "cancelled"
    OUTCOME_UNKNOWN = "outcome_unknown"
    INTERNAL = "internal_error"


class RefusalKind(enum.Enum):
    """Why weir said no (a closed list)."""

    RATE_LIMITED = "rate_limited"
    CIRCUIT_OPEN = "circuit_open"
    OVERLOADED = "overloaded"
    SESSIONS_FULL = "sessions_full"
    UNKNOWN_SESSION = "unknown_session"
    BAD_MESSAGE = "bad_message"
    DRAINING = "draining"


class Mode(enum.Enum):
    """How much a policy may do. SHADOW decides and tells, and changes nothing."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


@dataclass(slots=True)
class Replied:
    """The upstream answered. `body` is None when the reply has already gone down through the call's sink."""

    status: int
    headers: Headers
    body: bytes | None
    verdict: Verdict = PLAIN


@dataclass(slots=True)
class Failed:
    """Nobody answered. `timer` and `after_seconds` say which limit ran out, for TIMEOUT.

    `is_undone`: it was sent, and the way it failed proves that the server did not carry it out.
    `retry_after_seconds`: the server has asked to wait so long.
    """

    kind: FailureKind
    detail: str
    blame: Blame = Blame.UPSTREAM
    sent: Sent = Sent.YES
    timer: str = ""
    after_seconds: float = 0.0
    is_undone: bool = False
    retry_after_seconds: float | None = None


def bug_in(call: Call | None) -> Failed:
    """Returns how a call ended that met a bug of weir's: "not sent" is only said when no attempt was."""
    is_sent = call is not None and any(attempt.sent_at for attempt in call.attempts)
    text = "weir failed to handle this; its log has the reason"
    return Failed(FailureKind.INTERNAL, text, Blame.WEIR, Sent.YES if is_sent else Sent.NO)


STOPPED: Final = Failed(FailureKind.CANCELLED, "weir was stopped before the answer came", Blame.WEIR)
"""What a call is told that a stop cuts off."""


_REFUSAL_BLAME: Final = {
    RefusalKind.RATE_LIMITED: Blame.DOWNSTREAM,
    RefusalKind.CIRCUIT_OPEN: Blame.UPSTREAM,
    RefusalKind.OVERLOADED: Blame.WEIR,
    RefusalKind.SESSIONS_FULL: Blame.WEIR,
    RefusalKind.UNKNOWN_SESSION: Blame.DOWNSTREAM,
    RefusalKind.BAD_MESSAGE: Blame.DOWNSTREAM,
    RefusalKind.DRAINING: Blame.WEIR,
}


@dataclass(slots=True)
class Refused:
    """A policy said no, or weir itself is short of something. It is never evidence about the upstream."""

    kind: RefusalKind
    detail: str
    scope: str = ""
    retry_after_seconds: float | None = None
    """None when weir cannot know."""
    caused_by: Blame | None = None
    """Set where the fault is not the usual one of its kind, as when one client has used up its own share."""

    @property
    def blame(self) -> Blame:
        """Whose fault the refusal is; the only place that decides it."""
        return self.caused_by or _REFUSAL_BLAME[self.kind]


Outcome = Replied | Failed | Refused
