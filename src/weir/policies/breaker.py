"""Breaker: stops asking an upstream, or one of its tools, that fails; then asks carefully again.

Only what the upstream did counts (`breaker_window.sign_of`): callers' mistakes, cancellations,
refusals and the time the client was asked do not. Probes are callers' own next calls. aiobreaker holds the state and
tells of its changes; when to move is decided here, on instants of a monotonic clock, so that neither a time zone nor
a change of the wall clock matters.

With `scope: tool` each known tool has a circuit, beside the upstream's own. That one then counts what is no known
tool's, every failure to connect, and the successes of all.

Actions told in `Decided`: refused, would_refuse, probe.
Reasons told in `BreakerMoved`: consecutive_failures, failure_rate, slow_calls, tool_errors, cooled_down,
probe_failed, probes_succeeded. Levels told in `LevelChanged`: 0 closed, 1 half-open, 2 open.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiobreaker

from weir.core.call import Attempt, Call
from weir.core.events import BreakerMoved, Decided, Emit, LevelChanged, LimitReached
from weir.core.layer import AttemptHandler
from weir.core.outcome import Failed, FailureKind, Mode, Outcome, RefusalKind, Refused
from weir.policies.breaker_held import Held
from weir.policies.breaker_window import Reading, Sign, Window, is_unreached, sign_of

PROBE_RETRY_SECONDS = 1.0
"""When to come again while probes are out: a probe takes as long as a call does, which nobody knows."""

TOOLS_LIMIT = 1000
"""Circuits of tools, 3 kB each. Of a server that lists more, those beyond are counted at the upstream."""

UPSTREAM = "upstream"
"""The scope of an upstream's own circuit; that of a tool's is `tool:` and its name."""


class Scope(enum.Enum):
    """What has a circuit."""

    UPSTREAM = "upstream"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Rates are shares of the calls in the window, judged from `min_calls` on.

    `counts_tool_errors`: `isError` results count against the tool (or upstream), with a rate of their own.
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
    tool: str = ""
    apart: frozenset[str] = frozenset()
    spared: frozenset[str] = frozenset()


# the pure part


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
        self._window = Window(settings.window_seconds)
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
        self._successes = self._streak = 0
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

    def report(self, permit: Permit, reading: Reading, now: float) -> None:
        """What came of it. A report from before the last move is ignored."""
        if permit.generation != self._generation:
            return
        if permit.is_probe:
            self._probes -= 1
        state = self._state
        if reading.sign is Sign.NOTHING or state is self.OPEN:
            return
        self._window.add(reading, now)
        reason = self._judge(reading) if state is self.CLOSED else self._judge_probe(reading)
        if reason:
            self._open(reason, now)

    def _judge(self, reading: Reading) -> str:
        """Why to open, "" for no reason."""
        self._streak = self._streak + 1 if reading.sign is Sign.FAILURE else 0
        if self._streak >= self._settings.consecutive_failures:
            return "consecutive_failures"
        window = self._window
        if not (window.failures or window.slow or window.tool_errors) or window.calls < self._settings.min_calls:
            return ""
        return self._excess()

    def _judge_probe(self, reading: Reading) -> str:
        if reading.sign is Sign.FAILURE:
            return "probe_failed"
        self._successes += 1
        if self._successes < self._settings.half_open_probes:
            return ""
        reason = self._excess()
        if not reason:
            self._move(self._holder.close, "probes_succeeded")
        return reason

    def _excess(self) -> str:
        """Which rate is too high."""
        window, settings = self._window, self._settings
        if window.failures and window.failures / window.calls >= settings.failure_rate:
            return "failure_rate"
        if window.slow and window.slow / window.calls >= settings.slow_rate:
            return "slow_calls"
        if settings.counts_tool_errors and window.tool_errors / window.calls >= settings.tool_error_rate:
            return "tool_errors"
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


# the doing


class Standing(NamedTuple):
    """A circuit as an operator sees it. `wait_seconds`: until a call may pass; `reason` and `traces` are of its last
    move, which was at `since`; `trip` is what tripped it last."""

    scope: str
    state: str
    wait_seconds: float
    reason: str
    traces: tuple[str, ...]
    since: float
    trip: Trip | None


_LEVELS = {"closed": 0.0, "half_open": 1.0, "open": 2.0}
_FAULTS = {"slow_calls": "has been answering too slowly", "tool_errors": "has been reporting errors"}


class Breaker:
    """The layer of one upstream. `is_known_tool`: whether a name is configured, or the server has listed it."""

    def __init__(
        self,
        upstream: str,
        settings: BreakerSettings,
        is_known_tool: Callable[[str], bool],
        emit: Emit,
        clock: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._settings = settings
        self._is_known_tool = is_known_tool
        self._emit = emit
        self._clock = clock
        self.mode = settings.mode
        self._is_shadow = settings.mode is Mode.SHADOW
        self._circuits: dict[str, Circuit] = {}
        self._since = {UPSTREAM: clock()}
        self._last_end: Outcome | None = None
        self._own = self._add(f"tool:{settings.tool}" if settings.tool else UPSTREAM)

    def state(self, scope: str = UPSTREAM) -> Standing:
        """How the circuit of a scope stands; one that no call has needed yet is closed."""
        circuit, since = self._circuits.get(scope), self._since.get(scope, self._since[UPSTREAM])
        if circuit is None:
            return Standing(scope, "closed", 0.0, "", (), since, None)
        last, wait = circuit.last_move or Move("", "", ""), circuit.wait(self._clock())
        return Standing(scope, circuit.state, wait, last.reason, last.traces, since, circuit.trip)

    def scopes(self) -> tuple[str, ...]:
        """Every scope that has a circuit."""
        return tuple(self._circuits)

    async def __call__(self, attempt: Attempt, inner: AttemptHandler) -> Outcome:
        """Refuse, or pass the attempt on and learn from it."""
        call, began = attempt.call, self._clock()
        if self._settings.spared and _tool_of(call) in self._settings.spared:
            return await inner(attempt)
        own, tool, is_exempt = self._own, self._tool(call), call.is_exempt
        if not is_exempt and (own.wait(began) or (tool is not None and tool.wait(began))):
            refused = self._refuse(call, own, tool, began)
            return await inner(attempt) if self._is_shadow else refused
        own_permit = self._enter(own, call, began, is_exempt)
        tool_permit = self._enter(tool, call, began, is_exempt) if tool is not None else own_permit
        asked = call.client_seconds
        try:
            outcome = await inner(attempt)
        except BaseException:
            own.leave(own_permit)
            if tool is not None:
                tool.leave(tool_permit)
            raise
        now = self._clock()
        reading = _WELL
        sign, is_slow = self._sign(attempt, outcome), not is_exempt and self._is_slow(call, now - began, asked, now)
        if is_slow or sign is not Sign.SUCCESS:
            reading = Reading(sign, is_slow, call.trace.trace_id if call.trace is not None else "")
        if tool is not None:
            tool.report(tool_permit, reading, now)
        if tool is not None or (self._settings.apart and _tool_of(call) in self._settings.apart):
            reading = _beside_a_tool(reading, outcome)
        own.report(own_permit, reading, now)
        return outcome

    def _sign(self, attempt: Attempt, outcome: Outcome) -> Sign:
        """The end of a server process is one failure, however many calls are told of it."""
        sign = sign_of(attempt, outcome)
        if isinstance(outcome, Failed) and outcome.kind is FailureKind.EXITED:
            if outcome is self._last_end:
                return Sign.NOTHING
            self._last_end = outcome
        return sign

    def _tool(self, call: Call) -> Circuit | None:
        """The circuit of the tool that is called, if it has one."""
        settings, name = self._settings, call.message.name
        if settings.scope is Scope.UPSTREAM or call.message.method != "tools/call" or name in settings.apart:
            return None
        scope = f"tool:{name}"
        circuit = self._circuits.get(scope)
        if circuit is not None or not self._is_known_tool(name):
            return circuit
        if len(self._circuits) > TOOLS_LIMIT:
            self._emit(LimitReached(self._upstream, "breaker_tools"))
            return None
        return self._add(scope)

    def _enter(self, circuit: Circuit, call: Call, now: float, is_exempt: bool) -> Permit:
        if is_exempt:
            return circuit.enter_exempt()
        permit = circuit.enter(now)
        if permit.is_probe:
            self._emit(Decided("breaker", "probe", call, self._is_shadow))
        return permit

    def _is_slow(self, call: Call, seconds: float, asked: float, now: float) -> bool:
        limit = self._settings.slow_over_seconds
        return seconds > limit and seconds - (call.asked_seconds(now) - asked) > limit

    def _add(self, scope: str) -> Circuit:
        def told(move: Move) -> None:
            upstream, is_shadow = self._upstream, self._is_shadow
            self._since[scope] = self._clock()
            self._emit(BreakerMoved(upstream, scope, *move, is_shadow))
            self._emit(LevelChanged("breaker", upstream, scope, _LEVELS[move.after]))

        circuit = self._circuits[scope] = Circuit(self._settings, told)
        self._emit(LevelChanged("breaker", self._upstream, scope, _LEVELS["closed"]))
        return circuit

    def _refuse(self, call: Call, own: Circuit, tool: Circuit | None, now: float) -> Refused:
        """The refusal of the circuit that stays shut for longer."""
        circuit, scope, what = own, "upstream", f"MCP server '{self._upstream}'"
        is_tools = tool is not None and tool.wait(now) > own.wait(now)
        if is_tools or self._settings.tool:
            circuit, scope, what = tool if is_tools and tool else own, "tool", f"Tool '{call.message.name}' of {what}"
        action = "would_refuse" if self._is_shadow else "refused"
        self._emit(Decided("breaker", action, call, self._is_shadow, detail=scope))
        fault = _FAULTS.get(circuit.trip.reason if circuit.trip is not None else "", "has been failing")
        text = f"{what} {fault}, so it is not being called for now."
        return Refused(RefusalKind.CIRCUIT_OPEN, text, scope, circuit.wait(now))


def _tool_of(call: Call) -> str:
    """The tool that is called, "" where none is."""
    return call.message.name if call.message.method == "tools/call" else ""


def _beside_a_tool(reading: Reading, outcome: Outcome) -> Reading:
    """What a tool's attempt says of the upstream itself: that it was reached and well, or not reached."""
    if reading.sign is Sign.FAILURE:
        return reading._replace(is_slow=False) if is_unreached(outcome) else _NOTHING
    return _NOTHING if reading.sign is Sign.NOTHING else _WELL


_WELL, _NOTHING = Reading(Sign.SUCCESS), Reading(Sign.NOTHING)
