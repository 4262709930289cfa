"""The one reader of whole numbers in foreign text."""

import pytest

from weir.protocol.numbers import MOST_DIGITS, whole_number


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("007", 7), (b"42", 42), ("9" * 18, 10**18 - 1)])
def test_ascii_digits_are_a_number(text: bytes | str, value: int) -> None:
    assert value == whole_number(text)


NOT_NUMBERS = ["", "²", "٣", "+1", "-1", " 1", "1.0", b"", b"\xb2", b"1\n", "9" * 5000, b"1" * (MOST_DIGITS + 1)]


@pytest.mark.parametrize("text", NOT_NUMBERS, ids=lambda text: repr(text)[:12])
def test_anything_else_is_none(text: bytes | str) -> None:
    assert whole_number(text) is None


def test_a_number_over_the_most_is_none() -> None:
    assert (10, None) == (whole_number("10", 10), whole_number("11", 10))
