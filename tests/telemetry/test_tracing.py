"""Where a call stands in a trace, and what the next hop is told, case by case."""

import json
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.watched import call_of, tool_call
from weir.core.call import Attempt, Call, Headers
from weir.core.events import Ask
from weir.protocol.envelope import peek
from weir.protocol.tracecontext import TraceContext, parse
from weir.telemetry import batch
from weir.telemetry.settings import TracesSettings
from weir.telemetry.tracing import CARRIED_LIMIT_BYTES, Tracing

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OTHER_TRACE, OTHER_SPAN = "1bf7651916cd43dd8448eb211c80319c", "c7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{SPAN}-00"
OTHER = f"00-{OTHER_TRACE}-{OTHER_SPAN}-01"


def tracing(enabled: bool = True, **settings: Any) -> Tracing:
    return Tracing(TracesSettings(**settings), random.Random(1).getrandbits, enabled=enabled)


def meta_of(traceparent: str, **more: str) -> str:
    return msgspec.json.encode({"traceparent": traceparent, **more}).decode()[1:-1]


def http_of(traceparent: str, **more: str) -> Headers:
    return [(name.encode(), value.encode()) for name, value in {"traceparent": traceparent, **more}.items()]


def begun(meta: str = "", headers: Headers | None = None, **settings: Any) -> Attempt:
    """The first attempt of a tools/call that came with this context."""
    giver = tracing(**settings)
    call = call_of(tool_call(meta=meta), headers)
    giver.begin(call)
    attempt = Attempt(call, 1, 0.0)
    giver.begin_attempt(attempt)
    return attempt


def trace_of(attempt: Attempt) -> TraceContext:
    assert attempt.trace is not None
    return attempt.trace


def meta_sent(attempt: Attempt) -> dict[str, Any]:
    """What `_meta` holds on the way upstream."""
    found: dict[str, Any] = msgspec.json.decode(attempt.body)["params"].get("_meta", {})
    return found


def test_the_context_in_meta_is_the_parent() -> None:
    """`_meta` only."""
    attempt = begun(meta_of(PARENT))
    assert parse(PARENT) == attempt.call.parent
    assert attempt.call.link is None
    assert attempt.call.trace is not None
    assert (TRACE, True) == (attempt.call.trace.trace_id, attempt.call.trace.is_sampled)
    assert attempt.call.trace.span_id not in (SPAN, trace_of(attempt).span_id)
    assert {"traceparent": trace_of(attempt).traceparent} == meta_sent(attempt)


def test_the_context_in_the_http_headers_is_the_parent_when_meta_has_none() -> None:
    """HTTP only: it is carried on in both carriers."""
    attempt = begun(headers=http_of(PARENT))
    assert parse(PARENT) == attempt.call.parent
    assert TRACE == trace_of(attempt).trace_id
    assert {"traceparent": trace_of(attempt).traceparent} == meta_sent(attempt)


def test_two_contexts_that_agree_give_one_parent_and_no_link() -> None:
    """The same span named twice is one span."""
    attempt = begun(meta_of(PARENT), http_of(PARENT))
    assert (parse(PARENT), None) == (attempt.call.parent, attempt.call.link)


@pytest.mark.parametrize("ambient", [OTHER, f"00-{TRACE}-{OTHER_SPAN}-01"])
def test_of_two_contexts_that_differ_meta_is_the_parent_and_the_other_is_linked(ambient: str) -> None:
    """Another trace, or another span of the same one."""
    attempt = begun(meta_of(PARENT), http_of(ambient))
    assert (parse(PARENT), parse(ambient)) == (attempt.call.parent, attempt.call.link)
    assert TRACE == trace_of(attempt).trace_id


def test_without_any_context_a_trace_begins() -> None:
    """Neither: a root, sampled by default, and the next hop is told."""
    attempt = begun()
    assert attempt.call.parent is None
    assert attempt.call.trace is not None
    assert attempt.call.trace.trace_id == trace_of(attempt).trace_id
    assert trace_of(attempt).is_sampled
    assert {"traceparent": trace_of(attempt).traceparent} == meta_sent(attempt)


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"{PARENT}\n",
    ],
)
def test_a_malformed_context_is_an_absent_one(malformed: str) -> None:
    """In either carrier: the other decides, and a malformed one is replaced on the way out."""
    attempt = begun(meta_of(malformed), http_of(OTHER))
    assert (parse(OTHER), None) == (attempt.call.parent, attempt.call.link)
    assert trace_of(attempt).traceparent == meta_sent(attempt)["traceparent"]
    headers = [(b"traceparent", malformed.encode())]
    assert parse(PARENT) == begun(meta_of(PARENT), headers).call.parent
    assert begun(headers=headers).call.parent is None


