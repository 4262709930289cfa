"""What the log says of lost spans, as a transcript of instants."""

from dataclasses import dataclass, field

from weir.core.events import Notice
from weir.telemetry.span_losses import LOSING, PERIOD_SECONDS, RECOVERED, SpanLosses


@dataclass
class Counts:
    """The counts of a pipeline."""

    lost: dict[str, int] = field(default_factory=lambda: {"queue_full": 0, "export_failed": 0})
    is_failing: bool = False
    complaint: str = "no"


class Stand:
    """Reports at instants."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.now = 0.0
        self.lines: list[Notice] = []
        self.losses = SpanLosses(self.lines.append, lambda: self.now, "http://collector")

    def at(self, now: float, *, failing: bool = False, **lost: int) -> list[tuple[str, dict[str, str | int | float]]]:
        """What is said at this instant, when these are the counts."""
        self.now = now
        self.counts.is_failing = failing
        self.counts.lost = {**self.counts.lost, **lost}
        self.losses.report(self.counts)
        said = [(line.text, dict(line.fields)) for line in self.lines]
        self.lines.clear()
        return said


def losing(**counts: int) -> tuple[str, dict[str, str | int | float]]:
    """The line of a loss."""
    return LOSING, {"reason": "no", "endpoint": "http://collector", **counts}


def test_losses_cost_one_line_a_minute_with_the_counts_since_the_last() -> None:
    """The first is said at once."""
    stand = Stand()
    assert [] == stand.at(0)
    assert [losing(export_failed=3)] == stand.at(1, failing=True, export_failed=3)
    assert [] == stand.at(2, failing=True, export_failed=10)
    assert [] == stand.at(PERIOD_SECONDS, failing=True, queue_full=4)
    assert [losing(export_failed=7, queue_full=4)] == stand.at(1 + PERIOD_SECONDS, failing=True)
    assert [] == stand.at(5 * PERIOD_SECONDS, failing=True)


def test_recovery_is_said_once_and_counts_what_no_line_had() -> None:
    """A collector that comes and goes costs two lines a minute."""
    stand = Stand()
    assert [losing(export_failed=1)] == stand.at(0, failing=True, export_failed=1)
    assert [] == stand.at(1, failing=True, export_failed=2)
    assert [(RECOVERED, {"lost": 2})] == stand.at(2)
    assert [] == stand.at(3)
    assert [] == stand.at(4, failing=True, export_failed=3)
    assert [] == stand.at(5)
    assert [losing(export_failed=1)] == stand.at(PERIOD_SECONDS)


def test_a_full_queue_before_a_collector_that_takes_all_is_a_loss_too() -> None:
    """It is slow; no batch fails."""
    stand = Stand()
    assert [losing(queue_full=2)] == stand.at(0, queue_full=2)
    assert [] == stand.at(1, queue_full=3)
    assert [(RECOVERED, {"lost": 3})] == stand.at(2)


def test_the_end_says_what_no_line_has_said() -> None:
    """Whenever the last line was."""
    stand = Stand()
    stand.at(0, failing=True, export_failed=1)
    stand.counts.lost = {"export_failed": 1, "stopped": 5}
    stand.losses.report_last(stand.counts)
    stand.losses.report_last(stand.counts)
    assert [losing(stopped=5)] == [(line.text, dict(line.fields)) for line in stand.lines]
