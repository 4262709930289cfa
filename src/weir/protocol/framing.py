"""One JSON-RPC message a line, as stdio transports have it (MCP, basic/transports, stdio).

A line ends at LF; one CR before it belongs to the line end. JSON text cannot hold either inside a
string, so a body becomes one line by writing spaces where it has them.
"""

from typing import Final

_AS_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")


class Lines:
    """Cuts an incoming byte stream into lines. Never keeps more than `limit_bytes` between two calls.

    A line with more bytes than that (a CR at its end counts) is skipped up to its end; `oversized` is
    how many were, each counted as soon as it is known to be too long.
    """

    __slots__ = ("_is_skipping", "_kept", "_limit_bytes", "oversized")

    def __init__(self, limit_bytes: int) -> None:
        self.oversized = 0
        self._limit_bytes = limit_bytes
        self._kept = bytearray()
        self._is_skipping = False

    @property
    def is_skipping(self) -> bool:
        """The current line is too long, and is not kept."""
        return self._is_skipping

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, in order, without their ends. Blank lines say nothing and are left out."""
        first, *others = data.split(b"\n")
        if not others:
            self._keep(first)
            return []
        rest = others.pop()
        found = [self._complete(first), *map(self._whole, others)]
        if rest:
            self._keep(rest)
        return [line for line in found if line]

    def flush(self) -> bytes:
        """What came after the last line end, b"" if nothing did: some writers end without one. Forgets it."""
        return self._complete(b"")

    def _keep(self, piece: bytes) -> None:
        if self._is_skipping:
            return
        if len(self._kept) + len(piece) > self._limit_bytes:
            self.oversized += 1
            self._is_skipping = True
            self._kept.clear()
        else:
            self._kept += piece

    def _complete(self, last: bytes) -> bytes:
        if self._is_skipping:
            self._is_skipping = False
            return b""
        if not self._kept:
            return self._whole(last)
        self._kept += last
        line = bytes(self._kept)
        self._kept.clear()
        return self._whole(line)

    def _whole(self, line: bytes) -> bytes:
        if len(line) > self._limit_bytes:
            self.oversized += 1
            return b""
        return line[:-1] if line.endswith(b"\r") else line


def encode(body: bytes) -> bytes:
    """`body` as one line with its LF. Line ends in it become spaces, every other byte stays."""
    if b"\n" in body or b"\r" in body:
        body = body.translate(_AS_SPACES)
    return body + b"\n"
