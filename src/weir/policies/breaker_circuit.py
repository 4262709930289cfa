"""One circuit of the breaker: who may pass, what came of it, when to move. Part of `breaker`. Pure.

One client alone opens a circuit only while nobody else's call has succeeded within the window: a server that serves the
others is well, and one client's calls (of a tool that crashes, of arguments that hang) are that client's. Failures that
no client can cause count whoever called.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiobreaker

from weir.core.outcome import Mode
from weir.policies.breaker_held import Held
from weir.policies.breaker_window import Reading, Sign, Streak, Window

PROBE_RETRY_SECONDS = 1.0
"""When to come again while probes are out: a probe takes as long as a call does, which nobody knows."""


class Scope(enum.Enum):
    """What has a circuit."""

    UPSTREAM = "upstream"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Rates are shares of the calls in the window, judged from `min_calls` on.

    `counts_tool_errors`: `isError` results count against the tool (or upstream), with a rate of their own.
    `clients`: so many clients must have trouble before a circuit opens, unless no other client's call has succeeded.
    `tool`: whose it is, "" for the upstream's; `apart`: tools with one of their own, inside; `spared`: not looked at.
    """

    mode: Mode = Mode.ENFORCE
    scope: Scope = Scope.UPSTREAM
    consecutive_failures: int = 5
    failure_rate: float = 0.5
    slow_over_seconds: float = 10.0
    slow_rate: float = 0.9
    counts_tool_errors: bool = False
    tool_error_rate: float = 0.9
    window_seconds: float = 30.0
    min_calls: int = 10
    open_seconds: float = 60.0
    half_open_probes: int = 3
    clients: int = 2
    tool: str = ""
    apart: frozenset[str] = frozenset()
    spared: frozenset[str] = frozenset()


class Permit(NamedTuple):
    """Leave for one attempt. What is reported under a permit of an earlier generation is void."""

    generation: int
    is_probe: bool = False


class Move(NamedTuple):
    """A change of state; `traces` are of the calls that caused it, newest last."""

    before: str
    after: str
    reason: str
    traces: tuple[str, ...] = ()


class Trip(NamedTuple):
    """Why a circuit opened, when, and in which calls the trouble was (trace ids, newest last)."""

    reason: str
    at: float
    traces: tuple[str, ...]


