"""When two ids on a pipe are the same one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.relay.stdio_ids import key_of


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
