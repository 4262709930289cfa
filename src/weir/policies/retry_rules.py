"""What may be tried again: how much room an outcome leaves, and how much a call needs. Part of `retry`. Pure.

MCP has no idempotency key. So it depends on three things: what is known of the attempt (never sent; not carried out;
perhaps carried out; carried out and failed), what the method is, and for tools on somebody's word.

NOT_CARRIED_OUT is the one table of what proves that the server did nothing. HTTP 503 is not in it: gateways and servers
send it after the work was done, too.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from weir.core.call import Call
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, Refused, Replied, Sent
from weir.protocol.error_codes import INTERNAL_ERRORS
from weir.protocol.http_dates import retry_after
from weir.protocol.methods import Repeat, facts
from weir.protocol.question import asks_for_task


class Again(enum.IntEnum):
    """For which calls an outcome leaves room for another try; `needs` says which a call is."""

    NEVER = 0
    READ = 1
    """It was carried out, and failed: only what changes nothing, and what the operator has called safe."""
    REPEATABLE = 2
    """It may have been carried out: what is as good done twice."""
    UNDONE = 3
    """It is proven that the call was not carried out: everything but a handshake."""
    UNSENT = 4
    """The server has never seen it: everything."""


LOST: Final = frozenset(
    {FailureKind.RESET, FailureKind.EXITED, FailureKind.TIMEOUT, FailureKind.PROTOCOL, FailureKind.TLS}
)
"""Nobody knows what became of it, if it was sent."""

_SERVER_FAULTS: Final = frozenset({500, 502, 503, 504})


class Proof(NamedTuple):
    """One way to know that the server did nothing, and what may be tried again then."""

    name: str
    holds: Callable[[Outcome], bool]
    allows: Again


def _was_never_sent(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and outcome.sent is Sent.NO


def _was_refused_in_tls(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and outcome.is_undone


def _was_too_many(outcome: Outcome) -> bool:
    return isinstance(outcome, Replied) and outcome.status == 429


NOT_CARRIED_OUT: Final[tuple[Proof, ...]] = (
    Proof("never sent", _was_never_sent, Again.UNSENT),
    Proof("client certificate refused before any byte of a reply", _was_refused_in_tls, Again.UNDONE),
    Proof("HTTP 429, with or without a JSON-RPC error", _was_too_many, Again.UNDONE),
)
"""Whatever is not here may have been carried out."""


def is_final(outcome: Outcome) -> bool:
    """Whether the outcome stands, whatever else is known of it."""
    if isinstance(outcome, Refused):
        return True
    if isinstance(outcome, Replied):
        # a body that has gone down cannot be taken back, and a result says that the call was carried out
        return outcome.body is None or (outcome.verdict.answered and outcome.verdict.error_code is None)
    if outcome.blame is not Blame.UPSTREAM or outcome.timer in ("total", "connect"):
        # all the time there was for it has been spent
        return True
    # a certificate does not become another one
    return outcome.kind is FailureKind.TLS and outcome.sent is Sent.NO


def allowed_again(outcome: Outcome) -> Again:
    """What the outcome leaves room for."""
    if is_final(outcome):
        return Again.NEVER
    for proof in NOT_CARRIED_OUT:
        if proof.holds(outcome):
            return proof.allows
    if isinstance(outcome, Failed):
        return Again.REPEATABLE if outcome.kind in LOST else Again.NEVER
    return _allowed_after_reply(outcome) if isinstance(outcome, Replied) else Again.NEVER


def _allowed_after_reply(reply: Replied) -> Again:
    """The server answered with an error, or with a page that is no answer."""
    is_asked_back = reply.status == 503 and retry_after(reply.headers) is not None
    if is_asked_back or (reply.status in _SERVER_FAULTS and not reply.verdict.answered):
        return Again.REPEATABLE
    return Again.READ if reply.verdict.error_code in INTERNAL_ERRORS else Again.NEVER


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
        if asks_for_task(call.body):
            # done twice it makes two tasks, whatever the tool does
            return Again.UNDONE
        word = tools.get(message.name)
        if word is None:
            return Again.REPEATABLE if is_hinted(call) else Again.UNDONE
        return Again.READ if word == "always" else Again.UNDONE
    return {Repeat.READ: Again.READ, Repeat.SET: Again.REPEATABLE}.get(known.repeat, Again.UNDONE)


def reason_of(outcome: Outcome) -> str:
    """Why there is another try, in a word."""
    if isinstance(outcome, Failed):
        return outcome.kind.value
    if isinstance(outcome, Replied):
        code = outcome.verdict.error_code
        return f"http {outcome.status}" if code is None else f"error {code}"
    return outcome.kind.value
