"""The two layers that watch: outermost around calls, outermost around attempts.

They set places in a trace and instants, and tell the folds. A call ends where its reply has been
handed to the client's transport, which only the downstream edge sees: it calls `finish`.
"""

import asyncio
from collections.abc import Callable

from weir.core.call import Attempt, Call
from weir.core.events import AttemptFinished, AttemptStarted, CallFinished, CallStarted, Emit
from weir.core.layer import AttemptHandler, CallHandler
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, Refused, Replied
from weir.protocol.envelope import Kind
from weir.telemetry import batch
from weir.telemetry.tracing import Tracing


class ObserveCall:
    """The call layer."""

    def __init__(self, tracing: Tracing, emit: Emit, clock: Callable[[], float]) -> None:
        self._tracing = tracing
        self._emit = emit
        self._clock = clock

    async def __call__(self, call: Call, inner: CallHandler) -> Outcome:
        """Begin the call; it ends with `finish`."""
        if call.message.kind is Kind.BATCH:
            batch.split(call)
        self._tracing.begin(call)
        self._emit(CallStarted(call))
        return await inner(call)

    def finish(self, call: Call, outcome: Outcome) -> None:
        """The reply is with the client's transport, or will never be. Once for each call that was begun."""
        call.ended_at = call.ended_at or self._clock()
        if call.members:
            batch.join(call, outcome)
        self._emit(CallFinished(call, outcome))


def _left(call: Call) -> Outcome:
    """The client is gone: with its answer, as many do at once, or without."""
    if call.answer is not None:
        return Replied(call.status, [], None, call.answer)
    return Failed(FailureKind.CANCELLED, "the client went away", Blame.DOWNSTREAM)


def _unmake(attempt: Attempt) -> None:
    """A refusal is no attempt, whoever refuses and whatever the hinge."""
    attempts = attempt.call.attempts
    if attempt in attempts:
        attempts.remove(attempt)
    if attempt.call.members:
        batch.unmake_attempt(attempt)


class ObserveAttempt:
    """The attempt layer. What it measures are the call's attempts: one that was refused is taken off them."""

    def __init__(self, tracing: Tracing, emit: Emit, clock: Callable[[], float]) -> None:
        self._tracing = tracing
        self._emit = emit
        self._clock = clock

    async def __call__(self, attempt: Attempt, inner: AttemptHandler) -> Outcome:
        """Begin the attempt, and end it however it ends."""
        if attempt.call.members:
            batch.begin_attempt(attempt)
        self._tracing.begin_attempt(attempt)
        self._emit(AttemptStarted(attempt))
        try:
            outcome = await inner(attempt)
        except asyncio.CancelledError:
            # whoever stops one attempt for another says so on it
            self._end(attempt, attempt.outcome or _left(attempt.call))
            raise
        except BaseException as error:
            self._end(attempt, Failed(FailureKind.INTERNAL, type(error).__name__, Blame.WEIR))
            raise
        self._end(attempt, outcome)
        return outcome

    def _end(self, attempt: Attempt, outcome: Outcome) -> None:
        attempt.ended_at = self._clock()
        attempt.outcome = outcome
        if isinstance(outcome, Refused):
            _unmake(attempt)
        self._emit(AttemptFinished(attempt, outcome))
