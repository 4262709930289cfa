"""How each upstream is, from traffic only: weir never probes.

An upstream is `unknown` until it was asked; `healthy` once it answered; `degraded` when some of its last
attempts failed by its own fault; `unhealthy` when it cannot be reached or all of the last ones failed. What
the client or weir got wrong says nothing about an upstream. An unhealthy upstream that nobody asked for
a while is only `degraded`: else a balancer that reads `/readyz` would keep away the traffic that tells.
"""

import enum
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from weir.core.events import AttemptFinished, CallFinished, CallStarted, ChildExited
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, Replied
from weir.protocol.statuses import NO_STREAM
from weir.telemetry import redact

WINDOW_SECONDS: Final = 60.0
"""Older attempts say nothing about now."""
WINDOW_ATTEMPTS: Final = 20
"""Of a busy upstream only the last ones count, so that it is well again soon after it recovered."""
FAILURES_IN_A_ROW: Final = 5
MIN_FAILURES: Final = 2
"""One failure alone may be one slow tool; it degrades, it does not condemn."""
MAX_DETAIL_LENGTH: Final = 200
"""A reason is one line."""

_UNREACHABLE: Final = frozenset([FailureKind.CONNECT, FailureKind.TLS])
_SERVER_ERROR: Final = 500


class State(enum.Enum):
    """How an upstream is."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Condition(NamedTuple):
    """A state, why (one line, empty when there is nothing to say), and since when (on the fold's clock)."""

    state: State
    reason: str
    since: float


class _Failure(NamedTuple):
    number: int
    at: float
    text: str
    is_unreachable: bool


class UpstreamHealth:
    """One upstream's attempts, folded. Pure: every instant is handed in."""

    def __init__(self, now: float) -> None:
        self.in_flight = 0
        self.streams = 0
        self._attempts = 0
        self._in_a_row = 0
        self._answered_at: float | None = None
        self._failures: deque[_Failure] = deque(maxlen=WINDOW_ATTEMPTS)
        self._condition = Condition(State.UNKNOWN, "not asked yet", now)

    def answered(self, now: float) -> None:
        """An attempt got its answer."""
        self._attempts += 1
        self._in_a_row = 0
        self._answered_at = now
        if self._condition.state is not State.HEALTHY:
            self.condition(now)

    def failed(self, now: float, text: str, *, is_unreachable: bool = False) -> None:
        """An attempt failed by the upstream's fault."""
        self._attempts += 1
        self._in_a_row += 1
        self._failures.append(_Failure(self._attempts, now, text, is_unreachable))
        self.condition(now)

    def exited(self, now: float, text: str) -> None:
        """A server process ended unasked. The next call starts another: it degrades, no more."""
        self._failures.append(_Failure(self._attempts, now, text, False))
        self.condition(now)

    def condition(self, now: float) -> Condition:
        """How the upstream is at `now`."""
        state, reason = self._judged(now)
        since = self._condition.since if state is self._condition.state else now
        self._condition = Condition(state, reason, since)
        return self._condition

    def _judged(self, now: float) -> tuple[State, str]:
        recent = [one for one in self._failures if now - one.at <= WINDOW_SECONDS]
        recent = [one for one in recent if self._attempts - one.number < WINDOW_ATTEMPTS]
        if recent:
            return (State.UNHEALTHY if self._is_down(recent, now) else State.DEGRADED), self._reason(recent, now)
        if self._in_a_row and self._failures:
            return State.DEGRADED, f"not asked since it failed, {_last(self._failures[-1], now)}"
        if self._answered_at is not None:
            return State.HEALTHY, ""
        return State.UNKNOWN, "not asked yet"

    def _is_down(self, recent: list[_Failure], now: float) -> bool:
        if self._in_a_row == 0:
            return False
        if recent[-1].is_unreachable or self._in_a_row >= FAILURES_IN_A_ROW:
            return True
        has_answered = self._answered_at is not None and now - self._answered_at <= WINDOW_SECONDS
        return self._in_a_row >= MIN_FAILURES and not has_answered

    def _reason(self, recent: list[_Failure], now: float) -> str:
        attempts = min(self._attempts, WINDOW_ATTEMPTS)
        return f"{len(recent)} failed of the last {max(attempts, len(recent))} attempts, {_last(recent[-1], now)}"


def _last(failure: _Failure, now: float) -> str:
    return f"the last {now - failure.at:.0f} s ago: {failure.text}"


class Health:
    """The fold over all upstreams of a configuration; others are not kept."""

    def __init__(self, upstreams: Iterable[str], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._upstreams = {name: UpstreamHealth(clock()) for name in upstreams}

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        """What this fold listens to."""
        return {
            CallStarted: self._call_started,
            CallFinished: self._call_finished,
            AttemptFinished: self._attempt_finished,
            ChildExited: self._child_exited,
        }

    def conditions(self) -> dict[str, Condition]:
        """How every upstream is now."""
        now = self._clock()
        return {name: health.condition(now) for name, health in self._upstreams.items()}

    def in_flight(self, upstream: str) -> int:
        """Calls that wait for their answer; streams that stay open by nature are not among them."""
        return self._upstreams[upstream].in_flight

    def streams(self, upstream: str) -> int:
        """Open streams."""
        return self._upstreams[upstream].streams

    def _call_started(self, event: CallStarted) -> None:
        self._count(event, 1)

    def _call_finished(self, event: CallFinished) -> None:
        self._count(event, -1)

    def _count(self, event: CallStarted | CallFinished, step: int) -> None:
        health = self._upstreams.get(event.call.upstream)
        if health is None:
            return
        if event.call.is_stream:
            health.streams += step
        else:
            health.in_flight += step

    def _attempt_finished(self, event: AttemptFinished) -> None:
        health = self._upstreams.get(event.attempt.call.upstream)
        if health is None:
            return
        text = _fault(event.attempt.call.verb, event.outcome)
        if text is None:
            if isinstance(event.outcome, Replied):
                health.answered(self._clock())
            return
        kind = event.outcome.kind if isinstance(event.outcome, Failed) else None
        health.failed(self._clock(), text, is_unreachable=kind in _UNREACHABLE)

    def _child_exited(self, event: ChildExited) -> None:
        health = self._upstreams.get(event.upstream)
        # with calls under way their attempts fail, and say more
        if health is not None and not event.expected and health.in_flight == 0:
            health.exited(self._clock(), f"the server process ended with code {event.code}")


def _fault(verb: bytes, outcome: Outcome) -> str | None:
    """What the upstream did wrong, None when it did nothing wrong.

    A 5xx without a JSON-RPC answer comes from whatever stands where the server should be, unless it says that there is
    no optional stream.
    """
    if isinstance(outcome, Failed) and outcome.blame is Blame.UPSTREAM:
        return f"{outcome.kind.value}: {_one_line(outcome.detail)}"
    if isinstance(outcome, Replied) and verb == b"GET" and outcome.status in NO_STREAM:
        return None
    if isinstance(outcome, Replied) and outcome.status >= _SERVER_ERROR and not outcome.verdict.answered:
        return f"HTTP {outcome.status}"
    return None


def _one_line(text: str) -> str:
    """Without what looks like a credential: a server's own words may be in it."""
    printable = "".join(character if character.isprintable() else " " for character in redact.text(text))
    return printable if len(printable) <= MAX_DETAIL_LENGTH else printable[: MAX_DETAIL_LENGTH - 1] + "…"
