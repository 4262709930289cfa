"""Retry: the hinge between a call and its attempts.

Decided from what the method is, what the operator (or a trusted server) says of the tool, what the edge
knows (not sent; sent, nothing back; answered), the commit rule, the budget and the deadline. MCP has no
idempotency key, so a call that may have been carried out and is not known to be repeatable is never
repeated: it ends as `outcome_unknown`.

Actions told in `Decided`: scheduled, would_retry, budget_exhausted, deadline_too_near, retry_after_too_long,
attempts_exhausted; and instead of an attempt that was scheduled: cancelled (the client went), withdrawn (it said so),
no_slot, refused (by a policy further in). `detail` is the outcome, in a word.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import tenacity

from weir.core.call import Attempt, Call, Transport, withdraws
from weir.core.events import Decided, Emit
from weir.core.held import HEAD_HOLD_SECONDS, HeldReply
from weir.core.layer import AttemptHandler
from weir.core.outcome import PLAIN, Failed, FailureKind, Mode, Outcome, Refused, Replied, Sent
from weir.policies.retry_rules import LOST, Again, allowed_again, needs, reason_of
from weir.protocol import edit
from weir.protocol.correlation import key_of
from weir.protocol.http_dates import retry_after
from weir.protocol.methods import facts

LONGEST_RETRY_AFTER_SECONDS: Final = 60.0
"""A longer `Retry-After` is the caller's to wait out, even where no deadline is set: most have given up by then."""

HANDSHAKE_SECONDS: Final = 8.0
"""What weir adds to `initialize` or `server/discover` ends by then."""

WITHDRAWN_LIMIT: Final = 1000
"""Cancellations that are remembered: most come for calls that have just ended, and nobody asks about them again."""


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """`attempts` counts all tries, the first included. `tools` maps a tool's name to always or never."""

    mode: Mode = Mode.ENFORCE
    attempts: int = 3
    initial_seconds: float = 0.05
    max_seconds: float = 2.0
    budget_ratio: float = 0.2
    budget_min_per_second: float = 1.0
    trust_annotations: bool = False
    tools: Mapping[str, str] = field(default_factory=dict)


# the pure part


class Budget:
    """What retries may be spent: a share of the calls, and a floor that accrues with time.

    No more is saved up than a hundred calls' worth of the share and ten seconds' worth of the floor, so that a quiet
    hour does not pay for a storm.
    """

    FLOOR_SECONDS = 10.0
    SHARE_CALLS = 100.0
    # sums of shares: ten times 0.1 are one
    _PRECISION = 1e-9

    def __init__(self, ratio: float, min_per_second: float, now: float) -> None:
        self.ratio = ratio
        self.min_per_second = min_per_second
        # less than one could never be spent
        self._most = max(
            ratio * self.SHARE_CALLS + min_per_second * self.FLOOR_SECONDS, float(ratio + min_per_second > 0)
        )
        self._left = min(min_per_second, self._most)
        self._at = now

    def deposit(self) -> None:
        """A call began."""
        self._left = min(self._left + self.ratio, self._most)

    def withdraw(self, now: float) -> bool:
        """Take one retry; False when there is none."""
        if self.remaining(now) < 1.0 - self._PRECISION:
            return False
        self._left = max(0.0, self._left - 1.0)
        return True

    def refund(self) -> None:
        """A retry that was taken was not made."""
        self._left = min(self._left + 1.0, self._most)

    def remaining(self, now: float) -> float:
        """Retries that could be taken now."""
        self._left = min(self._left + max(0.0, now - self._at) * self.min_per_second, self._most)
        self._at = max(self._at, now)
        return self._left


# the doing


