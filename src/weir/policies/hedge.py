"""Hedge: a second try of a safe read that is late; the first answer wins, the other try is cancelled.

Late is later than a percentile of what such calls took lately, so that a slow replica or a lost packet costs no more
than that; a budget and a free place keep hedges from adding to an overload. Two tries run at once only for what
changes nothing, and never for a call with a progress token, which must be unique among active requests.

The first event of a stream decides as an answer does: two streams cannot be told in one. An outcome that is no
answer (a failure, a refusal, an error page) leaves the other try running.

Actions told in `Decided`: hedged, won (the second try answered first), refused (the second try, by a policy further in:
it is not paid for), would_hedge, no_slot, budget_exhausted.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from weir.core.call import Attempt, Call, Headers, Slot, withdraws
from weir.core.events import Decided, Emit
from weir.core.held import HEAD_HOLD_SECONDS, HeldReply
from weir.core.layer import AttemptHandler
from weir.core.outcome import Blame, Failed, FailureKind, Mode, Outcome, Refused, Replied
from weir.protocol import edit
from weir.protocol.envelope import Kind
from weir.protocol.media_types import is_event_stream
from weir.protocol.methods import Repeat, facts
from weir.protocol.question import asks_for_task

LATENCIES_KEPT: Final = 256
"""Of each method and tool: enough for a p99, and few enough to follow a change within minutes."""

LATENCIES_MIN: Final = 20
"""A percentile of fewer says nothing."""

KINDS_LIMIT: Final = 1000
"""Methods and tools whose latencies are kept, 2 kB each. Of a server with more, those beyond are not hedged."""

# sorting for every call would cost more than it tells
_COUNTED_ANEW: Final = 16
_OUTRUN: Final = Failed(FailureKind.CANCELLED, "another try of this call answered first", Blame.WEIR)


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """A call is late after the `percentile` of its kind's latencies, or after `after_seconds` where that is set."""

    mode: Mode = Mode.OFF
    percentile: float = 95.0
    after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class HedgeMeans:
    """What others lend to a hedge.

    `withdraw` takes one retry from the budget, if there is one; `refund` puts it back. `take_slot` takes a place that
    is free now, or says None; it never waits. `mint` gives a fresh JSON-RPC id. `is_read`: whether a tool is known to
    change nothing. `give_up` tells the server that an attempt is not wanted any more, where hanging up does not say so.
    """

    withdraw: Callable[[], bool]
    take_slot: Callable[[Call], Slot | None]
    mint: Callable[[], bytes]
    is_read: Callable[[Call], bool] = lambda call: False
    give_up: Callable[[Attempt], None] = lambda attempt: None
    refund: Callable[[], None] = lambda: None


# the pure part


class Latencies:
    """The last latencies of each kind of call, in seconds, and from when on a call of that kind is late."""

    def __init__(self, percentile: float) -> None:
        self._share = percentile / 100
        self._needed = min(LATENCIES_KEPT, max(LATENCIES_MIN, math.ceil(1 / max(1 - self._share, 1e-9))))
        self._kept: dict[tuple[str, str], deque[float]] = {}
        self._late: dict[tuple[str, str], float] = {}
        self._since: dict[tuple[str, str], int] = {}

    def add(self, kind: tuple[str, str], seconds: float) -> None:
        """A call of that kind took so long."""
        kept = self._kept.get(kind)
        if kept is None:
            if len(self._kept) >= KINDS_LIMIT:
                return
            kept = self._kept[kind] = deque(maxlen=LATENCIES_KEPT)
        kept.append(seconds)
        since = self._since[kind] = self._since.get(kind, _COUNTED_ANEW) + 1
        if len(kept) >= self._needed and since >= _COUNTED_ANEW:
            self._since[kind] = 0
            self._late[kind] = sorted(kept)[int(len(kept) * self._share)]

    def late_after(self, kind: tuple[str, str]) -> float | None:
        """The seconds after which a call of that kind is late; None: too little is known."""
        return self._late.get(kind)


def is_hedgeable(call: Call, is_read: Callable[[Call], bool]) -> bool:
    """Whether a call may be under way twice at once."""
    message = call.message
    if message.kind is not Kind.REQUEST:
        return False
    known = facts(message.method)
    if known.repeat is not Repeat.READ and (known.repeat is not Repeat.ASK or not is_read(call)):
        return False
    if known.is_exempt or known.is_long_lived or message.progress_token:
        return False
    if message.is_continuation or call.is_ambiguous:
        return False
    # two tries would make two tasks
    return known.repeat is not Repeat.ASK or not asks_for_task(call.body)


