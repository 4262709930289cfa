"""Where the time of one call went. The phases of a call add up to its whole duration."""

from typing import NamedTuple

from weir.core.call import Call


class Phases(NamedTuple):
    """Seconds spent in each phase of a call.

    receive: reading the request; queue: waiting for admission; policy: deciding; connect: new upstream
    connections; upstream_first_byte: request sent until its answer began; upstream_stream: until it
    ended; client: waiting for the client's answer to a server's question; relay: the rest, which is
    weir's own work and the time the client took to read.
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
    total = call.ended_at - call.received_at
    receive = call.body_at - call.received_at
    connect = first_byte = stream = 0.0
    policy_until = call.ended_at
    for attempt in call.attempts:
        policy_until = min(policy_until, attempt.started_at)
        connect += attempt.connect_seconds
        if attempt.sent_at:
            answered = attempt.first_byte_at or attempt.ended_at
            first_byte += answered - attempt.sent_at
            stream += attempt.ended_at - answered
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
