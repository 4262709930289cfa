"""One line for each finished request and each other HTTP exchange: who asked what, how it ended, where the time went.

A request that was refused before it became a call has a line too.

Never in it: headers, session ids, arguments, results, URIs, and servers' error messages (they quote arguments). Where
nobody answered it says why, in the words that the caller got.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from weir.core.call import Call
from weir.core.events import RequestRefused
from weir.core.outcome import Failed, FailureKind, Outcome, Refused
from weir.core.phases import Phases
from weir.protocol.envelope import Kind
from weir.telemetry import redact
from weir.telemetry.instants import EpochClock
from weir.telemetry.labels import verb_of
from weir.telemetry.line import Line
from weir.telemetry.log import LEVELS, Timestamps
from weir.telemetry.reading import Reading
from weir.telemetry.writer import Writer

NAME_LIMIT_BYTES: Final = 128
DETAIL_LIMIT_BYTES: Final = 400
_PHASES: Final = Phases._fields
_DETAILS: Final = (Kind.NOTIFICATION, Kind.RESPONSE)
_encode: Final = msgspec.json.Encoder().encode


Render = Callable[[Line], bytes]


def json_line(line: Line) -> bytes:
    """For machines."""
    return redact.printable_json(_encode(line)) + b"\n"


def text_line(line: Line) -> bytes:
    """For people, without colours."""
    return _text(line, "", "", "")


def coloured_line(line: Line) -> bytes:
    """For people at a terminal."""
    colour = {"warning": "\x1b[33m", "error": "\x1b[31m"}.get(line.level, "\x1b[32m")
    return _text(line, colour, "\x1b[2m", "\x1b[0m")


def _text(line: Line, colour: str, dim: str, plain: str) -> bytes:
    what = redact.printable(f"{line.mcp_method or line.verb or line.msg} {line.tool}".rstrip())
    how = line.outcome if line.reason in ("", "ok") else f"{line.outcome} {line.reason}"
    spent = " ".join(f"{name} {value:g}" for name, value in line.phases.items())
    # people read their own clock; the log's other lines do so too
    clock = datetime.fromisoformat(line.ts).astimezone()
    parts = [
        f"{dim}{clock:%H:%M:%S}{plain} {colour}{line.level.upper():7}{plain} {what} → {colour}{how}{plain}",
        f"{line.duration_ms:.1f} ms",
        f"{dim}({spent})" if spent else dim,
        line.upstream,
        f"error={line.error}" if line.error else "",
        f"blame={line.blame}" if line.blame else "",
        f"attempts={line.attempts}" if line.attempts > 1 else "",
        f"trace={line.trace_id}" if line.trace_id else "",
        f"detail={redact.printable(line.detail)}" if line.detail else "",
    ]
    return (" ".join(part for part in parts if part) + plain).encode() + b"\n"


class AccessLog:
    """The fold."""

    def __init__(
        self, writer: Writer, render: Render, level: str, epoch: EpochClock, clock: Callable[[], float]
    ) -> None:
        self._writer = writer
        self._render = render
        self._least = LEVELS[level]
        self._epoch = epoch
        self._clock = clock
        self._timestamp = Timestamps()

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        return {RequestRefused: self._request_refused}

    def exchanged(self, call: Call, outcome: Outcome) -> None:
        """Fold a GET stream, a DELETE, a client's answer, a body that cannot be read, any other verb."""
        if call.members:
            # read in their turn
            return
        reading = Reading(call, outcome)
        level = _level(reading)
        if LEVELS[level] >= self._least:
            line = self._line(reading, level)
            line.msg, line.verb = "exchange", verb_of(call.verb)
            self._writer.add(self._render(line))

    def _request_refused(self, event: RequestRefused) -> None:
        if LEVELS["warning"] >= self._least:
            now = self._timestamp(self._epoch.seconds(self._clock()))
            line = Line(now, "warning", "request refused", event.upstream, "", "refused", 0.0)
            line.reason, line.status, line.client = event.reason, event.status, event.address
            self._writer.add(self._render(line))

    def read(self, reading: Reading) -> None:
        """Fold one finished request or notification."""
        level = _level(reading)
        if LEVELS[level] >= self._least:
            self._writer.add(self._render(self._line(reading, level)))

    def _line(self, reading: Reading, level: str) -> Line:
        call, judgement = reading.call, reading.judgement
        line = Line(
            self._timestamp(self._epoch.seconds(call.ended_at)),
            level,
            "call",
            call.upstream,
            redact.cut(call.message.method, NAME_LIMIT_BYTES),
            judgement.outcome,
            int(reading.seconds * 1e6) / 1000,
            redact.cut(call.message.name, NAME_LIMIT_BYTES),
            judgement.reason,
            judgement.client_error,
            call.status,
            len(call.attempts),
            {name: int(spent * 1e6) / 1000 for name, spent in zip(_PHASES, reading.phases, strict=True) if spent > 0},
            len(call.body),
            call.bytes_sent,
            call.peer.address,
            redact.cut(call.revision, NAME_LIMIT_BYTES),
        )
        if call.trace is not None:
            line.trace_id, line.span_id = call.trace.trace_id, call.trace.span_id
        outcome = reading.outcome
        if isinstance(outcome, Failed | Refused):
            line.blame = outcome.blame.value
            line.detail = redact.cut(redact.text(outcome.detail), DETAIL_LIMIT_BYTES)
        return line


def _level(reading: Reading) -> str:
    """A failure is an error, a refusal or an error answer worth a look, a notification that arrived a detail."""
    judgement = reading.judgement
    if judgement.outcome == "failed" and judgement.reason != FailureKind.CANCELLED.value:
        return "error"
    if judgement.outcome == "refused" or (judgement.outcome == "replied" and judgement.server_error):
        return "warning"
    return "debug" if reading.call.message.kind in _DETAILS else "info"
