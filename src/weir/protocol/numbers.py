"""The one reader of whole numbers in foreign text: headers, events, ids, addresses, variables.

`str.isdigit` accepts characters that `int` refuses (`²`), and `int` refuses more than 4,300 digits with a ValueError,
so neither may meet text that somebody else wrote.
"""

import math
from typing import Final

MOST_DIGITS: Final = 19
"""Digits of the largest 64-bit number; longer text is no number that anybody means."""

MOST_CHARACTERS: Final = 400
"""Of a number with a fraction or an exponent: more than any double is written with."""


def whole_number(text: bytes | str, most: int = 2**63 - 1) -> int | None:
    """Reads ASCII digits as a number from 0 to `most`.

    Returns None for anything else: signs, blanks, other scripts' digits, an empty text, a larger number.
    """
    if isinstance(text, bytes):
        value = _of_digits(text)
    else:
        value = int(text) if len(text) <= MOST_DIGITS and text.isdigit() and text.isascii() else -1
    return value if 0 <= value <= most else None


def _of_digits(text: bytes) -> int:
    """Returns -1 for what is no number. For each header with a length: compiled, a third of what `int` costs."""
    length = len(text)
    if not 0 < length <= MOST_DIGITS:
        return -1
    value = 0
    for at in range(length):
        digit = text[at] - 0x30
        if not 0 <= digit <= 9:
            return -1
        value = 10 * value + digit
    return value


def seconds_to_wait(text: bytes) -> float | None:
    """Reads a wait in whole seconds. A number too large to be read means for ever (inf); None: it is no number."""
    seconds = whole_number(text)
    return seconds if seconds is not None or not text.isdigit() else math.inf


def integer(text: str) -> int | None:
    """Reads the integer that a JSON number is, with a sign, a fraction of zeros or an exponent.

    Returns None for any other text, and for one of more than MOST_CHARACTERS.
    """
    digits = text.removeprefix("-")
    if not text.isascii() or len(text) > MOST_CHARACTERS or not digits[:1].isdigit() or "_" in text:
        return None
    if digits.isdigit():
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
