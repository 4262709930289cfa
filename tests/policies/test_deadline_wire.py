"""What deadlines say on the wire: read from the caller, told to the server, and nothing else changed."""

import math
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.policed import attempt_of, body_of, call_with
from weir.core.call import Headers
from weir.policies.deadline_wire import (
    DEADLINE_HEADER,
    LONGEST_DEADLINE_MS,
    caller_waits_seconds,
    special_headers,
    tell_upstream,
)
from weir.protocol.envelope import peek
from weir.protocol.shapes import DEADLINE_KEY
from weir.protocol.tracecontext import TraceContext

TRACE = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
PLAIN: Headers = [(b"content-type", b"application/json"), (b"x-team", b"blue")]


def asked(meta: dict[str, Any] | None = None, **params: Any) -> bytes:
    """A tools/call with these members of `_meta`."""
    if meta is not None:
        params["_meta"] = meta
    return body_of("tools/call", {"name": "add", **params})


def waits(body: bytes, headers: Headers | None = None) -> float:
    """How long the caller says that it waits."""
    return caller_waits_seconds(peek(body), special_headers(headers or []))


def told(
    body: bytes, headers: Headers = PLAIN, left: float = 30.0, trace: TraceContext | None = None
) -> tuple[Any, Any]:
    """Body (decoded) and headers as they go upstream."""
    attempt = attempt_of(call_with(body, headers=headers))
    attempt.trace = trace
    if trace is not None:
        at = body.index(b'"name"')
        # as tracing does it: first in `params`, in a `_meta` of its own
        attempt.body = body[:at] + b'"_meta":{"traceparent":"%b"},' % trace.traceparent.encode() + body[at:]
    tell_upstream(attempt, special_headers(headers), left)
    return msgspec.json.decode(attempt.body), attempt.headers


def test_the_key_is_one_that_a_vendor_may_use() -> None:
    """MCP 2026-07-28, basic/index, `_meta`: labels, a slash, a name; the second label is not MCP's."""
    prefix, _, name = DEADLINE_KEY.partition("/")
    labels = prefix.split(".")
    assert all(re.fullmatch(r"[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?", label) for label in labels)
    assert labels[1] not in ("mcp", "modelcontextprotocol")
    assert re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", name)


def test_the_caller_tells_in_meta_or_in_a_header_and_the_shorter_one_holds() -> None:
    """A weir in front writes both; a client may know one of them."""
    assert math.inf == waits(asked())
    assert 2.5 == waits(asked({DEADLINE_KEY: 2500}))
    assert 0.75 == waits(asked(), [(DEADLINE_HEADER, b"750")])
    assert 0.75 == waits(asked({DEADLINE_KEY: 2500}), [(DEADLINE_HEADER, b"750")])
    assert 0.0 == waits(asked({DEADLINE_KEY: 0}))
    assert LONGEST_DEADLINE_MS / 1000 == waits(asked({DEADLINE_KEY: LONGEST_DEADLINE_MS}))
    assert 0.005 == waits(asked(), [(DEADLINE_HEADER, b"0000000000000005")])


@pytest.mark.parametrize("odd", [-1, 1.5, "500", None, True, [], {}, 10**17, LONGEST_DEADLINE_MS + 1])
def test_what_cannot_be_read_says_nothing(odd: Any) -> None:
    """A caller's mistake must not end its call."""
    assert math.inf == waits(asked({DEADLINE_KEY: odd}))


@pytest.mark.parametrize(
    "odd", [b"", b"-1", b"1.5", b"1e3", b"+5", b" 5", b"5 ", b"\xb2", b"9" * 5000, b"0x10", b"1_0"]
)
def test_a_header_that_cannot_be_read_says_nothing(odd: bytes) -> None:
    """Neither a sign nor a space, and no number that takes minutes to read."""
    assert math.inf == waits(asked(), [(DEADLINE_HEADER, odd)])


@given(st.binary())
def test_no_header_makes_reading_fail(value: bytes) -> None:
    """It is a peer's text."""
    assert 0.0 <= waits(asked(), [(DEADLINE_HEADER, value)])


