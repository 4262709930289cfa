"""The one reader of whole numbers in foreign text: headers, events, ids, addresses, variables.

`str.isdigit` accepts characters that `int` refuses (`²`), and `int` refuses more than 4,300 digits with a ValueError,
so neither may meet text that somebody else wrote.
"""

import math

MOST_DIGITS = 19
"""Digits of the largest 64-bit number; longer text is no number that anybody means."""

MOST_CHARACTERS = 400
"""Of a number with a fraction or an exponent: more than any double is written with."""


def whole_number(text: bytes | str, most: int = 2**63 - 1) -> int | None:
    """Reads ASCII digits as a number from 0 to `most`.

    Returns None for anything else: signs, blanks, other scripts' digits, an empty text, a larger number.
    """
    if not text.isdigit() or not text.isascii() or len(text) > MOST_DIGITS:
        return None
    value = int(text)
    return value if value <= most else None


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
