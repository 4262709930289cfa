"""The admission layer before a gate, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from support.policed import (
    OK,
    Gate,
    Told,
    attempt_of,
    clock_of_loop,
)
from support.virtual_loop import turns
from weir.core.call import Call
from weir.core.events import LevelChanged
from weir.core.outcome import Outcome, RefusalKind, Refused
from weir.policies.admission import Admission, AdmissionSettings
from weir.policies.admission_queue import Places


class Stand:
    """The layer before a gate, and the calls that were sent through it."""

    def __init__(self, limit: int = 1, queue: int = 2, timeout: float = 5.0, **settings: Any) -> None:
        self.told = Told()
        self.gate = Gate()
        places = Places(limit, queue, timeout)
        self.layer = Admission(
            "demo", AdmissionSettings(**{"places": places, **settings}), self.told.append, clock_of_loop()
        )
        self.inside: list[Call] = []

    async def serve(self, call: Call) -> Outcome:
        """Through the layer to the gate."""
        return await self.layer(call, self._enter)

    async def through(self, call: Call, inner: Callable[[Call], Awaitable[Outcome]]) -> Outcome:
        """Through the layer to somebody else."""
        return await self.layer(call, inner)

    async def _enter(self, call: Call) -> Outcome:
        attempt_of(call)
        self.inside.append(call)
        return await self.gate(call)

    def levels(self, scope: str) -> list[float]:
        """What was told of a level, in order."""
        levels = self.told.of(LevelChanged)
        assert {("admission", "demo")} >= {(each.policy, each.upstream) for each in levels}
        return [each.value for each in levels if each.scope == scope]


def refused(outcome: Outcome) -> Refused:
    """The outcome, which must be a refusal for want of a place."""
    assert isinstance(outcome, Refused)
    assert RefusalKind.OVERLOADED is outcome.kind
    return outcome


def taking(seconds: float) -> Callable[[Call], Awaitable[Outcome]]:
    """An upstream that takes its time."""

    async def answer(call: Call) -> Outcome:
        attempt_of(call)
        await asyncio.sleep(seconds)
        return OK

    return answer


async def started(group: asyncio.TaskGroup, stand: Stand, calls: Sequence[Call]) -> list[asyncio.Task[Outcome]]:
    """The calls under way, each as far as it gets."""
    tasks = [group.create_task(stand.serve(call)) for call in calls]
    await turns()
    return tasks
