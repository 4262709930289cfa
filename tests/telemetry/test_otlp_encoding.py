"""weir's own OTLP encoder says byte for byte (after parsing) what the SDK's says."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from weir.telemetry import otlp

INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES = st.text(max_size=200) | INT64 | st.floats(allow_nan=False) | st.booleans()
ATTRIBUTES = st.dictionaries(st.text(min_size=1, max_size=20), VALUES, max_size=6)
INSTANTS = st.integers(1, 2**63)
STATES = st.sampled_from([TraceState(), TraceState([("a", "1"), ("b", "x" * 200)])])
CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.just(TraceFlags(1)),
    STATES,
)
STATUSES = st.sampled_from(
    [Status(StatusCode.UNSET), Status(StatusCode.ERROR), Status(StatusCode.ERROR, "é" * 150), Status(StatusCode.OK)]
)
RESOURCE = Resource({"service.name": "weir", "service.version": "1", "n": 3})
SCOPE = InstrumentationScope("weir", "0.1", "https://schema.example")
SPANS = st.builds(
    ReadableSpan,
    st.text(max_size=200),
    CONTEXTS,
    st.none() | CONTEXTS,
    st.just(RESOURCE),
    ATTRIBUTES,
    st.lists(st.builds(Event, st.text(max_size=20), ATTRIBUTES, INSTANTS), max_size=2),
    st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=2),
    st.sampled_from(SpanKind),
    status=STATUSES,
    start_time=INSTANTS,
    end_time=INSTANTS,
    instrumentation_scope=st.just(SCOPE),
)


@given(st.lists(SPANS, min_size=1, max_size=3))
def test_the_request_equals_the_sdks(spans: list[ReadableSpan]) -> None:
    """Every field of every span, for whatever spans hold."""
    assert encode_spans(spans) == ExportTraceServiceRequest.FromString(otlp.encode(spans))


def test_no_spans_are_no_bytes() -> None:
    """An empty batch is an empty request."""
    assert b"" == otlp.encode([])


def test_equal_numbers_of_different_types_stay_different() -> None:
    """1, 1.0 and True are equal in Python and three types on the wire, however often they come."""
    for _ in range(2):
        for value in (1, True, 1.0, 0, False):
            context, attributes = SpanContext(1, 1, False), {"k": value}
            span = ReadableSpan("s", context, None, RESOURCE, attributes, instrumentation_scope=SCOPE)
            assert encode_spans([span]) == ExportTraceServiceRequest.FromString(otlp.encode([span]))