def test_a_traceparent_of_another_json_type_is_replaced() -> None:
    """A number is no context, and the edit still finds its place."""
    attempt = begun('"traceparent":5,"keep":1.0')
    assert attempt.call.parent is None
    assert b'"keep":1.0' in attempt.body
    assert trace_of(attempt).traceparent == meta_sent(attempt)["traceparent"]


def test_two_traceparent_headers_are_malformed() -> None:
    """W3C: a header that comes twice cannot be trusted."""
    assert begun(headers=[*http_of(PARENT), *http_of(OTHER)]).call.parent is None


def test_an_unsampled_context_is_carried_on_unsampled() -> None:
    """The caller's decision holds, and the next hop gets weir's span all the same."""
    attempt = begun(meta_of(UNSAMPLED))
    assert not trace_of(attempt).is_sampled
    assert f"00-{TRACE}-{trace_of(attempt).span_id}-00" == meta_sent(attempt)["traceparent"]
    assert trace_of(attempt).span_id != SPAN


@pytest.mark.parametrize(("ratio", "share"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_roots_are_sampled_in_the_asked_share(ratio: float, share: float) -> None:
    """By trace id, so that every hop would decide alike."""
    giver = tracing(sample_ratio=ratio)
    sampled = 0
    for _ in range(2000):
        call = call_of(tool_call())
        giver.begin(call)
        sampled += call.trace is not None and call.trace.is_sampled
    assert share == pytest.approx(sampled / 2000, abs=0.04)


def test_tracestate_and_baggage_of_meta_survive_byte_for_byte() -> None:
    """They stand where they stood; only traceparent is another."""
    meta = meta_of(PARENT, tracestate="a=1,b=2", baggage="user=alice;p=1,k=%20v")
    attempt = begun(meta)
    assert ("a=1,b=2", "user=alice;p=1,k=%20v") == (trace_of(attempt).tracestate, trace_of(attempt).baggage)
    assert tool_call(meta=meta).replace(PARENT.encode(), trace_of(attempt).traceparent.encode()) == attempt.body


def test_tracestate_and_baggage_of_the_headers_go_into_meta_when_they_are_the_parents() -> None:
    """Both carriers say the same; several headers are one list."""
    headers = [*http_of(PARENT, baggage="k=v"), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    attempt = begun(headers=headers)
    assert {
        "traceparent": trace_of(attempt).traceparent,
        "tracestate": "a=1,b=2",
        "baggage": "k=v",
    } == meta_sent(attempt)


def test_a_tracestate_never_stays_beside_another_traces_parent() -> None:
    """The headers' state is not mixed into `_meta`'s trace, nor a state without parent into a new one."""
    assert "" == trace_of(begun(meta_of(PARENT), http_of(OTHER, tracestate="a=1"))).tracestate
    attempt = begun(meta_of("nonsense", tracestate="a=1"))
    assert ("", "") == (trace_of(attempt).tracestate, meta_sent(attempt)["tracestate"])


def test_no_tracestate_or_baggage_is_invented() -> None:
    """What the caller did not send is not sent on."""
    attempt = begun(meta_of(PARENT))
    assert {"traceparent"} == set(meta_sent(attempt))
    assert ("", "") == (trace_of(attempt).tracestate, trace_of(attempt).baggage)


def test_baggage_without_a_valid_parent_is_carried_on() -> None:
    """It belongs to no trace: from either carrier into both."""
    assert "k=v" == trace_of(begun('"baggage":"k=v"')).baggage
    attempt = begun(headers=[(b"baggage", b"k=v")])
    assert ("k=v", "k=v") == (trace_of(attempt).baggage, meta_sent(attempt)["baggage"])
    assert "k=v" == trace_of(begun(meta_of(PARENT), http_of(OTHER, baggage="k=v"))).baggage


@pytest.mark.parametrize("value", ["k=a\r\nX-Evil: 1", "k=é", "k=\x00", "k=" + "v" * CARRIED_LIMIT_BYTES])
def test_what_cannot_stand_in_a_header_stays_out_of_the_context(value: str) -> None:
    """JSON may hold a line break, a header must not; the body keeps what the caller wrote."""
    attempt = begun(meta_of(PARENT, baggage=value))
    assert "" == trace_of(attempt).baggage
    assert value == meta_sent(attempt)["baggage"]
    assert "" == trace_of(begun(meta_of(PARENT, tracestate=value))).tracestate


def test_a_linked_parent_begins_a_trace_of_its_own() -> None:
    """parent: link, for callers whose traces end up elsewhere."""
    attempt = begun(meta_of(PARENT, tracestate="a=1", baggage="k=v"), parent="link")
    assert (None, TRACE) == (attempt.call.parent, attempt.call.link.trace_id if attempt.call.link else "")
    assert TRACE != trace_of(attempt).trace_id
    assert ("", "k=v") == (trace_of(attempt).tracestate, trace_of(attempt).baggage)
    assert "" == meta_sent(attempt)["tracestate"]


def test_an_ignored_parent_leaves_no_link() -> None:
    """parent: ignore."""
    attempt = begun(meta_of(PARENT), http_of(OTHER), parent="ignore")
    assert (None, None) == (attempt.call.parent, attempt.call.link)
    assert trace_of(attempt).trace_id not in (TRACE, OTHER_TRACE)


@pytest.mark.parametrize(
    "body",
    [tool_call(meta=meta_of(PARENT)), tool_call(), b"[" + tool_call() + b"]", b"nonsense", b'{"jsonrpc":"2.0","id":1}'],
)
def test_without_an_exporter_nothing_is_touched(body: bytes) -> None:
    """exporter: none forwards the caller's three keys as they came."""
    giver = tracing(enabled=False)
    call = call_of(body, http_of(OTHER))
    batch.split(call)
    giver.begin(call)
    attempt = Attempt(call, 1, 0.0)
    giver.begin_attempt(attempt)
    assert (body, None, None) == (attempt.body, call.trace, attempt.trace)
    ask = Ask("search", peek(body), 0.0, call)
    assert body is giver.begin_ask(ask, body)
    assert (None, None) == (ask.trace, ask.outbound)


def test_every_attempt_is_a_span_of_its_own_below_the_call() -> None:
    """The next hop's parent is the attempt that reached it."""
    giver = tracing()
    call = call_of(tool_call(meta=meta_of(PARENT)))
    giver.begin(call)
    attempts = [Attempt(call, number, 0.0) for number in (1, 2)]
    for attempt in attempts:
        giver.begin_attempt(attempt)
    first, second = (trace_of(attempt) for attempt in attempts)
    assert TRACE == first.trace_id == second.trace_id
    assert first.span_id != second.span_id
    assert [first.traceparent, second.traceparent] == [meta_sent(attempt)["traceparent"] for attempt in attempts]


def test_notifications_are_traced_like_requests() -> None:
    """With a context of their own, or at the beginning of a trace."""
    giver = tracing()
    body = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    call = call_of(body)
    giver.begin(call)
    attempt = Attempt(call, 1, 0.0)
    giver.begin_attempt(attempt)
    assert trace_of(attempt).traceparent == meta_sent(attempt)["traceparent"]


@pytest.mark.parametrize(
    "header",
    [b"content-encoding", b"content-digest", b"repr-digest", b"digest", b"content-md5", b"signature"],
)
def test_a_body_that_is_encoded_or_signed_is_left_alone(header: bytes) -> None:
    """Its context travels in the headers only."""
    attempt = begun(headers=[(header, b"x")])
    assert tool_call() == attempt.body
    assert attempt.trace is not None


def test_a_message_that_cannot_be_edited_is_left_alone() -> None:
    """Positional params have no `_meta`."""
    giver = tracing()
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[1,2]}'
    call = call_of(body)
    giver.begin(call)
    attempt = Attempt(call, 1, 0.0)
    giver.begin_attempt(attempt)
    assert body == attempt.body
    assert attempt.trace is not None


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b'{"jsonrpc":"2.0","id":1,"result":{}}', b'[{"jsonrpc":"2.0","id":1,"result":{}}]']
)
def test_what_gets_no_span_keeps_the_context_it_came_with(body: bytes) -> None:
    """A GET, a client's answer, what cannot be read: a position no span will take is never handed on."""
    giver = tracing()
    call = call_of(body, http_of(PARENT))
    batch.split(call)
    giver.begin(call)
    attempt = Attempt(call, 1, 0.0)
    giver.begin_attempt(attempt)
    assert (body, None) == (attempt.body, attempt.trace)
    assert parse(PARENT) == call.trace


