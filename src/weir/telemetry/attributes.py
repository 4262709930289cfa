"""The attributes of spans: what the MCP conventions name, and weir's own under `weir.`."""

from opentelemetry.trace import Status, StatusCode

from weir.core.call import Attempt, Call, Peer, Transport
from weir.core.events import Ask, Decided
from weir.core.outcome import Failed, Outcome, Refused, Replied, Verdict
from weir.core.phases import Phases
from weir.protocol.envelope import Message
from weir.telemetry import redact, semconv
from weir.telemetry.reading import Judgement, Reading

# a method or tool name is the caller's to invent, a description the server's
NAME_LIMIT_BYTES = 128
DESCRIPTION_LIMIT_BYTES = 256
URI_LIMIT_BYTES = 512
URI_LOOKED_AT = 16 * 1024
"""Characters of a URI that are searched for secrets, before it is cut: a URI may be as long as a body."""
_HTTP_ERROR = 400
_PHASE_NAMES = tuple(semconv.PHASE + name for name in Phases._fields)

Attributes = dict[str, str | int | float]

UNSET = Status(StatusCode.UNSET)


def span_name(message: Message) -> str:
    """`{method} {tool or prompt}`."""
    target = message.name
    return redact.cut(f"{message.method} {target}" if target else message.method, 2 * NAME_LIMIT_BYTES)


def of_call(reading: Reading, *, with_uri: bool) -> Attributes:
    """The SERVER span of a call."""
    call, judgement = reading.call, reading.judgement
    attributes = _operation(call, call.peer, with_uri=with_uri)
    _put_peer(attributes, call.peer, semconv.CLIENT_ADDRESS, semconv.CLIENT_PORT)
    _put_judgement(attributes, judgement, judgement.server_error, reading.outcome)
    if call.status >= _HTTP_ERROR:
        attributes[semconv.HTTP_STATUS] = call.status
    attributes[semconv.ATTEMPTS] = len(call.attempts)
    for name, seconds in zip(_PHASE_NAMES, reading.phases, strict=True):
        if seconds > 0:
            attributes[name] = seconds
    return attributes


def of_attempt(attempt: Attempt, judgement: Judgement, outcome: Outcome, *, with_uri: bool) -> Attributes:
    """The CLIENT span of an attempt."""
    peer = attempt.peer
    attributes = _operation(attempt.call, peer, with_uri=with_uri)
    _put_id(attributes, attempt.wire_id)
    _put_peer(attributes, peer, semconv.SERVER_ADDRESS, semconv.SERVER_PORT)
    _put_judgement(attributes, judgement, judgement.client_error, outcome)
    attributes[semconv.ATTEMPT] = attempt.number
    if attempt.number > 1 and peer is not None and peer.transport is Transport.HTTP:
        attributes[semconv.RESEND_COUNT] = attempt.number - 1
    if attempt.connect_seconds:
        attributes[semconv.PHASE + "connect"] = attempt.connect_seconds
    if attempt.sent_at and attempt.first_byte_at:
        attributes[semconv.PHASE + "upstream_first_byte"] = attempt.first_byte_at - attempt.sent_at
        attributes[semconv.PHASE + "upstream_stream"] = attempt.ended_at - attempt.first_byte_at
    return attributes


def of_asked(ask: Ask, judgement: Judgement) -> Attributes:
    """The SERVER span of a server's question: the server is weir's client."""
    attempts = ask.call.attempts if ask.call is not None else []
    peer = attempts[-1].peer if attempts else None
    attributes = _question(ask, peer)
    _put_peer(attributes, peer, semconv.CLIENT_ADDRESS, semconv.CLIENT_PORT)
    _put_judgement(attributes, judgement, judgement.server_error, None)
    return attributes


def of_asking(ask: Ask, judgement: Judgement) -> Attributes:
    """The CLIENT span of a server's question: the client is weir's server."""
    peer = ask.call.peer if ask.call is not None else None
    attributes = _question(ask, peer)
    _put_peer(attributes, peer, semconv.SERVER_ADDRESS, semconv.SERVER_PORT)
    _put_judgement(attributes, judgement, judgement.client_error, None)
    return attributes


