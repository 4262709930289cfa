"""Handler: subject in, outcome out. Layer: wraps a handler. Stack: layers in order, outermost first."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from weir.core.call import Attempt, Call
from weir.core.outcome import Outcome

S = TypeVar("S", Call, Attempt)

CallHandler = Callable[[Call], Awaitable[Outcome]]
AttemptHandler = Callable[[Attempt], Awaitable[Outcome]]
CallLayer = Callable[[Call, CallHandler], Awaitable[Outcome]]
AttemptLayer = Callable[[Attempt, AttemptHandler], Awaitable[Outcome]]


def compose(
    layers: Sequence[Callable[[S, Callable[[S], Awaitable[Outcome]]], Awaitable[Outcome]]],
    innermost: Callable[[S], Awaitable[Outcome]],
) -> Callable[[S], Awaitable[Outcome]]:
    """One handler out of layers; the first is outermost."""
    handler = innermost
    for layer in reversed(layers):
        handler = _bind(layer, handler)
    return handler


def _bind(
    layer: Callable[[S, Callable[[S], Awaitable[Outcome]]], Awaitable[Outcome]],
    inner: Callable[[S], Awaitable[Outcome]],
) -> Callable[[S], Awaitable[Outcome]]:
    def handle(subject: S) -> Awaitable[Outcome]:
        # not a coroutine itself: one frame less to resume for each layer
        return layer(subject, inner)

    return handle
