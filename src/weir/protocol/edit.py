"""Edit one member of a message in place; every other byte stays as it was received.

Each edit first looks for the member's name in the bytes. When the name occurs exactly once and the
message has no escaped characters, that occurrence is the member (the decoder has already seen it at
its place). Otherwise the exact scanner decides. A member that two readers could understand in two
ways (duplicate keys) is left alone, and the caller is told.
"""

import re
from collections.abc import Mapping

import msgspec

from weir.protocol import scan
from weir.protocol.envelope import Message, Meta

_OBJECT_AT = re.compile(rb"\s*:\s*\{")
_STRING_AT = re.compile(rb'\s*:\s*"([^"\\]*)"')
_ESCAPE = b"\\u"


def set_meta(body: bytes, message: Message, values: Mapping[bytes, bytes]) -> bytes | None:
    """`body` with members of `params._meta` set. Keys are plain names, values raw JSON text.

    A value that is already there is replaced in place; others are put first in `_meta`. Missing
    `_meta` and `params` objects are added. Returns None where that cannot be done without guessing
    (positional params, duplicate keys): such a message is relayed untouched.
    """
    text, missing = body, []
    for key, value in values.items():
        edited = _replace_meta_member(text, message, key, value)
        if edited is None:
            missing.append(b'"' + key + b'":' + value)
        else:
            text = edited
    if not missing:
        return text
    return _insert_meta(text, message, b",".join(missing))


def set_id(body: bytes, raw_id: bytes) -> bytes:
    """`body` with another top-level id (raw JSON text).

    Raises:
        ValueError: the message has no id, or more than one.
    """
    return _replace_member(body, b"id", raw_id)


def set_param(body: bytes, key: bytes, value: bytes) -> bytes:
    """`body` with one existing member of `params` replaced (raw JSON text).

    Raises:
        ValueError: there is not exactly one such member.
    """
    params = _only(scan.members(body), b"params")
    member = _only(scan.members(body, params.start), key)
    return body[: member.start] + value + body[member.end :]


def set_result_meta(body: bytes, key: bytes, value: bytes) -> bytes:
    """`body` with one existing member of `result._meta` replaced (raw JSON text).

    Raises:
        ValueError: there is not exactly one such member.
    """
    result = _only(scan.members(body), b"result")
    meta = _only(scan.members(body, result.start), b"_meta")
    member = _only(scan.members(body, meta.start), key)
    return body[: member.start] + value + body[member.end :]


def quote(text: str) -> bytes:
    """`text` as raw JSON text."""
    return msgspec.json.encode(text)


def _replace_member(body: bytes, key: bytes, value: bytes) -> bytes:
    member = _only(scan.members(body), key)
    return body[: member.start] + value + body[member.end :]


def _replace_meta_member(body: bytes, message: Message, key: bytes, value: bytes) -> bytes | None:
    """`body` with an existing member of `_meta` replaced, or None when it has no such member."""
    if message.meta is None:
        return None
    name = b'"' + key + b'"'
    first = body.find(name)
    if first < 0 and _ESCAPE not in body:
        return None
    found = _unique_text(body, message.meta, key, first)
    if found is not None:
        return body[: found.start(1) - 1] + value + body[found.end() :]
    try:
        params = _only(scan.members(body), b"params")
        meta = _only(scan.members(body, params.start), b"_meta")
        member = _only(scan.members(body, meta.start), key)
    except ValueError:
        return None
    return body[: member.start] + value + body[member.end :]


def _unique_text(body: bytes, meta: Meta, key: bytes, at: int) -> re.Match[bytes] | None:
    """The text that the decoder saw as `_meta`'s member `key`, when its name at `at` is the only one in the bytes."""
    seen = getattr(meta, key.decode(), None)
    name_length = len(key) + 2
    if not isinstance(seen, str) or at < 0 or body.find(b'"' + key + b'"', at + name_length) >= 0:
        return None
    if _unique_object(body, b"_meta") is None:
        return None
    found = _STRING_AT.match(body, at + name_length)
    return found if found is not None and found[1] == seen.encode() else None


def _insert_meta(body: bytes, message: Message, text: bytes) -> bytes | None:
    if message.meta is not None:
        return _insert_into(body, b"_meta", text, inside_params=True)
    if message.params is not None:
        return _insert_into(body, b"params", b'"_meta":{' + text + b"}", inside_params=False)
    return _insert_params(body, text)


def _insert_into(body: bytes, key: bytes, text: bytes, *, inside_params: bool) -> bytes | None:
    """Put `text` first in the object that is the value of `key`."""
    brace = _unique_object(body, key)
    if brace is None:
        try:
            outer = _only(scan.members(body), b"params").start if inside_params else 0
            brace = _only(scan.members(body, outer), key).start
        except ValueError:
            return None
        if body[brace : brace + 1] != b"{":
            return None
    comma = b"" if _is_empty_object(body, brace) else b","
    return body[: brace + 1] + text + comma + body[brace + 1 :]


def _insert_params(body: bytes, text: bytes) -> bytes | None:
    """The message has no object `params`: add one, unless it has something else there."""
    try:
        top = scan.members(body)
    except ValueError:
        return None
    if any(member.key == b"params" or b"\\" in member.key for member in top):
        return _fill_empty_params(body, top, text)
    brace = body.index(b"{")
    return body[: brace + 1] + b'"params":{"_meta":{' + text + b"}}," + body[brace + 1 :]


def _fill_empty_params(body: bytes, top: list[scan.Member], text: bytes) -> bytes | None:
    try:
        params = _only(top, b"params")
        inner = scan.members(body, params.start)
    except ValueError:
        return None
    if any(member.key == b"_meta" for member in inner):
        return None
    comma = b"," if inner else b""
    at = params.start + 1
    return body[:at] + b'"_meta":{' + text + b"}" + comma + body[at:]


def _unique_object(body: bytes, key: bytes) -> int | None:
    """Where the object value of `key` opens, when the bytes leave no doubt; else None."""
    name = b'"' + key + b'"'
    at = body.find(name)
    if at < 0 or body.find(name, at + 1) >= 0 or _ESCAPE in body:
        return None
    found = _OBJECT_AT.match(body, at + len(name))
    return found.end() - 1 if found else None


def _is_empty_object(body: bytes, brace: int) -> bool:
    at = brace + 1
    while body[at] in b" \t\r\n":
        at += 1
    return body[at] == 0x7D


def _only(found: list[scan.Member], key: bytes) -> scan.Member:
    matching = [member for member in found if member.key == key]
    if len(matching) != 1 or any(b"\\" in member.key for member in found):
        raise ValueError(f"not exactly one member {key.decode()!r}")
    return matching[0]
