"""What a client on a pipe is told of an exchange that ended without its answer."""

from weir.core.call import header
from weir.core.outcome import Failed, FailureKind, Outcome, Refused, Sent
from weir.protocol.numbers import whole_number
from weir.upstream.redirects import REDIRECTS

_TEXTS = {
    202: "accepted the request (HTTP 202) without answering it",
    401: "wants authorization (HTTP 401)",
    403: "forbids this (HTTP 403)",
    404: "knows no such session or endpoint (HTTP 404); a client has to initialize again",
    **{
        status: f"redirects to another address (HTTP {status}), which is not followed; its url has to be corrected"
        for status in REDIRECTS
    },
}
_LOST = Failed(FailureKind.RESET, "the reply ended before the answer", sent=Sent.YES)


def failure_of(outcome: Outcome | None) -> Failed | Refused:
    """Returns the failure that a request is told of whose exchange ended without its answer."""
    if isinstance(outcome, Failed | Refused):
        return outcome
    if outcome is None or outcome.status == 200:
        return _LOST
    retry_after = whole_number(header(outcome.headers, b"retry-after"))
    detail = _TEXTS.get(outcome.status, f"answered HTTP {outcome.status} without a JSON-RPC message")
    if retry_after is not None:
        detail += f" and asks to wait {retry_after} s"
    return Failed(FailureKind.PROTOCOL, detail, sent=Sent.ANSWERED)
