"""When two ids on a pipe are the same one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.protocol.correlation import answers, is_same, key_of
from weir.protocol.envelope import peek


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"7", b'"7"'),
        (b'"caf\\u00e9"', '"café"'.encode()),
        (b'"a\\/b"', b'"a/b"'),
        (b"7", b"7.0"),
        (b"-3", b"-3"),
        (b"1e2", b"100"),
    ],
)
def test_spellings_of_one_id_have_one_key(one: bytes, other: bytes) -> None:
    """A server may write an id in another way than its client."""
    assert key_of(one) == key_of(other)


@pytest.mark.parametrize(
    ("one", "other"), [(b"7", b"77"), (b"7", b"-7"), (b'"a"', b'"A"'), (b"1.5", b"1"), (b"", b"null")]
)
def test_different_ids_have_different_keys(one: bytes, other: bytes) -> None:
    """No two requests meet."""
    assert key_of(one) != key_of(other)


@given(st.one_of(st.integers(), st.text()))
def test_every_encoder_s_spelling_is_found(value: int | str) -> None:
    """ASCII-only and UTF-8 encoders, the two there are."""
    escaped = json.dumps(value).encode()
    try:
        plain = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert key_of(escaped) == key_of(plain)


@given(st.binary(max_size=20))
def test_it_reads_anything(raw: bytes) -> None:
    """Raw text that is no JSON is its own key."""
    key_of(raw)


SPELLINGS = st.integers(-(2**31), 2**31).flatmap(
    lambda number: st.tuples(
        st.just(number),
        st.sampled_from([b"%d", b'"%d"', b"%d.0", b"%de0"]).map(lambda form: form % number),
        st.sampled_from([b"%d", b'"%d"', b"%d.0", b"%de0"]).map(lambda form: form % number),
    )
)


@given(SPELLINGS, SPELLINGS)
def test_ids_are_the_same_exactly_when_their_values_are(
    one: tuple[int, bytes, bytes], other: tuple[int, bytes, bytes]
) -> None:
    """In whatever type and spelling; a text in exponent form is another text."""
    assert is_same(one[1], one[2])
    assert (one[0] == other[0]) == is_same(one[1], other[2])


@pytest.mark.parametrize("raw", [b"null", b"true", b"[7]", b"{}", b"1.5", b""])
def test_what_is_no_id_meets_no_text_that_reads_like_it(raw: bytes) -> None:
    """A request with the id "null" is not answered by an error without an id."""
    assert not is_same(raw, b'"' + raw + b'"')


@pytest.mark.parametrize(
    ("text", "is_answer"),
    [
        (b'{"jsonrpc":"2.0","id":7,"result":{}}', True),
        (b'{"jsonrpc":"2.0","id":"7","result":{}}', True),
        (b'{"jsonrpc":"2.0","id":7.0,"error":{"code":1,"message":""}}', True),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}', True),
        (b'{"jsonrpc":"2.0","id":null,"result":{}}', False),
        (b'{"jsonrpc":"2.0","id":8,"result":{}}', False),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping"}', False),
    ],
)
def test_a_response_under_the_same_id_or_an_error_without_one_answers(text: bytes, is_answer: bool) -> None:
    """A question of the server's under that id does not."""
    assert is_answer == answers(peek(text), b"7")
