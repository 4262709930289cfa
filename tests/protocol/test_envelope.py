"""A peek sees what weir must know of a message, and never fails."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from support.jsontext import NUMBERS, STRINGS, Number, Object, json_texts, messages, read, short
from weir.protocol import envelope
from weir.protocol.envelope import BATCH_LIMIT, LITERAL_LIMIT_BYTES, OVERLONG_BATCH, Kind, Message, is_ambiguous, peek
from weir.protocol.methods import REVISIONS, WELL_KNOWN_METHODS
from weir.protocol.shapes import SUBSCRIPTION_KEY, Error, Result

SECRETIVE = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":%b}}}'


def kind_of(top: Any) -> Kind:
    """What a message is, by the rules of JSON-RPC, to a reader that takes the last of duplicate members."""
    if isinstance(top, list):
        return Kind.BATCH if top else Kind.OPAQUE
    if not isinstance(top, Object):
        return Kind.OPAQUE
    if top.values("method"):
        if not isinstance(top.get("method"), str):
            return Kind.OPAQUE
        return Kind.REQUEST if top.values("id") else Kind.NOTIFICATION
    if top.values("result") or has_error(top):
        return Kind.RESPONSE
    return Kind.OPAQUE


def has_error(top: Object) -> bool:
    """Whether a message has an error of JSON-RPC's: an object with an integer code."""
    error = top.get("error")
    code = error.get("code") if isinstance(error, Object) else None
    return isinstance(code, Number) and float(code.text).is_integer()


def text_or_none(holder: Any, key: str) -> str | None:
    value = holder.get(key) if isinstance(holder, Object) else None
    return value if isinstance(value, str) else None


def seen(holder: Any, attribute: str) -> str | None:
    """What a peeked struct has for a text; None for nothing."""
    value = getattr(holder, attribute) if holder is not None else UNSET
    return None if value is UNSET else value


@given(messages)
def test_a_message_is_what_a_careful_reader_says_it_is(body: bytes) -> None:
    """Kind, id with its JSON type, method, name, context: checked against a reader of its own."""
    top, message = read(body), peek(body)
    assert kind_of(top) == message.kind
    if not isinstance(top, Object) or message.kind is Kind.OPAQUE:
        return
    assert (top.get("method") or "") == message.method
    assert message.id == b"" if not top.values("id") else top.get("id") == read(message.id)
    params = top.get("params")
    assert isinstance(params, Object) == (message.params is not None)
    meta = params.get("_meta") if isinstance(params, Object) else None
    assert isinstance(meta, Object) == (message.meta is not None)
    for key in ("traceparent", "tracestate", "baggage"):
        assert text_or_none(meta, key) == seen(message.meta, key)
    for key in ("name", "uri"):
        assert text_or_none(params, key) == seen(message.params, key)
    assert bool(top.values("result")) == (message.result is not None)
    assert has_error(top) == (message.error is not None)


@given(st.binary(max_size=60))
def test_any_bytes_can_be_peeked(body: bytes) -> None:
    """What cannot be read is opaque; nothing is raised."""
    assert isinstance(peek(body), Message)
    assert isinstance(is_ambiguous(body), bool)