def test_the_rest_is_told_in_meta_and_header() -> None:
    """In milliseconds."""
    body, headers = told(asked(), left=12.3456)
    assert 12345 == body["params"]["_meta"][DEADLINE_KEY]
    assert [*PLAIN, (DEADLINE_HEADER, b"12345")] == headers


def test_what_was_told_to_weir_is_replaced() -> None:
    """By what is left of it now."""
    body, headers = told(asked({DEADLINE_KEY: 9999, "k": 1}), [(DEADLINE_HEADER, b"9999"), *PLAIN], 3.0)
    assert {DEADLINE_KEY: 3000, "k": 1} == body["params"]["_meta"]
    assert [*PLAIN, (DEADLINE_HEADER, b"3000")] == headers


def test_less_than_a_millisecond_is_told_as_one() -> None:
    """0 would say that nobody waits any more."""
    assert 1 == told(asked(), left=0.0001)[0]["params"]["_meta"][DEADLINE_KEY]


def test_it_stands_beside_the_trace_context() -> None:
    """Found by the attempt's own span id, which costs less than reading the body again."""
    body, _ = told(asked(), trace=TRACE)
    assert {DEADLINE_KEY: 30000, "traceparent": TRACE.traceparent} == body["params"]["_meta"]


def test_a_context_that_was_put_beside_other_members_is_found_there() -> None:
    """The key stands directly before it; nothing else moves."""
    raw = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"k":1%b},"name":"add"}}'
    attempt = attempt_of(call_with(raw % b""))
    attempt.trace, attempt.body = TRACE, raw % b',"traceparent":"%b"' % TRACE.traceparent.encode()
    tell_upstream(attempt, [], 30.0)
    assert raw % b',"%b":30000,"traceparent":"%b"' % (DEADLINE_KEY.encode(), TRACE.traceparent.encode()) == attempt.body


def test_a_span_id_in_the_arguments_is_not_the_one_of_meta() -> None:
    """The caller cannot know the attempt's; should it stand there all the same, it is no traceparent."""
    raw = body_of("tools/call", {"arguments": {"id": TRACE.span_id}, "name": "add"})
    attempt = attempt_of(call_with(raw, headers=PLAIN))
    attempt.trace = TRACE
    tell_upstream(attempt, [], 30.0)
    found = msgspec.json.decode(attempt.body)
    assert {"arguments": {"id": TRACE.span_id}, "name": "add", "_meta": {DEADLINE_KEY: 30000}} == found["params"]


@pytest.mark.parametrize("seal", [b"signature", b"content-digest", b"content-encoding"])
def test_a_sealed_body_stays_as_it_is(seal: bytes) -> None:
    """The header tells it."""
    body, headers = told(asked(), [*PLAIN, (seal, b"x")])
    assert msgspec.json.decode(asked()) == body
    assert (DEADLINE_HEADER, b"30000") in headers


def test_a_body_that_two_readers_read_differently_stays_as_it_is() -> None:
    """Duplicate keys: nobody knows which `params` the server sees."""
    raw = b'{"jsonrpc":"2.0","id":1,"method":"x","params":{},"params":{}}'
    attempt = attempt_of(call_with(raw))
    tell_upstream(attempt, [], 30.0)
    assert raw == attempt.body


def test_the_call_keeps_what_came() -> None:
    """The next attempt starts from it."""
    call = call_with(asked(), headers=PLAIN)
    attempt = attempt_of(call)
    tell_upstream(attempt, [], 30.0)
    assert asked() == call.body
    assert [(b"content-type", b"application/json"), (b"x-team", b"blue")] == call.headers


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=8) | st.none(), max_size=4),
    st.none() | st.dictionaries(st.sampled_from(["a", "progressToken", "b/c"]), st.integers(0, 9), max_size=3),
    st.floats(0.001, 1e6),
)
def test_only_the_key_is_added(arguments: dict[str, Any], meta: dict[str, Any] | None, left: float) -> None:
    """Everything else in the message reads as it did."""
    before = asked(meta, arguments=arguments)
    body, _ = told(before, left=left)
    assert int(left * 1000) == body["params"]["_meta"].pop(DEADLINE_KEY)
    if meta is None:
        del body["params"]["_meta"]
    assert msgspec.json.decode(before) == body
