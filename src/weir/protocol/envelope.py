"""Peek at one JSON-RPC message: kind, id, method, name, `_meta`; the body stays the bytes received.

Never decode into a model and encode again: that loses unknown fields and number text. What is
read here is only what weir needs to route, count and trace a message; the sender's bytes are what
the other side gets.
"""

import enum
import re
from collections.abc import Callable

import msgspec
from msgspec import UNSET, Raw

from weir.protocol import lenient, scan
from weir.protocol.shapes import Envelope, Error, Loose, Meta, Params, Result

BATCH_LIMIT = 1000
"""Members of a batch that are looked at; a longer one is opaque. Each costs a peek, a span, a log line, a count."""

LITERAL_LIMIT_BYTES = 4096
"""Bodies up to this size are searched for names, which is quicker there; larger ones are scanned."""


class Kind(enum.Enum):
    """What a body is. NONE has no body (GET, DELETE); OPAQUE is a body that cannot be peeked."""

    NONE = "none"
    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"
    BATCH = "batch"
    OPAQUE = "opaque"


_ABSENT = Envelope()


class Message:
    """What weir knows of one body. Cheap to make: everything here comes from a single pass over the bytes.

    `id` is the id's raw JSON text (b"" when there is none), so that "7" and 7 stay different. `result`
    is there for every JSON value a result can be, `error` for every one but null.
    """

    __slots__ = ("error", "id", "kind", "members", "meta", "method", "params", "result")

    id: bytes
    method: str
    params: Params | None
    meta: Meta | None
    result: Result | None
    error: Error | None

    def __init__(self, kind: Kind, envelope: Envelope = _ABSENT, members: "tuple[Message, ...]" = ()) -> None:
        self.kind = kind
        self.members = members
        self.id = b"" if envelope.id is UNSET else bytes(envelope.id)
        self.method = envelope.method or ""
        params = self.params = envelope.params or None
        self.meta = None if params is None else params.meta or None
        self.result = envelope.result or None
        self.error = envelope.error or None

    @property
    def name(self) -> str:
        """The tool or prompt this request names, "" for other methods (a URI or task id is no name)."""
        if self.params is not None and self.method in ("tools/call", "prompts/get"):
            return self.params.name or ""
        return ""

    @property
    def revision(self) -> str:
        """The revision the message itself states in `_meta` (2026-07-28 and later), else ""."""
        return (self.meta.revision or "") if self.meta is not None else ""

    @property
    def progress_token(self) -> bytes:
        """Raw text of the progress token a request gives or a progress notification names, b"" if none."""
        if self.params is None:
            return b""
        if self.method == "notifications/progress":
            token = self.params.progress_token
        else:
            token = self.meta.progress_token if self.meta is not None else UNSET
        return bytes(token) if token is not UNSET else b""

    @property
    def request_id(self) -> bytes:
        """Raw id of the request that a `notifications/cancelled` names, b"" if none."""
        if self.params is None or self.params.request_id is UNSET:
            return b""
        return bytes(self.params.request_id)

    @property
    def subscription_id(self) -> bytes:
        """Raw subscription id in the `_meta` of a notification or a result (2026-07-28), b"" if none."""
        meta = self.result.meta if self.result is not None else self.meta
        if not meta or meta.subscription_id is UNSET:
            return b""
        return bytes(meta.subscription_id)

    @property
    def is_continuation(self) -> bool:
        """True for a leg of a multi-round-trip request, which must never be repeated or shared."""
        return self.params is not None and (
            self.params.input_responses is not UNSET or self.params.request_state is not UNSET
        )