@dataclass(frozen=True, slots=True)
class RetryMeans:
    """What others lend to a retry.

    `is_hinted`: the server's annotations call the tool repeatable (asked only if they are trusted). `draw` gives a
    number in 0..1 (full jitter); `mint` a JSON-RPC id that no client can have chosen.
    """

    is_hinted: Callable[[Call], bool]
    emit: Emit
    clock: Callable[[], float]
    draw: Callable[[], float]
    mint: Callable[[], bytes]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Retry:
    """The hinge of one upstream, or of one tool `beside` that of its upstream: they have one budget, and where a
    client cancels a call of either is learned by the upstream's.
    """

    def __init__(
        self,
        upstream: str,
        settings: RetrySettings,
        attempt: AttemptHandler,
        means: RetryMeans,
        beside: "Retry | None" = None,
    ) -> None:
        self._upstream = upstream
        self._settings = settings
        self._attempt = attempt
        self._means = means
        self._clock = means.clock
        self._is_off = settings.mode is Mode.OFF
        self._is_shadow = settings.mode is Mode.SHADOW
        self._ceiling = tenacity.wait_exponential(multiplier=settings.initial_seconds, max=settings.max_seconds)
        self._live: dict[Call, bytes] = {} if beside is None else beside._live
        # when it was cancelled: a later call may have the same id
        self._withdrawn: OrderedDict[_Key, float] = OrderedDict() if beside is None else beside._withdrawn
        self._releases: asyncio.TaskGroup | None = None
        made = Budget(settings.budget_ratio, settings.budget_min_per_second, means.clock())
        self.budget: Budget = made if beside is None else beside.budget
        """Others pay into it, for each call: app/stack.py."""
        # what would be spent in shadow is not taken from hedges, nor from the retries of other tools
        self._would_be_budget = Budget(settings.budget_ratio, settings.budget_min_per_second, means.clock())

    async def run(self) -> None:
        """Own the tasks that release held heads; runs as long as the policy is used."""
        try:
            async with asyncio.TaskGroup() as self._releases:
                await asyncio.get_running_loop().create_future()
        finally:
            self._releases = None

    async def __call__(self, call: Call) -> Outcome:
        """Try until there is an outcome to stand by."""
        attempt = Attempt(call, 1, self._clock())
        call.attempts.append(attempt)
        if self._is_off or not call.is_request or call.is_stream:
            self._follow(call, attempt)
            return await self._attempt(attempt)
        if self._is_shadow:
            self._would_be_budget.deposit()
            outcome = await self._attempt(attempt)
            self._next(call, outcome)
            return outcome
        attempt.sink = held = HeldReply(call, self._hold)
        try:
            outcome = await self._attempt(attempt)
            if isinstance(outcome, Replied) and outcome.verdict is PLAIN and outcome.body is not None:
                return outcome if not call.head_sent else await held.settle(outcome)
            return await self._look(attempt, outcome, held)
        finally:
            held.drop()

    async def _look(self, attempt: Attempt, outcome: Outcome, held: HeldReply) -> Outcome:
        """The first outcome is there: stand by it, or try again."""
        call = attempt.call
        if isinstance(outcome, Refused):
            return outcome
        seconds = self._next(call, outcome)
        if seconds is None:
            return await self._settle(call, outcome, held)
        held.drop()
        try:
            return await self._go_on(call, outcome, seconds)
        finally:
            self._live.pop(call, None)

    async def _go_on(self, call: Call, last: Outcome, seconds: float | None) -> Outcome:
        """Try again, until nothing more is to be done. What the upstream last did is the truth about this call."""
        held = HeldReply(call, self._hold)
        while seconds is not None and await self._is_time(call, last, seconds):
            attempt = self._renamed(call)
            attempt.sink = held = HeldReply(call, self._hold)
            self._live[call] = attempt.wire_id
            call.attempts.append(attempt)
            try:
                outcome = await self._attempt(attempt)
                if isinstance(outcome, Refused):
                    self._unmade(attempt, outcome)
                    return await self._settle(call, last, held)
                last, seconds = outcome, self._next(call, outcome)
                if seconds is None:
                    return await self._settle(call, last, held)
            finally:
                held.drop()
        return await self._settle(call, last, held)

    def _unmade(self, attempt: Attempt, refused: Refused) -> None:
        """A refusal is no attempt (telemetry/observe.py takes it off the call's), and is not paid for."""
        self.budget.refund()
        self._told(attempt.call, "refused", refused)

    def _renamed(self, call: Call) -> Attempt:
        """A further attempt, under an id that its session has not seen."""
        attempt = Attempt(call, len(call.attempts) + 1, self._clock())
        wire_id = self._means.mint()
        try:
            attempt.body = edit.set_id(call.body, wire_id)
        except ValueError:
            # two ids, and so never sent before: the caller's own is still unused
            return attempt
        attempt.wire_id = wire_id
        return attempt

    def _follow(self, call: Call, attempt: Attempt) -> None:
        """The caller cancels the id it knows; the upstream knows the live attempt by another.

        Without a session nobody can tell whose id it is, but on a pipe: there the client cancels by hanging up.
        """
        if call.message.method != "notifications/cancelled":
            return
        if not call.session and call.peer.transport is not Transport.STDIO:
            return
        key = (call.session, key_of(call.message.request_id))
        self._withdrawn[key] = self._clock()
        self._withdrawn.move_to_end(key)
        if len(self._withdrawn) > WITHDRAWN_LIMIT:
            self._withdrawn.popitem(last=False)
        live = next((wire_id for each, wire_id in self._live.items() if withdraws(call, each)), None)
        if live is not None:
            try:
                attempt.body = edit.set_param(call.body, b"requestId", live)
            except ValueError:
                # it names two: the server may choose, as it would without weir
                return

    def _hold(self, held: HeldReply) -> bool:
        """A head has come: is it to wait for the first event?"""
        call = held.call
        if len(call.attempts) >= self._settings.attempts or self._needs(call) > Again.REPEATABLE:
            return False
        held.waker = asyncio.get_running_loop().call_later(HEAD_HOLD_SECONDS, self._release, held)
        return True

    def _release(self, held: HeldReply) -> None:
        if self._releases is not None:
            held.waker = held.releasing = self._releases.create_task(_released(held))

    def _needs(self, call: Call) -> Again:
        trusted = self._means.is_hinted if self._settings.trust_annotations else _not_hinted
        return needs(call, self._settings.tools, trusted)

    def _next(self, call: Call, outcome: Outcome) -> float | None:
        """Seconds to wait before another attempt, which is then paid for; None: the outcome stands."""
        again = allowed_again(outcome)
        if call.committed or again is Again.NEVER or again < self._needs(call):
            return None
        now, asked = self._clock(), retry_after(outcome.headers) if isinstance(outcome, Replied) else None
        # all who were told to come in so many seconds come at the same instant: the draw spreads them
        seconds = (asked or 0.0) + self._ceiling(_after(len(call.attempts))) * self._means.draw()
        until = _deadline(call)
        if _is_unreached(outcome):
            # reaching the server, waits included, has one limit for all attempts
            until = min(until, now + call.connect_left_seconds)
        obstacle = self._obstacle(call, now, seconds, until, asked)
        if obstacle:
            self._told(call, obstacle, outcome)
            return None
        self._told(call, "would_retry" if self._is_shadow else "scheduled", outcome, seconds)
        return seconds

    def _obstacle(self, call: Call, now: float, seconds: float, until: float, asked: float | None) -> str:
        """What stands against another attempt in so many seconds, "" for nothing: then it has been paid for."""
        if len(call.attempts) >= self._settings.attempts:
            return "attempts_exhausted"
        if asked is not None and asked > LONGEST_RETRY_AFTER_SECONDS:
            return "retry_after_too_long"
        if now + seconds >= until:
            return "deadline_too_near"
        budget = self._would_be_budget if self._is_shadow else self.budget
        return "" if budget.withdraw(now) else "budget_exhausted"

    def _told(self, call: Call, action: str, outcome: Outcome, seconds: float = 0.0) -> None:
        self._means.emit(Decided("retry", action, call, self._is_shadow, seconds, reason_of(outcome)))

    async def _is_time(self, call: Call, last: Outcome, seconds: float) -> bool:
        """Wait; whether the attempt is to be made then. One that is not made is not paid for."""
        obstacle, began = "cancelled", self._clock()
        try:
            has_slot = await self._pause(call, seconds)
            obstacle = "" if has_slot else "no_slot"
            if self._withdrawn.get((call.session, key_of(call.message.id)), -math.inf) >= call.received_at:
                obstacle = "withdrawn"
        finally:
            if _is_unreached(last):
                call.connect_left_seconds -= self._clock() - began
            if obstacle:
                self.budget.refund()
                self._told(call, obstacle, last)
        return not obstacle

    async def _pause(self, call: Call, seconds: float) -> bool:
        """Wait without a place in the queue; False: no place came in time."""
        slot = call.slot
        if slot is None:
            await self._means.sleep(seconds)
            return True
        slot.release()
        await self._means.sleep(seconds)
        return await slot.acquire()

    async def _settle(self, call: Call, outcome: Outcome, held: HeldReply) -> Outcome:
        if isinstance(outcome, Replied):
            return await held.settle(outcome)
        await held.end()
        if isinstance(outcome, Failed) and self._is_unknown(call, outcome):
            return _unknown(call, outcome)
        return outcome

    def _is_unknown(self, call: Call, failed: Failed) -> bool:
        if failed.kind not in LOST or failed.sent is not Sent.YES or failed.is_undone:
            return False
        # a handshake changes nothing: what there is to know is why it was lost
        return self._needs(call) > Again.REPEATABLE and not facts(call.message.method).is_handshake