def batch_of(*members: bytes) -> tuple[Call, Attempt]:
    giver = tracing()
    call = call_of(b"[" + b" , ".join(members) + b"]")
    batch.split(call)
    giver.begin(call)
    attempt = Attempt(call, 1, 0.0)
    call.attempts.append(attempt)
    batch.begin_attempt(attempt)
    giver.begin_attempt(attempt)
    return call, attempt


def test_every_member_of_a_batch_stands_in_its_own_trace() -> None:
    """Each with its own parent, its own attempt, and its own context in its own `_meta`."""
    answer = b'{"jsonrpc":"2.0","id":9,"result":{"n":1.0}}'
    call, attempt = batch_of(
        tool_call("a", "1", meta_of(PARENT)), answer, tool_call("b", '"2"', meta_of(OTHER)), tool_call("c", "3")
    )
    first, _, second, third = call.members
    assert [TRACE, OTHER_TRACE] == [member.trace.trace_id for member in (first, second) if member.trace]
    assert third.trace is not None
    assert third.trace.trace_id not in (TRACE, OTHER_TRACE)
    sent = msgspec.json.decode(attempt.body)
    for member, message in ((first, sent[0]), (second, sent[2]), (third, sent[3])):
        assert trace_of(member.attempts[0]).traceparent == message["params"]["_meta"]["traceparent"]
    assert answer in attempt.body
    assert attempt.trace == first.attempts[0].trace


