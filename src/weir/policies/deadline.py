"""Deadlines: how long a call, one try of it, and its client may take.

One idea in two tiers. `Deadline.total` stands around everything that spends the call's one budget; `Deadline.attempt`
around each try, and ends it by whichever comes first: its own limit, the rest of the total, or a client that does not
answer what the server asks. Both are kept on the call's own time, which stands still while the client is waited for.
Progress starts the attempt's clock again, never the total's. What is left of the total is told upstream, in `_meta`
and as a header, and a caller that tells how long it will wait shortens the total.

Long-lived streams (GET, subscriptions/listen, tasks/result) have none of these limits: only silence ends them, which
the upstream edge watches, as it does `connect`.

Actions told in `Decided`: extended, would_time_out; `detail` names the timer.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from weir.core.call import Attempt, Call, Headers
from weir.core.events import Decided, Emit
from weir.core.layer import AttemptHandler, CallHandler
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, Replied, Sent
from weir.policies.deadline_wire import caller_waits_seconds, special_headers, tell_upstream
from weir.protocol.envelope import Message

LOOK_AGAIN_SECONDS: Final = 0.05
"""While the client is waited for and little is left: how late a limit may be noticed after the clocks go on."""

_TIMER_PRECISION_SECONDS: Final = 0.001


@dataclass(frozen=True, slots=True)
class Limits:
    """`idle_seconds` and `connect_seconds`, where they are set, replace the upstream edge's own."""

    attempt_seconds: float = 60.0
    total_seconds: float = 120.0
    client_input_seconds: float = 600.0
    extend_on_progress: bool = True
    idle_seconds: float | None = None
    connect_seconds: float | None = None
    is_enforced: bool = True
    """False: what they would have done is told, and nothing is done."""


@dataclass(frozen=True, slots=True)
class DeadlineSettings:
    """`tools`: what holds instead of `limits` for calls of the tool with that name. None: nothing."""

    limits: Limits | None = Limits()
    tools: Mapping[str, Limits | None] = field(default_factory=dict)


# the pure part


class Expired(NamedTuple):
    """A limit that ran out."""

    timer: str
    seconds: float


class Allowance:
    """What a call, and the attempt that is under way in it, may take. Kept on the call's own time."""

    __slots__ = ("_attempt_from", "_attempt_seconds", "_total_from", "call", "is_extended", "limits", "total_seconds")

    def __init__(self, call: Call, limits: Limits, total_seconds: float, now: float) -> None:
        self.call = call
        self.limits = limits
        self.total_seconds = total_seconds
        self.is_extended = False
        """Progress has moved the attempt's limit."""
        self._total_from = self._attempt_from = call.own_time(now)
        self._attempt_seconds = math.inf

    def begin_attempt(self, now: float) -> float:
        """An attempt begins, and its clock. Returns what is left of the total, in seconds."""
        self.is_extended = False
        own = self._attempt_from = self.call.own_time(now)
        self._attempt_seconds = self.limits.attempt_seconds
        return self._total_left(own)

    def end_attempt(self) -> None:
        """It is over."""
        self._attempt_seconds = math.inf

    def look(self, now: float) -> "Expired | float":
        """The limit that has run out, or the instant before which none can."""
        call, limits, own = self.call, self.limits, self.call.own_time(now)
        total_left = self._total_left(own)
        left = min(total_left, self._attempt_left(own))
        if call.is_standing:
            client_left = limits.client_input_seconds - call.client_input_seconds(now)
            if client_left <= 0:
                return Expired("client_input", limits.client_input_seconds)
            # nothing else can run out before the client has answered, or read
            return now + min(client_left, max(left, LOOK_AGAIN_SECONDS))
        if left > 0:
            return now + min(left, limits.client_input_seconds)
        if total_left <= 0:
            return Expired("total", self.total_seconds)
        return Expired("attempt", self._attempt_seconds)

    def _total_left(self, own: float) -> float:
        return self._total_from + self.total_seconds - own

    def _attempt_left(self, own: float) -> float:
        if self._attempt_seconds == math.inf:
            return math.inf
        if self.limits.extend_on_progress and self.call.progress_at > self._attempt_from:
            self._attempt_from = self.call.progress_at
            self.is_extended = True
        return self._attempt_from + self._attempt_seconds - own


def limits_of(call: Call, settings: DeadlineSettings) -> Limits | None:
    """What holds for a call; None: nothing."""
    if call.is_stream:
        return None
    is_of_tool = settings.tools and call.message.method == "tools/call"
    return settings.tools.get(call.message.name, settings.limits) if is_of_tool else settings.limits