NOTHING = Message(Kind.NONE)
OPAQUE = Message(Kind.OPAQUE)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for a text that it cannot decode."""

_decode_loose: Callable[[bytes], Loose] = msgspec.json.Decoder(Loose).decode
_decode: Callable[[bytes], Envelope] = msgspec.json.Decoder(Envelope).decode
_decode_array: Callable[[bytes], list[Raw]] = msgspec.json.Decoder(list[Raw]).decode


def peek(body: bytes) -> Message:
    """Look at one body. Never raises: what cannot be read is Kind.OPAQUE and is relayed as it came."""
    try:
        envelope = _decode(body)
    except msgspec.ValidationError:
        return _peek_surprising(body)
    except UNREADABLE:
        return OPAQUE
    return Message(_kind(envelope), envelope)


def _kind(envelope: Envelope) -> Kind:
    if envelope.method is not UNSET:
        return Kind.NOTIFICATION if envelope.id is UNSET else Kind.REQUEST
    if envelope.result is not UNSET or envelope.error is not UNSET:
        return Kind.RESPONSE
    return Kind.OPAQUE


def _peek_surprising(body: bytes) -> Message:
    """JSON whose members have other types than MCP gives them, or a batch: read what can be read."""
    try:
        if body.lstrip(b" \t\r\n").startswith(b"["):
            return _peek_batch(body)
        envelope = _read_surprising(_decode_loose(body))
    except UNREADABLE:
        return OPAQUE
    return Message(_kind(envelope), envelope)


def _read_surprising(loose: Loose) -> Envelope:
    """Any JSON value is a result; any but null is an error; a method that is no text makes it no message at all."""
    found = Envelope(id=loose.id)
    if loose.method is not UNSET:
        found.method = msgspec.json.decode(loose.method, type=str)
    if loose.params is not UNSET:
        found.params = lenient.read(Params, loose.params) or UNSET
    if loose.result is not UNSET:
        found.result = lenient.read(Result, loose.result) or Result()
    if loose.error is not UNSET and bytes(loose.error) != b"null":
        found.error = lenient.read(Error, loose.error) or Error()
    return found


def _peek_batch(body: bytes) -> Message:
    """A 2025-03-26 batch: every member is peeked by itself. An array in the array is no message."""
    parts = [bytes(raw) for raw in _decode_array(body)]
    if not 0 < len(parts) <= BATCH_LIMIT:
        return OPAQUE
    return Message(Kind.BATCH, members=tuple(OPAQUE if part.startswith(b"[") else peek(part) for part in parts))


_LETTER_ESCAPE = re.compile(rb"\\u00[4-7]")
_TOP_NAMES = ("id", "method", "params")
_PARAM_NAMES = ("_meta", "name", "taskId", "uri")
_LITERALS = tuple(b'"' + name.encode() + b'"' for name in (*_TOP_NAMES, *_PARAM_NAMES))


def has_escaped_letters(body: bytes) -> bool:
    """True when a member's name may be spelled with `\\u` escapes (those of `_`, letters and a few signs)."""
    # most bodies have no backslash, and looking for one byte costs next to nothing
    return b"\\" in body and b"\\u00" in body and _LETTER_ESCAPE.search(body) is not None


def is_ambiguous(body: bytes) -> bool:
    """True when a duplicate key lets two readers see two different messages, or when that cannot be told.

    Looked at are the keys that say what is to be done: `id`, `method`, `params`, and in `params` its `_meta`,
    `name`, `uri` and `taskId`. A batch is ambiguous when a member is.
    """
    if len(body) <= LITERAL_LIMIT_BYTES and body.startswith(b"{") and _has_no_name_twice(body):
        return False
    try:
        if body.lstrip(b" \t\r\n").startswith(b"["):
            return any(_is_ambiguous(body[start:end]) for start, end in scan.elements(body))
        return _is_ambiguous(body)
    except ValueError:
        return True


def _has_no_name_twice(body: bytes) -> bool:
    for name in _LITERALS:
        if body.count(name) > 1:
            return False
    return not has_escaped_letters(body)


def _is_ambiguous(body: bytes) -> bool:
    top, params = scan.request(body)
    return _has_twins(top, _TOP_NAMES) or _has_twins(params or [], _PARAM_NAMES)


def _has_twins(found: list[scan.Member], names: tuple[str, ...]) -> bool:
    keys = [member.key for member in found]
    return any(keys.count(name) > 1 for name in names)
