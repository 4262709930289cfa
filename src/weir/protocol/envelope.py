"""Peek at one JSON-RPC message: kind, id, method, name, `_meta`; the body stays the bytes received.

Never decode into a model and encode again: that loses unknown fields and number text. What is
read here is only what weir needs to route, count and trace a message; the sender's bytes are what
the other side gets.
"""

import enum
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from weir.protocol import scan

REVISION_KEY = "io.modelcontextprotocol/protocolVersion"
SUBSCRIPTION_KEY = "io.modelcontextprotocol/subscriptionId"


class Kind(enum.Enum):
    """What a body is. NONE has no body (GET, DELETE); OPAQUE is a body that cannot be peeked."""

    NONE = "none"
    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"
    BATCH = "batch"
    OPAQUE = "opaque"


class Meta(Struct, gc=False):
    """The members of `params._meta` (or of a notification's) that weir reads."""

    traceparent: str | UnsetType = UNSET
    tracestate: str | UnsetType = UNSET
    baggage: str | UnsetType = UNSET
    progress_token: Raw | UnsetType = msgspec.field(default=UNSET, name="progressToken")
    revision: str | UnsetType = msgspec.field(default=UNSET, name=REVISION_KEY)
    subscription_id: Raw | UnsetType = msgspec.field(default=UNSET, name=SUBSCRIPTION_KEY)


class Params(Struct, gc=False):
    """The members of `params` that weir reads."""

    name: str | UnsetType = UNSET
    uri: str | UnsetType = UNSET
    task_id: str | UnsetType = msgspec.field(default=UNSET, name="taskId")
    meta: Meta | UnsetType = msgspec.field(default=UNSET, name="_meta")
    request_id: Raw | UnsetType = msgspec.field(default=UNSET, name="requestId")
    progress_token: Raw | UnsetType = msgspec.field(default=UNSET, name="progressToken")
    protocol_version: str | UnsetType = msgspec.field(default=UNSET, name="protocolVersion")
    input_responses: Raw | UnsetType = msgspec.field(default=UNSET, name="inputResponses")
    request_state: Raw | UnsetType = msgspec.field(default=UNSET, name="requestState")


class Result(Struct, gc=False):
    """The members of `result` that weir reads."""

    is_error: bool = msgspec.field(default=False, name="isError")
    result_type: str = msgspec.field(default="", name="resultType")
    protocol_version: str = msgspec.field(default="", name="protocolVersion")
    meta: Meta | UnsetType = msgspec.field(default=UNSET, name="_meta")


class Error(Struct, gc=False):
    """The members of `error` that weir reads."""

    code: int = 0
    message: str = ""


class Envelope(Struct, gc=False):
    """One message, peeked. Absent members are empty: `id` is the id's raw JSON text, b"" when there is none."""

    id: Raw | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Params | UnsetType = UNSET
    result: Result | UnsetType = UNSET
    error: Error | UnsetType = UNSET


class Message:
    """What weir knows of one body. Cheap to make: everything here comes from a single pass over the bytes."""

    __slots__ = ("error", "id", "kind", "members", "meta", "method", "params", "result")

    def __init__(self, kind: Kind, envelope: Envelope | None = None) -> None:
        self.kind = kind
        self.id = b""
        self.method = ""
        self.params: Params | None = None
        self.meta: Meta | None = None
        self.result: Result | None = None
        self.error: Error | None = None
        self.members: tuple[Message, ...] = ()
        if envelope is not None:
            if envelope.id is not UNSET:
                self.id = bytes(envelope.id)
            self.method = envelope.method or ""
            self.params = envelope.params or None
            self.result = envelope.result or None
            self.error = envelope.error or None
            if self.params is not None:
                self.meta = self.params.meta or None

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
_decode_strict: Callable[[bytes], Envelope] = msgspec.json.Decoder(Envelope).decode


class _Loose(Struct, gc=False):
    id: Raw | UnsetType = UNSET
    method: Raw | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


