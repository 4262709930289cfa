"""The stack of one upstream as app builds it, with the real policies, around a played upstream in virtual time."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from support.policed import Told, clock_of_loop
from support.virtual_loop import turns
from weir.app.stack import build_stack, paying
from weir.core.call import Attempt, Call
from weir.core.layer import AttemptHandler, AttemptLayer, CallHandler, CallLayer
from weir.core.outcome import Outcome, Refused
from weir.policies.admission import Admission, AdmissionSettings
from weir.policies.admission_queue import Places
from weir.policies.breaker import Breaker, BreakerSettings
from weir.policies.coalesce import Coalesce, CoalesceSettings
from weir.policies.deadline import Deadline, DeadlineSettings
from weir.policies.hedge import Hedge, HedgeMeans, HedgeSettings
from weir.policies.rate_limit import Ledger, RateLimiter, RateLimitSettings
from weir.policies.retry import Retry, RetryMeans, RetrySettings

Upstream = Callable[[Attempt], Awaitable[Outcome]]


@dataclass(frozen=True)
class Chosen:
    """Which policies are on. `places`: admission's."""

    deadline: DeadlineSettings | None = None
    rate_limits: tuple[RateLimitSettings, ...] = ()
    places: Places | None = None
    coalesce: CoalesceSettings | None = None
    retry: RetrySettings | None = None
    hedge: HedgeSettings | None = None
    breaker: BreakerSettings | None = None


@dataclass
class Composed:
    """The layers of one upstream, app's `Layers`."""

    chosen: Chosen
    told: Told = field(default_factory=Told)
    faults: AttemptLayer | None = None
    tool_breaker: AttemptLayer | None = None
    retry: Retry | None = None

    def __post_init__(self) -> None:
        chosen, emit, clock = self.chosen, self.told.append, clock_of_loop()
        self.clock = clock
        self.withdrawn: list[Attempt] = []
        deadline = Deadline(chosen.deadline, emit, clock, self.withdrawn.append) if chosen.deadline else None
        self.total_deadline: CallLayer | None = deadline.total if deadline else None
        self.attempt_deadline: AttemptLayer | None = deadline.attempt if deadline else None
        self.rate_limit = (
            RateLimiter("demo", chosen.rate_limits, Ledger(), lambda call: call.peer.address, emit, clock)
            if chosen.rate_limits
            else None
        )
        self.admission = (
            Admission("demo", AdmissionSettings(places=chosen.places), emit, clock) if chosen.places else None
        )
        self.coalesce = Coalesce("demo", chosen.coalesce, emit, clock) if chosen.coalesce else None
        self.breaker = Breaker("demo", chosen.breaker, lambda tool: False, emit, clock) if chosen.breaker else None

    def hinge(self, attempt: AttemptHandler) -> CallHandler | None:
        """Retry, and hedge between it and the attempt layers. Back-off takes its ceiling: the draw is 1.0."""
        chosen = self.chosen
        if chosen.retry is None:
            return None
        ids = itertools.count(1)

        def mint() -> bytes:
            return b'"weir-%d"' % next(ids)

        means = RetryMeans(lambda call: False, self.told.append, self.clock, lambda: 1.0, mint)
        within = self._hedged(chosen.hedge, attempt, mint) if chosen.hedge else attempt
        self.retry = Retry("demo", chosen.retry, within, means)
        return paying(self.retry.budget.deposit, self.retry)

    def _hedged(self, settings: HedgeSettings, attempt: AttemptHandler, mint: Callable[[], bytes]) -> Hedge:
        def withdraw() -> bool:
            assert self.retry is not None
            return self.retry.budget.withdraw(self.clock())

        assert self.admission is not None, "a hedge takes a second place"
        means = HedgeMeans(withdraw, self.admission.spare_place, mint)
        return Hedge("demo", settings, means, attempt, self.told.append, self.clock)


async def observe_call(call: Call, inner: CallHandler) -> Outcome:
    """Nobody looks."""
    return await inner(call)


async def observe_attempt(attempt: Attempt, inner: AttemptHandler) -> Outcome:
    """What telemetry does that policies rely on."""
    attempt.outcome = outcome = await inner(attempt)
    if isinstance(outcome, Refused):
        attempt.call.attempts.remove(attempt)
    return outcome


class Stand:
    """A built stack and its callers."""

    def __init__(self, chosen: Chosen, upstream: Upstream) -> None:
        self.layers = Composed(chosen)
        self.told, self.clock = self.layers.told, self.layers.clock
        self.serve = build_stack(observe_call, observe_attempt, self.layers, upstream, self.clock)
        self.began = self.clock()

    async def call(self, call: Call) -> asyncio.Task[Outcome]:
        """A caller comes, as far as it gets without time passing."""

        async def serve() -> Outcome:
            return await self.serve(call)

        task = asyncio.get_running_loop().create_task(serve())
        await turns(10)
        return task

    def seconds(self) -> float:
        """Since the beginning."""
        return self.clock() - self.began

    def budget(self) -> float:
        """Retries that are left."""
        assert self.layers.retry is not None
        return self.layers.retry.budget.remaining(self.clock())

    def services(self) -> list[Callable[[], Awaitable[Any]]]:
        """What runs beside the calls."""
        return [one.run for one in (self.layers.retry, self.layers.coalesce) if one is not None]


@asynccontextmanager
async def standing(upstream: Upstream, **chosen: Any) -> AsyncIterator[Stand]:
    """A stack whose policies' own tasks run while the block lasts."""
    stand = Stand(Chosen(**chosen), upstream)

    async def run(service: Callable[[], Awaitable[Any]]) -> None:
        await service()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(service)) for service in stand.services()]
        await turns(2)
        yield stand
        for task in tasks:
            task.cancel()
