"""What a request asks, apart from whom it is from: two requests with equal questions may share an answer, if it is one.

Nothing is decoded and encoded again: the texts of the members are compared as they were received, so that
`1.0` and `1`, or two spellings of one string, are different questions.
"""

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from weir.protocol import scan
from weir.protocol.shapes import DEADLINE_KEY

_VARYING = frozenset({"traceparent", "tracestate", "baggage", "progressToken", DEADLINE_KEY})
"""Members of `_meta` that differ between two equal questions and change nothing about the answer."""


class _Parametrized(Struct, gc=False):
    params: Raw | UnsetType = UNSET


class _Typed(Struct, gc=False, frozen=True):
    result_type: str = msgspec.field(default="complete", name="resultType")


class _Answering(Struct, gc=False):
    result: _Typed = _Typed()


_decode_params = msgspec.json.Decoder(_Parametrized).decode
_decode_answering = msgspec.json.Decoder(_Answering).decode


def question(body: bytes) -> bytes | None:
    """The `params` of a request without trace context, progress token and the sender's deadline, in one text.

    Absent `params` and `params` that hold nothing else ask the same. None when that cannot be told for certain:
    the body is no JSON object, or has more members than are looked at.
    """
    try:
        found = _decode_params(body).params
        if found is UNSET:
            return b""
        params = bytes(found)
        if not params.startswith(b"{"):
            return params
        members = scan.members(params)
        return b"".join([_member(params, each) for each in members])
    except (ValueError, RecursionError):
        return None


def asks_for_task(body: bytes) -> bool:
    """Whether a request is to become a task of its sender's (MCP 2025-11-25, basic/utilities/tasks).

    A `params.task` in any letter case counts, because some decoders ignore case. A body that cannot be read asks for
    nothing that can be told; `envelope.is_ambiguous` says so of it.
    """
    try:
        _, params = scan.request(body)
    except ValueError:
        return False
    return any(each.key.casefold() == "task" for each in params or ())


def is_conclusive(body: bytes) -> bool:
    """Whether an answer ends the matter (MCP 2026-07-28, basic/index, `resultType`).

    One that asks for input, or names a task, begins a dialogue with whoever asked.
    """
    if b'"resultType"' not in body:
        return True
    try:
        return _decode_answering(body).result.result_type == "complete"
    except (ValueError, RecursionError):
        return False


def _member(params: bytes, member: scan.Member) -> bytes:
    value = params[member.start : member.end]
    if member.key == "_meta" and value.startswith(b"{"):
        rest = [
            _text(each.key, value[each.start : each.end]) for each in scan.members(value) if each.key not in _VARYING
        ]
        return _text(member.key, b"".join(rest)) if rest else b""
    return _text(member.key, value)


def _text(key: str, value: bytes) -> bytes:
    """Lengths in front, so that no value can pass for the next member."""
    name = key.encode()
    return b"%d:%d:%b%b" % (len(name), len(value), name, value)
