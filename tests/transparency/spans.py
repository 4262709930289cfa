"""Where things stand in a JSON text, so that two texts can be compared but for a few members. Written apart from
weir's own scanner, on Python's decoder: a proof must not lean on what it proves."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TRACE_KEYS = ("traceparent", "tracestate", "baggage")
DEADLINE_KEY = "io.github.mcp-weir/deadlineMs"
META_KEYS = (*TRACE_KEYS, DEADLINE_KEY)
"""The members of `params._meta` that weir may write."""
_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


@dataclass(frozen=True)
class Member:
    """One member of an object: its name, where its name begins, and where its value begins and ends."""

    name: str
    at: int
    value_at: int
    end: int


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def members(text: str, at: int = 0) -> Iterator[Member]:
    """The members of the object that begins there (text is latin-1: one character a byte)."""
    at = _skip(text, _skip(text, at) + 1)
    while text[at] != "}":
        name, name_end = _DECODER.raw_decode(text, at)
        value_at = _skip(text, _skip(text, name_end) + 1)
        end = _DECODER.raw_decode(text, value_at)[1]
        yield Member(name, at, value_at, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def find(text: str, path: Sequence[str]) -> Member | None:
    """The member at a path of names, None when the path does not exist or an object on it is none."""
    at, found = 0, None
    for name in path:
        at = _skip(text, at)
        if text[at : at + 1] != "{":
            return None
        found = next((one for one in members(text, at) if one.name == name), None)
        if found is None:
            return None
        at = found.value_at
    return found


def value(body: bytes, path: Sequence[str]) -> bytes | None:
    """The text of the value at a path."""
    text = body.decode("latin-1")
    found = find(text, path)
    return None if found is None else text[found.value_at : found.end].encode("latin-1")


def replace(body: bytes, path: Sequence[str], new: bytes) -> bytes:
    """The body with another value at a path that exists; otherwise as it was."""
    text = body.decode("latin-1")
    found = find(text, path)
    if found is None:
        return body
    return (text[: found.value_at] + new.decode("latin-1") + text[found.end :]).encode("latin-1")


def remove(body: bytes, path: Sequence[str]) -> bytes:
    """The body without the member at a path, and without the one comma that belongs to it; other bytes stay."""
    text = body.decode("latin-1")
    found = find(text, path)
    if found is None:
        return body
    after = _skip(text, found.end)
    if text[after] == ",":
        text = text[: found.at] + text[after + 1 :]
    else:
        before = text[: found.at].rstrip(_SPACE)
        text = (before[:-1] if before.endswith(",") else text[: found.at]) + text[found.end :]
    return text.encode("latin-1")


def elements(body: bytes) -> list[bytes]:
    """The members of a batch with what stands before each, and what stands after the last."""
    text = body.decode("latin-1")
    at, pieces = _skip(text, _skip(text, 0) + 1), []
    begin = 0
    while text[at] != "]":
        end = _DECODER.raw_decode(text, at)[1]
        pieces += [text[begin:at], text[at:end]]
        begin = _skip(text, end)
        at = _skip(text, begin + 1) if text[begin] == "," else begin
    return [piece.encode("latin-1") for piece in (*pieces, text[begin:])]


def without_meta(got: bytes, sent: bytes) -> bytes:
    """`got` without what weir may have added to `sent`: trace context, the deadline, and what it made for them."""
    if sent.lstrip().startswith(b"[") and got.lstrip().startswith(b"["):
        pairs = zip(elements(got), elements(sent), strict=True)
        return b"".join(_without_meta(theirs, ours) for theirs, ours in pairs)
    return _without_meta(got, sent)


def _without_meta(got: bytes, sent: bytes) -> bytes:
    for key in META_KEYS:
        got = remove(got, ("params", "_meta", key))
    if value(sent, ("params", "_meta")) is None and value(got, ("params", "_meta")) == b"{}":
        got = remove(got, ("params", "_meta"))
    if value(sent, ("params",)) is None and value(got, ("params",)) == b"{}":
        got = remove(got, ("params",))
    return got


def without_keys(sent: bytes) -> bytes:
    """`sent` without the like of its own, to compare with `without_meta`."""
    if sent.lstrip().startswith(b"["):
        return b"".join(map(_without_keys, elements(sent)))
    return _without_keys(sent)


def _without_keys(sent: bytes) -> bytes:
    for key in META_KEYS:
        sent = remove(sent, ("params", "_meta", key))
    return sent