@pytest.mark.parametrize("method", sorted(WELL_KNOWN_METHODS | {"acme/invented", "", "日本", "notifications/acme"}))
def test_every_method_is_seen_as_it_is(method: str) -> None:
    """Of all revisions, of extensions and of nobody."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"%b"}' % method.encode()
    assert (Kind.REQUEST, method, b"1") == (peek(body).kind, peek(body).method, peek(body).id)
    body = b'{"jsonrpc":"2.0","method":"%b"}' % method.encode()
    assert (Kind.NOTIFICATION, method, b"") == (peek(body).kind, peek(body).method, peek(body).id)


@pytest.mark.parametrize("raw_id", [*NUMBERS, *STRINGS, "null", "true", "[1]", "9" * 5000], ids=short)
def test_an_id_is_its_raw_text(raw_id: str) -> None:
    """So that "7" and 7, 1 and 1.0, and what no integer type can hold go back as they came."""
    body = f'{{"id": {raw_id} ,"method":"x"}}'.encode()
    assert (Kind.REQUEST, raw_id.encode()) == (peek(body).kind, peek(body).id)


@given(json_texts)
def test_a_result_of_any_json_type_is_a_response(result: str) -> None:
    """Null too."""
    message = peek(f'{{"jsonrpc":"2.0","id":1,"result":{result}}}'.encode())
    assert Kind.RESPONSE == message.kind
    assert message.result is not None
    assert message.error is None


@pytest.mark.parametrize(
    ("reply", "result", "error"),
    [
        (b'"result":{}', Result(), None),
        (b'"result":null', Result(), None),
        (b'"result":{"isError":true}', Result(is_error=True), None),
        (b'"result":{"isError":null,"resultType":"task"}', Result(), None),
        (b'"result":{"isError":true,"resultType":7}', Result(is_error=True), None),
        (b'"result":{"protocolVersion":"2025-06-18"}', Result(protocol_version="2025-06-18"), None),
        (b'"result":{"isError":false,"_meta":null}', Result(), None),
        (b'"error":{"code":-32601,"message":"no"}', None, Error(-32601, "no")),
        (b'"error":{"code":-32601.0,"message":"no"}', None, Error(-32601, "no")),
        (b'"error":null,"result":{"isError":true}', Result(is_error=True), None),
        (b'"result":null,"error":{"code":5}', Result(), Error(5)),
    ],
)
def test_a_reply_says_what_became_of_the_call(reply: bytes, result: Result | None, error: Error | None) -> None:
    """One odd member does not hide the others."""
    message = peek(b'{"jsonrpc":"2.0","id":1,%b}' % reply)
    assert (Kind.RESPONSE, result, error) == (message.kind, message.result, message.error)


@pytest.mark.parametrize(
    "error",
    [
        b'"invalid_token"',
        b'{"code":"rate_limited","message":"no"}',
        b'{"code":1e400}',
        b'{"message":"no"}',
        b"{}",
        b"7",
    ],
)
def test_an_error_without_an_integer_code_is_no_answer(error: bytes) -> None:
    """Gateways and frameworks write such documents, with an HTTP status that says more."""
    message = peek(b'{"jsonrpc":"2.0","id":1,"error":%b}' % error)
    assert (Kind.OPAQUE, None) == (message.kind, message.error)


@pytest.mark.parametrize(
    "value",
    [b"NaN", b"Infinity", b'"\\ud800"', b'"\n"', b"01", b"{", b"[" * 10**5 + b"]" * 10**5, b"'x'", b"1,}", b"\x00"],
)
def test_what_no_strict_reader_accepts_is_opaque(value: bytes) -> None:
    """The server may: it gets the bytes."""
    assert Kind.OPAQUE == peek(SECRETIVE % value).kind


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"7",
        b'"x"',
        b"[]",
        b'{"jsonrpc":"2.0","id":1}',
        b'{"id":1,"method":7}',
        b'{"id":1,"method":null,"result":1}',
        b'{"id":1,"method":"\xff"}',
        b'{"id":1,"error":null}',
        b'\xef\xbb\xbf{"id":1,"method":"x"}',
        b'{"id":1,"method":"x"}{}',
        b"[" * 10**6,
        '{"id":1,"method":"x"}'.encode("utf-16"),
    ],
    ids=short,
)
def test_what_is_no_message_is_opaque(body: bytes) -> None:
    """And nobody's error here."""
    assert Kind.OPAQUE == peek(body).kind


@pytest.mark.parametrize(
    "value", [b"1e400", b"1" * 5000, b'"\xff"', b'"\\ud83d\\ude00"', b"[" * 300 + b"]" * 300], ids=short
)
def test_what_weir_does_not_read_need_not_be_readable(value: bytes) -> None:
    """Bad UTF-8 and monstrous numbers in arguments are between the two ends."""
    assert (Kind.REQUEST, "x") == (peek(SECRETIVE % value).kind, peek(SECRETIVE % value).name)


