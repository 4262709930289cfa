"""Retry: the hinge between a call and its attempts.

Decided from what the method is, what the operator (or a trusted server) says of the tool, what the edge
knows (not sent; sent, nothing back; answered), the commit rule, the budget and the deadline. MCP has no
idempotency key, so a call that may have been carried out and is not known to be repeatable is never
repeated: it ends as `outcome_unknown`.

Actions told in `Decided`: scheduled, would_retry, budget_exhausted, deadline_too_near, attempts_exhausted.
"""

import asyncio
import email.utils
import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import tenacity

from weir.core.call import Attempt, Call, Headers, header
from weir.core.events import Decided, Emit, LevelChanged
from weir.core.held import HeldReply
from weir.core.layer import AttemptHandler
from weir.core.outcome import Failed, FailureKind, Mode, Outcome, Refused, Replied, Sent
from weir.protocol import edit
from weir.protocol.envelope import Kind, is_ambiguous
from weir.protocol.methods import Repeat, facts

HEAD_HOLD_SECONDS = 1.0
"""How long a head may wait for the first event: beyond that clients and middleboxes take silence for a stall."""


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

    Neither is saved up beyond ten seconds' worth of the floor or a hundred calls' worth of the share, so that a
    quiet hour does not pay for a storm.
    """

    _FLOOR_SECONDS = 10.0
    _SHARE_CALLS = 100.0

    def __init__(self, ratio: float, min_per_second: float, now: float) -> None:
        self._ratio = ratio
        self._rate = min_per_second
        self._share = 0.0
        self._floor = min_per_second
        self._at = now

    def deposit(self) -> None:
        """A call began."""
        self._share = min(self._share + self._ratio, self._ratio * self._SHARE_CALLS)

    def withdraw(self, now: float) -> bool:
        """Take one retry; False when there is none."""
        self._accrue(now)
        if self._share >= 1.0:
            self._share -= 1.0
        elif self._floor >= 1.0:
            self._floor -= 1.0
        elif self._share + self._floor >= 1.0:
            self._floor -= 1.0 - self._share
            self._share = 0.0
        else:
            return False
        return True

    def remaining(self, now: float) -> float:
        """Retries that could be taken now."""
        self._accrue(now)
        return self._share + self._floor

    def _accrue(self, now: float) -> None:
        self._floor = min(self._floor + max(0.0, now - self._at) * self._rate, self._rate * self._FLOOR_SECONDS)
        self._at = now


class Again(enum.Enum):
    """What an outcome allows: nothing, a repeat of what is repeatable, a repeat of anything."""

    NEVER = "never"
    IF_REPEATABLE = "if_repeatable"
    ALWAYS = "always"


_LOST = frozenset({FailureKind.RESET, FailureKind.EXITED, FailureKind.TIMEOUT, FailureKind.PROTOCOL})
_SERVER_FAULTS = frozenset({500, 502, 503, 504})
_THROTTLED = frozenset({429, 503})
# -32603 internal error, and 0, by which the SDK reports a crashed handler (reference: mcp-for-proxies §4.3)
_INTERNAL_ERRORS = frozenset({-32603, 0})


def allowed_again(outcome: Outcome) -> Again:
    """Whether the outcome leaves room for another try at all (reference: mcp-for-proxies §4.3)."""
    if isinstance(outcome, Refused):
        return Again.NEVER
    if isinstance(outcome, Failed):
        if outcome.sent is Sent.NO and outcome.kind is not FailureKind.TLS:
            return Again.ALWAYS
        return Again.IF_REPEATABLE if outcome.kind in _LOST else Again.NEVER
    if outcome.body is None:
        return Again.NEVER
    if outcome.status in _THROTTLED and retry_after(outcome.headers) is not None:
        # an explicit refusal: it was not carried out
        return Again.ALWAYS
    if outcome.verdict.answered:
        return Again.IF_REPEATABLE if outcome.verdict.error_code in _INTERNAL_ERRORS else Again.NEVER
    return Again.IF_REPEATABLE if outcome.status in _SERVER_FAULTS else Again.NEVER


def retry_after(headers: Headers) -> float | None:
    """The seconds a `Retry-After` asks for, as a number or as a date beside the reply's own `Date`; None: none."""
    raw = header(headers, b"retry-after").strip().decode("latin-1")
    if raw.isdigit():
        return float(raw)
    until = _instant(raw)
    sent = _instant(header(headers, b"date").decode("latin-1"))
    return max(0.0, until - sent) if until is not None and sent is not None else None


