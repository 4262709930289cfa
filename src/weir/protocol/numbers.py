"""The one reader of whole numbers in foreign text: headers, events, ids, addresses, variables.

`str.isdigit` accepts characters that `int` refuses (`²`), and `int` refuses more than 4,300 digits with a ValueError,
so neither may meet text that somebody else wrote.
"""

MOST_DIGITS = 19
"""Digits of the largest 64-bit number; longer text is no number that anybody means."""


def whole_number(text: bytes | str, most: int = 2**63 - 1) -> int | None:
    """Reads ASCII digits as a number from 0 to `most`.

    Returns None for anything else: signs, blanks, other scripts' digits, an empty text, a larger number.
    """
    if not text.isdigit() or not text.isascii() or len(text) > MOST_DIGITS:
        return None
    value = int(text)
    return value if value <= most else None