@pytest.mark.parametrize("params", [b"[1]", b"null", b"7", b'"x"'])
def test_params_that_are_no_object_hold_nothing(params: bytes) -> None:
    """JSON-RPC allows positional ones; the message passes."""
    message = peek(b'{"id":1,"method":"x","params":%b}' % params)
    assert (Kind.REQUEST, None, None, "") == (message.kind, message.params, message.meta, message.name)


def test_one_odd_member_does_not_hide_the_others() -> None:
    """A traceparent that is a number leaves name, token and revision in sight."""
    message = peek(
        b'{"id":1,"method":"tools/call","params":{"name":"x","uri":1,"_meta":{"traceparent":1,"tracestate":"a=1",'
        b'"progressToken":"p","io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}'
    )
    assert ("x", b'"p"', "2026-07-28") == (message.name, message.progress_token, message.revision)
    assert message.meta is not None
    assert (UNSET, "a=1") == (message.meta.traceparent, message.meta.tracestate)


@pytest.mark.parametrize("revision", [*REVISIONS, "2027-01-01", "DRAFT"])
def test_the_revision_a_message_states_is_seen(revision: str) -> None:
    """Known or not."""
    stated = b'{"io.modelcontextprotocol/protocolVersion":"%b"}' % revision.encode()
    assert revision == peek(b'{"id":1,"method":"x","params":{"_meta":%b}}' % stated).revision


def test_the_progress_token_is_the_one_given_or_the_one_named() -> None:
    """A request gives it in `_meta`, a progress notification names it in params."""
    given_token = peek(b'{"id":1,"method":"x","params":{"progressToken":1,"_meta":{"progressToken":"t"}}}')
    named = peek(b'{"method":"notifications/progress","params":{"progressToken":1.0,"_meta":{"progressToken":"t"}}}')
    assert (b'"t"', b"1.0") == (given_token.progress_token, named.progress_token)
    assert b"" == peek(b'{"id":1,"method":"x"}').progress_token


def test_a_cancellation_names_a_request() -> None:
    """By its raw id."""
    named = peek(b'{"method":"notifications/cancelled","params":{"requestId":"7","reason":"x"}}')
    assert b'"7"' == named.request_id
    assert b"" == peek(b'{"method":"notifications/cancelled","params":{}}').request_id
    assert b"" == peek(b'{"method":"notifications/cancelled"}').request_id


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"method":"notifications/tools/list_changed","params":{"_meta":{"%b":7}}}', b"7"),
        (b'{"id":"7","result":{"resultType":"complete","_meta":{"%b":"7"}}}', b'"7"'),
        (b'{"id":1,"result":{"_meta":{"x/%b":7}}}', b""),
        (b'{"id":1,"result":null,"params":{"_meta":{"%b":7}}}', b""),
        (b'{"id":1,"method":"%b"}', b""),
    ],
)
def test_a_subscription_is_named_in_meta(body: bytes, expected: bytes) -> None:
    """Of a notification, and of the result that ends it."""
    assert expected == peek(body % SUBSCRIPTION_KEY.encode()).subscription_id


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (b"{}", False),
        (b'{"inputResponses":{}}', True),
        (b'{"requestState":"s"}', True),
        (b'{"requestState":null}', True),
    ],
)
def test_a_leg_of_a_multi_round_trip_request_is_recognised(params: bytes, expected: bool) -> None:
    """It must never be repeated."""
    assert expected == peek(b'{"id":1,"method":"tools/call","params":%b}' % params).is_continuation


