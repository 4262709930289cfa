"""Where the members of one JSON object stand in its bytes.

msgspec says what a message holds, not where. Editing a member in place needs the exact byte
range, whatever else the message contains, so this walks the text itself. It is exact and linear,
and used only where a cheaper search of the bytes would be ambiguous.
"""

import re
from typing import NamedTuple

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]', re.DOTALL)
_OPEN, _CLOSE = frozenset(b"{["), frozenset(b"}]")
_WHITESPACE = b" \t\r\n"


class Member(NamedTuple):
    """One `key: value` of an object: the key's raw text without quotes, and the value's byte range."""

    key: bytes
    start: int
    end: int


def members(text: bytes, start: int = 0) -> list[Member]:
    """The members of the object that opens at or after `start`, in order, duplicates included.

    `text` must be JSON that a decoder has already accepted.

    Raises:
        ValueError: no object stands there.
    """
    opening = _skip_whitespace(text, start)
    if text[opening : opening + 1] != b"{":
        raise ValueError("not a JSON object")
    found: list[Member] = []
    key, value_at, depth = b"", -1, 0
    for token in _TOKEN.finditer(text, opening + 1):
        first = text[token.start()]
        if first in _OPEN:
            depth += 1
        elif depth:
            depth -= first in _CLOSE
        elif first == 0x3A and value_at < 0:
            value_at = _skip_whitespace(text, token.end())
        elif first == 0x22 and value_at < 0:
            key = text[token.start() + 1 : token.end() - 1]
        elif first in b",}":
            if value_at >= 0:
                found.append(Member(key, value_at, _trim(text, value_at, token.start())))
            if first == 0x7D:
                return found
            value_at = -1
    raise ValueError("the JSON object does not end")


def elements(text: bytes) -> list[tuple[int, int]]:
    """The byte ranges of the elements of the array that `text` is (a 2025-03-26 batch).

    Raises:
        ValueError: `text` is not an array.
    """
    opening = _skip_whitespace(text, 0)
    if text[opening : opening + 1] != b"[":
        raise ValueError("not a JSON array")
    found: list[tuple[int, int]] = []
    begin, depth = _skip_whitespace(text, opening + 1), 0
    for token in _TOKEN.finditer(text, opening + 1):
        first = text[token.start()]
        if first in _OPEN:
            depth += 1
        elif depth:
            depth -= first in _CLOSE
        elif first in b",]":
            end = _trim(text, begin, token.start())
            if end > begin:
                found.append((begin, end))
            if first == 0x5D:
                return found
            begin = _skip_whitespace(text, token.end())
    raise ValueError("the JSON array does not end")


def _skip_whitespace(text: bytes, at: int) -> int:
    while at < len(text) and text[at] in _WHITESPACE:
        at += 1
    return at


def _trim(text: bytes, start: int, end: int) -> int:
    while end > start and text[end - 1] in _WHITESPACE:
        end -= 1
    return end
