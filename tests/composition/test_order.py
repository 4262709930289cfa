"""The order in which the layers of an upstream stand."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from support.policed import OK, attempt_of, call_of
from weir.app.stack import build_stack
from weir.core.call import Attempt, Call
from weir.core.layer import AttemptHandler, CallHandler
from weir.core.outcome import Outcome

pytestmark = pytest.mark.anyio

Layer = Callable[[Any, Callable[[Any], Awaitable[Outcome]]], Awaitable[Outcome]]


@dataclass
class Named:
    """Layers that say when they are passed, on the way in and on the way out."""

    passed: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Layer:
        async def layer(subject: Any, inner: Callable[[Any], Awaitable[Outcome]]) -> Outcome:
            self.passed.append(name)
            return await inner(subject)

        return layer

    def hinge(self, attempt: AttemptHandler) -> CallHandler:
        """One attempt a call."""

        async def handle(call: Call) -> Outcome:
            self.passed.append("hinge")
            return await attempt(attempt_of(call))

        return handle


async def test_layers_stand_in_the_order_of_the_design() -> None:
    """Waiting spends the total; refusals cost nothing further in; a breaker sees timeouts and injected faults."""
    layers = Named()

    async def upstream(attempt: Attempt) -> Outcome:
        layers.passed.append("upstream")
        return OK

    serve = build_stack(layers.observe_call, layers.observe_attempt, layers, upstream, lambda: 0.0)
    assert OK is await serve(call_of("tools/list"))
    assert [
        "observe_call",
        "total_deadline",
        "rate_limit",
        "admission",
        "coalesce",
        "hinge",
        "observe_attempt",
        "breaker",
        "tool_breaker",
        "attempt_deadline",
        "faults",
        "upstream",
    ] == layers.passed