_decode_loose: Callable[[bytes], _Loose] = msgspec.json.Decoder(_Loose).decode


def peek(body: bytes) -> Message:
    """Look at one body. Never raises: what cannot be read is Kind.OPAQUE and is relayed as it came."""
    try:
        envelope = _decode_strict(body)
    except msgspec.ValidationError:
        return _peek_surprising(body)
    except (msgspec.DecodeError, RecursionError):
        return Message(Kind.OPAQUE)
    return Message(_kind(envelope), envelope)


def _kind(envelope: Envelope) -> Kind:
    if envelope.method is not UNSET:
        return Kind.NOTIFICATION if envelope.id is UNSET else Kind.REQUEST
    if envelope.result is not UNSET or envelope.error is not UNSET:
        return Kind.RESPONSE
    return Kind.OPAQUE


def _peek_surprising(body: bytes) -> Message:
    """JSON whose members have other types than MCP gives them, or a batch: read what can be read."""
    if body.lstrip(b" \t\r\n")[:1] == b"[":
        return _peek_batch(body)
    try:
        loose = _decode_loose(body)
    except (msgspec.DecodeError, RecursionError):
        return Message(Kind.OPAQUE)
    envelope = Envelope(
        id=loose.id,
        method=_convert(loose.method, str, UNSET),
        params=_params(loose.params),
        result=_convert(loose.result, Result, Result() if loose.result is not UNSET else UNSET),
        error=_convert(loose.error, Error, Error() if loose.error is not UNSET else UNSET),
    )
    if loose.method is not UNSET and envelope.method is UNSET:
        return Message(Kind.OPAQUE)
    return Message(_kind(envelope), envelope)


def _params(raw: Raw | UnsetType) -> Params | UnsetType:
    """As much of `params` as has the expected types, member by member."""
    fields: dict[str, Raw] = _convert(raw, dict[str, Raw], {})
    if not fields:
        return UNSET
    params = Params()
    for field in msgspec.structs.fields(Params):
        value = fields.get(field.encode_name, UNSET)
        if field.name == "meta":
            params.meta = _meta(value)
        elif value is not UNSET:
            setattr(params, field.name, _convert(value, field.type, UNSET))
    return params


def _meta(raw: Raw | UnsetType) -> Meta | UnsetType:
    fields: dict[str, Raw] | None = _convert(raw, dict[str, Raw], None)
    if fields is None:
        return UNSET
    meta = Meta()
    for field in msgspec.structs.fields(Meta):
        if field.encode_name in fields:
            setattr(meta, field.name, _convert(fields[field.encode_name], field.type, UNSET))
    return meta


def _convert(raw: Raw | UnsetType, to: Any, otherwise: Any) -> Any:
    if raw is UNSET:
        return otherwise
    try:
        return msgspec.json.decode(raw, type=to)
    except (msgspec.DecodeError, RecursionError):
        return otherwise


def _peek_batch(body: bytes) -> Message:
    """A 2025-03-26 batch: every member is peeked by itself."""
    try:
        msgspec.json.decode(body, type=list[Raw])
        parts = [body[start:end] for start, end in scan.elements(body)]
    except (msgspec.DecodeError, RecursionError, ValueError):
        return Message(Kind.OPAQUE)
    if not parts:
        return Message(Kind.OPAQUE)
    batch = Message(Kind.BATCH)
    batch.members = tuple(peek(part) for part in parts)
    return batch


def is_ambiguous(body: bytes) -> bool:
    """True when a duplicate `id`, `method` or `params` lets two readers see two different messages."""
    try:
        keys = [_unescape(member.key) for member in scan.members(body)]
    except ValueError:
        return True
    return any(keys.count(key) > 1 for key in ("id", "method", "params"))


def _unescape(key: bytes) -> str:
    if b"\\" not in key:
        return key.decode("utf-8", "replace")
    try:
        return msgspec.json.decode(b'"' + key + b'"', type=str)
    except msgspec.DecodeError:
        return key.decode("utf-8", "replace")
