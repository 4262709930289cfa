"""Dates and waits in HTTP headers (RFC 9110, sections 5.6.7 and 10.2.3). No clock is read: dates are compared only."""

import datetime
import email.utils
from collections.abc import Sequence
from typing import Final

from weir.protocol.numbers import seconds_to_wait

LONGEST_DATE: Final = 64
"""Characters of a date; the longest form of HTTP has 33 (RFC 9110, section 5.6.7)."""

_Headers = Sequence[tuple[bytes, bytes]]


def instant(date: bytes) -> float | None:
    """Reads a date as seconds since 1970; None when it is none."""
    if len(date) > LONGEST_DATE:
        return None
    try:
        found = email.utils.parsedate_to_datetime(date.decode("latin-1"))
        # a date of HTTP that names no zone is of Greenwich (RFC 9110, section 5.6.7), not of this machine
        return found.replace(tzinfo=found.tzinfo or datetime.UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def retry_after(headers: _Headers) -> float | None:
    """The seconds a `Retry-After` asks for, as a number or as a date beside the reply's own `Date`; None: none."""
    raw = _first(headers, b"retry-after").strip()
    seconds = seconds_to_wait(raw)
    if seconds is not None:
        return seconds
    until, sent = instant(raw), instant(_first(headers, b"date"))
    return max(0.0, until - sent) if until is not None and sent is not None else None


def _first(headers: _Headers, name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")
