"""Where the members of a JSON object stand in its bytes.

msgspec says what an object holds, in order; each value's length tells where the next member begins. So a scan costs
by the member, not by the byte, and builds no value: a value is stepped over, whatever it holds. Twins are found too,
because each key is an object of its own.
"""

import re
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from weir.protocol.decoding import FAILURES
from weir.protocol.shapes import Batch

MEMBERS_LIMIT: Final = 4096
"""Members of one object that are looked at. MCP's objects have a dozen; a hostile one may have a million."""

PARAMS: Final = "params"
# an object's brace or the comma after a value, then a key and what stands between it and its value
_KEY: Final = re.compile(rb'[ \t\r\n]*[{,][ \t\r\n]*"[^"\\]*(?:\\.[^"\\]*)*"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_ELEMENT: Final = re.compile(rb"[ \t\r\n]*[\[,][ \t\r\n]*")
_BRACE: Final = ord("{")


class Member(NamedTuple):
    """One `key: value` of an object: the key as it reads, and the byte range of the value's text."""

    key: str
    start: int
    end: int


class _Key:
    """The key of one member. Equal to itself only, so that a dict keeps twins apart."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _Counter:
    """Makes the keys of one object, and stops the decoder at the limit. One is enough: decoding is not interrupted."""

    def __init__(self) -> None:
        self.left = 0

    def key(self, kind: type, text: str) -> _Key:
        """One key, as the decoder meets it."""
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"more than {MEMBERS_LIMIT} members")
        return _Key(text)


_counter: Final = _Counter()
_decode_object: Final = msgspec.json.Decoder(dict[_Key, Raw], dec_hook=_counter.key).decode
_decode_batch: Final = msgspec.json.Decoder(Batch).decode


def members(text: bytes, start: int = 0, end: int | None = None) -> list[Member]:
    """The members of the object that `text[start:end]` is, in order, duplicates included.

    Raises:
        ValueError: that is not a JSON object, or it has more than MEMBERS_LIMIT members.
    """
    _counter.left = MEMBERS_LIMIT
    try:
        values = _decode_object(memoryview(text)[start:end])
    except FAILURES as error:
        raise ValueError(str(error)) from None
    at, found = start, list[Member]()
    for key, value in values.items():
        begin = _match(_KEY, text, at).end()
        at = begin + len(value)
        found.append(Member(key.text, begin, at))
    return found


def request(text: bytes) -> tuple[list[Member], list[Member] | None]:
    """The members of a message, and those of its `params` (None unless there is exactly one and it is an object).

    Raises:
        ValueError: as `members`.
    """
    top = members(text)
    found = [member for member in top if member.key == PARAMS]
    if len(found) != 1 or text[found[0].start] != _BRACE:
        return top, None
    return top, members(text, found[0].start, found[0].end)


def values(text: bytes) -> list[Raw]:
    """The elements of the array that `text` is (a 2025-03-26 batch), as they stand.

    Raises:
        ValueError: `text` is not a JSON array, or has more than BATCH_LIMIT elements.
    """
    try:
        found = msgspec.structs.astuple(_decode_batch(text))
    except FAILURES as error:
        raise ValueError(str(error)) from None
    return [value for value in found if value is not UNSET]


def elements(text: bytes) -> list[tuple[int, int]]:
    """The byte ranges of the elements of the array that `text` is.

    Raises:
        ValueError: as `values`.
    """
    found = []
    end = 0
    for value in values(text):
        start = _match(_ELEMENT, text, end).end()
        end = start + len(value)
        found.append((start, end))
    return found


def single(found: list[Member], key: str) -> Member:
    """The only member with this key.

    Raises:
        ValueError: there is none, or more than one.
    """
    matching = [member for member in found if member.key == key]
    if len(matching) != 1:
        raise ValueError(f"{len(matching)} members {key!r} where one is wanted")
    return matching[0]


def _match(pattern: re.Pattern[bytes], text: bytes, at: int) -> re.Match[bytes]:
    found = pattern.match(text, at)
    if found is None:
        raise ValueError(f"not JSON at byte {at}")
    return found
