"""Reading what servers wrote and the strict decoder refuses: NaN, lone surrogates, bad UTF-8, great depth.

Over HTTP such a reply needs no reading: it comes on the exchange it answers. On a pipe its id says whose
it is, and without one its caller would wait for ever. The text is made strict without moving a byte, so that the
decoder tells where its members stand; what they hold is read from the text as it came.
"""

import json
import re

from msgspec import UNSET, Raw

from weir.protocol import scan
from weir.protocol.decoding import any_of, decoded
from weir.protocol.envelope import Kind, Message
from weir.protocol.shapes import Envelope, Error, Result

NESTING_LIMIT = 200_000
"""Brackets and strings of a text that is too deep for the decoder; each costs a step. A longer one is not read."""

# deeper values are no messages' own members, which are at the second level at most
_DEPTH = 8
_NESTING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ID_LIMIT_BYTES = 64 * 1024
_ASCII = bytes(range(128)) + b"?" * 128
# each with another of its length; inside of strings they do no harm, as strings are read from the text as it came
_STRICT = ((b"NaN", b"0.0"), (b"Infinity", b"0.000000"), (b"\\ud", b"\\u0"), (b"\\uD", b"\\u0"))


def salvage(body: bytes) -> Message | None:
    """The kind, id and method of a message that `peek` found opaque; None when it is no JSON at all.

    JSON that is no JSON-RPC message stays Kind.OPAQUE.
    """
    text = body.removeprefix(_BYTE_ORDER_MARK).strip(b" \t\r\n")
    if text[:1] + text[-1:] != b"{}":
        return Message(Kind.OPAQUE) if _is_array(text) else None
    found = _members(text)
    if found is None:
        text = _shallow(text)
        found = _members(text)
    return None if found is None else _message(found)


def _members(text: bytes) -> dict[str, bytes] | None:
    """The members as they stand, the last of twins; None when that is no object, or too deep."""
    try:
        found = scan.members(_strict(text))
    except ValueError:
        return None
    return {member.key: text[member.start : member.end] for member in found}


def _strict(text: bytes) -> bytes:
    for loose, strict in _STRICT:
        text = text.replace(loose, strict)
    # keys are read as texts: bytes that are not ASCII need not be UTF-8, and no key that counts has one
    return text if text.isascii() else text.translate(_ASCII)


def _message(found: dict[str, bytes]) -> Message:
    envelope = Envelope()
    if "id" in found:
        envelope.id = Raw(_utf8(found["id"][:_ID_LIMIT_BYTES]))
    method = _string(found.get("method", b""))
    if method is not None:
        envelope.method = method
        return Message(Kind.REQUEST if "id" in found else Kind.NOTIFICATION, envelope)
    if "error" in found:
        envelope.error = _error(found["error"])
    if "result" in found:
        envelope.result = _result(found["result"])
    is_answer = "result" in found or (envelope.error is not UNSET and envelope.error.code is not None)
    return Message(Kind.RESPONSE if is_answer else Kind.OPAQUE, envelope)


def _shallow(text: bytes) -> bytes:
    """The text with null for everything deeper than what is read here, b"" when it is too long for that."""
    kept, depth, begin = list[bytes](), 0, 0
    for number, token in enumerate(_NESTING.finditer(text)):
        if number == NESTING_LIMIT:
            return b""
        if token[0] in b"[{":
            depth += 1
            if depth == _DEPTH:
                kept.append(text[begin : token.start()])
        elif token[0] in b"]}":
            if depth == _DEPTH:
                kept.append(b"null")
                begin = token.end()
            depth -= 1
    # what is not closed is no JSON, however much of it there is
    kept.append(text[begin:] if depth < _DEPTH else b"")
    return b"".join(kept)


def _is_array(text: bytes) -> bool:
    if text[:1] + text[-1:] != b"[]":
        return False
    return any(_members(b'{"a":%b}' % each) is not None for each in (text, _shallow(text)))


def _utf8(text: bytes) -> bytes:
    return text.decode("utf-8", "replace").encode()


def _string(raw: bytes) -> str | None:
    """The string that a JSON text is, with nothing in it that could not be written."""
    if raw[:1] != b'"':
        return None
    text = decoded(_loads, raw)
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else None


def _loads(raw: bytes | Raw) -> object:
    return json.loads(bytes(raw).decode("utf-8", "replace"), strict=False)


def _error(raw: bytes) -> Error:
    code = any_of((_members(raw) or {}).get("code", b"null"))
    return Error(code=code) if type(code) is int else Error()


def _result(raw: bytes) -> Result:
    return Result(is_error=(_members(raw) or {}).get("isError") == b"true")
