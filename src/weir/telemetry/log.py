"""Weir's own log on stderr: notices, the life of children and sessions, limits. Text or JSON, one line each."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from weir.core.events import (
    BreakerMoved,
    ChildExited,
    ChildStarted,
    LimitReached,
    LineSkipped,
    Notice,
    SessionClosed,
    SessionOpened,
    StoodStill,
)
from weir.telemetry import redact
from weir.telemetry.writer import Writer

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# the same limit is told once in that time; its counter tells the rest
REPEAT_SECONDS: Final = 60.0
_REPEATS_LIMIT: Final = 1000
_COLOURS: Final = {"debug": "\x1b[2m", "info": "", "warning": "\x1b[33m", "error": "\x1b[31m"}
_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[0m"

Fields = Mapping[str, str | int | float | bool]
Format = Callable[[float, str, str, Fields], bytes]
"""(Unix time, level, text, fields) -> one line."""


class Timestamps:
    """RFC 3339 in UTC with milliseconds; the part up to the second is made once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        # four digits without the first: formatting with zeros is slower
        return self._text + "." + str(1000 + int((now - second) * 1000))[1:] + "Z"


def json_format() -> Format:
    """Lines for machines."""
    timestamp = Timestamps()

    def line(now: float, level: str, text: str, fields: Fields) -> bytes:
        said = {"ts": timestamp(now), "level": level, "msg": text, **fields}
        return redact.printable_json(msgspec.json.encode(said)) + b"\n"

    return line


def text_format(*, colours: bool) -> Format:
    """Lines for people."""

    def line(now: float, level: str, text: str, fields: Fields) -> bytes:
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        details = " ".join(f"{name}={redact.printable(str(value))}" for name, value in fields.items())
        if colours:
            head = f"{_DIM}{clock}{_PLAIN} {_COLOURS[level]}{level.upper():7}{_PLAIN}"
            details = f"{_DIM}{details}{_PLAIN}" if details else ""
        else:
            head = f"{clock} {level.upper():7}"
        return f"{head} {redact.printable(text)}  {details}".rstrip().encode() + b"\n"

    return line


class Log:
    """The fold. Events below `level` are not even asked for."""

    def __init__(self, writer: Writer, form: Format, level: str, wall: Callable[[], float]) -> None:
        self._writer = writer
        self._form = form
        self._least = LEVELS[level]
        self._wall = wall
        self._told: dict[tuple[str, ...], float] = {}
        # how often each limit was reached since the last line about it; limits are words of a closed list
        self._times: dict[tuple[str, str], int] = {}

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        handlers: dict[type, Callable[[Any], None]] = {
            Notice: lambda event: self.write(event.level, event.text, event.fields),
            ChildExited: self._child_exited,
            LimitReached: self._limit_reached,
            LineSkipped: self._line_skipped,
            BreakerMoved: self._breaker_moved,
            StoodStill: self._stood_still,
        }
        if self._least <= LEVELS["info"]:
            handlers[ChildStarted] = self._child_started
        if self._least <= LEVELS["debug"]:
            handlers[SessionOpened] = self._session_opened
            handlers[SessionClosed] = self._session_closed
        return handlers

    def write(self, level: str, text: str, fields: Fields) -> None:
        """One line, without what looks like a credential."""
        if LEVELS.get(level, LEVELS["error"]) < self._least:
            return
        clean = {name: _clean(value) if isinstance(value, str) else value for name, value in fields.items()}
        self._writer.add(self._form(self._wall(), level, _clean(text), clean))

    def write_once(self, level: str, text: str, fields: Fields, *key: str) -> bool:
        """As `write`, but not again under the same key for a minute; returns whether it was written."""
        now = self._wall()
        if now - self._told.get((text, *key), -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        if len(self._told) >= _REPEATS_LIMIT:
            self._told.clear()
        self._told[text, *key] = now
        self.write(level, text, fields)
        return True

    def _child_started(self, event: ChildStarted) -> None:
        self.write("info", "server process started", {"upstream": event.upstream, "pid": event.pid})

    def _child_exited(self, event: ChildExited) -> None:
        fields: dict[str, str | int] = {"upstream": event.upstream, "pid": event.pid, "code": event.code}
        if event.expected:
            self.write("info", "server process stopped", fields)
            return
        if last_words := redact.last_words(event.stderr_tail):
            fields["stderr"] = last_words
        self.write("warning", "server process exited by itself", fields)

    def _limit_reached(self, event: LimitReached) -> None:
        key = (event.upstream, event.limit)
        times = self._times[key] = self._times.get(key, 0) + 1
        fields: Fields = {"upstream": event.upstream, "limit": event.limit, "times": times}
        if self.write_once("warning", "limit reached", fields, *key):
            del self._times[key]

    def _stood_still(self, event: StoodStill) -> None:
        text = f"weir stood still for {event.seconds:.1f} s; no deadline counts that time"
        self.write("warning", text, {"seconds": round(event.seconds, 3)})

    def _line_skipped(self, event: LineSkipped) -> None:
        fields: Fields = {"upstream": event.upstream, "bytes": event.size}
        self.write_once("warning", "a line on the server's stdout is no message", fields, event.upstream)

    def _breaker_moved(self, event: BreakerMoved) -> None:
        fields: Fields = {
            "upstream": event.upstream,
            "scope": event.scope,
            "from": event.before,
            "to": event.after,
            "reason": event.reason,
            "shadow": event.is_shadow,
            "trace_ids": ",".join(event.traces),
        }
        self.write("warning", "breaker moved", fields)

    def _session_opened(self, event: SessionOpened) -> None:
        fields = {"upstream": event.upstream, "side": event.side, "revision": event.revision}
        self.write("debug", "session opened", fields)

    def _session_closed(self, event: SessionClosed) -> None:
        fields: Fields = {"upstream": event.upstream, "side": event.side, "reason": event.reason}
        self.write("debug", "session closed", {**fields, "seconds": round(event.seconds, 3)})


def _clean(text: str) -> str:
    return redact.without_surrogates(redact.text(text))