def is_answer(outcome: Outcome) -> bool:
    """A whole JSON-RPC answer. That of a stream is decided by its first event."""
    return isinstance(outcome, Replied) and outcome.body is not None and outcome.verdict.answered


# the doing


class _Lane:
    """The sink of one of the tries: what it writes goes down only if it is the first to write."""

    __slots__ = ("_head", "_is_events", "_race", "attempt", "held")

    def __init__(self, race: "_Race", attempt: Attempt) -> None:
        self._race = race
        self._head: tuple[int, Headers] | None = None
        self._is_events = False
        self.attempt = attempt
        self.held = HeldReply(race.call, race.hold)
        attempt.sink = self

    async def open(self, status: int, headers: Headers) -> None:
        self._is_events = is_event_stream(headers)
        if self._is_events:
            await self.held.open(status, headers)
        else:
            self._head = (status, headers)

    async def write(self, chunk: bytes) -> None:
        race = self._race
        if self._is_events and _is_comment(chunk):
            if race.winner is None or race.winner is self:
                await self.held.write(chunk)
        elif race.winner is self or (self._may_begin() and race.win(self)):
            await self._open_other()
            await self.held.write(chunk)

    def _may_begin(self) -> bool:
        """In the other one's event stream, which is open, nothing but events can go on."""
        return self._is_events or not self._race.call.head_sent

    async def _open_other(self) -> None:
        if self._head is not None:
            (status, headers), self._head = self._head, None
            await self.held.open(status, headers)

    async def settle(self, reply: Replied) -> Outcome:
        """The final reply of the call, if this try gave it."""
        if reply.body is None and self._may_begin():
            await self._open_other()
        return await self.held.settle(reply)


def _is_comment(chunk: bytes) -> bool:
    return chunk.startswith(b":") and b"data" not in chunk


