"""What became of one batch of spans at the collector, read from its reply over HTTP or gRPC."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from threading import TIMEOUT_MAX

from weir.protocol.numbers import whole_number
from weir.telemetry import redact

EXPORT_FAILED = "export_failed"
"""The collector was not reached, did not answer in time, or refused the batch."""
REJECTED = "rejected"
"""The collector took the batch and rejected spans of it (`partial_success`)."""
STOPPED = "stopped"
"""weir ended before the collector had taken the span."""
QUEUE_FULL = "queue_full"
"""The queue had no room."""


LEAST_PAUSE_SECONDS = 1.0
"""A collector that asks to be asked again at once is not asked in a loop."""


class PauseAskedError(Exception):
    """The collector asked for a pause; it ends the retries of the SDK's own client."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """How an attempt to export a batch ended."""

    lost: int = 0
    """Spans of the batch that are gone; the collector took the others."""
    reason: str = ""
    """Why they are gone: a value of the label of `weir_spans_dropped_total`."""
    text: str = ""
    """What the collector or the exporter said, for the log; redacted."""
    again_after_seconds: float | None = None
    """The collector asked for this pause (`Retry-After`, `RetryInfo`): no span is lost, the batch waits."""


def taken() -> Receipt:
    """Returns the receipt of a batch that was taken as a whole."""
    return _TAKEN


_TAKEN = Receipt()


def failed(spans: int, text: str) -> Receipt:
    """Returns the receipt of a batch that is lost as a whole."""
    return Receipt(spans, EXPORT_FAILED, redact.text(text))


def rejected(spans: int, count: int, text: str) -> Receipt:
    """Returns the receipt of a batch of which the collector rejected `count` spans; any number may come."""
    count = max(0, min(spans, count))
    return Receipt(count, REJECTED, redact.text(text) or "the collector gave no reason") if count else _TAKEN


def asked_to_wait(seconds: float, text: str) -> Receipt:
    """Returns the receipt of a batch that may be sent again after a pause."""
    # a longer pause cannot be waited for, and means for ever just as well
    seconds = max(LEAST_PAUSE_SECONDS, min(seconds, TIMEOUT_MAX))
    return Receipt(0, "", redact.text(f"{text}; it asks for a pause of {seconds:.0f} s"), seconds)


def retry_after(value: str, wall: Callable[[], float] = time.time) -> float | None:
    """Reads a `Retry-After` header as seconds from now; None for anything that is neither seconds nor a date."""
    value = value.strip()
    seconds = whole_number(value)
    if seconds is not None:
        return float(seconds)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - wall())
    except (ValueError, TypeError, OverflowError, OSError):
        return None
