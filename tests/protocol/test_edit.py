"""Edits change what is asked for, and nothing else, whatever else a message holds."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.jsontext import Object, read, requests, results, short
from weir.protocol import edit, scan
from weir.protocol.envelope import LITERAL_LIMIT_BYTES, Kind, peek
from weir.protocol.shapes import SUBSCRIPTION_KEY

# no drawn message holds a word of these
NEW = {key: b'"=%b="' % key for key in (b"traceparent", b"tracestate", b"baggage")}
ONE = {b"traceparent": NEW[b"traceparent"]}
SUBSCRIPTION = SUBSCRIPTION_KEY.encode()
# white space after a message changes nothing but the way its members are looked for
PADDING = b" " * LITERAL_LIMIT_BYTES


def set_meta(body: bytes, values: Mapping[bytes, bytes] = ONE) -> bytes | None:
    return edit.set_meta(body, peek(body), values)


def expected(body: bytes, values: Mapping[bytes, bytes]) -> Any:
    """What the edited message must say; None when it must be left alone."""
    top = read(body)
    params = top.values("params")
    if not params:
        return top.put("params", Object((("_meta", _put(Object(()), values)),)))
    if len(params) > 1 or not isinstance(params[0], Object):
        return None
    metas = params[0].values("_meta")
    if len(metas) > 1 or (metas and not isinstance(metas[0], Object)):
        return None
    meta = metas[0] if metas else Object(())
    if any(len(meta.values(key.decode())) > 1 for key in values):
        return None
    return top.put("params", params[0].put("_meta", _put(meta, values)))


def _put(meta: Object, values: Mapping[bytes, bytes]) -> Object:
    for key in values:
        if meta.values(key.decode()):
            meta = meta.put(key.decode(), read(values[key]))
    missing = tuple((key.decode(), read(value)) for key, value in values.items() if not meta.values(key.decode()))
    return Object((*missing, *meta.members))


def restored(edited: bytes, body: bytes, values: Mapping[bytes, bytes]) -> list[bytes]:
    """`edited` with the replaced values back at their places, and exactly the inserted bytes taken out.

    What was inserted may be members, or an object around them, or two; with the comma after it or not.
    """
    new = {key: value for key, value in values.items() if _is_new(body, key)}
    for key in values.keys() - new.keys():
        edited = edited.replace(values[key], _old_value(body, key), 1)
    if not new:
        return [edited]
    inserted = b",".join(b'"%b":%b' % item for item in new.items())
    wholes = (b'"params":{"_meta":{%b}}' % inserted, b'"_meta":{%b}' % inserted, inserted)
    return [edited.replace(text, b"", 1) for whole in wholes for text in (whole + b",", whole) if text in edited]


def _meta_members(body: bytes) -> list[scan.Member]:
    _, params = scan.request(body)
    found = [member for member in params or [] if member.key == "_meta"]
    return scan.members(body, found[0].start, found[0].end) if found else []


def _is_new(body: bytes, key: bytes) -> bool:
    return not any(member.key == key.decode() for member in _meta_members(body))


def _old_value(body: bytes, key: bytes) -> bytes:
    member = scan.single(_meta_members(body), key.decode())
    return body[member.start : member.end]


@given(requests, st.sampled_from([ONE, NEW, {b"progressToken": b'"=token="'}, {b"x/y.z": b"[]", **ONE}]))
def test_what_was_asked_for_is_said_and_everything_else_is_said_as_before(
    body: bytes, values: Mapping[bytes, bytes]
) -> None:
    """Checked against a reader of its own, which keeps order, duplicates and the spelling of numbers."""
    message = peek(body)
    edited = edit.set_meta(body, message, values)
    if message.kind not in (Kind.REQUEST, Kind.NOTIFICATION):
        assert edited is None
    else:
        assert expected(body, values) == (None if edited is None else read(edited))


@given(requests, st.sampled_from([ONE, NEW]))
def test_taking_the_new_bytes_out_again_gives_the_bytes_received(body: bytes, values: Mapping[bytes, bytes]) -> None:
    """White space, escapes, number text: every byte that was not asked for stays."""
    edited = set_meta(body, values)
    if edited is not None:
        assert body in restored(edited, body, values)


@given(requests, st.sampled_from([ONE, NEW, {b"progressToken": b"1"}, {SUBSCRIPTION: b"1"}]))
def test_searching_and_scanning_agree_on_meta(body: bytes, values: Mapping[bytes, bytes]) -> None:
    """A large body goes the exact way; a small one must not come out different."""
    edited, scanned = set_meta(body, values), set_meta(body + PADDING, values)
    assert (None if edited is None else edited + PADDING) == scanned


@given(st.one_of(requests, results), st.sampled_from(["id", "traceparent", "progressToken", "name"]))
def test_searching_and_scanning_agree_on_ids_and_parameters(body: bytes, key: str) -> None:
    """The same for the edits that raise."""

    def outcome(change: Any, text: bytes, *more: bytes) -> object:
        try:
            return bytes(change(text, *more)).rstrip(b" ")
        except ValueError:
            return None

    assert outcome(edit.set_id, body + PADDING, b"8") == outcome(edit.set_id, body, b"8")
    asked = (key.encode(), b"8")
    assert outcome(edit.set_param, body + PADDING, *asked) == outcome(edit.set_param, body, *asked)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id":1,"params":{"requestId":7}}', b'{"id":1,"params":{"requestId":9}}'),
        (b'{"id":1,"params":{"requestId": "a" ,"x":[]}}', b'{"id":1,"params":{"requestId": 9 ,"x":[]}}'),
        (b'{"params":{"requestId":7,"x":"\\n"}}', None),
        (b'{"params":{"requestId":7},"params":{}}', None),
        (b'{"params":{"requestId":7,"x":"params"}}', None),
        (b'{"requestId":7,"params":{}}', None),
        (b'{"requestId":7}', None),
        (b'"requestId"', None),
        (b'{"params":{"requestId":7,"requestId":8}}', None),
        (b'{"params":{"requestId":{}}}', None),
        (b'{"params":{}}', None),
    ],
)
def test_a_parameter_is_searched_where_a_search_can_tell(body: bytes, expected: bytes | None) -> None:
    """Which is nearly always, and a tenth of the work; all else is scanned."""
    assert expected == edit._search_param(body, b"requestId", b"9")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id":1,"method":"x"}', b'{"id":9,"method":"x"}'),
        (b'{"id":"a","x":"\\n"}', b'{"id":9,"x":"\\n"}'),
        (b'{"id":1,"\\u0069d":2}', None),
        (b'{"id":1,"x":{"id":2}}', None),
        (b'{"x":{"id":1}}', None),
        (b'{"id":null}', None),
        (b"{", None),
        (b'["id"]', None),
    ],
)
def test_an_id_is_searched_where_a_search_can_tell(body: bytes, expected: bytes | None) -> None:
    """The same."""
    assert expected == edit._search_id(body, b"9")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id":1,"method":"x","params":{}}', b'{"id":1,"method":"x","params":{"_meta":{"baggage":1}}}'),
        (b'{"id":1,"method":"x","params":{"a":2}}', b'{"id":1,"method":"x","params":{"_meta":{"baggage":1},"a":2}}'),
        (
            b'{"id":1,"method":"x","params":{"_meta":{"a":2}}}',
            b'{"id":1,"method":"x","params":{"_meta":{"baggage":1,"a":2}}}',
        ),
        (
            b'{"id":1,"method":"x","params":{"_meta":{"baggage":"b"}}}',
            b'{"id":1,"method":"x","params":{"_meta":{"baggage":1}}}',
        ),
        (
            b'{"id":1,"method":"x","params":{"a":"\\n"}}',
            b'{"id":1,"method":"x","params":{"_meta":{"baggage":1},"a":"\\n"}}',
        ),
        (b'{"id":1,"method":"x","params":{"\\u005fmeta":{}}}', None),
        (b'{"id":1,"method":"x","params":{"a":{"_meta":{}}}}', None),
        (b'{"id":1,"method":"x","params":{"_meta":{},"a":{"_meta":{}}}}', None),
        (b'{"id":1,"method":"x","params":{"_meta":{},"a":{"baggage":"c"}}}', None),
        (b'{"id":1,"method":"x"}', None),
        (b'{"id":1,"method":"x","params":{"a":"params"}}', None),
    ],
)
def test_meta_is_searched_where_a_search_can_tell(body: bytes, expected: bytes | None) -> None:
    """The same."""
    assert expected == edit._search_meta(body, peek(body), {b"baggage": b"1"})


@given(st.one_of(requests, results))
def test_a_new_id_changes_the_id_alone(body: bytes) -> None:
    """Of requests and of responses; none or two ids are refused."""
    top = read(body)
    if isinstance(top, Object) and len(top.values("id")) == 1:
        assert top.put("id", "=id=") == read(edit.set_id(body, b'"=id="'))
    else:
        with pytest.raises(ValueError, match=r"."):
            edit.set_id(body, b'"=id="')


REQUEST = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}'
OLD = b'"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"'
NESTED = b'{"name":"x","arguments":{"params":{"_meta":{"traceparent":"mine"}}},"_meta":{"traceparent":%b}}'


@pytest.mark.parametrize(
    "params",
    [
        b'{"_meta":{"traceparent":%b}}',
        b'{ "_meta" :\r\n{ "traceparent" : %b\t} }',
        b'{"_meta":{"progressToken":1152921504606846976,"traceparent":%b,"x":1.0},"arguments":{"n":1e400}}',
        b'{"_m\\u0065ta":{"\\u0074raceparent":%b}}',
        NESTED,
        b'{"arguments":{"t":"\\"traceparent\\":\\"x\\""},"_meta":{"traceparent":%b}}',
        b'{"arguments":["traceparent","_meta","params"],"_meta":{"traceparent":%b}}',
        b'{"_meta":{"inner":{"traceparent":"a"},"traceparent":%b,"after":{"traceparent":"b"}}}',
    ],
)
@pytest.mark.parametrize("old", [OLD, b"7", b"null", b'"\\u0041"', b'{"a":[1]}', b'""'])
def test_an_existing_value_is_replaced_in_place(params: bytes, old: bytes) -> None:
    """Whatever it was and whatever surrounds it: nobody else's text of the same name is touched."""
    body = REQUEST % (params % old)
    assert REQUEST % (params % ONE[b"traceparent"]) == set_meta(body)


