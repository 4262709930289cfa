"""What the log says of spans that were lost: one line a minute, with the counts since the last one."""

from collections.abc import Callable
from typing import Protocol

from weir.core.events import Notice

PERIOD_SECONDS = 60.0
"""A collector that is away for a night costs a line a minute."""
LOSING = "spans are lost: the collector does not take them"
RECOVERED = "spans are exported again"


class Account(Protocol):
    """The counts of a pipeline."""

    @property
    def lost(self) -> dict[str, int]:
        """Spans that are gone, by reason."""

    @property
    def is_failing(self) -> bool:
        """Whether spans of the last batch were lost."""

    @property
    def complaint(self) -> str:
        """What the collector last said of it."""


class SpanLosses:
    """Reports losses and recovery. `clock` is monotonic, in seconds."""

    def __init__(self, emit: Callable[[Notice], None], clock: Callable[[], float], endpoint: str) -> None:
        self._emit = emit
        self._clock = clock
        self._endpoint = endpoint or "default"
        self._said: dict[str, int] = {}
        """The counts of the last line."""
        self._seen: dict[str, int] = {}
        """The counts of the last look."""
        self._said_at: float | None = None
        self._is_losing = False

    def report(self, account: Account) -> None:
        """Emits a line when spans were lost, at most one a period; and one when they arrive again. Call it often."""
        lost = account.lost
        is_losing = lost != self._seen or account.is_failing
        self._seen = lost
        if self._is_losing and not is_losing:
            self._is_losing = False
            self._said = lost
            self._emit(Notice("info", RECOVERED, {"lost": sum(lost.values())}))
        elif any(lost.values()) and lost != self._said and self._is_due():
            self._say(account, lost)

    def _is_due(self) -> bool:
        return self._said_at is None or self._clock() - self._said_at >= PERIOD_SECONDS

    def report_last(self, account: Account) -> None:
        """Emits what was lost since the last line, whenever that was: weir ends."""
        lost = account.lost
        if lost != self._said and any(lost.values()):
            self._say(account, lost)

    def _say(self, account: Account, lost: dict[str, int]) -> None:
        since = {reason: count - self._said.get(reason, 0) for reason, count in lost.items()}
        fields = {reason: count for reason, count in since.items() if count}
        self._emit(Notice("warning", LOSING, {"reason": account.complaint, "endpoint": self._endpoint, **fields}))
        self._said, self._said_at, self._is_losing = lost, self._clock(), True
