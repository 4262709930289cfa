"""What two requests have in common when they ask the same."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.protocol.question import asks_for_task, is_conclusive, question
from weir.protocol.shapes import DEADLINE_KEY

VARYING = ("traceparent", "tracestate", "baggage", "progressToken", DEADLINE_KEY)
TEXTS = st.text(max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=5,
)
PARAMS = st.dictionaries(st.sampled_from(["uri", "cursor", "ref", "a", "_"]) | TEXTS, VALUES, max_size=3)


def asking(params: Any) -> bytes:
    """A request with these params."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": params}).encode()


@pytest.mark.parametrize("key", VARYING)
def test_what_differs_from_call_to_call_is_left_out(key: str) -> None:
    """Trace context, progress token, deadline."""
    first = question(asking({"uri": "a", "_meta": {key: "1", "x": 1}}))
    second = question(asking({"uri": "a", "_meta": {"x": 1, key: "2"}}))
    assert first == second == question(asking({"uri": "a", "_meta": {"x": 1}}))


def test_without_anything_else_it_is_as_if_there_were_no_params() -> None:
    """A traced list asks what an untraced one asks."""
    bare = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    traced = asking({"_meta": {"traceparent": "x", "progressToken": 7}})
    assert b"" == question(bare) == question(asking({})) == question(traced)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"params":{"cursor":"a"}}', b'{"params":{"cursor":"b"}}'),
        (b'{"params":{"_meta":{"x":1}}}', b'{"params":{"_meta":{"x":2}}}'),
        (b'{"params":{"_meta":{"a":{"traceparent":"1"}}}}', b'{"params":{"_meta":{"a":{"traceparent":"2"}}}}'),
        (b'{"params":{"traceparent":"1"}}', b'{"params":{"traceparent":"2"}}'),
        (b'{"params":{"a":1}}', b'{"params":{"a":1.0}}'),
        (b'{"params":[1]}', b'{"params":[2]}'),
        (b'{"params":null}', b'{"params":{}}'),
        (b'{"params":{"cursor":"a","cursor":"b"}}', b'{"params":{"cursor":"c","cursor":"b"}}'),
        (b'{"params":{"_meta":1}}', b'{"params":{"_meta":2}}'),
    ],
)
def test_everything_else_tells_them_apart(one: bytes, other: bytes) -> None:
    """Texts are compared, not values."""
    assert question(one) != question(other)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"params":NaN}', b"\xff"])
def test_what_cannot_be_read_asks_nothing(body: bytes) -> None:
    """Nobody can tell whether two such bodies ask the same."""
    assert question(body) is None


@given(PARAMS, PARAMS)
def test_equal_questions_come_from_equal_params_only(one: dict[str, Any], other: dict[str, Any]) -> None:
    """No value passes for another member."""
    are_equal = json.dumps(one) == json.dumps(other)
    assert are_equal == (question(asking(one)) == question(asking(other)))


@given(PARAMS, st.dictionaries(st.sampled_from(VARYING), TEXTS, min_size=1))
def test_varying_members_never_matter(params: dict[str, Any], varying: dict[str, str]) -> None:
    """Whatever stands beside them."""
    assert question(asking(params)) == question(asking({**params, "_meta": varying}))


@pytest.mark.parametrize(
    ("expected", "params"), [(True, {"task": {}}), (True, {"task": {"ttl": 1}}), (False, {"arguments": {"task": 1}})]
)
def test_a_request_may_ask_for_a_task(expected: bool, params: Any) -> None:
    """By a member of its params, not of its arguments."""
    assert expected == asks_for_task(asking(params))


@pytest.mark.parametrize("body", [b"{}", b"[]", b"?", b'{"params":[]}', b"[" * 100_000])
def test_what_is_no_request_asks_for_no_task(body: bytes) -> None:
    """Nor does it fail."""
    assert not asks_for_task(body)


@pytest.mark.parametrize(
    ("expected", "body"),
    [
        (True, b'{"result":{}}'),
        (True, b'{"result":{"resultType":"complete"}}'),
        (True, b'{"result":{"content":[{"text":"\\"resultType\\""}]}}'),
        (False, b'{"result":{"resultType":"input_required"}}'),
        (False, b'{"result":{"resultType":"task"}}'),
        (False, b'{"result":{"resultType":7}}'),
        (False, b'{"result":{"resultType":"com'),
        (True, b'{"error":{"code":1,"data":{"resultType":"task"}}}'),
    ],
)
def test_an_answer_ends_the_matter_or_begins_a_dialogue(expected: bool, body: bytes) -> None:
    """What cannot be told is no end."""
    assert expected == is_conclusive(body)
