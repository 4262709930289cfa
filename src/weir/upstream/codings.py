"""Content codings that weir can undo (RFC 9110, section 8.4.1), of whole bodies and of bodies that still arrive."""

import zlib
from collections.abc import Iterator
from typing import Final

from weir.core.call import Headers, header

PIECE_BYTES: Final = 32 * 1024
"""The most that is inflated in one step: a few bytes can stand for a thousand times as many."""

_GZIP: Final = frozenset((b"gzip", b"x-gzip"))
_READABLE: Final = _GZIP | {b"deflate"}
_ZLIB_OR_GZIP: Final = 47
_RAW_DEFLATE: Final = -15
_GZIP_MEMBER: Final = b"\x1f\x8b"


class CodingError(ValueError):
    """The bytes are not what their content coding says."""


def is_readable(coding: bytes) -> bool:
    """Returns whether weir can undo the coding that a `Content-Encoding` names."""
    return coding.strip().lower() in _READABLE


def decoded(headers: Headers, body: bytes, limit_bytes: int) -> bytes | None:
    """Returns the body without its content coding; None when that is unknown, broken or larger than the limit."""
    coding = header(headers, b"content-encoding").strip().lower()
    if coding in (b"", b"identity"):
        return body
    if coding not in _READABLE:
        return None
    inflater, pieces, size = Inflater(coding), [], 0
    try:
        for piece in inflater.feed(body):
            pieces.append(piece)
            size += len(piece)
            if size > limit_bytes:
                return None
    except CodingError:
        return None
    return b"".join(pieces) if inflater.is_complete else None


class Inflater:
    """Undoes gzip or deflate of a body that arrives in pieces."""

    __slots__ = ("_has_begun", "_is_gzip", "_machine")

    def __init__(self, coding: bytes) -> None:
        self._is_gzip = coding.strip().lower() in _GZIP
        self._machine = zlib.decompressobj(_ZLIB_OR_GZIP)
        self._has_begun = False

    @property
    def is_complete(self) -> bool:
        """The coding's own end has come."""
        return self._machine.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields the text that the next bytes of the body stand for, in pieces of at most PIECE_BYTES.

        Raises:
            CodingError: they are not of this coding.
        """
        is_more = False
        while data or is_more:
            if self._machine.eof and not self._begins_again(data):
                return
            text = self._step(data)
            if text:
                yield text
            # a full piece may leave more in the machine, also where it has taken all bytes
            is_more = len(text) == PIECE_BYTES and not self._machine.eof
            data = self._machine.unused_data if self._machine.eof else self._machine.unconsumed_tail

    def _begins_again(self, data: bytes) -> bool:
        """A gzip file may have several members (RFC 1952, section 2.2); anything else behind the end is padding."""
        if not self._is_gzip or not data.startswith(_GZIP_MEMBER):
            return False
        self._machine = zlib.decompressobj(_ZLIB_OR_GZIP)
        return True

    def _step(self, data: bytes) -> bytes:
        try:
            text = self._machine.decompress(data, PIECE_BYTES)
        except zlib.error as error:
            if self._has_begun or self._is_gzip:
                raise CodingError(str(error)) from None
            # RFC 9110 says zlib format; some senders leave the wrapper out
            self._machine = zlib.decompressobj(_RAW_DEFLATE)
            self._has_begun = True
            return self._step(data)
        self._has_begun = True
        return text
