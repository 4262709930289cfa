"""What the breaker counts: how an outcome is read, and the counts of the last while. For the breaker alone."""

import enum
from collections import deque
from typing import NamedTuple

from weir.core.call import Attempt, Call
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, Refused, Replied, Sent

TRACES_KEPT = 5
"""Of the calls that trip a circuit the last few are named: enough to look at, few enough for a log line."""

SLICES = 10
"""A window is counted in so many slices, and forgets one at a time."""


class Sign(enum.Enum):
    """What an outcome says of the upstream. A tool's own error is a success of the upstream, counted besides."""

    NOTHING = "nothing"
    SUCCESS = "success"
    TOOL_ERROR = "tool_error"
    FAILURE = "failure"


_UNREACHED = frozenset({FailureKind.CONNECT, FailureKind.TLS})
_SERVER_FAULTS = frozenset({500, 502, 503, 504})
_TOO_MANY_REQUESTS = 429
# -32603 internal error, and 0, by which the SDK reports a crashed handler
_INTERNAL_ERRORS = frozenset({-32603, 0})


def sign_of(attempt: Attempt, outcome: Outcome) -> Sign:
    """How the outcome of an attempt counts."""
    if isinstance(outcome, Replied):
        return _sign_of_reply(attempt.call, outcome)
    if isinstance(outcome, Refused) or outcome.blame is not Blame.UPSTREAM or outcome.kind is FailureKind.CANCELLED:
        return Sign.NOTHING
    if attempt.call.is_stream and attempt.first_byte_at:
        # a stream that had begun ends when a server restarts or a middlebox tires: many at once are one event
        return Sign.NOTHING
    if outcome.kind is FailureKind.EXITED and outcome.sent is Sent.NO:
        # it had ended before this call, by which another one is begun: whether that can be, the next call shows
        return Sign.NOTHING
    if outcome.timer == "total" and outcome.sent is Sent.NO and not attempt.connect_seconds:
        # the time had gone elsewhere: nobody tried to reach the server
        return Sign.NOTHING
    return Sign.FAILURE


def _sign_of_reply(call: Call, reply: Replied) -> Sign:
    verdict = reply.verdict
    if reply.status == _TOO_MANY_REQUESTS:
        return Sign.NOTHING
    if not verdict.answered:
        return _sign_of_status(call, reply.status)
    if verdict.error_code is not None:
        return Sign.FAILURE if verdict.error_code in _INTERNAL_ERRORS else Sign.NOTHING
    return Sign.TOOL_ERROR if verdict.is_tool_error else Sign.SUCCESS


def _sign_of_status(call: Call, status: int) -> Sign:
    if status in _SERVER_FAULTS:
        return Sign.FAILURE
    # a request's stream that is to be polled; that anything else was taken (202) does not say that it was done
    return Sign.SUCCESS if call.is_request and 200 <= status < 300 else Sign.NOTHING


def is_unreached(outcome: Outcome) -> bool:
    """The server was not even connected to: no tool's fault."""
    return isinstance(outcome, Failed) and outcome.kind in _UNREACHED


class Reading(NamedTuple):
    """One attempt, as a circuit sees it. `trace_id` is "" for none."""

    sign: Sign
    is_slow: bool = False
    trace_id: str = ""


class Window:
    """Counts of the last `seconds`, and the last traces of each kind of trouble: failure, slow, tool_error.

    It forgets slice by slice, so it covers between nine tenths and the whole of the window, in memory that
    does not grow.
    """

    __slots__ = ("_at", "_slice_seconds", "_slices", "_traces", "calls", "failures", "slow", "tool_errors")

    def __init__(self, seconds: float) -> None:
        self._slice_seconds = seconds / SLICES
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.calls = self.failures = self.slow = self.tool_errors = 0
        self._at = 0
        self._slices = [[0, 0, 0, 0] for _ in range(SLICES)]
        self._traces: dict[str, deque[str]] = {}

    def add(self, reading: Reading, now: float) -> None:
        """Count one attempt that ended now."""
        at = int(now / self._slice_seconds)
        if at > self._at:
            self._advance(at)
        current = self._slices[self._at % SLICES]
        self.calls += 1
        current[0] += 1
        sign = reading.sign
        if sign is Sign.FAILURE:
            self.failures += 1
            current[1] += 1
            self._remember("failure", reading.trace_id)
        elif sign is Sign.TOOL_ERROR:
            self.tool_errors += 1
            current[2] += 1
            self._remember("tool_error", reading.trace_id)
        if reading.is_slow:
            self.slow += 1
            current[3] += 1
            self._remember("slow", reading.trace_id)

    def traces(self, trouble: str) -> tuple[str, ...]:
        """The ids of the last traces that had it, newest last."""
        return tuple(self._traces.get(trouble, ()))

    def _remember(self, trouble: str, trace_id: str) -> None:
        if trace_id:
            self._traces.setdefault(trouble, deque(maxlen=TRACES_KEPT)).append(trace_id)

    def _advance(self, at: int) -> None:
        for number in range(max(self._at, at - SLICES) + 1, at + 1):
            old = self._slices[number % SLICES]
            self.calls -= old[0]
            self.failures -= old[1]
            self.tool_errors -= old[2]
            self.slow -= old[3]
            old[:] = (0, 0, 0, 0)
        self._at = at