@pytest.mark.parametrize(
    ("params", "edited"),
    [
        (b"{}", b'{"_meta":{"traceparent":"=traceparent="}}'),
        (b"{ \r\n}", b'{ \r\n"_meta":{"traceparent":"=traceparent="}}'),
        (b'{"a":1}', b'{"_meta":{"traceparent":"=traceparent="},"a":1}'),
        (b'{ "a":1}', b'{ "_meta":{"traceparent":"=traceparent="},"a":1}'),
        (b'{"_meta":{}}', b'{"_meta":{"traceparent":"=traceparent="}}'),
        (b'{"_meta":{"a":1},"b":2}', b'{"_meta":{"traceparent":"=traceparent=","a":1},"b":2}'),
        (
            b'{"a":{"_meta":{}},"b":"traceparent"}',
            b'{"_meta":{"traceparent":"=traceparent="},"a":{"_meta":{}},"b":"traceparent"}',
        ),
    ],
)
def test_a_missing_value_is_put_first(params: bytes, edited: bytes) -> None:
    """With the objects that are missing around it."""
    got = set_meta(REQUEST % params)
    assert read(REQUEST % edited) == read(got or b"")


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (b'{"method":"ping","id":1}', b'{"params":{"_meta":{"traceparent":"=traceparent="}},"method":"ping","id":1}'),
        (b' {"method":"x"}', b' {"params":{"_meta":{"traceparent":"=traceparent="}},"method":"x"}'),
    ],
)
def test_a_message_without_params_gets_them(body: bytes, edited: bytes) -> None:
    """In front, where nothing can be cut off after them."""
    assert edited == set_meta(body)