def test_every_member_of_a_batch_is_peeked_by_itself() -> None:
    """A member that is no message is opaque, an array in the array too."""
    batch = peek(b' [{"id":1,"method":"a"}, {"method":"b"},\n{"id":2,"result":null},7,[{"id":1,"method":"x"}]] ')
    kinds = [Kind.REQUEST, Kind.NOTIFICATION, Kind.RESPONSE, Kind.OPAQUE, Kind.OPAQUE]
    assert (Kind.BATCH, kinds) == (batch.kind, [member.kind for member in batch.members])
    assert [b"1", b"", b"2", b"", b""] == [member.id for member in batch.members]


def test_a_batch_of_one_is_a_batch() -> None:
    """It is answered by a batch."""
    batch = peek(b'[{"id":1,"method":"a"}]')
    assert (Kind.BATCH, [Kind.REQUEST]) == (batch.kind, [member.kind for member in batch.members])


def test_a_batch_of_a_hostile_number_of_members_is_opaque() -> None:
    """The bound on what one body may make weir count and trace."""
    assert Kind.BATCH == peek(b"[%b]" % b",".join([b'{"method":"x"}'] * BATCH_LIMIT)).kind
    many = peek(b"[%b]" % b",".join([b"0"] * (BATCH_LIMIT + 1)))
    assert Kind.OPAQUE == many.kind
    assert many is OVERLONG_BATCH


@pytest.mark.parametrize("body", [b"[", b"[]", b"[0,0", b"[%b" % (b"0," * 2000), b"[NaN]"], ids=short)
def test_an_array_that_is_none_is_no_overlong_batch(body: bytes) -> None:
    """It is nonsense, which is something else to be told."""
    assert peek(body) is envelope.OPAQUE


PLAIN = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{%b}}}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":1,"method":"x","id":2}',
        b'{"id":1,"id":1,"method":"x"}',
        b'{"id":1,"method":"x","\\u0069d":2}',
        b'{"method":"tools/list","method":"tools/call"}',
        b'{"method":"tools/list","metho\\u0064":"tools/call"}',
        b'{"method":"x","params":{},"params":{"a":1}}',
        b'{"method":"x","params":{},"\\u0070\\u0061rams":{"a":1}}',
        b'{"method":"tools/call","params":{"name":"safe","name":"other"}}',
        b'{"method":"tools/call","params":{"name":"safe","n\\u0061me":"other"}}',
        b'{"method":"x","params":{"_meta":{},"_meta":{}}}',
        b'[{"id":1,"method":"x"},{"id":1,"method":"x","id":2}]',
        b'{"id":1,"method":"ping","Method":"tools/call","params":{"name":"x"}}',
        b'{"id":1,"method":"ping","meth\\u004fd":"tools/call"}',
        b'{"id":1,"METHOD":"ping"}',
        b'{"method":"notifications/x","ID":1}',
        b'{"method":"notifications/x","\xc4\xb1d":1}',
        b'{"method":"notifications/x","\xc4\xb0d":1}',
        b'{"method":"ping","id":1,"param\xc5\xbf":{}}',
        b'{"method":"ping","id":1,"param\\u017f":{}}',
        b'{"method":"tools/call","id":1,"params":{"name":"x","ta\xc5\xbf\xe2\x84\xaa":{}}}',
        b'{"method":"tools/call","id":1,"params":{"name":"x","ta\\u017F\\u212a":{}}}',
        b'{"method":"tools/call","id":1,"params":{"name":"x","Name":"y"}}',
        b'{"method":"tools/call","id":1,"params":{"name":"x","Task":{}}}',
        b'{"method":"tasks/get","id":1,"params":{"taskid":"x"}}',
        b'{"id":1,"result":{},"Method":"tools/call"}',
        b'[{"id":1,"method":"x"},{"id":1,"method":"x","Id":2}]',
        b"",
        b"7",
    ],
)
def test_a_message_that_two_readers_see_differently_is_ambiguous(body: bytes) -> None:
    """Small or large, spelled plainly or not."""
    assert is_ambiguous(body)
    assert is_ambiguous(body + b" " * LITERAL_LIMIT_BYTES)


