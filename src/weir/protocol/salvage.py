"""Read what a stdio server wrote and the strict decoder refuses: NaN, lone surrogates, bad UTF-8, great depth.

Over HTTP such a reply needs no reading: it comes on the exchange it answers. On a pipe its id says whose
it is, and without one its caller would wait for ever. Slow, and used for nothing else.
"""

import json
from typing import Any

import msgspec

from weir.protocol.envelope import Kind, Message
from weir.protocol.shapes import Envelope, Error, Result


def salvage(body: bytes) -> Message | None:
    """The kind, id and method of a message that `peek` found opaque; None when it is no JSON at all.

    JSON that is no JSON-RPC message stays Kind.OPAQUE.
    """
    try:
        value = json.loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return Message(Kind.OPAQUE)
    envelope = Envelope()
    if "id" in value:
        envelope.id = _raw(value["id"])
    if isinstance(value.get("method"), str):
        envelope.method = value["method"]
        return Message(Kind.REQUEST if "id" in value else Kind.NOTIFICATION, envelope)
    if "error" in value:
        envelope.error = _error(value["error"])
    elif "result" in value:
        envelope.result = _result(value["result"])
    else:
        return Message(Kind.OPAQUE)
    return Message(Kind.RESPONSE, envelope)


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def _error(value: Any) -> Error:
    code = value.get("code") if isinstance(value, dict) else None
    return Error(code=code) if isinstance(code, int) else Error()


def _result(value: Any) -> Result:
    is_error = isinstance(value, dict) and value.get("isError") is True
    return Result(is_error=is_error)
