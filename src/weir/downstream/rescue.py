"""The one place where an outcome that is no reply becomes an error on the wire.

Shape (README.md, "One answer"): `application/json`, a JSON-RPC error with the request's exact id, a code outside
the ranges that JSON-RPC and MCP keep for themselves (MCP 2026-07-28, basic/index, error codes), and
`data` a program can act on. The text is one line written for a language model.
"""

import math
from typing import Any

import msgspec

from weir.core.call import Call, Headers
from weir.core.outcome import Failed, FailureKind, RefusalKind, Refused, Replied, Sent
from weir.protocol.envelope import BATCH_LIMIT, Kind, Message
from weir.protocol.error_codes import PARSE_ERROR, WEIR_BASE
from weir.protocol.media_types import JSON
from weir.telemetry import redact

_JSON = (b"content-type", JSON)

_FAILED_STATUS = {FailureKind.TIMEOUT: 504, FailureKind.INTERNAL: 500}
_REFUSED_STATUS = {
    RefusalKind.RATE_LIMITED: 429,
    RefusalKind.CIRCUIT_OPEN: 503,
    RefusalKind.OVERLOADED: 503,
    RefusalKind.SESSIONS_FULL: 503,
    RefusalKind.DRAINING: 503,
    RefusalKind.UNKNOWN_SESSION: 404,
    RefusalKind.BAD_MESSAGE: 400,
}
TOO_LONG_BATCH = Refused(
    RefusalKind.BAD_MESSAGE, f"A batch of more than {BATCH_LIMIT} messages was not sent; send them in smaller batches."
)
"""It would be one call to every limit, and thousands to the server."""

_UNDONE_ADVICE = "The request was sent, and was not carried out; it can be tried again."
_SENT_ADVICE = {
    Sent.NO: "The request was not sent; it can be tried again.",
    Sent.YES: "The request was sent; whether it was carried out is unknown.",
    Sent.ANSWERED: "The server received the request; its answer was not usable.",
}


def rescue(outcome: Failed | Refused, call: Call) -> Replied:
    """The reply a client gets for an outcome that is none."""
    status = _status(outcome)
    headers: Headers = [_JSON]
    if outcome.retry_after_seconds is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(outcome.retry_after_seconds))).encode()))
    return Replied(status, headers, error_body(outcome, call))


def error_body(outcome: Failed | Refused, call: Call) -> bytes:
    """The JSON-RPC error, or one for each request of a batch; id null where there is none to name."""
    error = msgspec.json.encode(_error(outcome, call))
    message = call.message
    if message.kind is Kind.BATCH:
        asking = [member for member in message.members if member.kind is Kind.REQUEST]
        return b"[" + b",".join(_envelope(member, error) for member in asking) + b"]"
    return _envelope(message, error)


def _envelope(message: Message, error: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":' + (message.id or b"null") + b',"error":' + error + b"}"


def _status(outcome: Failed | Refused) -> int:
    if isinstance(outcome, Refused):
        return _REFUSED_STATUS[outcome.kind]
    # what a timer ended is 504, also where nobody knows what became of it
    return 504 if outcome.timer else _FAILED_STATUS.get(outcome.kind, 502)


def _error(outcome: Failed | Refused, call: Call) -> dict[str, Any]:
    if isinstance(outcome, Refused):
        return _refusal(outcome, call)
    return _failure(outcome, call)


def _refusal(refused: Refused, call: Call) -> dict[str, Any]:
    data: dict[str, Any] = {"reason": refused.kind.value, "upstream": call.upstream, "blame": refused.blame.value}
    text = refused.detail
    if refused.scope:
        data["scope"] = redact.printable(refused.scope)
    text += _note_wait(refused.retry_after_seconds, data)
    is_nonsense = refused.kind is RefusalKind.BAD_MESSAGE and call.message.kind is Kind.OPAQUE
    code = PARSE_ERROR if is_nonsense else WEIR_BASE - _REFUSED_STATUS[refused.kind]
    return {"code": code, "message": redact.printable(text), "data": data}


def _note_wait(seconds: float | None, data: dict[str, Any]) -> str:
    """Say when to try again, for programs and in words."""
    if seconds is None:
        return ""
    data["retryAfterMs"] = round(seconds * 1000)
    return f" Try again in {max(1, math.ceil(seconds))} s."


def _failure(failed: Failed, call: Call) -> dict[str, Any]:
    data: dict[str, Any] = {
        "reason": failed.kind.value,
        "upstream": call.upstream,
        "blame": failed.blame.value,
        "sent": failed.sent is not Sent.NO,
    }
    if failed.timer:
        data["timer"] = failed.timer
        data["afterMs"] = round(failed.after_seconds * 1000)
    # it may hold a server's own words
    detail = redact.text(failed.detail).rstrip(".")
    advice = _UNDONE_ADVICE if failed.is_undone else _SENT_ADVICE[failed.sent]
    if failed.retry_after_seconds is not None:
        # when, is said below
        advice = advice.replace("; it can be tried again", "")
    text = f"MCP server '{call.upstream}': {detail}. {advice}" + _note_wait(failed.retry_after_seconds, data)
    return {"code": WEIR_BASE - _status(failed), "message": redact.printable(text), "data": data}
