"""Peek at one JSON-RPC message: kind, id, method, name, `_meta`; the body stays the bytes received.

Never decode into a model and encode again: that loses unknown fields and number text. What is
read here is only what weir needs to route, count and trace a message; the sender's bytes are what
the other side gets.
"""

import enum
import re
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET, Raw

from weir.protocol import lenient, scan
from weir.protocol.decoding import FAILURES
from weir.protocol.shapes import BATCH_LIMIT as BATCH_LIMIT
from weir.protocol.shapes import Envelope, Error, Loose, Meta, Params, Result

LITERAL_LIMIT_BYTES: Final = 4096
"""Bodies up to this size are searched for names, which is quicker there; larger ones are scanned."""


class Kind(enum.Enum):
    """What a body is. NONE has no body (GET, DELETE); OPAQUE is a body that cannot be peeked."""

    NONE = "none"
    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"
    BATCH = "batch"
    OPAQUE = "opaque"


_ABSENT: Final = Envelope()


class Message:
    """What weir knows of one body. Cheap to make: everything here comes from a single pass over the bytes.

    `id` is the id's raw JSON text (b"" when there is none), so that "7" and 7 stay different. `result`
    is there for every JSON value a result can be, `error` for an object with an integer `code`.
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
        self.error = envelope.error if envelope.error is not UNSET and envelope.error.code is not None else None

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


NOTHING: Final = Message(Kind.NONE)
OPAQUE: Final = Message(Kind.OPAQUE)
OVERLONG_BATCH: Final = Message(Kind.OPAQUE)
"""A batch of more members than BATCH_LIMIT: nobody can say how many calls it is."""

_decode_loose: Final[Callable[[bytes], Loose]] = msgspec.json.Decoder(Loose).decode
_skip: Final[Callable[[bytes], Raw]] = msgspec.json.Decoder(Raw).decode
_decode: Final[Callable[[bytes], Envelope]] = msgspec.json.Decoder(Envelope).decode


def peek(body: bytes) -> Message:
    """Look at one body. Never raises: what cannot be read is Kind.OPAQUE and is relayed as it came."""
    try:
        envelope = _decode(body)
    except (msgspec.ValidationError, UnicodeDecodeError):
        return _peek_surprising(body)
    except FAILURES:
        return OPAQUE
    return Message(_kind(envelope), envelope)


def _kind(envelope: Envelope) -> Kind:
    if envelope.method is not UNSET:
        return Kind.NOTIFICATION if envelope.id is UNSET else Kind.REQUEST
    if envelope.result is not UNSET or (envelope.error is not UNSET and envelope.error.code is not None):
        return Kind.RESPONSE
    return Kind.OPAQUE


def _peek_surprising(body: bytes) -> Message:
    """JSON whose members have other types than MCP gives them, or bad UTF-8, or a batch: read what can be read."""
    try:
        if body.lstrip(b" \t\r\n").startswith(b"["):
            return _peek_batch(body)
        envelope = _read_surprising(_decode_loose(body))
    except FAILURES:
        return OPAQUE
    return Message(_kind(envelope), envelope)


def _read_surprising(loose: Loose) -> Envelope:
    """Any JSON value is a result, an object with a code an error; a method that is no text makes it no message."""
    found = Envelope(id=loose.id)
    if loose.method is not UNSET:
        found.method = msgspec.json.decode(loose.method, type=str)
    if loose.params is not UNSET:
        found.params = lenient.read_clean(Params, loose.params) or UNSET
    if loose.result is not UNSET:
        found.result = lenient.read(Result, loose.result) or Result()
    if loose.error is not UNSET and bytes(loose.error) != b"null":
        found.error = lenient.read(Error, loose.error) or Error()
    return found


def _peek_batch(body: bytes) -> Message:
    """A 2025-03-26 batch: every member is peeked by itself. An array in the array is no message."""
    try:
        parts = [bytes(raw) for raw in scan.values(body)]
    except ValueError:
        return OVERLONG_BATCH if _is_array(body) else OPAQUE
    if not parts:
        return OPAQUE
    return Message(Kind.BATCH, members=tuple(OPAQUE if part.startswith(b"[") else peek(part) for part in parts))


def _is_array(body: bytes) -> bool:
    """Whether a text is a whole JSON array, however long; its elements are stepped over."""
    try:
        _skip(body)
    except FAILURES:
        return False
    return True


_LETTER_ESCAPE: Final = re.compile(rb"\\u(?:00[4-7]|0130|0131|017[fF]|212[aA])")
_TOP_NAMES: Final = ("id", "method", "params")
_PARAM_NAMES: Final = (
    "_meta",
    "inputResponses",
    "name",
    "protocolVersion",
    "requestId",
    "requestState",
    "task",
    "taskId",
    "uri",
)
_LONGEST_NAME: Final = 32
# letters that are no ASCII and become one where case is folded, and so complete a name (ı, İ, ſ and the Kelvin sign)
_FOLDING: Final = (b"\xc4\xb0", b"\xc4\xb1", b"\xc5\xbf", b"\xe2\x84\xaa")


def _fold(name: str) -> str:
    """A name as readers see it that do not mind case.

    Some compare upper case, so that `ı` is `i`; for some `İ` is, which is `i` and a dot above where case is folded.
    """
    return name.upper().casefold().replace("\u0307", "")


_OF_TOP: Final = {_fold(name): name for name in _TOP_NAMES}
_OF_PARAMS: Final = {_fold(name): name for name in _PARAM_NAMES}
_LITERALS: Final = tuple(
    (b'"' + name.lower().encode() + b'"', b'"' + name.encode() + b'"') for name in (*_TOP_NAMES, *_PARAM_NAMES)
)


def has_escaped_letters(body: bytes) -> bool:
    """True when a member's name may be spelled with `\\u` escapes (those of `_`, letters and a few signs)."""
    # most bodies have no backslash, and looking for one byte costs next to nothing
    return b"\\" in body and b"\\u" in body and _LETTER_ESCAPE.search(body) is not None