class Circuit(aiobreaker.CircuitBreakerListener):  # type: ignore[misc]  # aiobreaker has no types
    """Who may pass, what came of it, when to move. `told` hears of every move.

    Closed, it counts. Open, it lets nobody pass until `open_seconds` are over. Half-open, it lets the next
    `half_open_probes` callers pass: as many successes in a row close it, unless most were slow, and one failure
    opens it again. When all probes stay away for another `open_seconds` they are given up, and others may try.
    """

    CLOSED = aiobreaker.CircuitBreakerState.CLOSED
    OPEN = aiobreaker.CircuitBreakerState.OPEN

    def __init__(self, settings: BreakerSettings, told: Callable[[Move], None]) -> None:
        self._settings = settings
        self._told = told
        self._held = Held()
        self._holder = aiobreaker.CircuitBreaker(state_storage=self._held, listeners=[self])
        self._state = self._held.state
        self._window = Window(settings.window_seconds, settings.clients)
        self._streak = Streak()
        self._until = 0.0
        self._generation = 0
        self._why: tuple[str, tuple[str, ...]] = ("", ())
        self.last_move: Move | None = None
        self.trip: Trip | None = None
        """What tripped it last. A probe that fails keeps it open, and is not what tripped it."""
        self._begin()

    def _begin(self) -> None:
        """Nothing of before counts any more."""
        self._renew()
        self._successes = 0
        self._streak.clear()
        self._window.clear()

    def _renew(self) -> None:
        self._generation += 1
        self._probes = 0
        self._pass, self._probe = Permit(self._generation), Permit(self._generation, is_probe=True)

    @property
    def state(self) -> str:
        """closed, half_open or open."""
        return str(self._state.name).lower()

    def wait(self, now: float) -> float:
        """Seconds until a call may pass; 0.0: now. Changes nothing."""
        state = self._state
        if state is self.CLOSED or now >= self._until:
            return 0.0
        if state is self.OPEN:
            return self._until - now
        return 0.0 if self._has_room() else min(PROBE_RETRY_SECONDS, self._until - now)

    def enter(self, now: float) -> Permit:
        """Leave for a call that need not wait."""
        state = self._state
        if state is self.CLOSED:
            return self._pass
        if state is self.OPEN:
            self._move(self._holder.half_open, "cooled_down")
        elif not self._has_room():
            self._renew()
        self._until = now + self._settings.open_seconds
        self._probes += 1
        return self._probe

    def enter_exempt(self) -> Permit:
        """Leave for a call that always passes: it takes nothing, and what comes of it counts."""
        return self._pass

    def leave(self, permit: Permit) -> None:
        """The call says nothing of the upstream (it was cancelled): others may have its place."""
        if permit.is_probe and permit.generation == self._generation:
            self._probes -= 1

    def report(self, permit: Permit, reading: Reading, now: float, client: str = "") -> None:
        """What came of a call of this client ("": of no client). A report from before the last move is ignored."""
        if permit.generation != self._generation:
            return
        if permit.is_probe:
            self._probes -= 1
        state = self._state
        if reading.sign is Sign.NOTHING or state is self.OPEN:
            return
        self._window.add(reading, now, client)
        reason = self._judge(reading, now, client) if state is self.CLOSED else self._judge_probe(reading, now, client)
        if reason:
            self._open(reason, now)

    def _judge(self, reading: Reading, now: float, client: str) -> str:
        """Why to open, "" for no reason."""
        settings, window, streak = self._settings, self._window, self._streak
        streak.add(reading, client)
        if streak.failures >= settings.consecutive_failures and (
            streak.certain >= settings.consecutive_failures or not self._spares(set(streak.clients), now)
        ):
            return "consecutive_failures"
        if not (window.failures or window.slow or window.tool_errors) or window.calls < settings.min_calls:
            return ""
        return self._excess(now)

    def _judge_probe(self, reading: Reading, now: float, client: str) -> str:
        if reading.sign is Sign.FAILURE:
            is_spared = client and not reading.is_certain and self._spares({client}, now)
            return "" if is_spared else "probe_failed"
        self._successes += 1
        if self._successes < self._settings.half_open_probes:
            return ""
        reason = self._excess(now)
        if not reason:
            self._move(self._holder.close, "probes_succeeded")
        return reason

    def _spares(self, clients: set[str], now: float) -> bool:
        """Trouble of these clients alone opens nothing: they are too few, and another client's call has succeeded."""
        return 0 < len(clients) < self._settings.clients and self._window.has_success_beside(clients, now)

    def _excess(self, now: float) -> str:
        """Which rate is too high, also without the clients that have most of that trouble."""
        window, settings = self._window, self._settings
        rates = [("failure_rate", "failure", window.failures, settings.failure_rate)]
        rates.append(("slow_calls", "slow", window.slow, settings.slow_rate))
        if settings.counts_tool_errors:
            rates.append(("tool_errors", "tool_error", window.tool_errors, settings.tool_error_rate))
        for reason, trouble, count, rate in rates:
            if not count or count / window.calls < rate:
                continue
            theirs = window.heaviest(trouble, settings.clients - 1)
            if not self._spares(set(theirs), now):
                return reason
            left, calls = count - sum(theirs.values()), window.calls - sum(theirs.values())
            if left and calls >= settings.min_calls and left / calls >= rate:
                return reason
        return ""

    def _open(self, reason: str, now: float) -> None:
        self._until = now + self._settings.open_seconds
        traces = self._window.traces(_TROUBLES.get(reason, "failure"))
        if reason != "probe_failed":
            self.trip = Trip(reason, now, traces)
        self._move(self._holder.open, reason, traces)

    def _has_room(self) -> bool:
        return self._probes + self._successes < self._settings.half_open_probes

    def _move(self, change: Callable[[], None], reason: str, traces: tuple[str, ...] = ()) -> None:
        self._begin()
        self._why = (reason, traces)
        change()

    def state_change(self, breaker: Any, old: Any, new: Any) -> None:
        """aiobreaker has changed its state."""
        self._state = new.state
        self.last_move = Move(old.state.name.lower(), new.state.name.lower(), *self._why)
        self._told(self.last_move)


_TROUBLES = {"slow_calls": "slow", "tool_errors": "tool_error"}
