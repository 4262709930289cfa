"""What may be tried again: how much room an outcome leaves, and how much a call needs. Part of `retry`. Pure.

MCP has no idempotency key. So it depends on three things: what is known of the attempt (never sent; not carried out;
perhaps carried out; carried out and failed), what the method is, and for tools on somebody's word.
"""

import datetime
import email.utils
import enum
from collections.abc import Callable, Mapping

from weir.core.call import Call, Headers, header
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, Refused, Replied, Sent
from weir.protocol.methods import Repeat, facts


class Again(enum.IntEnum):
    """For which calls an outcome leaves room for another try; `needs` says which a call is."""

    NEVER = 0
    READ = 1
    """It was carried out, and failed: only what changes nothing, and what the operator has called safe."""
    REPEATABLE = 2
    """It may have been carried out: what is as good done twice."""
    UNDONE = 3
    """The server says that it was not carried out: everything but a handshake."""
    UNSENT = 4
    """The server has never seen it: everything."""


LOST = frozenset({FailureKind.RESET, FailureKind.EXITED, FailureKind.TIMEOUT, FailureKind.PROTOCOL})
"""Nobody knows what became of it, if it was sent."""

_SERVER_FAULTS = frozenset({500, 502, 503, 504})
_THROTTLED = frozenset({429, 503})
# -32603 internal error, and 0, by which the SDK reports a crashed handler
_INTERNAL_ERRORS = frozenset({-32603, 0})


def allowed_again(outcome: Outcome) -> Again:
    """What the outcome leaves room for."""
    if isinstance(outcome, Refused):
        return Again.NEVER
    if isinstance(outcome, Failed):
        return _allowed_after_failure(outcome)
    if outcome.body is None:
        return Again.NEVER
    if outcome.status in _THROTTLED and retry_after(outcome.headers) is not None:
        return Again.UNDONE
    if outcome.verdict.answered:
        return Again.READ if outcome.verdict.error_code in _INTERNAL_ERRORS else Again.NEVER
    return Again.REPEATABLE if outcome.status in _SERVER_FAULTS else Again.NEVER


def _allowed_after_failure(failed: Failed) -> Again:
    if failed.blame is not Blame.UPSTREAM or failed.timer in ("total", "connect"):
        # all the time there was for it has been spent
        return Again.NEVER
    if failed.sent is Sent.NO and failed.kind is not FailureKind.TLS:
        return Again.UNSENT
    return Again.REPEATABLE if failed.kind in LOST else Again.NEVER


def needs(call: Call, tools: Mapping[str, str], is_hinted: Callable[[Call], bool]) -> Again:
    """What an outcome must leave room for, before the call may be tried again.

    `is_hinted`: a trusted server's annotations say that the tool is repeatable. A call that two readers could read
    in two ways gets no new id, so it may be sent again only if it never was.
    """
    message = call.message
    known = facts(message.method)
    if known.is_handshake or call.is_ambiguous:
        return Again.UNSENT
    if message.is_continuation:
        return Again.UNDONE
    if known.repeat is Repeat.ASK:
        word = tools.get(message.name)
        if word is None:
            return Again.REPEATABLE if is_hinted(call) else Again.UNDONE
        return Again.READ if word == "always" else Again.UNDONE
    return {Repeat.READ: Again.READ, Repeat.SET: Again.REPEATABLE}.get(known.repeat, Again.UNDONE)


def retry_after(headers: Headers) -> float | None:
    """The seconds a `Retry-After` asks for, as a number or as a date beside the reply's own `Date`; None: none."""
    raw = header(headers, b"retry-after").strip()
    if raw.isdigit():
        return float(raw)
    until, sent = _instant(raw), _instant(header(headers, b"date"))
    return max(0.0, until - sent) if until is not None and sent is not None else None


def _instant(date: bytes) -> float | None:
    try:
        found = email.utils.parsedate_to_datetime(date.decode("latin-1"))
        # a date of HTTP that names no zone is of Greenwich (RFC 9110, section 5.6.7), not of this machine
        return found.replace(tzinfo=found.tzinfo or datetime.UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def reason_of(outcome: Outcome) -> str:
    """Why there is another try, in a word."""
    if isinstance(outcome, Failed):
        return outcome.kind.value
    if isinstance(outcome, Replied):
        code = outcome.verdict.error_code
        return f"http {outcome.status}" if code is None else f"error {code}"
    return outcome.kind.value