def is_ambiguous(body: bytes) -> bool:
    """True when two readers can see two different messages in one body, or when that cannot be told.

    Readers differ in which of two equal keys they take, and in whether `Method` is `method` (Go's and many of Java's
    and C#'s decoders say yes). Looked at are the keys that say what is to be done: those of _TOP_NAMES, and in
    `params` those of _PARAM_NAMES. A batch is ambiguous when a member is.
    """
    if len(body) <= LITERAL_LIMIT_BYTES and body.startswith(b"{") and _is_plainly_named(body):
        return False
    try:
        if body.lstrip(b" \t\r\n").startswith(b"["):
            return any(_is_ambiguous(body[start:end]) for start, end in scan.elements(body))
        return _is_ambiguous(body)
    except ValueError:
        return True


def _is_plainly_named(body: bytes) -> bool:
    """True when a search of the bytes shows that each name stands there once at most, in its own spelling."""
    folded = body.lower()
    for folded_name, name in _LITERALS:
        at = folded.find(folded_name)
        if at >= 0 and (not body.startswith(name, at) or folded.find(folded_name, at + 1) >= 0):
            return False
    if not body.isascii() and any(letter in body for letter in _FOLDING):
        return False
    return not has_escaped_letters(body)


def _is_ambiguous(body: bytes) -> bool:
    top, params = scan.request(body)
    return _has_twins(top, _OF_TOP) or _has_twins(params or [], _OF_PARAMS)


def _has_twins(found: list[scan.Member], names: dict[str, str]) -> bool:
    """True when a name stands there twice, or in another spelling than its own. `names` by their folded form."""
    seen = set[str]()
    for member in found:
        key = member.key
        name = names.get(_fold(key)) if len(key) <= _LONGEST_NAME else None
        if name is None:
            continue
        if name != key or name in seen:
            return True
        seen.add(name)
    return False
