"""Breaker: stops asking an upstream, or one of its tools, that fails; then asks carefully again.

Only what the upstream did counts (`breaker_window.sign_of`): callers' mistakes, cancellations,
refusals and the time the client was asked do not; and one client alone does not open a circuit before a server that
serves others (`breaker_circuit`). Probes are callers' own next calls. aiobreaker holds the state and
tells of its changes; when to move is decided here, on instants of a monotonic clock, so that neither a time zone nor
a change of the wall clock matters.

With `scope: tool` each known tool has a circuit, beside the upstream's own. That one then counts what is no known
tool's, every failure to connect, and the successes of all.

Actions told in `Decided`: refused, would_refuse, probe.
Reasons told in `BreakerMoved`: consecutive_failures, failure_rate, slow_calls, tool_errors, cooled_down,
probe_failed, probes_succeeded. Levels told in `LevelChanged`: 0 closed, 1 half-open, 2 open.
"""

from collections.abc import Callable
from typing import NamedTuple

from weir.core.call import Attempt, Call
from weir.core.events import BreakerMoved, Decided, Emit, LevelChanged, LimitReached
from weir.core.layer import AttemptHandler
from weir.core.origin import network_of
from weir.core.outcome import Failed, FailureKind, Mode, Outcome, RefusalKind, Refused
from weir.policies.breaker_circuit import PROBE_RETRY_SECONDS as PROBE_RETRY_SECONDS
from weir.policies.breaker_circuit import BreakerSettings as BreakerSettings
from weir.policies.breaker_circuit import Circuit as Circuit
from weir.policies.breaker_circuit import Move as Move
from weir.policies.breaker_circuit import Permit as Permit
from weir.policies.breaker_circuit import Scope as Scope
from weir.policies.breaker_circuit import Trip as Trip
from weir.policies.breaker_window import Reading, Sign, is_certain, is_unreached, sign_of

TOOLS_LIMIT = 1000
"""Circuits of tools, 3 kB each. Of a server that lists more, those beyond are counted at the upstream."""

UPSTREAM = "upstream"
"""The scope of an upstream's own circuit; that of a tool's is `tool:` and its name."""


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
    """The layer of one upstream. `is_known_tool`: whether a name is configured, or the server has listed it.

    `client_of` names the client of a call; one client under two names would count as two.
    """

    def __init__(
        self,
        upstream: str,
        settings: BreakerSettings,
        is_known_tool: Callable[[str], bool],
        emit: Emit,
        clock: Callable[[], float],
        client_of: Callable[[Call], str] = lambda call: network_of(call.peer.address) or "stdio",
    ) -> None:
        self._upstream = upstream
        self._settings = settings
        self._client_of = client_of
        self._is_known_tool = is_known_tool
        self._emit = emit
        self._clock = clock
        self.mode = settings.mode
        self._is_shadow = settings.mode is Mode.SHADOW
        self._circuits: dict[str, Circuit] = {}
        self._since = {UPSTREAM: clock()}
        self._shut: dict[str, Circuit] = {}
        """Circuits of single tools that are open."""
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
        own, tool, is_exempt = self._own, self._tool(call, began), call.is_exempt
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
            trace_id = call.trace.trace_id if call.trace is not None else ""
            reading = Reading(sign, is_slow, trace_id, is_certain(attempt, outcome))
        client = self._client_of(call)
        if tool is not None:
            tool.report(tool_permit, _NOTHING if reading is not _WELL and call.is_ambiguous else reading, now, client)
        if tool is not None or (self._settings.apart and _tool_of(call) in self._settings.apart):
            reading = _beside_a_tool(reading, outcome)
        own.report(own_permit, reading, now, client)
        return outcome

    def _sign(self, attempt: Attempt, outcome: Outcome) -> Sign:
        """The end of a server process is one failure, however many calls are told of it."""
        sign = sign_of(attempt, outcome)
        if isinstance(outcome, Failed) and outcome.kind is FailureKind.EXITED:
            if outcome is self._last_end:
                return Sign.NOTHING
            self._last_end = outcome
        return sign

    def _tool(self, call: Call, now: float) -> Circuit | None:
        """The circuit of the tool that is called, if it has one."""
        settings, name = self._settings, call.message.name
        if self._shut and call.is_ambiguous:
            # the server may read the name of a tool that is not to be called; it probes none
            return next((circuit for circuit in self._shut.values() if circuit.wait(now)), None)
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
            if scope != UPSTREAM and circuit.state == "open":
                self._shut[scope] = circuit
            else:
                self._shut.pop(scope, None)
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
