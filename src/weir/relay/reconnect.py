"""When and whether a stream is asked for again. Pure."""

from dataclasses import dataclass

from weir.core.outcome import Failed, FailureKind, Outcome, RefusalKind, Replied
from weir.relay.unwrap import is_event_stream

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
    max_seconds: float = 30.0
    retry_max_seconds: float = 3600.0  # a server may ask for patience, not for eternity


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
        return outcome.status >= 500 or outcome.status in _PASSING_STATUS
    if isinstance(outcome, Failed):
        return outcome.kind not in _LASTING_FAILURES
    return outcome.kind not in _LASTING_REFUSALS