def timed_out(allowance: Allowance, expired: Expired, attempt: Attempt | None) -> Outcome:
    """The outcome when a limit ran out; `attempt` None: while the call was under way with no attempt."""
    call, (timer, seconds) = allowance.call, expired
    if call.answer is not None:
        # only the stream would not end, and there is one answer to a call
        return Replied(call.status, [], None, call.answer)
    is_callers = timer == "total" and seconds < allowance.limits.total_seconds
    is_extended = timer == "attempt" and allowance.is_extended
    what = "no answer and no progress for" if is_extended else "no answer within"
    whose = ", as long as the caller waits" if is_callers else ""
    text = f"{what} {seconds:g} s{whose} (timer '{timer}'); weir was waiting for {_awaited(call, timer, attempt)}"
    is_sent = attempt.sent_at > 0 if attempt is not None else any(each.sent_at for each in call.tries)
    blame = Blame.UPSTREAM if attempt is not None else Blame.WEIR
    if is_callers or timer == "client_input":
        blame = Blame.DOWNSTREAM
    return Failed(FailureKind.TIMEOUT, text, blame, Sent.YES if is_sent else Sent.NO, timer, seconds)


def _awaited(call: Call, timer: str, attempt: Attempt | None) -> str:
    if timer == "client_input":
        asked = f"'s answer to {call.asked_method or 'what the server asks'}"
        return f"the client{asked if call.pending_asks else ' to read on'}"
    if attempt is not None:
        return "the MCP server"
    return "its turn to try again" if call.tries else "its turn"


# the doing


class Watch(Allowance):
    """The allowance of one task, as `asyncio.timeout`: what it cancels it also catches.

    That is the task of a call, and of its attempts in turn; an attempt that runs in a task of its own has its own.
    """

    __slots__ = ("_cancelling", "attempts_elsewhere", "due_at", "expired", "special", "task")

    def __init__(self, call: Call, limits: Limits, total_seconds: float, now: float) -> None:
        Allowance.__init__(self, call, limits, total_seconds, now)
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self._cancelling = task.cancelling()
        self.due_at = math.inf
        self.expired: Expired | None = None
        self.attempts_elsewhere = 0
        """In tasks of their own: they end first, each with a truer word on what happened."""
        self.special: Headers = []

    def beside(self, now: float) -> "Watch":
        """A watch of the same limits for the task that runs now."""
        made = Watch(self.call, self.limits, self.total_seconds, now)
        made._total_from = self._total_from
        made.special = self.special
        return made

    def expire(self, expired: Expired) -> None:
        """Cancel the task."""
        self.expired = expired
        self.due_at = math.inf
        self.task.cancel()

    def caught(self) -> Expired | None:
        """What ran out, when the cancellation that was caught is this watch's own and nobody else's."""
        expired, self.expired = self.expired, None
        if expired is None or self.task.uncancel() > self._cancelling:
            return None
        return expired


class SharedWatch(Watch):
    """That of an attempt for several callers, in a task of its own. It may take as long as any of them waits."""

    __slots__ = ()

    def _total_left(self, own: float) -> float:
        until = self.call.deadline_at - self.call.client_seconds
        # less than the limit, when no caller waits for so long: then it is their fault, not the server's
        self.total_seconds = min(self.limits.total_seconds, until - self.call.received_at)
        return until - own


