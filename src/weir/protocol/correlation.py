"""When two ids are the same, two progress tokens are the same, and a message is the answer to a request."""

from typing import Final

from weir.protocol.decoding import any_of
from weir.protocol.envelope import Kind, Message

NO_ID: Final = (b"", b"null")
"""A message without an id, and an error whose sender read none."""


def key_of(raw: bytes) -> bytes:
    """Returns one key for all spellings of an id or a progress token, given as JSON text.

    7, 7.0 and "7" have one key: some servers do not keep their types apart, and clients take each for the others.
    """
    if raw.isdigit():
        return raw
    if raw[:1] == b'"' and b"\\" not in raw:
        return raw[1:-1]
    value = any_of(raw)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if type(value) is int or (isinstance(value, float) and value.is_integer()):
        return b"%d" % value
    # not an id, which must not meet the text that reads like it
    return b"\0" + raw


def typed_key_of(raw: bytes) -> bytes:
    """Returns one key for all spellings of an id in its own JSON type: 7 and 7.0, but not "7".

    For what a client says of its own requests: it may use both, and knows which one it means (JSON-RPC 2.0, section 4).
    """
    key = key_of(raw)
    return b'"' + key if raw[:1] == b'"' else key


def is_same(one: bytes, other: bytes) -> bool:
    """Whether two ids, or two progress tokens, are the same. Equal texts are the common case."""
    return one == other or key_of(one) == key_of(other)


def answers(message: Message, raw_id: bytes) -> bool:
    """Whether a message is the response to the request with this id: the same id, or none on an error."""
    if message.kind is not Kind.RESPONSE:
        return False
    if message.id in NO_ID:
        return message.error is not None
    return is_same(message.id, raw_id)