@pytest.mark.parametrize(
    "body",
    [
        PLAIN % b"",
        PLAIN % b'"id":1,"method":"m","params":{"name":"x"},"name":"y","_meta":{}',
        PLAIN % b'"t":"\\"id\\":1,\\"id\\":2"',
        PLAIN % b'"t":"\\u0069d","id":"\\u0041"',
        PLAIN % b'"x":1,"x":2',
        b' [{"id":1,"method":"x"},{"id":2,"method":"x"}]',
        b'{"id":1,"result":{"id":2}}',
        PLAIN % b'"Name":"x","TASKID":1,"Method":"y"',
        PLAIN % b'"\xc4\xb1d":"\xc5\xbf"',
    ],
)
def test_the_same_names_elsewhere_are_not_ambiguous(body: bytes) -> None:
    """In arguments, in strings, in the other members of a batch."""
    assert not is_ambiguous(body)
    assert not is_ambiguous(body + b" " * LITERAL_LIMIT_BYTES)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id":1,"method":"a","params":{"name":"b","_meta":{}}}', True),
        (b'{"id":1,"method":"a","params":{"x":"\\n"}}', True),
        (b'{"id":1,"params":{"id":2}}', False),
        (b'{"id":1,"\\u0069d":2}', False),
    ],
)
def test_nearly_all_bodies_are_seen_to_be_plain_by_a_search(body: bytes, expected: bool) -> None:
    """A name that stands once cannot stand twice; all else is scanned."""
    assert expected is envelope._is_plainly_named(body)


def is_twin(found: Object, name: str) -> bool:
    """Twice there, or in another case."""
    alike = [key for key, _ in found.members if key.casefold() == name.casefold()]
    return alike not in ([], [name])


@given(messages)
def test_ambiguity_is_what_a_careful_reader_finds(body: bytes) -> None:
    """Of objects: a duplicate among the members that say what is to be done."""
    top = read(body)
    if not isinstance(top, Object):
        return
    params = top.get("params")
    inner = params if isinstance(params, Object) and len(top.values("params")) == 1 else Object(())
    names = ("_meta", "inputResponses", "name", "protocolVersion", "requestId", "requestState", "task", "taskId", "uri")
    twins = any(is_twin(top, key) for key in ("id", "method", "params"))
    twins = twins or any(is_twin(inner, key) for key in names)
    assert twins == is_ambiguous(body)
    assert twins == is_ambiguous(body + b" " * LITERAL_LIMIT_BYTES)


def test_numbers_of_the_reader_are_text() -> None:
    """The reader these tests trust must not change what it compares."""
    assert Object((("a", Number("1.0")), ("a", Number("1e400")))) == read(b'{"a":1.0,"a":1e400}')


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":1,"method":"tools/call","params":{"name":"a","name":"b"}}',
        b'{"id":1,"method":"tools/call","params":{"name":"b","n\\u0061me":"b2"}}',
        b'{"id":1,"method":"tools/call","params":{"name":7,"name":"b"}}',
        b'{"id":1,"method":"tools/call","params":{"name":"b"},"params":{"name":"c"}}',
        b'{"id":1,"method":"tools/call","params":{"name":"b"},"p\\u0061rams":{"name":"c","arguments":{"name":"d"}}}',
        b'{"id":1,"method":"ping","method":"tools/call","params":{"name":"b"}}',
        b'{"id":1,"method":"tools/call","method":"tools/list","params":{"name":"b"}}',
        b'{"id":1,"id":2,"method":"tools/call","params":{"name":"b"}}',
    ],
)
def test_of_what_is_said_twice_the_last_counts_as_it_does_for_servers(body: bytes) -> None:
    """Python's JSON and JavaScript's take the last too: no limit of a tool is evaded by naming two."""
    said, seen = json.loads(body), peek(body)
    assert (said["method"], said["id"]) == (seen.method, json.loads(seen.id))
    assert (said["params"]["name"] if said["method"] == "tools/call" else "") == seen.name
    assert is_ambiguous(body)