def _instant(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def is_repeatable(call: Call, tools: Mapping[str, str], hinted: bool) -> bool:
    """Whether doing the call twice is as good as once. `hinted`: a trusted server's annotations say so."""
    message = call.message
    if message.kind is not Kind.REQUEST or message.is_continuation or is_ambiguous(call.body):
        return False
    known = facts(message.method)
    if known.repeat is not Repeat.ASK:
        return known.is_repeatable
    word = tools.get(message.name)
    return word == "always" if word is not None else hinted


def ceiling(number: int, settings: RetrySettings) -> float:
    """The longest back-off, in seconds, after attempt `number`: exponential from `initial` up to `max`."""
    state = tenacity.RetryCallState(tenacity.AsyncRetrying(), None, (), {})
    state.attempt_number = number
    return tenacity.wait_exponential(multiplier=settings.initial_seconds, max=settings.max_seconds)(state)


# the doing


class Retry:
    """The hinge of one upstream. `draw` gives a number in 0..1 (full jitter); `mint` a fresh JSON-RPC id."""

    def __init__(
        self,
        upstream: str,
        settings: RetrySettings,
        attempt: AttemptHandler,
        *,
        is_hinted: Callable[[Call], bool],
        emit: Emit,
        clock: Callable[[], float],
        draw: Callable[[], float],
        mint: Callable[[], bytes],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._upstream = upstream
        self._settings = settings
        self._attempt = attempt
        self._is_hinted = is_hinted
        self._emit = emit
        self._clock = clock
        self._draw = draw
        self._mint = mint
        self._sleep = sleep
        self.budget = Budget(settings.budget_ratio, settings.budget_min_per_second, clock())
        self._live: dict[tuple[str, bytes], bytes] = {}
        self._releases: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Own the tasks that release held heads; runs as long as the policy is used."""
        async with asyncio.TaskGroup() as self._releases:
            await asyncio.get_running_loop().create_future()

    async def __call__(self, call: Call) -> Outcome:
        """Try until there is an outcome to stand by."""
        if not call.is_request or call.is_stream or self._settings.mode is Mode.OFF:
            return await self._once(call)
        self.budget.deposit()
        last: Outcome | None = None
        try:
            while True:
                outcome, held = await self._try(call)
                if isinstance(outcome, Refused) and last is not None:
                    # a refusal is no attempt: what the upstream last did is the truth about this call
                    return await self._settle(call, last, held)
                wait_seconds = self._next(call, outcome)
                if wait_seconds is None:
                    return await self._settle(call, outcome, held)
                last = outcome
                if not await self._pause(call, wait_seconds):
                    return await self._settle(call, last, held)
        finally:
            self._live.pop((call.session, call.message.id), None)

    def _is_repeatable(self, call: Call) -> bool:
        hinted = self._settings.trust_annotations and self._is_hinted(call)
        return is_repeatable(call, self._settings.tools, hinted)

    async def _once(self, call: Call) -> Outcome:
        only = Attempt(call, 1, self._clock())
        if call.message.method == "notifications/cancelled":
            self._follow(call, only)
        call.attempts.append(only)
        return await self._attempt(only)

    def _follow(self, call: Call, attempt: Attempt) -> None:
        """The caller cancels the id it knows; the upstream knows the live attempt by another."""
        params = call.message.params
        if params is None or not params.request_id:
            return
        live = self._live.get((call.session, bytes(params.request_id)))
        if live is not None:
            attempt.body = edit.set_param(call.body, b"requestId", live)

    async def _try(self, call: Call) -> tuple[Outcome, HeldReply]:
        attempt = Attempt(call, len(call.attempts) + 1, self._clock())
        held = HeldReply(call, self._hold)
        if self._settings.mode is Mode.ENFORCE:
            attempt.sink = held
        if attempt.number > 1:
            attempt.wire_id = self._mint()
            attempt.body = edit.set_id(call.body, attempt.wire_id)
            self._live[(call.session, call.message.id)] = attempt.wire_id
        call.attempts.append(attempt)
        return await self._attempt(attempt), held

    def _hold(self, held: HeldReply) -> None:
        asyncio.get_running_loop().call_later(HEAD_HOLD_SECONDS, self._release, held)

    def _release(self, held: HeldReply) -> None:
        if self._releases is not None:
            self._releases.create_task(held.release())

    def _next(self, call: Call, outcome: Outcome) -> float | None:
        """Seconds to wait before another attempt, or None: the outcome stands."""
        again = allowed_again(outcome)
        if call.committed or again is Again.NEVER or (again is Again.IF_REPEATABLE and not self._is_repeatable(call)):
            return None
        number, now = len(call.attempts), self._clock()
        asked = retry_after(outcome.headers) if isinstance(outcome, Replied) else None
        seconds = asked if asked is not None else ceiling(number, self._settings) * self._draw()
        if number >= self._settings.attempts:
            return self._told(call, "attempts_exhausted", None)
        if now + seconds >= call.deadline_at:
            return self._told(call, "deadline_too_near", None)
        if not self.budget.withdraw(now):
            return self._told(call, "budget_exhausted", None)
        self._emit(LevelChanged("retry", self._upstream, "budget", self.budget.remaining(now)))
        if self._settings.mode is Mode.SHADOW:
            return self._told(call, "would_retry", None)
        return self._told(call, "scheduled", seconds)

    def _told(self, call: Call, action: str, seconds: float | None) -> float | None:
        self._emit(Decided("retry", action, call, self._settings.mode is Mode.SHADOW, seconds or 0.0))
        return seconds

    async def _pause(self, call: Call, seconds: float) -> bool:
        """Wait without a place in the queue; False: no place came in time."""
        slot = call.slot
        if slot is None:
            await self._sleep(seconds)
            return True
        slot.release()
        await self._sleep(seconds)
        return await slot.acquire()

    async def _settle(self, call: Call, outcome: Outcome, held: HeldReply) -> Outcome:
        if isinstance(outcome, Replied):
            return await held.settle(outcome)
        if isinstance(outcome, Failed) and self._is_unknown(call, outcome):
            return _unknown(call, outcome)
        return outcome

    def _is_unknown(self, call: Call, failed: Failed) -> bool:
        return failed.kind in _LOST and failed.sent is Sent.YES and not self._is_repeatable(call)


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