class _Race:
    """Two tries of one call, or one as long as the second has not begun."""

    def __init__(self, first: Attempt, group: asyncio.TaskGroup, give_up: Callable[[Attempt], None]) -> None:
        self.call = first.call
        self._give_up = give_up
        self.winner: _Lane | None = None
        self.second: _Lane | None = None
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._timers: list[asyncio.TimerHandle] = []
        self._scope: asyncio.Timeout | None = None
        self._task: asyncio.Task[Outcome] | None = None
        # what the second try starts from: the layers below change what they are given
        self._origin = (first.body, first.headers, first.target)
        self._settled_by_hinge = isinstance(first.sink, HeldReply)
        self.first = _Lane(self, first)

    # on the way

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something, unless the race is over by then."""
        self._timers.append(self._loop.call_later(seconds, do))

    def hold(self, held: HeldReply) -> None:
        """A head waits for its first event."""
        self.later(HEAD_HOLD_SECONDS, lambda: self._release(held))

    def _release(self, held: HeldReply) -> None:
        held.releasing = self._group.create_task(held.release())

    def begin_second(self, attempt: Attempt, wire_id: bytes, slot: Slot, run: AttemptHandler) -> None:
        """The second try sets out, under an id of its own; it gives its place back, however it ends."""
        body, attempt.headers, attempt.target = self._origin
        attempt.wire_id, attempt.body = wire_id, edit.set_id(body, wire_id)
        self.second = _Lane(self, attempt)
        self.call.attempts.append(attempt)
        self._task = self._group.create_task(self._run_second(self.second, run))
        self._task.add_done_callback(lambda _: slot.release())

    async def _run_second(self, lane: _Lane, run: AttemptHandler) -> Outcome:
        outcome = await run(lane.attempt)
        if is_answer(outcome):
            self.win(lane)
        return outcome

    def win(self, lane: _Lane) -> bool:
        """Whether this one is the first with something to tell. Then the other one is stopped."""
        if self.winner is None:
            self.winner = lane
            if lane is self.first:
                self._stop_second()
            elif self._scope is not None:
                self.first.attempt.outcome = _OUTRUN
                self._give_up(self.first.attempt)
                self._scope.reschedule(self._loop.time())
        return self.winner is lane

    def _stop_second(self) -> None:
        if self._task is not None and self.second is not None and not self._task.done():
            self.second.attempt.outcome = _OUTRUN
            self._give_up(self.second.attempt)
            self._task.cancel()

    def abandon_second(self) -> None:
        """The client wants no answer any more."""
        if self._task is not None and self.second is not None and self.winner is None and not self._task.done():
            self._give_up(self.second.attempt)
            self._task.cancel()

    # from start to end

    async def run(self, attempt: AttemptHandler) -> Outcome:
        """The outcome of the try that won; where none did, that of the first."""
        try:
            first = await self._run_first(attempt)
            if first is not None and is_answer(first):
                self.win(self.first)
            second = await self._second_outcome()
        finally:
            for timer in self._timers:
                timer.cancel()
        if self.second is not None and second is not None and (self.winner is self.second or first is None):
            return await self._settle(self.second, second)
        assert first is not None, "a try is stopped only by one that won"
        return await self._settle(self.first, first)

    async def _run_first(self, attempt: AttemptHandler) -> Outcome | None:
        """None: it was stopped, because the second one won."""
        scope = self._scope = asyncio.timeout(None)
        try:
            async with scope:
                return await attempt(self.first.attempt)
        except TimeoutError:
            if scope.expired():
                return None
            raise
        finally:
            self._scope = None

    async def _second_outcome(self) -> Outcome | None:
        if self._task is None or self.winner is self.first:
            return None
        await asyncio.wait((self._task,))
        return None if self._task.cancelled() else self._task.result()

    async def _settle(self, lane: _Lane, outcome: Outcome) -> Outcome:
        """A hinge that may try again settles whole replies itself."""
        for other in (self.first, self.second):
            if other is not None and other is not lane:
                # its head may have been on its way out
                other.held.drop()
        if isinstance(outcome, Replied) and (outcome.body is None or not self._settled_by_hinge):
            return await lane.settle(outcome)
        return outcome


class Hedge:
    """Stands between the hinge of one upstream and its attempt layers: the handler of an attempt."""

    def __init__(
        self,
        upstream: str,
        settings: HedgeSettings,
        means: HedgeMeans,
        attempt: AttemptHandler,
        emit: Emit,
        clock: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._settings = settings
        self._means = means
        self._attempt = attempt
        self._emit = emit
        self._clock = clock
        self._latencies = Latencies(settings.percentile)
        self._racing: dict[Call, _Race] = {}

    def __call__(self, attempt: Attempt) -> Awaitable[Outcome]:
        """Make the attempt, and another one when it is late."""
        call = attempt.call
        if call.message.method == "notifications/cancelled" and self._racing:
            self.abandon(call)
        if attempt.number == 1 and is_hedgeable(call, self._means.is_read):
            return self._watch(attempt)
        return self._attempt(attempt)

    async def _watch(self, attempt: Attempt) -> Outcome:
        call = attempt.call
        kind = (call.message.method, call.message.name)
        began = call.own_time(self._clock())
        late = self._settings.after_seconds
        if late is None:
            late = self._latencies.late_after(kind)
        if late is None:
            outcome = await self._attempt(attempt)
        elif self._settings.mode is Mode.SHADOW:
            outcome = await self._pretend(attempt, late)
        else:
            outcome = await self._race(attempt, late)
        if isinstance(outcome, Replied) and outcome.verdict.answered and outcome.verdict.error_code is None:
            # that of a try that was outrun too: it would have taken at least so long
            self._latencies.add(kind, call.own_time(self._clock()) - began)
        return outcome

    async def _pretend(self, attempt: Attempt, late: float) -> Outcome:
        def tell() -> None:
            if not attempt.call.committed:
                self._emit(Decided("hedge", "would_hedge", attempt.call, True, late))

        timer = asyncio.get_running_loop().call_later(late, tell)
        try:
            return await self._attempt(attempt)
        finally:
            timer.cancel()

    async def _race(self, attempt: Attempt, late: float) -> Outcome:
        call = attempt.call
        async with asyncio.TaskGroup() as group:
            race = _Race(attempt, group, self._means.give_up)
            race.later(late, lambda: self._begin_second(race, late))
            self._racing[call] = race
            try:
                outcome = await race.run(self._attempt)
            finally:
                del self._racing[call]
        if race.winner is not None and race.winner is race.second:
            self._emit(Decided("hedge", "won", call))
        return outcome

    def _begin_second(self, race: _Race, late: float) -> None:
        call = race.call
        if race.winner is not None:
            return
        slot = self._means.take_slot(call)
        if slot is None:
            self._emit(Decided("hedge", "no_slot", call))
            return
        if not self._means.withdraw():
            slot.release()
            self._emit(Decided("hedge", "budget_exhausted", call))
            return
        self._emit(Decided("hedge", "hedged", call, seconds=late))
        attempt = Attempt(call, len(call.attempts) + 1, self._clock())
        race.begin_second(attempt, self._means.mint(), slot, self._second)

    async def _second(self, attempt: Attempt) -> Outcome:
        outcome = await self._attempt(attempt)
        if isinstance(outcome, Refused):
            self._means.refund()
            self._emit(Decided("hedge", "refused", attempt.call))
        return outcome

    def abandon(self, call: Call) -> None:
        """The client cancels a request by the id it knows, which is the first try's; the second is just ended."""
        for asking, race in self._racing.items():
            if withdraws(call, asking):
                race.abandon_second()
