"""What a client on a pipe is told of an exchange that ended without its answer. The advice fits the case."""

import math
from typing import Final

from weir.core.outcome import Failed, FailureKind, Refused, Replied, Sent
from weir.protocol import media_types
from weir.protocol.decoding import any_of
from weir.protocol.http_dates import retry_after
from weir.relay.posting import Posting
from weir.upstream.redirects import REDIRECTS

PROBLEM: Final = b"application/problem+json"
"""An error in words for people (RFC 9457)."""
PROBLEM_BYTES_LIMIT: Final = 64 * 1024
"""A larger body is no explanation."""
DETAIL_LIMIT: Final = 300
"""Characters of a server's own words; a language model reads them."""

_NO_ENDPOINT: Final = "has no MCP endpoint at the path of its url (HTTP {status}); the path has to be corrected"
_TEXTS: Final = {
    202: "accepted the request (HTTP 202) without answering it",
    401: "wants authorization (HTTP 401); the operator has to give weir a token for it",
    403: "forbids this (HTTP 403)",
    404: "knows the session no more (HTTP 404); a client has to initialize again",
    429: "has too many requests (HTTP 429)",
    **{
        status: f"redirects to another address (HTTP {status}), which is not followed; its url has to be corrected"
        for status in REDIRECTS
    },
}
_NOWHERE: Final = frozenset((404, 405))
_LOST: Final = Failed(FailureKind.RESET, "the reply ended before the answer", sent=Sent.YES)


def failure_of(posting: Posting) -> Failed | Refused:
    """Returns the failure that the requests of a posting are told of whose exchange ended without their answer."""
    outcome = posting.outcome
    if isinstance(outcome, Failed | Refused):
        return outcome
    if outcome is None or outcome.status == 200:
        return _LOST
    detail = _text(outcome.status, is_under_session=posting.call is not None and posting.call.session != "")
    if problem := _problem(outcome, posting):
        detail += f": {problem}"
    wait = retry_after(outcome.headers)
    return Failed(
        FailureKind.PROTOCOL,
        detail,
        sent=Sent.ANSWERED,
        # 429 proves that nothing was done, as for retries
        is_undone=outcome.status == 429,
        retry_after_seconds=wait if wait is not None and math.isfinite(wait) else None,
    )


def _text(status: int, *, is_under_session: bool) -> str:
    if status in _NOWHERE and not is_under_session:
        # the first thing a client sends, or all that a server without sessions gets
        return _NO_ENDPOINT.format(status=status)
    return _TEXTS.get(status, f"answered HTTP {status} without a JSON-RPC message")


def _problem(reply: Replied, posting: Posting) -> str:
    """Returns the server's own words in one line; "" where there are none."""
    body = reply.body if reply.body is not None or posting.stream is None else posting.stream.body
    if not body or len(body) > PROBLEM_BYTES_LIMIT or media_types.of(reply.headers) != PROBLEM:
        return ""
    said = any_of(body)
    words = (said.get("detail") or said.get("title")) if isinstance(said, dict) else None
    return " ".join(words.split())[:DETAIL_LIMIT] if isinstance(words, str) else ""
