"""Where the members of a JSON object stand in its bytes.

msgspec says what an object holds, not where. Its answer is used as a map: walking the text from the
opening brace, each value is stepped over in one comparison with the raw text msgspec gave for it, so
the walk costs by the member, not by the byte. Duplicate keys (the map has only the last of them) are
stepped over by the standard library's JSON scanner. The walk is exact for every text a decoder accepts.
"""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from msgspec import Raw, UnsetType

from weir.protocol.shapes import Whole

MEMBERS_LIMIT = 4096
"""Members of one object that are walked. MCP's objects have a dozen; a hostile one may have a million."""

PARAMS = "params"
# an object's brace or the comma after a value, then a key and what stands between it and its value
_KEY = re.compile(rb'[ \t\r\n]*[{,][ \t\r\n]*"([^"\\]*(?:\\.[^"\\]*)*)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_CLOSE = re.compile(rb"[ \t\r\n]*(?:\{[ \t\r\n]*)?\}")
_ELEMENT = re.compile(rb"[ \t\r\n]*[\[,][ \t\r\n]*")
_BRACE = ord("{")
_AFTER_VALUE = b" \t\r\n,}"


class Member(NamedTuple):
    """One `key: value` of an object: the key as it reads, and the byte range of the value's text."""

    key: str
    start: int
    end: int


_Map = Mapping[str, Raw | dict[str, Raw] | UnsetType]
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_array = msgspec.json.Decoder(list[Raw]).decode
_decode_request = msgspec.json.Decoder(Whole).decode
# integers stay text: int() of a number with thousands of digits raises
_scan_value = json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode


def members(text: bytes, start: int = 0, end: int | None = None) -> list[Member]:
    """The members of the object that `text[start:end]` is, in order, duplicates included.

    With a `start` and no `end` the object ends where it ends, in a text that is known to be JSON; slower.

    Raises:
        ValueError: that is not a JSON object, or it has more than MEMBERS_LIMIT members.
    """
    try:
        if end is not None:
            return _Walk(text).object(start, _decode_object(memoryview(text)[start:end]))
        return _Walk(text).object(start, {} if start else _decode_object(text))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def request(text: bytes) -> tuple[list[Member], list[Member] | None]:
    """The members of a message, and those of its `params` (None unless there is exactly one and it is an object).

    Raises:
        ValueError: as `members`.
    """
    try:
        found = _decode_request(text)
    except (msgspec.DecodeError, RecursionError):
        return _request_in_two_passes(text)
    walk = _Walk(text)
    top = walk.object(0, msgspec.structs.asdict(found))
    return top, walk.inner if _count(top, PARAMS) == 1 else None


def _request_in_two_passes(text: bytes) -> tuple[list[Member], list[Member] | None]:
    top = members(text)
    if _count(top, PARAMS) != 1:
        return top, None
    params = single(top, PARAMS)
    if text[params.start] != _BRACE:
        return top, None
    return top, members(text, params.start, params.end)


def elements(text: bytes) -> list[tuple[int, int]]:
    """The byte ranges of the elements of the array that `text` is (a 2025-03-26 batch).

    Raises:
        ValueError: `text` is not a JSON array.
    """
    try:
        values = _decode_array(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    found = []
    end = 0
    for value in values:
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


def _count(found: list[Member], key: str) -> int:
    return sum(member.key == key for member in found)


class _Walk:
    """One walk over a text. `inner` are the members of the last object that came with a map of its own."""

    def __init__(self, text: bytes) -> None:
        self.inner: list[Member] | None = None
        self._text = text
        self._characters = ""

    def object(self, start: int, values: _Map) -> list[Member]:
        """The members of the object that opens at or after `start`, mapped by `values`."""
        return self._object(start, values)[0]

    def _object(self, start: int, values: _Map) -> tuple[list[Member], int]:
        text, at, found = self._text, start, list[Member]()
        while key := _KEY.match(text, at):
            if len(found) == MEMBERS_LIMIT:
                raise ValueError(f"more than {MEMBERS_LIMIT} members")
            name, begin = _unescape(key[1]), key.end()
            at = self._value_end(begin, values.get(name))
            found.append(Member(name, begin, at))
        return found, _match(_CLOSE, text, at).end()

    def _value_end(self, begin: int, value: Raw | dict[str, Raw] | UnsetType | None) -> int:
        if isinstance(value, dict):
            if self._text[begin] == _BRACE:
                self.inner, end = self._object(begin, value)
                return end
        elif isinstance(value, Raw) and self._text.startswith(value, begin):
            # 1 is also how 12 begins
            end = begin + len(value)
            if self._text[end] in _AFTER_VALUE:
                return end
        return self._step_over(begin)

    def _step_over(self, begin: int) -> int:
        if not self._characters:
            self._characters = self._text.decode("latin-1")
        try:
            return _scan_value(self._characters, begin)[1]
        except RecursionError:
            raise ValueError("too deep") from None


def _match(pattern: re.Pattern[bytes], text: bytes, at: int) -> re.Match[bytes]:
    found = pattern.match(text, at)
    if found is None:
        raise ValueError(f"not JSON at byte {at}")
    return found


def _unescape(key: bytes) -> str:
    return key.decode() if b"\\" not in key else msgspec.json.decode(b'"' + key + b'"', type=str)
