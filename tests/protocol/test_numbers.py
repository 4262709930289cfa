"""The one reader of whole numbers in foreign text."""

import pytest

from weir.protocol.numbers import MOST_DIGITS, integer, whole_number


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("007", 7), (b"42", 42), ("9" * 18, 10**18 - 1)])
def test_ascii_digits_are_a_number(text: bytes | str, value: int) -> None:
    assert value == whole_number(text)


NOT_NUMBERS = ["", "²", "٣", "+1", "-1", " 1", "1.0", b"", b"\xb2", b"1\n", "9" * 5000, b"1" * (MOST_DIGITS + 1)]


@pytest.mark.parametrize("text", NOT_NUMBERS, ids=lambda text: repr(text)[:12])
def test_anything_else_is_none(text: bytes | str) -> None:
    assert whole_number(text) is None


def test_a_number_over_the_most_is_none() -> None:
    assert (10, None) == (whole_number("10", 10), whole_number("11", 10))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("7", 7), ("-7", -7), ("7.0", 7), ("1e2", 100), ("7.5", None), ("1e999", None), ("²", None), ("", None)],
        *[("9" * 5000, None), ("1_0", None), ("nan", None), ("-", None), ("--1", None)],
    ],
    ids=lambda value: repr(value)[:12],
)
def test_an_integer_is_read_however_json_spells_it(text: str, value: int | None) -> None:
    """Nothing that somebody else wrote raises."""
    assert value == integer(text)
