"""Server-sent events as bytes: where each event begins and ends, and what it says.

https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.5 and 9.2.6. The pieces a
`Splitter` hands out are the received bytes, uncut and unchanged: their concatenation, with what is
still held, is always exactly the input.
"""

import re
from typing import Final

from weir.protocol.numbers import whole_number

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""An event up to this size is looked at; a larger one streams through unread."""

MAX_EVENT_LINES: Final = 100_000
"""Lines of an event that is looked at; each costs a step. One with more passes unread, as a larger one does."""

SEARCHED_BYTES: Final = 4096
"""How far a line feed is looked for at a time: in a stream that ends its lines with CR there is none."""

_BOM: Final = b"\xef\xbb\xbf"
_LINE_ENDS: Final = b"\r\n"
_CR: Final = 0x0D
_LF: Final = 0x0A
# a blank line is two line ends in a row, and CR LF is one line end: so it always holds CR CR, or LF and one of these
_AFTER_LF: Final = (b"\n", b"\r")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BLANK_LINES: Final = re.compile(rb"[\r\n]+")
# what SDK servers send: an event with one data line; by its beginning, the end that belongs to it
_COMMON: Final = ((b"event: message\r\ndata: ", b"\r\n\r\n"), (b"event: message\ndata: ", b"\n\n"))


class Event:
    """One piece of a stream: a dispatched block, or bytes that say nothing (comments, blank lines).

    `data` is the joined data lines, None when the block has none. `event` is b"" when unnamed.
    `is_comment`: no field at all. `is_opaque`: part of an event too large to be looked at. `has_bom`: the byte
    order mark of the stream stands in front.
    """

    __slots__ = ("data", "event", "has_bom", "id", "is_comment", "is_opaque", "raw", "retry")

    def __init__(self, raw: bytes, data: bytes | None = None, event: bytes = b"") -> None:
        self.raw = raw
        self.data = data
        self.event = event
        self.id: bytes | None = None
        self.retry: int | None = None
        self.is_comment = False
        self.is_opaque = False
        self.has_bom = False

    @property
    def is_message(self) -> bool:
        """True when MCP may have put a JSON-RPC message here (unnamed events are `message` events)."""
        return bool(self.data) and self.event in (b"", b"message")


class Splitter:
    """Cuts a byte stream into events. Never holds more than `limit_bytes`."""

    __slots__ = ("_at_start", "_limit", "_opaque_last", "_pending")

    def __init__(self, limit_bytes: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit_bytes
        # as it was received until something has to be put behind it: most of what comes goes at once
        self._pending: bytes | bytearray = b""
        self._at_start = True
        # the last byte handed out of an event that is too large, empty outside of one
        self._opaque_last = b""

    def rest(self) -> bytes:
        """The bytes fed and not yet handed out: an event that has not ended."""
        return bytes(self._pending)

    @property
    def held_bytes(self) -> int:
        """How much of an event has come that has not ended."""
        return len(self._pending)

    def pass_unread(self) -> Event:
        """Hand out what is held of an event, and its rest as it comes: it is not looked at."""
        found: list[Event] = []
        self._begin_opaque(found)
        return found[0]

    def feed(self, data: bytes) -> list[Event]:
        """The pieces that `data` completes, in order."""
        if not self._pending and not self._opaque_last:
            common = _common_event(data)
            if common is not None:
                self._at_start = False
                return [common]
        found: list[Event] = []
        if self._opaque_last and data:
            data = self._pass_opaque(data, found)
        # the last byte held may be half of a blank line; those before it were searched when they came
        searched = len(self._pending) - 1
        if not self._pending:
            self._pending = data
        elif isinstance(self._pending, bytearray):
            self._pending += data
        else:
            self._pending = bytearray(self._pending) + data
        self._cut(searched, found)
        self._flush_comments(found)
        if len(self._pending) > self._limit:
            self._begin_opaque(found)
        return found

    def _cut(self, searched: int, found: list[Event]) -> None:
        pending, begin = self._pending, 0
        while begin < len(pending):
            end = self._block_end(begin, searched)
            if not end:
                break
            found.append(self._event(_piece(pending, begin, end)))
            begin = end
        if begin:
            self._drop(begin)

    def _drop(self, count: int) -> None:
        """Forget the first bytes held."""
        if count == len(self._pending):
            self._pending = b""
        elif isinstance(self._pending, bytearray):
            del self._pending[:count]
        else:
            self._pending = self._pending[count:]

    def _block_end(self, begin: int, searched: int) -> int:
        """Where the block that begins there ends, its blank line included; 0 when it has not ended."""
        pending = self._pending
        blank = _BLANK_LINES.match(pending, begin)
        if blank is not None:
            # blank lines, or the LF behind a CR that had to be handed out before it came
            return blank.end()
        at = _blank_line(pending, max(begin, searched))
        return _behind_line_end(pending, at) if at else 0

    def _event(self, raw: bytes) -> Event:
        has_bom = self._at_start and raw.startswith(_BOM)
        self._at_start = False
        common = _common_event(raw)
        if common is not None:
            return common
        if raw[0] in _LINE_ENDS:
            return _filler(raw)
        # CR LF counts as two
        if len(raw) > MAX_EVENT_LINES and raw.count(b"\n") + raw.count(b"\r") > 2 * MAX_EVENT_LINES:
            return _opaque(raw)
        return _parse(raw, has_bom=has_bom)

    def _flush_comments(self, found: list[Event]) -> None:
        """Comments in front of any field wait for nobody: they are what keeps a connection alive."""
        pending, begin = self._pending, 0
        bom = len(_BOM) if self._at_start and pending.startswith(_BOM) else 0
        while pending[begin + bom : begin + bom + 1] == b":":
            end = _LINE_END.search(pending, begin)
            if end is None:
                break
            begin, bom = end.end(), 0
        if begin:
            found.append(_filler(bytes(pending[:begin])))
            self._drop(begin)
            self._at_start = False

    def _begin_opaque(self, found: list[Event]) -> None:
        raw = bytes(self._pending)
        found.append(_opaque(raw))
        self._opaque_last = raw[-1:]
        self._pending = b""
        self._at_start = False

    def _pass_opaque(self, data: bytes, found: list[Event]) -> bytes:
        """Hand out what belongs to the event that is too large; the bytes behind it are returned."""
        # a line end that was cut between its CR and LF is put together again
        seam = self._opaque_last + data
        at = _blank_line(seam)
        end = _behind_line_end(seam, at) - 1 if at else len(data)
        self._opaque_last = b"" if at else data[-1:]
        found.append(_opaque(data[:end]))
        return data[end:]


def encode(data: bytes, event: bytes = b"message", id: bytes | None = None) -> bytes:  # noqa: A002 - the field's name
    """One event. Line ends inside `data` become further data lines, as the format wants it."""
    lines = [b"event: " + event] if event else []
    if id is not None:
        lines.append(b"id: " + id)
    lines.extend(b"data: " + line for line in _LINE_END.split(data))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def replace_data(event: Event, data: bytes) -> bytes:
    """The raw bytes of `event`, which has data, with other data; all other lines stay as they are."""
    bom = _BOM if event.has_bom else b""
    lines = event.raw[len(bom) :].splitlines(keepends=True)
    places = [at for at, line in enumerate(lines) if line.rstrip(_LINE_ENDS).partition(b":")[0] == b"data"]
    # in place of the last one: were that taken out, the line end before it could melt into the blank line
    last = places.pop()
    end = lines[last][len(lines[last].rstrip(_LINE_ENDS)) :]
    lines[last] = b"".join(b"data: " + part + end for part in _LINE_END.split(data))
    for at in places:
        lines[at] = b""
    return bom + b"".join(lines)


def _common_event(data: bytes) -> Event | None:
    """One whole event as SDK servers send it; None for anything else."""
    for head, tail in _COMMON:
        if data.startswith(head) and data.endswith(tail, len(head)):
            text = data[len(head) : -len(tail)]
            return None if b"\n" in text or b"\r" in text else Event(data, text, b"message")
    return None


def _piece(text: bytes | bytearray, begin: int, end: int) -> bytes:
    if isinstance(text, bytes):
        return text[begin:end]
    # a slice of a bytearray would be a copy by itself
    with memoryview(text) as view:
        return bytes(view[begin:end])


def _blank_line(text: bytes | bytearray, begin: int = 0) -> int:
    """Where the first line end from `begin` on stands that is right behind another, 0 if there is none."""
    window = begin + SEARCHED_BYTES
    while begin < len(text):
        # line by line and window by window: a chunk may hold many events, and none of them should be searched for in
        # all the others
        at = text.find(_LF, begin, window)
        end = at + 1 or min(window, len(text))
        # one byte is found many times faster than two in a row
        bare = text.find(_CR, begin, end)
        if 0 <= bare != at - 1:
            # the second one may be the first of the next window
            bare = text.find(b"\r\r", bare, end + 1)
            if bare >= 0:
                return bare + 1
        if at >= 0 and text[at + 1 : at + 2] in _AFTER_LF:
            return at + 1
        begin, window = end, max(window, end + SEARCHED_BYTES)
    return 0


def _behind_line_end(text: bytes | bytearray, at: int) -> int:
    """The position behind the line end that stands at `at`."""
    return at + (2 if text[at : at + 2] == b"\r\n" else 1)


def _parse(raw: bytes, *, has_bom: bool) -> Event:
    event = Event(raw)
    event.has_bom = has_bom
    event.is_comment = True
    text = raw[len(_BOM) :] if has_bom else raw
    lines: list[bytes] = []
    for line in text.splitlines():
        name, _, value = line.partition(b":")
        if not name:
            continue
        event.is_comment = False
        value = value.removeprefix(b" ")
        if name == b"data":
            lines.append(value)
        elif name == b"event":
            event.event = value
        elif name == b"id" and b"\0" not in value:
            event.id = value
        elif name == b"retry":
            event.retry = whole_number(value)
    if lines:
        event.data = b"\n".join(lines)
    return event


def _filler(raw: bytes) -> Event:
    event = Event(raw)
    event.is_comment = True
    return event


def _opaque(raw: bytes) -> Event:
    event = Event(raw)
    event.is_opaque = True
    return event
