"""Where the time of one call went. The phases of a call add up to its whole duration."""

from typing import NamedTuple

from weir.core.call import Attempt, Call


class Phases(NamedTuple):
    """Seconds spent in each phase of a call.

    receive: reading the request; queue: waiting for admission; policy: deciding; connect: new upstream
    connections; upstream_first_byte: request sent until its answer began; upstream_stream: until it
    ended; client: waiting for the client, to answer a server's question or to read a stream; relay: the
    rest, which is weir's own work.
    """

    receive: float
    queue: float
    policy: float
    connect: float
    upstream_first_byte: float
    upstream_stream: float
    client: float
    relay: float


def of(call: Call) -> Phases:
    """The phases of a finished call."""
    attempts = call.attempts
    if len(attempts) == 1 and not call.queued_seconds and not call.client_seconds:
        only = attempts[0]
        if only.sent_at and only.ended_at:
            return _of_one(call, only)
    total = call.ended_at - call.received_at
    receive = call.body_at - call.received_at
    connect = first_byte = stream = 0.0
    policy_until = call.ended_at
    # a hedge runs beside another attempt: time is told once
    told_until = 0.0
    for attempt in call.attempts:
        policy_until = min(policy_until, attempt.started_at)
        begun, answered = attempt.sent_at, attempt.first_byte_at or attempt.ended_at
        if attempt.started_at >= told_until:
            connect += attempt.connect_seconds
        else:
            begun = begun and max(begun, told_until)
            answered = max(answered, told_until)
        if begun:
            first_byte += max(0.0, answered - begun)
            stream += max(0.0, attempt.ended_at - answered)
        told_until = max(told_until, attempt.ended_at)
    client = min(call.client_seconds, stream)
    policy = max(0.0, policy_until - call.body_at - call.queued_seconds) if call.attempts else 0.0
    known = receive + call.queued_seconds + policy + connect + first_byte + stream
    return Phases(
        receive,
        call.queued_seconds,
        policy,
        connect,
        first_byte,
        stream - client,
        client,
        max(0.0, total - known),
    )


def _of_one(call: Call, attempt: Attempt) -> Phases:
    """The same for what nearly every call is: one attempt, that neither waited nor asked the client anything."""
    receive = call.body_at - call.received_at
    policy = attempt.started_at - call.body_at
    answered_at = attempt.first_byte_at or attempt.ended_at
    first_byte = answered_at - attempt.sent_at
    stream = attempt.ended_at - answered_at
    relay = call.ended_at - call.received_at - receive - policy - attempt.connect_seconds - first_byte - stream
    return Phases(
        receive,
        0.0,
        max(0.0, policy),
        attempt.connect_seconds,
        max(0.0, first_byte),
        max(0.0, stream),
        0.0,
        max(0.0, relay),
    )
