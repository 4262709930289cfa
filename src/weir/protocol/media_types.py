"""The one reader of media types: `Content-Type` and `Accept` (RFC 9110, sections 8.3.1 and 12.5.1).

Types, subtypes and names of parameters are the same in any case, and parameters may follow.
"""

import re
from collections.abc import Sequence
from typing import Final

EVENT_STREAM: Final = b"text/event-stream"
JSON: Final = b"application/json"
PLAIN_TEXT: Final = b"text/plain; charset=utf-8"

_COMMON: Final = {EVENT_STREAM: EVENT_STREAM, JSON: JSON}
"""Spellings that nearly every reply has: they need no parsing."""
_PARAMETER: Final = re.compile(rb";[ \t]*([^;=\s\"]+)[ \t]*=[ \t]*(\"(?:[^\"\\]|\\.)*\"|[^;\"\s]*)")
_ESCAPED: Final = re.compile(rb"\\(.)")
_NOT_ACCEPTED: Final = re.compile(rb"0(?:\.0*)?")

_UTF_8: Final = frozenset((b"utf-8", b"utf8", b"us-ascii", b"ascii"))
"""Names of UTF-8 and of its subset. JSON that names no character set is UTF-8 (RFC 8259, section 8.1)."""

_Headers = Sequence[tuple[bytes, bytes]]


def media_type(value: bytes) -> bytes:
    """Returns type and subtype of a `Content-Type` in lower case, without parameters; b"" for an empty value.

    Of a list, as gateways make of two equal lines, the first one counts.
    """
    return _COMMON.get(value) or value.partition(b";")[0].partition(b",")[0].strip().lower()


def of(headers: _Headers) -> bytes:
    """Returns the media type that headers (names in lower case) state for the body; b"" when they state none."""
    for name, value in headers:
        if name == b"content-type":
            return media_type(value)
    return b""


def is_event_stream(headers: _Headers) -> bool:
    """Returns whether headers announce a stream of server-sent events."""
    return of(headers) == EVENT_STREAM


def is_json(found: bytes) -> bool:
    """Returns whether a media type is JSON, or a format that is written in JSON (`application/problem+json`)."""
    return found == JSON or found.endswith(b"+json")


def parameter(value: bytes, name: bytes) -> bytes:
    """Returns a parameter of a media type as it is written, without its quotes; b"" when it is absent."""
    for found in _PARAMETER.finditer(value):
        if found[1].lower() == name:
            given = found[2]
            return _ESCAPED.sub(rb"\1", given[1:-1]) if given.startswith(b'"') else given
    return b""


def foreign_charset(headers: _Headers) -> bytes:
    """Returns the character set that headers state for the body, in lower case; b"" for none, and for UTF-8."""
    for name, value in headers:
        if name == b"content-type":
            stated = parameter(value, b"charset").strip().lower() if b";" in value else b""
            return b"" if stated in _UTF_8 else stated
    return b""


def accepts(headers: _Headers, wanted: bytes) -> bool:
    """Returns whether `Accept` names a media type itself, and not by a wildcard, and does not rule it out (`q=0`)."""
    accepted = [each for name, value in headers if name == b"accept" for each in value.split(b",")]
    return any(_names(each, wanted) for each in accepted)


def _names(accepted: bytes, wanted: bytes) -> bool:
    if media_type(accepted) != wanted:
        return False
    return b";" not in accepted or not _NOT_ACCEPTED.fullmatch(parameter(accepted, b"q"))