def of_decision(event: Decided) -> Attributes:
    """The span event of what a policy did."""
    attributes: Attributes = {semconv.ACTION: event.action}
    if event.is_shadow:
        attributes[semconv.MODE] = "shadow"
    if event.seconds:
        attributes[semconv.SECONDS] = event.seconds
    if event.detail:
        attributes[semconv.DETAIL] = redact.cut(redact.text(event.detail), DESCRIPTION_LIMIT_BYTES)
    return attributes


def status_of(outcome: Outcome) -> Status:
    """The status of a span whose operation failed; the description is the answer's message or the reason."""
    if isinstance(outcome, Replied):
        return status_of_answer(outcome.verdict)
    return _error(redact.text(outcome.detail))


def status_of_answer(verdict: Verdict | None) -> Status:
    """The status of a span whose answer was an error."""
    return _error(redact.text(verdict.error_message) if verdict is not None else "")


def _error(description: str) -> Status:
    return Status(StatusCode.ERROR, redact.cut(description, DESCRIPTION_LIMIT_BYTES) or None)


def _operation(call: Call, peer: Peer | None, *, with_uri: bool) -> Attributes:
    """What both sides of a call say."""
    message = call.message
    attributes = _message(message, call.upstream)
    if with_uri and message.params is not None and message.params.uri:
        attributes[semconv.RESOURCE_URI] = redact.cut(redact.url(message.params.uri[:URI_LOOKED_AT]), URI_LIMIT_BYTES)
    if call.revision:
        attributes[semconv.PROTOCOL_VERSION] = redact.cut(call.revision, NAME_LIMIT_BYTES)
    _put_network(attributes, peer)
    return attributes


def _question(ask: Ask, peer: Peer | None) -> Attributes:
    attributes = _message(ask.message, ask.upstream)
    if ask.revision:
        attributes[semconv.PROTOCOL_VERSION] = redact.cut(ask.revision, NAME_LIMIT_BYTES)
    _put_network(attributes, peer)
    return attributes


def _message(message: Message, upstream: str) -> Attributes:
    attributes: Attributes = {
        semconv.METHOD_NAME: redact.cut(message.method, NAME_LIMIT_BYTES),
        semconv.UPSTREAM: upstream,
    }
    name = message.name
    if message.method == "tools/call":
        attributes[semconv.OPERATION_NAME] = semconv.EXECUTE_TOOL
        if name:
            attributes[semconv.TOOL_NAME] = redact.cut(name, NAME_LIMIT_BYTES)
    elif name:
        attributes[semconv.PROMPT_NAME] = redact.cut(name, NAME_LIMIT_BYTES)
    _put_id(attributes, message.id)
    return attributes


def _put_id(attributes: Attributes, raw_id: bytes) -> None:
    """The id as it was on this hop."""
    if raw_id and raw_id != b"null":
        attributes[semconv.REQUEST_ID] = redact.cut(raw_id.decode(errors="replace").strip('"'), NAME_LIMIT_BYTES)


def _put_network(attributes: Attributes, peer: Peer | None) -> None:
    if peer is None:
        return
    if peer.transport is Transport.STDIO:
        attributes[semconv.NETWORK_TRANSPORT] = "pipe"
        return
    attributes[semconv.NETWORK_TRANSPORT] = "tcp"
    attributes[semconv.NETWORK_PROTOCOL_NAME] = "http"
    if peer.http_version:
        attributes[semconv.NETWORK_PROTOCOL_VERSION] = peer.http_version


def _put_peer(attributes: Attributes, peer: Peer | None, address: str, port: str) -> None:
    if peer is not None and peer.address:
        attributes[address] = peer.address
        if peer.port:
            attributes[port] = peer.port


def _put_judgement(attributes: Attributes, judgement: Judgement, error: str, outcome: Outcome | None) -> None:
    attributes[semconv.OUTCOME] = judgement.outcome
    if judgement.reason == "ok":
        return
    attributes[semconv.REASON] = judgement.reason
    if error:
        attributes[semconv.ERROR_TYPE] = error
    if judgement.status_code:
        attributes[semconv.STATUS_CODE] = judgement.status_code
    if isinstance(outcome, Failed | Refused):
        attributes[semconv.BLAME] = outcome.blame.value
    if isinstance(outcome, Failed) and outcome.timer:
        attributes[semconv.TIMER] = outcome.timer
