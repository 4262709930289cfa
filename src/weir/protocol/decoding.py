"""The one way to decode JSON that somebody else wrote: what cannot be decoded is None, whatever is wrong with it.

A decoder can fail in more ways than its name says: malformed text, bytes that are not UTF-8, another type than the
shape has, too deep, a number out of range. No caller needs to tell them apart, and each must survive all of them.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

Found = TypeVar("Found")

FAILURES: Final = (ValueError, RecursionError, OverflowError)
"""msgspec's errors and UnicodeDecodeError are ValueErrors; a float that is infinite overflows."""


def decoded(decode: Callable[[bytes | Raw], Found], text: bytes | Raw) -> Found | None:
    """What a decoder makes of a text; None when it cannot decode it."""
    try:
        return decode(text)
    except FAILURES:
        return None


_decode_any: Final = msgspec.json.Decoder().decode


def any_of(raw: bytes | Raw) -> Any:
    """The value of a short JSON text, such as an id; None when it cannot be decoded."""
    return decoded(_decode_any, raw)


_decode_text: Final = msgspec.json.Decoder(str).decode


def text_of(raw: bytes | Raw) -> str | None:
    """The string that a raw JSON text is, without lone surrogates; None when it is no string."""
    return decoded(_decode_text, raw)


def readable(raw: bytes) -> str:
    """Foreign bytes as text for people: what is not UTF-8 is replaced."""
    return raw.decode("utf-8", "replace")
