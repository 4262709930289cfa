"""The order of the layers. Top is outermost; each line says why it stands there."""

from collections.abc import Callable

from weir.core.call import Attempt, Call
from weir.core.layer import AttemptHandler, AttemptLayer, CallHandler, CallLayer, compose
from weir.core.outcome import Outcome


def once(attempt: AttemptHandler, clock: Callable[[], float]) -> CallHandler:
    """The hinge between calls and attempts where no retry is configured: one call, one attempt."""

    def handle(call: Call) -> object:
        first = Attempt(call, 1, clock())
        call.attempts.append(first)
        return attempt(first)

    return handle  # type: ignore[return-value]  # an awaitable, not a coroutine: one frame less a call


def build_stack(
    observe_call: CallLayer,
    observe_attempt: AttemptLayer,
    upstream: AttemptHandler,
    clock: Callable[[], float],
) -> CallHandler:
    """The handler of one upstream's calls."""
    attempt_layers: list[AttemptLayer] = [
        observe_attempt,  # outermost of its tier: an attempt is measured whole, whoever ends it
    ]
    call_layers: list[CallLayer] = [
        observe_call,  # outermost of all: what is refused or waits is seen too
    ]
    return compose(call_layers, once(compose(attempt_layers, upstream), clock))


__all__ = ["Outcome", "build_stack", "once"]
