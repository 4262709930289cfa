"""Edit one member of a message in place; every other byte stays as it was received.

Small bodies are searched: when a name stands exactly once in the bytes and no name can be spelled with
escapes, then the place of the name is the place of the member that the decoder has seen. Anything less
plain, and large bodies, are scanned, which is exact. A member that two readers could find in two places
(duplicate keys) is left alone, and the caller is told.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET

from weir.protocol import scan
from weir.protocol.decoding import FAILURES
from weir.protocol.envelope import LITERAL_LIMIT_BYTES, Kind, Message, has_escaped_letters
from weir.protocol.shapes import DEADLINE_KEY, SUBSCRIPTION_KEY, Identified, Meta, Parametrized

_OBJECT: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*\{(?=[ \t\r\n]*(\})?)")
_PLAIN_VALUE: Final = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*("[^"\\]*"|-?[0-9]+)[ \t\r\n]*[,}]')
_PARAMS: Final = b'"params"'
_META: Final = b'"_meta"'
_ID: Final = b'"id"'
# the members of `_meta` that the decoder looks at, so that it is known whether they are there
_SEEN: Final = {
    b"traceparent": "traceparent",
    b"tracestate": "tracestate",
    b"baggage": "baggage",
    b"progressToken": "progress_token",
    SUBSCRIPTION_KEY.encode(): "subscription_id",
    DEADLINE_KEY.encode(): "deadline_ms",
}


_Splice = tuple[int, int, bytes]
"""New bytes for a range of the old ones (an empty range: an insertion)."""


_decode_id: Final = msgspec.json.Decoder(Identified).decode
_decode_params: Final = msgspec.json.Decoder(Parametrized).decode


def set_meta(body: bytes, message: Message, values: Mapping[bytes, bytes]) -> bytes | None:
    """`body` with members of `params._meta` set. Keys are plain names, values raw JSON text.

    `message` is what `peek` found in `body`. A value that is already there is replaced in place; others
    are put first in `_meta`. Missing `_meta` and `params` objects are added. Returns None where that
    cannot be done without guessing (no request or notification, positional or null params, a `_meta`
    that is no object, duplicate keys): such a message is relayed untouched.
    """
    if message.kind is not Kind.REQUEST and message.kind is not Kind.NOTIFICATION:
        return None
    if not values:
        return body
    edited = _search_meta(body, message, values) if len(body) <= LITERAL_LIMIT_BYTES else None
    return edited if edited is not None else _scan_meta(body, values)


def set_id(body: bytes, raw_id: bytes) -> bytes:
    """`body` with another top-level id (raw JSON text).

    Raises:
        ValueError: the message has no id, or more than one.
    """
    edited = _search_id(body, raw_id) if len(body) <= LITERAL_LIMIT_BYTES else None
    return edited if edited is not None else _replaced(body, scan.single(scan.members(body), "id"), raw_id)


def set_param(body: bytes, key: bytes, value: bytes) -> bytes:
    """`body` with one existing member of `params` replaced (raw JSON text).

    Raises:
        ValueError: there is not exactly one such member.
    """
    edited = _search_param(body, key, value) if len(body) <= LITERAL_LIMIT_BYTES else None
    if edited is not None:
        return edited
    _, params = scan.request(body)
    return _replaced(body, scan.single(params or [], key.decode()), value)


def set_result_meta(body: bytes, key: bytes, value: bytes) -> bytes:
    """`body` with one existing member of `result._meta` replaced (raw JSON text).

    Raises:
        ValueError: there is not exactly one such member.
    """
    found = scan.members(body)
    for name in ("result", "_meta"):
        outer = scan.single(found, name)
        found = scan.members(body, outer.start, outer.end)
    return _replaced(body, scan.single(found, key.decode()), value)


def set_elements(body: bytes, elements: Sequence[bytes]) -> bytes:
    """A batch with its elements replaced, each by the one at its place; what stands between them stays.

    Raises:
        ValueError: `body` is no array, or has another number of elements.
    """
    ranges = scan.elements(body)
    return _spliced(body, [(*place, text) for place, text in zip(ranges, elements, strict=True)])


def quote(text: str) -> bytes:
    """`text` as raw JSON text."""
    return msgspec.json.encode(text)


def _spliced(body: bytes, splices: list[_Splice]) -> bytes:
    """All changes in one copy: views of a large body cost nothing, slices would copy it once more."""
    splices.sort()
    view, parts, at = memoryview(body), list[bytes | memoryview](), 0
    for start, end, text in splices:
        parts += (view[at:start], text)
        at = end
    parts.append(view[at:])
    return b"".join(parts)


def _replaced(body: bytes, member: scan.Member, value: bytes) -> bytes:
    return _spliced(body, [(member.start, member.end, value)])


def _members_text(values: Mapping[bytes, bytes]) -> bytes:
    return b",".join([b'"%b":%b' % item for item in values.items()])


def _search_meta(body: bytes, message: Message, values: Mapping[bytes, bytes]) -> bytes | None:
    """`body` with the members set; None when a search of the bytes cannot tell their places."""
    if message.params is None or body.count(_PARAMS) != 1 or (b"\\" in body and has_escaped_letters(body)):
        return None
    if message.meta is None:
        members = b'"_meta":{%b}' % _members_text(values)
        return _put_first(body, body.find(_PARAMS) + len(_PARAMS), members) if _META not in body else None
    meta = body.find(_META) + len(_META)
    if body.find(_META, meta) >= 0:
        return None
    return _search_members(body, meta, message.meta, values)


def _search_members(body: bytes, start: int, meta: Meta, values: Mapping[bytes, bytes]) -> bytes | None:
    """The same once `_meta` is found: its name ends at `start`, and what the decoder saw in it is `meta`."""
    text, missing = body, {}
    for key, value in values.items():
        if key not in _SEEN or (not key.isalpha() and b"\\" in body):
            # its dots and slashes may be spelled with escapes, which were not looked for
            return None
        name = b'"%b"' % key
        at = text.find(name, start)
        if at < 0:
            missing[key] = value
            continue
        edited = _put_value(text, at, name, value) if getattr(meta, _SEEN[key]) is not UNSET else None
        if edited is None:
            return None
        text = edited
    return _put_first(text, start, _members_text(missing)) if missing else text


def _put_value(text: bytes, at: int, name: bytes, value: bytes) -> bytes | None:
    """`text` with another value for the member whose name is at `at`.

    None when the name comes again after it, or when the old value is neither a plain string nor an integer.
    """
    end = at + len(name)
    found = _PLAIN_VALUE.match(text, end) if text.find(name, end) < 0 else None
    if found is None:
        return None
    start, end = found.span(1)
    return b"".join((text[:start], value, text[end:]))


def _put_first(text: bytes, name_end: int, members: bytes) -> bytes | None:
    """`text` with more members at the beginning of the object whose name ends there."""
    found = _OBJECT.match(text, name_end)
    if found is None:
        return None
    at = found.end()
    return b"".join((text[:at], members, b"" if found[1] else b",", text[at:]))


def _search_id(body: bytes, raw_id: bytes) -> bytes | None:
    at = body.find(_ID)
    try:
        if at < 0 or has_escaped_letters(body) or _decode_id(body).id is UNSET:
            return None
    except FAILURES:
        return None
    return _put_value(body, at, _ID, raw_id)


def _search_param(body: bytes, key: bytes, value: bytes) -> bytes | None:
    name = b'"%b"' % key
    at = body.find(name)
    if at < 0 or b"\\" in body or body.count(_PARAMS) != 1:
        return None
    try:
        params = _decode_params(body).params
    except FAILURES:
        return None
    return _put_value(body, at, name, value) if params is not UNSET and key.decode() in params else None


def _scan_meta(body: bytes, values: Mapping[bytes, bytes]) -> bytes | None:
    """`body` with the members set; None when that cannot be done without guessing."""
    try:
        top, params = scan.request(body)
        if not _has(top, scan.PARAMS):
            return _spliced(body, [_first(body, 0, top, b'"params":{"_meta":{%b}}' % _members_text(values))])
        outer = scan.single(top, scan.PARAMS)
        if params is None:
            return None
        if not _has(params, "_meta"):
            return _spliced(body, [_first(body, outer.start, params, b'"_meta":{%b}' % _members_text(values))])
        return _spliced(body, _scan_members(body, scan.single(params, "_meta"), values))
    except ValueError:
        return None


def _scan_members(body: bytes, meta: scan.Member, values: Mapping[bytes, bytes]) -> list[_Splice]:
    found = scan.members(body, meta.start, meta.end)
    splices: list[_Splice] = []
    missing = {}
    for key, value in values.items():
        name = key.decode()
        if _has(found, name):
            member = scan.single(found, name)
            splices.append((member.start, member.end, value))
        else:
            missing[key] = value
    if missing:
        splices.append(_first(body, meta.start, found, _members_text(missing)))
    return splices


def _first(body: bytes, start: int, members: list[scan.Member], text: bytes) -> _Splice:
    """`text` put first in the object that opens at or after `start` and has these members."""
    at = body.index(b"{", start) + 1
    return at, at, text + b"," if members else text


def _has(members: list[scan.Member], key: str) -> bool:
    return any(member.key == key for member in members)
