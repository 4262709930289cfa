"""The order of the layers. Top is outermost; each line says why it stands there."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from weir.core.call import Attempt, Call
from weir.core.layer import AttemptHandler, AttemptLayer, CallHandler, CallLayer, compose
from weir.core.outcome import Outcome

L = TypeVar("L")


class Layers(Protocol):
    """The policies of one upstream (app/protections.py). None: not configured, and so not in the stack."""

    @property
    def total_deadline(self) -> CallLayer | None: ...
    @property
    def rate_limit(self) -> CallLayer | None: ...
    @property
    def admission(self) -> CallLayer | None: ...
    @property
    def coalesce(self) -> CallLayer | None: ...
    @property
    def breaker(self) -> AttemptLayer | None: ...
    @property
    def tool_breaker(self) -> AttemptLayer | None: ...
    @property
    def attempt_deadline(self) -> AttemptLayer | None: ...
    @property
    def faults(self) -> AttemptLayer | None: ...
    def hinge(self, attempt: AttemptHandler) -> CallHandler | None:
        """Retry and hedge: where a call may become several attempts."""


def build_stack(
    observe_call: CallLayer,
    observe_attempt: AttemptLayer,
    layers: Layers,
    upstream: AttemptHandler,
    clock: Callable[[], float],
) -> CallHandler:
    """The handler of one upstream's calls."""
    attempt = compose(
        _present(
            observe_attempt,  # outermost of its tier: an attempt is measured whole, whoever ends it
            layers.breaker,  # inside retry, so that it counts what the upstream did and stops retries of the same call
            layers.tool_breaker,  # inside the upstream's: of a server that is left alone no tool is asked
            layers.attempt_deadline,  # inside the breaker, which must see a timeout as the upstream's failure
            layers.faults,  # innermost: to everything above, an injected fault is the upstream's
        ),
        upstream,
    )
    return compose(
        _present(
            observe_call,  # outermost of all: what is refused or waits is seen too
            layers.total_deadline,  # waiting, back-off and attempts all spend the same time
            layers.rate_limit,  # the cheapest refusal, before anything is waited for
            layers.admission,  # a place is taken only by what may go on
            layers.coalesce,  # inside admission: one shared call must not wait for the places of its followers
        ),
        layers.hinge(attempt) or once(attempt, clock),
    )


def once(attempt: AttemptHandler, clock: Callable[[], float]) -> CallHandler:
    """The hinge between calls and attempts where nothing is tried again: one call, one attempt."""

    def handle(call: Call) -> object:
        first = Attempt(call, 1, clock())
        call.attempts.append(first)
        return attempt(first)

    return handle  # type: ignore[return-value]  # an awaitable, not a coroutine: one frame less a call


def paying(deposit: Callable[[], None], hinge: CallHandler) -> CallHandler:
    """A hinge before which each call pays in what its retries and hedges are taken from."""

    def handle(call: Call) -> Awaitable[Outcome]:
        if call.is_request and not call.is_stream:
            deposit()
        return hinge(call)

    return handle


def _present(*layers: L | None) -> list[L]:
    return [layer for layer in layers if layer is not None]