def ask_of(meta: str, call: Call | None = None) -> tuple[Ask, bytes]:
    extra = f'"_meta":{{{meta}}},' if meta else ""
    body = f'{{"jsonrpc":"2.0","id":5,"method":"sampling/createMessage","params":{{{extra}"maxTokens":1.0}}}}'.encode()
    return Ask("search", peek(body), 0.0, call), body


def test_a_servers_question_is_traced_with_the_roles_reversed() -> None:
    """Its `_meta` is the parent; the client is told of weir's span towards it."""
    ask, body = ask_of(meta_of(PARENT, baggage="k=v"))
    relayed = tracing().begin_ask(ask, body)
    assert parse(PARENT, "", "k=v") == ask.parent
    assert ask.trace is not None
    assert ask.outbound is not None
    assert [TRACE, TRACE] == [ask.trace.trace_id, ask.outbound.trace_id]
    assert 3 == len({SPAN, ask.trace.span_id, ask.outbound.span_id})
    assert body.replace(PARENT.encode(), ask.outbound.traceparent.encode()) == relayed


def test_a_question_without_context_begins_a_trace_that_is_sampled_like_its_stream() -> None:
    """Its stream is linked by whoever makes the span."""
    giver = tracing()
    call = call_of(tool_call(meta=meta_of(UNSAMPLED)))
    giver.begin(call)
    ask, body = ask_of("", call)
    relayed = giver.begin_ask(ask, body)
    assert ask.parent is None
    assert ask.trace is not None
    assert ask.outbound is not None
    assert (True, False) == (ask.trace.trace_id != TRACE, ask.trace.is_sampled)
    assert ask.outbound.traceparent == msgspec.json.decode(relayed)["params"]["_meta"]["traceparent"]


NAMES = st.text(max_size=8)
METAS = st.dictionaries(NAMES, st.integers() | NAMES, max_size=3)


PARENTS = st.sampled_from([None, PARENT, UNSAMPLED, "bad"])
WRITERS = st.sampled_from([msgspec.json.encode, lambda value: json.dumps(value).encode()])


@given(METAS, PARENTS, st.dictionaries(NAMES, NAMES, max_size=3), WRITERS)
def test_nothing_but_the_three_keys_ever_changes(
    meta: dict[str, Any], traceparent: str | None, arguments: dict[str, str], write: Callable[[Any], bytes]
) -> None:
    """Whatever else a message holds reads the same on the other side, however it is spelled."""
    came = {**meta, **({} if traceparent is None else {"traceparent": traceparent})}
    params = {"arguments": arguments, "_meta": came}
    giver = tracing()
    call = call_of(write({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}))
    giver.begin(call)
    attempt = Attempt(call, 1, 0.0)
    giver.begin_attempt(attempt)
    expected = {**came, "traceparent": trace_of(attempt).traceparent}
    if came.get("tracestate"):
        expected["tracestate"] = trace_of(attempt).tracestate
    assert {"arguments": arguments, "_meta": expected} == msgspec.json.decode(attempt.body)["params"]
