"""Reading what the strict decoder refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.protocol.envelope import Kind, peek
from weir.protocol.salvage import salvage


@pytest.mark.parametrize(
    ("body", "kind", "raw_id"),
    [
        (b'{"id":7,"result":{"n":NaN}}', Kind.RESPONSE, b"7"),
        (b'{"id":"a","result":{"s":"\\ud800"}}', Kind.RESPONSE, b'"a"'),
        (b'\xef\xbb\xbf{"id":7,"error":{"code":1,"message":"m"}}', Kind.RESPONSE, b"7"),
        (b'{"method":"x","params":{"n":-Infinity}}', Kind.NOTIFICATION, b""),
        (b'{"id":null,"method":"x","params":NaN}', Kind.REQUEST, b"null"),
        (b'{"id":7,"result":{"deep":%b}}' % (b"[" * 5000 + b'"]\\"",{}' + b"]" * 5000), Kind.RESPONSE, b"7"),
        (b'{"params":%b,"method":"x","id":7}' % (b'{"a":' * 5000 + b"1" + b"}" * 5000), Kind.REQUEST, b"7"),
        (b"[NaN]", Kind.OPAQUE, b""),
        (b'{"x":NaN}', Kind.OPAQUE, b""),
    ],
)
def test_a_message_that_some_decoders_read_has_a_kind_and_an_id(body: bytes, kind: Kind, raw_id: bytes) -> None:
    """Its bytes are relayed all the same."""
    assert Kind.OPAQUE is peek(body).kind
    found = salvage(body)
    assert found is not None
    assert (kind, raw_id) == (found.kind, found.id)


def test_the_verdict_is_read_too() -> None:
    """An error's code, a tool's error."""
    error = salvage(b'{"id":1,"error":{"code":-32603,"data":NaN}}')
    assert error is not None
    assert error.error is not None
    assert -32603 == error.error.code
    result = salvage(b'{"id":1,"result":{"isError":true,"n":NaN}}')
    assert result is not None
    assert result.result is not None
    assert result.result.is_error


@pytest.mark.parametrize("body", [b"Starting...", b"", b"{", b"[" * 100_000, b"]" * 100_000, b"{'id':1}"])
def test_what_is_no_json_at_all_is_nothing(body: bytes) -> None:
    """A banner, a truncated line."""
    assert salvage(body) is None


@given(st.binary())
def test_it_never_raises(body: bytes) -> None:
    """Servers write anything."""
    salvage(body)
