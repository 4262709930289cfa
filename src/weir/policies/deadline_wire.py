"""What deadlines say on the wire: how long the caller still waits, and how long weir does.

Part of `deadline`. Pure.
"""

import math
from typing import Final

from msgspec import UNSET

from weir.core.call import Attempt, Headers, header
from weir.protocol import edit
from weir.protocol.envelope import Message
from weir.protocol.headers import SEALS
from weir.protocol.numbers import whole_number
from weir.protocol.shapes import DEADLINE_KEY

DEADLINE_HEADER: Final = b"weir-deadline-ms"
"""How many milliseconds the sender still waits, as in `_meta`; for a server or proxy that reads no bodies."""

LONGEST_DEADLINE_MS: Final = 2**53
"""A larger number than this is no time anybody waits, and not one that every JSON reader can read."""

_KEY: Final = DEADLINE_KEY.encode()
_MEMBER: Final = b'"%b":' % _KEY
_TRACEPARENT: Final = b'"traceparent":"00-'
_SPAN_ID_AT: Final = len(_TRACEPARENT) + 33
"""From the beginning of that member: a trace id of 32 digits and a hyphen come before the span id (W3C)."""
_SPECIAL: Final = SEALS | {DEADLINE_HEADER}


def special_headers(headers: Headers) -> Headers:
    """Of a caller's headers those that matter to a deadline: what the caller says of it, and the seals of a body."""
    return [each for each in headers if each[0] in _SPECIAL]


def caller_waits_seconds(message: Message, special: Headers) -> float:
    """How long the caller says that it waits: the shorter of `_meta` and header. What cannot be read says nothing."""
    seconds = _seconds(header(special, DEADLINE_HEADER)) if special else math.inf
    meta = message.meta
    if meta is not None and meta.deadline_ms is not UNSET:
        seconds = min(seconds, _seconds(bytes(meta.deadline_ms)))
    return seconds


def _seconds(digits: bytes) -> float:
    milliseconds = whole_number(digits, LONGEST_DEADLINE_MS)
    return math.inf if milliseconds is None else milliseconds / 1000


def tell_upstream(attempt: Attempt, special: Headers, left_seconds: float) -> None:
    """Put into the attempt's body and headers how long weir still waits. `special` are its `special_headers`.

    A body that is sealed by a signature, a digest or an encoding stays as it is; so does one that cannot be edited
    without guessing.
    """
    digits = b"%d" % (int(left_seconds * 1000) or 1)
    headers, is_sealed = attempt.headers, False
    if special:
        is_sealed = any(name != DEADLINE_HEADER for name, _ in special)
        headers = [each for each in headers if each[0] != DEADLINE_HEADER]
    attempt.headers = [*headers, (DEADLINE_HEADER, digits)]
    if not is_sealed:
        attempt.body = _with_deadline(attempt, digits)


def _with_deadline(attempt: Attempt, digits: bytes) -> bytes:
    body, message, trace = attempt.body, attempt.call.message, attempt.trace
    if trace is not None and (message.meta is None or message.meta.deadline_ms is UNSET):
        # nobody else can have written a span id that is this attempt's: where it stands is `params._meta`
        at = body.find(trace.span_id.encode()) - _SPAN_ID_AT
        if at > 0 and body.startswith(_TRACEPARENT, at):
            return b"".join((body[:at], _MEMBER, digits, b",", body[at:]))
    edited = edit.set_meta(body, message, {_KEY: digits})
    return body if edited is None else edited
