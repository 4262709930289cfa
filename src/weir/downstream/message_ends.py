"""Where the request that is being read may end, so that the parser never sees bytes of the next one.

httptools parses everything that it is given. A client could have thousands of requests parsed and queued with one
packet; fed up to the end of one request, the rest waits as bytes.
"""

from typing import Final

_BLANK_LINE: Final = b"\r\n\r\n"
_OVERLAP: Final = len(_BLANK_LINE) - 1


class MessageEnds:
    """Cuts incoming bytes at every place where a request may end.

    A head and a chunked body both end with a blank line, a body of known length with its last byte. A blank line
    inside a chunked body is one cut too many, which changes nothing.
    """

    __slots__ = ("_seen", "body_left")

    def __init__(self) -> None:
        self.body_left = 0
        """Bytes of a body of known length that are still to come; 0 in a head and in a chunked body."""
        self._seen = b""

    def head_of(self, data: bytes) -> int:
        """Returns the length of the head at the beginning of `data`; 0 when it does not end there.

        For data that begin a message: most requests come whole, and need no look at each piece.
        """
        end = -1 if self._seen else data.find(_BLANK_LINE)
        return end + len(_BLANK_LINE) if end >= 0 else 0

    def next_cut(self, data: bytes | bytearray, begin: int) -> int:
        """Returns the end of the next piece of `data` to feed: at most its length, always beyond `begin`."""
        size = len(data)
        if self.body_left:
            end = min(size, begin + self.body_left)
            self.body_left -= end - begin
            return end
        if self._seen:
            # the blank line may have begun in an earlier piece
            seen, self._seen = self._seen, b""
            across = (seen + bytes(data[begin : begin + _OVERLAP])).find(_BLANK_LINE)
            if across >= 0:
                return begin + across + len(_BLANK_LINE) - len(seen)
            if size - begin < _OVERLAP:
                self._seen = (seen + bytes(data[begin:]))[-_OVERLAP:]
                return size
        found = data.find(_BLANK_LINE, begin)
        if found >= 0:
            return found + len(_BLANK_LINE)
        self._seen = bytes(data[max(begin, size - _OVERLAP) :])
        return size
