"""A call through both layers of a deadline to a played upstream, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from support.policed import (
    OK,
    Told,
    attempt_of,
    clock_of_loop,
)
from weir.core.call import Attempt, Call
from weir.core.outcome import Failed, FailureKind, Outcome
from weir.policies.deadline import (
    Deadline,
    DeadlineSettings,
    Limits,
)

LIMITS = Limits(attempt_seconds=60.0, total_seconds=120.0, client_input_seconds=600.0)


class Stand:
    """A call through both layers to a played upstream, in virtual time."""

    def __init__(self, upstream: Callable[[Attempt], Awaitable[Outcome]], **settings: Any) -> None:
        self.told = Told()
        self.withdrawn: list[Attempt] = []
        self.clock = clock_of_loop()
        made = DeadlineSettings(**{"limits": LIMITS, **settings})
        self.deadline = Deadline(made, self.told.append, self.clock, self.withdrawn.append)
        self._upstream = upstream
        self.began = self.clock()

    async def __call__(self, call: Call) -> Outcome:
        """Serve it."""
        return await self.deadline.total(call, self.once)

    async def once(self, call: Call) -> Outcome:
        """One attempt."""
        attempt = attempt_of(call, len(call.attempts) + 1)
        outcome = await self.deadline.attempt(attempt, self._upstream)
        attempt.outcome = outcome
        return outcome

    def seconds(self) -> float:
        """Since the beginning."""
        return self.clock() - self.began


class Stalled:
    """A server that takes the request and says nothing."""

    def __init__(self, is_sent: bool = True) -> None:
        self.is_sent = is_sent
        self.attempts: list[Attempt] = []
        self.cancelled = 0

    async def __call__(self, attempt: Attempt) -> Outcome:
        """Never answer."""
        self.attempts.append(attempt)
        if self.is_sent:
            attempt.sent_at = 1.0
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError


def after(seconds: float, outcome: Outcome = OK) -> Callable[[Attempt], Awaitable[Outcome]]:
    """A server that takes its time."""

    async def answer(attempt: Attempt) -> Outcome:
        attempt.sent_at = 1.0
        await asyncio.sleep(seconds)
        return outcome

    return answer


def failed(outcome: Outcome) -> Failed:
    """The outcome, which must be a failure by a timer."""
    assert isinstance(outcome, Failed)
    assert FailureKind.TIMEOUT is outcome.kind
    return outcome