@pytest.mark.parametrize(
    "body",
    [
        REQUEST % b"null",
        REQUEST % b"[1,2]",
        REQUEST % b'"text"',
        REQUEST % b'{"_meta":null}',
        REQUEST % b'{"_meta":[]}',
        REQUEST % b'{"_meta":{},"_meta":{}}',
        REQUEST % b'{"_meta":{},"\\u005fmeta":{}}',
        REQUEST % b'{"_meta":{"traceparent":"a","traceparent":"b"}}',
        REQUEST % b'{"_meta":{"traceparent":"a","traceparen\\u0074":"b"}}',
        REQUEST % b'{"_meta":{}},"params":{"_meta":{}}',
        REQUEST % b'{"_meta":{}},"p\\u0061rams":{}',
        b'{"id":1,"result":{"_meta":{}}}',
        b'{"id":1,"error":{"code":1}}',
        b'[{"id":1,"method":"ping"}]',
        b'{"id":1,"method":"ping","params":{"x":NaN}}',
        b'\xef\xbb\xbf{"id":1,"method":"ping"}',
        b'{"id":1,"method":"ping","params":{"x":"\\ud800"}}',
        b'{"id":1,"method":"ping","params":{"x":' + b"[" * 5000 + b"]" * 5000 + b"}}",
        b"",
        b"not json",
    ],
    ids=short,
)
def test_what_cannot_be_edited_without_guessing_is_left_alone(body: bytes) -> None:
    """The caller is told, and relays the bytes received."""
    assert set_meta(body) is None


def test_the_three_keys_of_a_context_are_set_together() -> None:
    """Present ones at their places, the missing one first."""
    body = REQUEST % b'{"_meta":{"tracestate":"a=1","x":0,"traceparent":"old"}}'
    edited = (
        REQUEST % b'{"_meta":{"baggage":"=baggage=","tracestate":"=tracestate=","x":0,"traceparent":"=traceparent="}}'
    )
    assert edited == set_meta(body, NEW)


