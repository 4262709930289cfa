"""Callers of the coalescing policy, and an upstream whose calls end when and how the test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from support.policed import RecordingSink, Told, body_of, call_with, clock_of_loop
from support.virtual_loop import turns
from weir.core.call import Attempt, Call, Headers
from weir.core.outcome import PLAIN, Mode, Outcome, Replied
from weir.policies.coalesce import Coalesce, CoalesceSettings

ENFORCE, SHADOW = CoalesceSettings(Mode.ENFORCE), CoalesceSettings(Mode.SHADOW)
JSON: Headers = [(b"content-type", b"application/json")]
EVENTS: Headers = [(b"content-type", b"text/event-stream")]


def read(request_id: Any = 1, uri: str = "file:///a", **facts: Any) -> Call:
    """A resources/read."""
    return call_with(body_of("resources/read", {"uri": uri}, request_id), **facts)


def result(raw_id: bytes, text: bytes = b'{"contents":[]}') -> bytes:
    """An answer."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (raw_id, text)


def written(call: Call) -> bytes:
    """What went down the call's stream."""
    assert isinstance(call.sink, RecordingSink)
    return b"".join(call.sink.written)


def heads(call: Call) -> tuple[list[int], list[Headers]]:
    """The statuses and headers that its stream began with: one of each, or none."""
    assert isinstance(call.sink, RecordingSink)
    return call.sink.heads, call.sink.headers


async def reply_of(task: asyncio.Task[Outcome]) -> Replied:
    """The reply that a caller got."""
    outcome = await task
    assert isinstance(outcome, Replied), outcome
    return outcome


def spawn(outcome: Awaitable[Outcome]) -> asyncio.Task[Outcome]:
    """A caller that is not waited for."""

    async def serve() -> Outcome:
        return await outcome

    return asyncio.get_running_loop().create_task(serve())


class Upstream:
    """The handler below: notes the calls, and lets the test say when and how each ends."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.cancelled: list[Call] = []
        self._ends: list[asyncio.Future[Callable[[Call], Awaitable[Outcome]]]] = []

    async def __call__(self, call: Call) -> Outcome:
        self.calls.append(call)
        call.attempts.append(Attempt(call, len(call.attempts) + 1, 0.0))
        end: asyncio.Future[Callable[[Call], Awaitable[Outcome]]] = asyncio.get_running_loop().create_future()
        self._ends.append(end)
        try:
            return await (await end)(call)
        except asyncio.CancelledError:
            self.cancelled.append(call)
            raise

    async def ends(self, number: int, outcome: Outcome | None = None) -> None:
        """Give the outcome of one call; None: a result as a JSON body under the id it was asked with."""

        async def give(call: Call) -> Outcome:
            return outcome or Replied(200, JSON, result(call.message.id), PLAIN)

        self._ends[number].set_result(give)
        await turns()

    async def streams(self, number: int, *chunks: bytes, headers: Headers = EVENTS, ends: bool = True) -> None:
        """Send events on one call's stream, and end it."""

        async def give(call: Call) -> Outcome:
            await call.sink.open(200, headers)
            for chunk in chunks:
                call.committed = True
                await call.sink.write(chunk)
            if not ends:
                await asyncio.get_running_loop().create_future()
            return Replied(200, headers, None, PLAIN)

        self._ends[number].set_result(give)
        await turns()


class Bench:
    """A policy at work, its callers and its upstream."""

    def __init__(self, settings: CoalesceSettings) -> None:
        self.told, self.finished = Told(), list[Call]()
        self.policy = Coalesce("demo", settings, self.told.append, clock_of_loop(), self.finished.append)
        self.upstream = Upstream()

    async def call(self, call: Call) -> asyncio.Task[Outcome]:
        """A caller comes, as far as it gets."""
        task = spawn(self.policy(call, self.upstream))
        await turns()
        return task

    async def calls(self, *calls: Call) -> list[asyncio.Task[Outcome]]:
        """Callers come one after the other."""
        return [await self.call(call) for call in calls]


@asynccontextmanager
async def coalescing(settings: CoalesceSettings = ENFORCE) -> AsyncIterator[Bench]:
    """The policy's own tasks run."""
    async with asyncio.TaskGroup() as group:
        bench = Bench(settings)
        running = group.create_task(bench.policy.run())
        await turns(1)
        yield bench
        running.cancel()
