"""Read what a stdio server wrote and the strict decoder refuses: NaN, lone surrogates, bad UTF-8, great depth.

Over HTTP such a reply needs no reading: it comes on the exchange it answers. On a pipe its id says whose
it is, and without one its caller would wait for ever. Slow, and used for nothing else.
"""

import json
import re
from typing import Any

import msgspec

from weir.protocol.envelope import Kind, Message
from weir.protocol.shapes import Envelope, Error, Result

# a message's own members are at the second level at most
_DEPTH = 8
_NESTING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def salvage(body: bytes) -> Message | None:
    """The kind, id and method of a message that `peek` found opaque; None when it is no JSON at all.

    JSON that is no JSON-RPC message stays Kind.OPAQUE.
    """
    text = body.decode("utf-8-sig", "replace")
    try:
        value = _loads(text)
    except ValueError:
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


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        return json.loads(_shallow(text))


def _shallow(text: str) -> str:
    """The text with null for everything deeper than what is read here."""
    kept, depth, begin = list[str](), 0, 0
    for token in _NESTING.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == _DEPTH:
                kept.append(text[begin : token.start()])
        elif token[0] in "]}":
            if depth == _DEPTH:
                kept.append("null")
                begin = token.end()
            depth -= 1
    # what is not closed is no JSON, however much of it there is
    kept.append(text[begin:] if depth < _DEPTH else "")
    return "".join(kept)


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def _error(value: Any) -> Error:
    code = value.get("code") if isinstance(value, dict) else None
    return Error(code=code) if isinstance(code, int) else Error()


def _result(value: Any) -> Result:
    is_error = isinstance(value, dict) and value.get("isError") is True
    return Result(is_error=is_error)
