"""What a request asks, apart from whom it is from: two requests with equal questions may share an answer.

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


_decode_params = msgspec.json.Decoder(_Parametrized).decode


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