def test_nothing_to_set_leaves_the_body_as_it_is() -> None:
    """Even where nothing could be set."""
    body = REQUEST % b"{}"
    assert set_meta(body, {}) is body


def test_an_object_with_more_members_than_are_walked_is_left_alone() -> None:
    """The bound on what one hostile body may cost."""
    members = b",".join(b'"k%d":0' % number for number in range(scan.MEMBERS_LIMIT + 1))
    assert set_meta(REQUEST % (b"{%b}" % members)) is None


def test_a_large_body_is_edited_in_place() -> None:
    """A megabyte around it changes nothing."""
    text = b'"' + b'traceparent \\"params\\" ' * 50_000 + b'"'
    body = REQUEST % (b'{"arguments":{"text":%b},"_meta":{"traceparent":%b}}' % (text, OLD))
    assert body.replace(OLD, ONE[b"traceparent"]) == set_meta(body)


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (b'{"id":1,"method":"x","params":{"id":1}}', b'{"id":"9","method":"x","params":{"id":1}}'),
        (b'{"result":{"id":"1"},"id" : "1" }', b'{"result":{"id":"1"},"id" : "9" }'),
        (b'{"\\u0069d":null,"error":{}}', b'{"\\u0069d":"9","error":{}}'),
        (b'{"id":[1],"method":"x"}', b'{"id":"9","method":"x"}'),
    ],
)
def test_the_id_of_the_message_is_replaced(body: bytes, edited: bytes) -> None:
    """And no other that it holds."""
    assert edited == edit.set_id(body, b'"9"')


@pytest.mark.parametrize("body", [b'{"method":"x","params":{"id":1}}', b'{"id":1,"id":1}', b"[]", b"", b'{"id":NaN}'])
def test_an_id_that_is_not_the_only_one_is_not_replaced(body: bytes) -> None:
    """There is none, or there are two."""
    with pytest.raises(ValueError, match=r"."):
        edit.set_id(body, b"9")


@pytest.mark.parametrize(
    ("body", "edited"),
    [
        (
            b'{"method":"notifications/cancelled","params":{"requestId":1,"reason":"requestId"}}',
            b'{"method":"notifications/cancelled","params":{"requestId":"9","reason":"requestId"}}',
        ),
        (b'{"requestId":1,"params":{"requestId":"a"}}', b'{"requestId":1,"params":{"requestId":"9"}}'),
        (
            b'{"params":{"_meta":{"requestId":1},"requestId":2}}',
            b'{"params":{"_meta":{"requestId":1},"requestId":"9"}}',
        ),
    ],
)
def test_a_parameter_is_replaced(body: bytes, edited: bytes) -> None:
    """The one of that name in params, and no other."""
    assert edited == edit.set_param(body, b"requestId", b'"9"')


@pytest.mark.parametrize("params", [b"{}", b"[]", b"null", b'{"requestId":1,"requestId":1}', b'{"a":{"requestId":1}}'])
def test_a_parameter_that_is_not_the_only_one_is_not_replaced(params: bytes) -> None:
    """There is none, or there are two."""
    with pytest.raises(ValueError, match="one is wanted"):
        edit.set_param(REQUEST % params, b"requestId", b"9")


def test_the_subscription_id_of_a_result_is_replaced() -> None:
    """The reply to subscriptions/listen carries the id of its request in `_meta`."""
    body = b'{"id":1,"result":{"_meta":{"%b":1},"_meta2":{}}}'
    edited = edit.set_result_meta(body % SUBSCRIPTION, SUBSCRIPTION, b'"a"')
    assert (body % SUBSCRIPTION).replace(b":1}", b':"a"}') == edited


def test_a_subscription_id_spelled_with_escapes_is_the_same_one() -> None:
    """A slash may be written `\\/`."""
    body = b'{"method":"x","params":{"_meta":{"io.modelcontextprotocol\\/subscriptionId":1}}}'
    assert body.replace(b":1}", b":2}") == set_meta(body, {SUBSCRIPTION: b"2"})


def test_the_members_of_a_batch_are_replaced_each_at_its_place() -> None:
    """What stands between them stays."""
    body = b' [ {"id":1,"method":"ping"} ,\r\n{"id":"[,]","method":"x"}]\n'
    assert b" [ A ,\r\nBB]\n" == edit.set_elements(body, [b"A", b"BB"])


def test_a_batch_keeps_its_number_of_members() -> None:
    """Another number of them is a mistake of the caller."""
    with pytest.raises(ValueError, match="argument"):
        edit.set_elements(b"[1,2]", [b"1"])


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_quoted_text_reads_as_the_text(text: str) -> None:
    """Line breaks, quotes and all."""
    assert text == read(edit.quote(text))
