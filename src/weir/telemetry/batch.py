"""A 2025-03-26 batch is one exchange with several messages: each is counted and traced by itself.

Every member becomes a `Call` that only telemetry sees; it never runs through the stack.
"""

from typing import Final

from weir.core.call import Attempt, Call
from weir.core.outcome import NO_ANSWER, Outcome, Replied, Verdict
from weir.protocol import envelope
from weir.protocol.correlation import key_of
from weir.protocol.envelope import Kind, Message
from weir.protocol.verdicts import verdict_of

WATCHED: Final = (Kind.REQUEST, Kind.NOTIFICATION)
"""What is counted as an operation and gets spans."""


def split(call: Call) -> None:
    """Give a batch its members' calls. A batch of nothing but answers has none."""
    if not any(message.kind in WATCHED for message in call.message.members):
        return
    call.members = tuple(_member(call, message) for message in call.message.members)


def _member(call: Call, message: Message) -> Call:
    member = Call(
        upstream=call.upstream,
        peer=call.peer,
        sink=call.sink,
        received_at=call.received_at,
        verb=call.verb,
        target=call.target,
        message=message,
    )
    member.session = call.session
    member.revision = call.revision
    member.body_at = call.body_at
    return member


def begin_attempt(attempt: Attempt) -> None:
    """Give each member that is watched its part of the attempt."""
    for member in attempt.call.members:
        if member.message.kind in WATCHED:
            member.attempts.append(Attempt(member, attempt.number, attempt.started_at))


def unmake_attempt(attempt: Attempt) -> None:
    """It was refused, and so was each member's part."""
    for member in attempt.call.members:
        member.attempts[:] = [each for each in member.attempts if each.number != attempt.number]


def join(call: Call, outcome: Outcome) -> None:
    """Give the members the instants of the exchange they shared."""
    for member in call.members:
        member.ended_at = call.ended_at
        member.queued_seconds = call.queued_seconds
        member.client_seconds = call.client_seconds
        member.status = call.status
        for own, attempt in zip(member.attempts, call.attempts, strict=False):
            own.peer = attempt.peer
            own.outcome = attempt.outcome
            own.connect_seconds = attempt.connect_seconds
            own.sent_at = attempt.sent_at
            own.first_byte_at = attempt.first_byte_at
            own.ended_at = attempt.ended_at
    if isinstance(outcome, Replied):
        _hand_out(call, outcome)


def outcome_of(member: Call, outcome: Outcome) -> Outcome:
    """What the batch's outcome means for one member: its own attempt knows, else all share one."""
    own = member.attempts[-1].outcome if member.attempts else None
    return own if own is not None and isinstance(outcome, Replied) else outcome


def _hand_out(call: Call, outcome: Replied) -> None:
    """Find each member's own answer: the edge has seen it pass, or it is in a complete body."""
    reply = envelope.peek(outcome.body) if outcome.body else envelope.NOTHING
    answers = {key_of(answer.id): answer for answer in (reply.members or (reply,)) if answer.kind is Kind.RESPONSE}
    for member in call.members:
        if member.attempts:
            verdict = member.answer or _verdict_for(member.message.id, answers)
            member.attempts[-1].outcome = Replied(outcome.status, outcome.headers, None, verdict)


def _verdict_for(raw_id: bytes, answers: dict[bytes, Message]) -> Verdict:
    return verdict_of(answers.get(key_of(raw_id))) if raw_id else NO_ANSWER
