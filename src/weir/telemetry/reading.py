"""What one finished call says, read once for all who fold over it: spans, metrics, access log."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from weir.core import phases
from weir.core.call import Call
from weir.core.events import CallFinished
from weir.core.outcome import PLAIN, Failed, Outcome, Replied, Verdict
from weir.core.phases import Phases
from weir.protocol.envelope import Kind
from weir.protocol.error_codes import CALLER_FAULTS
from weir.telemetry import batch
from weir.telemetry.semconv import TOOL_ERROR


class Judgement(NamedTuple):
    """An outcome in words of closed lists. The two error types are "" where that side saw no error."""

    outcome: str
    """replied | failed | refused"""
    reason: str
    """ok | unanswered | tool_error | caller_error | server_error | http_4xx | http_5xx | a failure | a refusal"""
    server_error: str
    """`error.type` of the SERVER span: a caller's mistake is no error of the server's."""
    client_error: str
    """`error.type` of the CLIENT span: every JSON-RPC error is one."""
    status_code: str
    """The JSON-RPC error code as text, "" without one."""


# enough for loops to pay, little enough to be done in half a millisecond
WAITING_CALLS: Final = 64
WAITING_BYTES: Final = 256 * 1024
OK: Final = Judgement("replied", "ok", "", "", "")
_UNANSWERED: Final = Judgement("replied", "unanswered", "", "", "")
_TOOL_ERROR: Final = Judgement("replied", TOOL_ERROR, TOOL_ERROR, TOOL_ERROR, "")
_HTTP_ERROR: Final = 400


def judge(outcome: Outcome, *, is_request: bool) -> Judgement:
    """Put an outcome into words."""
    if isinstance(outcome, Replied):
        verdict = outcome.verdict
        if verdict is PLAIN and outcome.status < _HTTP_ERROR:
            return OK
        return judge_verdict(verdict, outcome.status, is_request=is_request)
    word = "failed" if isinstance(outcome, Failed) else "refused"
    reason = outcome.kind.value
    return Judgement(word, reason, reason, reason, "")


def judge_verdict(verdict: Verdict, status: int, *, is_request: bool) -> Judgement:
    """Put an answer into words."""
    if verdict.is_tool_error:
        return _TOOL_ERROR
    if verdict.error_code is not None:
        code = str(verdict.error_code)
        if verdict.error_code in CALLER_FAULTS:
            return Judgement("replied", "caller_error", "", code, code)
        return Judgement("replied", "server_error", code, code, code)
    if status >= _HTTP_ERROR:
        return Judgement("replied", f"http_{status // 100}xx", str(status), str(status), "")
    return OK if verdict.answered or not is_request else _UNANSWERED


class Reading:
    """One finished request or notification. `is_exported` is set by whoever exports its spans."""

    __slots__ = ("call", "is_exported", "judgement", "outcome", "phases", "seconds")

    def __init__(self, call: Call, outcome: Outcome) -> None:
        self.call = call
        self.outcome = outcome
        self.judgement = judge(outcome, is_request=call.message.kind is Kind.REQUEST)
        self.seconds = call.ended_at - call.received_at
        self.phases: Phases = phases.of(call)
        self.is_exported = False


Fold = Callable[[Reading], None]


class Reader:
    """Collects finished calls and reads them some at a time, each fold in a loop of its own.

    That is a third cheaper than reading each call at its end, and keeps the work off the call's path.
    What waits is bounded: a reply's body lives until its call has been read. `exchanged` are told at once of what is
    neither request nor notification.
    """

    def __init__(
        self,
        folds: Sequence[Fold],
        on_failure: Callable[[Exception], None],
        exchanged: Sequence[Callable[[Call, Outcome], None]] = (),
    ) -> None:
        self._folds = folds
        self._on_failure = on_failure
        self._exchanged = exchanged
        self._waiting: list[tuple[Call, Outcome]] = []
        self._waiting_bytes = 0

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        return {CallFinished: self._finished}

    def _finished(self, event: CallFinished) -> None:
        call, outcome = event.call, event.outcome
        waiting = self._waiting
        if call.message.kind in batch.WATCHED:
            waiting.append((call, outcome))
        else:
            if call.session:
                # it may be about a session that begins with one of the calls that wait
                self.flush()
            for told in self._exchanged:
                told(call, outcome)
            call.forget()
        for member in call.members:
            if member.message.kind in batch.WATCHED:
                waiting.append((member, batch.outcome_of(member, outcome)))
        self._waiting_bytes += len(call.body) + call.bytes_sent
        if len(waiting) >= WAITING_CALLS or self._waiting_bytes >= WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Read what is waiting."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        readings = [Reading(call, outcome) for call, outcome in waiting]
        for fold in self._folds:
            for reading in readings:
                try:
                    fold(reading)
                except Exception as error:  # noqa: BLE001 - watching must never harm what is watched
                    self._on_failure(error)
        for call, _ in waiting:
            call.forget()