class Timers:
    """One timer for all waits of an upstream: most end long before it fires, and it costs them nothing."""

    def __init__(self, clock: Callable[[], float], look: Callable[[Watch, float], None]) -> None:
        self._clock = clock
        self._look = look
        self._watches: dict[Watch, None] = {}
        self._fires_at = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def add(self, watch: Watch, now: float) -> None:
        """Look at `watch` when it is due."""
        self._watches[watch] = None
        if watch.due_at < self._fires_at:
            self._arm(watch.due_at, now)

    def remove(self, watch: Watch) -> None:
        """It is over."""
        self._watches.pop(watch, None)

    def _arm(self, at: float, now: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._fires_at = at
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(max(at - now, _TIMER_PRECISION_SECONDS), self._fire)

    def _fire(self) -> None:
        self._handle, self._fires_at = None, math.inf
        now, nearest = self._clock(), math.inf
        for watch in self._watches:
            if watch.due_at <= now:
                self._look(watch, now)
            nearest = min(nearest, watch.due_at)
        if nearest < math.inf:
            self._arm(nearest, now)


class Deadline:
    """The deadlines of one upstream.

    `withdraw` tells the server that the answer of an attempt, whose exchange is closed by then, is not wanted any more,
    where the end of the exchange does not say so. It does not wait.
    """

    def __init__(
        self,
        settings: DeadlineSettings,
        emit: Emit,
        clock: Callable[[], float],
        withdraw: Callable[[Attempt], None],
    ) -> None:
        self._settings = settings
        self._emit = emit
        self._clock = clock
        self._withdraw = withdraw
        self._timers = Timers(clock, self._look)
        self._calls: dict[Call, Watch] = {}
        self._by_token: dict[tuple[str, bytes], Call] = {}

    async def total(self, call: Call, inner: CallHandler) -> Outcome:
        """The call layer."""
        limits = limits_of(call, self._settings)
        if limits is None:
            return await inner(call)
        watch = self._begin(call, limits)
        try:
            return await inner(call)
        except asyncio.CancelledError:
            expired = watch.caught()
            if expired is None:
                raise
            return self._ended(watch, expired)
        finally:
            self._end(call, watch)

    def attempt(self, attempt: Attempt, inner: AttemptHandler) -> Awaitable[Outcome]:
        """The attempt layer."""
        outer = self._calls.get(attempt.call)
        if outer is None:
            limits = limits_of(attempt.call, self._settings)
            return self._attempt_for_all(attempt, inner, limits) if limits is not None else inner(attempt)
        if asyncio.current_task() is not outer.task:
            return self._attempt_elsewhere(attempt, inner, outer)
        return self._attempt(attempt, inner, outer)

    def progressed(self, call: Call, message: Message) -> None:
        """Progress came on the stream of `call`. Of that on a GET stream, its token says whose it is."""
        found = self._by_token.get((call.session, message.progress_token))
        if found is not None:
            found.progressed(self._clock())

    async def _attempt_elsewhere(self, attempt: Attempt, inner: AttemptHandler, outer: Watch) -> Outcome:
        watch = outer.beside(self._clock())
        outer.attempts_elsewhere += 1
        try:
            return await self._attempt(attempt, inner, watch)
        finally:
            outer.attempts_elsewhere -= 1
            self._timers.remove(watch)

    async def _attempt_for_all(self, attempt: Attempt, inner: AttemptHandler, limits: Limits) -> Outcome:
        """Its call is none of the callers' own, and no total was begun for it: theirs go on beside it."""
        call = attempt.call
        watch = SharedWatch(call, limits, limits.total_seconds, self._clock())
        watch.special = special_headers(call.headers)
        try:
            return await self._attempt(attempt, inner, watch)
        finally:
            self._timers.remove(watch)

    async def _attempt(self, attempt: Attempt, inner: AttemptHandler, watch: Watch) -> Outcome:
        now = self._clock()
        left = watch.begin_attempt(now)
        if left > 0:
            watch.due_at = now + min(left, watch.limits.attempt_seconds, watch.limits.client_input_seconds)
            self._timers.add(watch, now)
            if watch.limits.is_enforced and attempt.call.is_request:
                tell_upstream(attempt, watch.special, left)
        elif watch.limits.is_enforced:
            return timed_out(watch, Expired("total", watch.total_seconds), attempt)
        try:
            return await inner(attempt)
        except asyncio.CancelledError:
            expired = watch.caught()
            if expired is None:
                raise
            if attempt.sent_at and attempt.call.answer is None:
                self._withdraw(attempt)
            return timed_out(watch, expired, attempt)
        finally:
            if watch.expired is not None:
                watch.caught()
            watch.end_attempt()

    def _begin(self, call: Call, limits: Limits) -> Watch:
        now = self._clock()
        seconds, message = limits.total_seconds, call.message
        special = special_headers(call.headers)
        if limits.is_enforced:
            seconds = min(seconds, caller_waits_seconds(message, special))
            call.deadline_at = now + seconds
            call.idle_seconds = limits.idle_seconds
            if limits.connect_seconds is not None:
                call.connect_left_seconds = limits.connect_seconds
        watch = self._calls[call] = Watch(call, limits, seconds, now)
        watch.special = special
        watch.due_at = now + min(seconds, limits.client_input_seconds)
        self._timers.add(watch, now)
        if call.session and message.meta is not None and message.progress_token:
            self._by_token[(call.session, message.progress_token)] = call
        return watch

    def _end(self, call: Call, watch: Watch) -> None:
        if watch.expired is not None:
            watch.caught()
        self._timers.remove(watch)
        del self._calls[call]
        if call.session and call.message.meta is not None:
            key = (call.session, call.message.progress_token)
            if self._by_token.get(key) is call:
                del self._by_token[key]

    def _look(self, watch: Watch, now: float) -> None:
        """A watch is due."""
        was_extended = watch.is_extended
        found = watch.look(now)
        if watch.is_extended and not was_extended:
            self._emit(Decided("deadline", "extended", watch.call, not watch.limits.is_enforced, detail="attempt"))
        if not isinstance(found, Expired):
            watch.due_at = found
        elif watch.attempts_elsewhere:
            watch.due_at = now + LOOK_AGAIN_SECONDS
        elif watch.limits.is_enforced:
            watch.expire(found)
        else:
            watch.due_at = math.inf
            self._emit(Decided("deadline", "would_time_out", watch.call, True, found.seconds, found.timer))

    def _ended(self, watch: Watch, expired: Expired) -> Outcome:
        """The total ran out between attempts, or during one of several callers: the last real end is the truth."""
        call = watch.call
        # a try that was outrun says nothing of the other one
        real = [each for each in call.tries if getattr(each.outcome, "kind", None) is not FailureKind.CANCELLED]
        last = real[-1].outcome if real else None
        if isinstance(last, Failed) and call.answer is None:
            return last
        if isinstance(last, Replied) and last.body is not None and call.joined is None and not call.head_sent:
            return last
        return timed_out(watch, expired, real[-1] if real and last is None else None)
