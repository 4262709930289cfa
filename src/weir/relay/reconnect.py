"""When and whether a stream is asked for again. Pure."""

from dataclasses import dataclass

from weir.core.outcome import Failed, FailureKind, Outcome, RefusalKind, Replied
from weir.protocol.media_types import is_event_stream
from weir.protocol.statuses import NO_STREAM

FLOOR_SECONDS = 0.02
"""`retry: 0` is no reason to spin."""
DOUBLINGS_LIMIT = 16
"""Back-off stops doubling long after its maximum is reached: the power must not grow for ever."""

# 408 and 425 say "again", 409 that the stream before this one is still being closed, 429 "later"
_PASSING_STATUS = frozenset((408, 409, 425, 429))
_LASTING_FAILURES = frozenset(
    (FailureKind.EXITED, FailureKind.INTERNAL, FailureKind.TOO_LARGE, FailureKind.CANCELLED, FailureKind.TLS)
)
_LASTING_REFUSALS = frozenset((RefusalKind.UNKNOWN_SESSION, RefusalKind.BAD_MESSAGE, RefusalKind.DRAINING))


@dataclass(frozen=True, slots=True)
class ReconnectSettings:
    """Back-off with jitter where the server names no time; `retry_max_seconds` bounds the time it names."""

    initial_seconds: float = 1.0
    """Also the floor from the second stream in a row that brought no message."""
    max_seconds: float = 30.0
    empty_max_seconds: float = 5.0
    """The ceiling of the back-off between empty streams: a server that is polled answers so much later at most."""
    retry_max_seconds: float = 3600.0  # a server may ask for patience, not for eternity


class Streak:
    """Counts what came in a row without a message: failures to get a stream, and streams that ended empty."""

    __slots__ = ("empty", "failures")

    def __init__(self) -> None:
        self.failures = 0
        self.empty = 0

    @property
    def is_spinning(self) -> bool:
        """More than one stream in a row brought nothing, so the server's own time is not believed any more."""
        return self.empty > 1

    def note(self, outcome: Outcome, messages: int) -> None:
        """Counts one try, which brought so many messages."""
        if messages:
            self.clear()
        elif is_stream(outcome):
            self.failures = 0
            self.empty += 1
        else:
            self.failures += 1

    def clear(self) -> None:
        """Begins anew: the last stream was a good one."""
        self.failures = self.empty = 0

    def wait_seconds(self, settings: ReconnectSettings, asked_seconds: float | None, draw: float) -> float:
        """Returns how long to wait before the next try; see the function of this name."""
        asked = wait_seconds(settings, asked_seconds, self.failures, draw)
        if not self.is_spinning:
            return asked
        doubled: float = settings.initial_seconds * 2.0 ** min(self.empty - 2, DOUBLINGS_LIMIT)
        return max(asked, min(doubled, settings.empty_max_seconds))


def wait_seconds(settings: ReconnectSettings, asked_seconds: float | None, failures: int, draw: float) -> float:
    """How long to wait. `asked_seconds` is the stream's `retry`, `draw` a number in [0, 1).

    A server that answers gets the time it asks for (2025-11-25, basic/transports); one that fails at
    least the back-off.
    """
    ceiling: float = min(
        settings.max_seconds, settings.initial_seconds * 2.0 ** min(max(failures - 1, 0), DOUBLINGS_LIMIT)
    )
    back_off = ceiling * (1 + draw) / 2
    if asked_seconds is None:
        return max(FLOOR_SECONDS, back_off)
    asked = min(max(asked_seconds, FLOOR_SECONDS), settings.retry_max_seconds)
    return asked if failures == 0 else max(asked, back_off)


def is_stream(outcome: Outcome) -> bool:
    """The server gave an event stream."""
    return isinstance(outcome, Replied) and outcome.status == 200 and is_event_stream(outcome.headers)


def is_passing(outcome: Outcome) -> bool:
    """What went wrong may be over soon."""
    if isinstance(outcome, Replied):
        is_passing_status = outcome.status >= 500 or outcome.status in _PASSING_STATUS
        return is_passing_status and outcome.status not in NO_STREAM
    if isinstance(outcome, Failed):
        return outcome.kind not in _LASTING_FAILURES
    return outcome.kind not in _LASTING_REFUSALS