_Key = tuple[str, bytes]
_RETRYING: Final = tenacity.AsyncRetrying()


def _after(number: int) -> tenacity.RetryCallState:
    """What tenacity wants to know: how many attempts there were."""
    state = tenacity.RetryCallState(_RETRYING, None, (), {})
    state.attempt_number = number
    return state


def _deadline(call: Call) -> float:
    """When all must have ended. A handshake's is near, whatever is configured: clients give up on it soon."""
    if facts(call.message.method).is_handshake:
        return min(call.deadline_at, call.received_at + HANDSHAKE_SECONDS)
    return call.deadline_at


def _is_unreached(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and outcome.sent is Sent.NO


def _not_hinted(_: Call) -> bool:
    return False


async def _released(held: HeldReply) -> None:
    try:
        await held.release()
    except OSError:
        # the client has gone; whoever serves it learns that by itself
        return


def _unknown(call: Call, failed: Failed) -> Failed:
    what = f"tool '{call.message.name}'" if call.message.name else call.message.method
    return Failed(
        FailureKind.OUTCOME_UNKNOWN,
        f"{failed.detail.rstrip('.')}; {what} may or may not have run. Find out with a call that only reads,"
        " before asking for the same change again",
        failed.blame,
        failed.sent,
        failed.timer,
        failed.after_seconds,
    )
