"""The breaker's circuit against a model that keeps every event and every permit, whatever happens in which order."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from weir.policies.breaker import PROBE_RETRY_SECONDS, BreakerSettings, Circuit, Move, Permit
from weir.policies.breaker_window import SLICES, Reading, Sign

SETTINGS = BreakerSettings(
    consecutive_failures=3,
    failure_rate=0.6,
    slow_rate=0.75,
    counts_tool_errors=True,
    tool_error_rate=0.8,
    window_seconds=150.0,
    min_calls=4,
    open_seconds=60.0,
    half_open_probes=2,
)
LEGAL = {("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed")}
READINGS = st.builds(
    Reading, st.sampled_from([*Sign, Sign.FAILURE, Sign.SUCCESS]), st.booleans(), st.sampled_from(["", "a", "b"])
)


@dataclass
class Out:
    """A call under way. `epoch` is what the model was at when it began."""

    permit: Permit
    epoch: int
    is_probe: bool


@dataclass
class Model:
    """What the circuit should be, the long way."""

    state: str = "closed"
    epoch: int = 0
    until: float = 0.0
    streak: int = 0
    successes: int = 0
    probes: list[Out] = field(default_factory=list)
    past: list[tuple[int, Reading]] = field(default_factory=list)

    def become(self, state: str) -> None:
        self.state, self.streak, self.successes, self.past = state, 0, 0, []
        self.void()

    def void(self) -> None:
        self.epoch += 1
        self.probes = []

    def window(self, now: float) -> list[Reading]:
        at = int(now / (SETTINGS.window_seconds / SLICES))
        return [reading for number, reading in self.past if number > at - SLICES]

    def is_excessive(self, now: float) -> bool:
        seen = self.window(now)
        return (
            sum(one.sign is Sign.FAILURE for one in seen) / len(seen) >= SETTINGS.failure_rate
            or sum(one.is_slow for one in seen) / len(seen) >= SETTINGS.slow_rate
            or sum(one.sign is Sign.TOOL_ERROR for one in seen) / len(seen) >= SETTINGS.tool_error_rate
        )


class CircuitMachine(RuleBasedStateMachine):
    """Callers come, go, fail, are cancelled and are late."""

    calls: Bundle[Out] = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.moves: list[Move] = []
        self.circuit = Circuit(SETTINGS, self.moves.append)
        self.model = Model()

    @rule(seconds=st.one_of(st.floats(0.0, 5.0), st.sampled_from([30.0, 59.0, 60.0, 61.0])))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.circuit.wait(self.now) == 0.0)
    @rule(target=calls)
    def a_call_enters(self) -> Out:
        permit, model = self.circuit.enter(self.now), self.model
        if model.state == "closed":
            return Out(permit, model.epoch, is_probe=False)
        if model.state == "open":
            model.become("half_open")
        elif len(model.probes) + model.successes >= SETTINGS.half_open_probes:
            model.void()
        model.until = self.now + SETTINGS.open_seconds
        out = Out(permit, model.epoch, is_probe=True)
        model.probes.append(out)
        return out

    @rule(target=calls)
    def an_exempt_call_enters(self) -> Out:
        return Out(self.circuit.enter_exempt(), self.model.epoch, is_probe=False)

    @rule(out=consumes(calls))
    def a_call_is_cancelled(self, out: Out) -> None:
        self.circuit.leave(out.permit)
        if out in self.model.probes:
            self.model.probes.remove(out)

    @rule(out=consumes(calls), reading=READINGS)
    def a_call_ends(self, out: Out, reading: Reading) -> None:
        self.circuit.report(out.permit, reading, self.now)
        model = self.model
        if out.epoch != model.epoch:
            return
        if out in model.probes:
            model.probes.remove(out)
        if reading.sign is Sign.NOTHING or model.state == "open":
            return
        model.past.append((int(self.now / (SETTINGS.window_seconds / SLICES)), reading))
        if model.state == "closed":
            self.judge(reading)
        else:
            self.judge_probe(reading)

    def judge(self, reading: Reading) -> None:
        model = self.model
        model.streak = model.streak + 1 if reading.sign is Sign.FAILURE else 0
        is_enough = len(model.window(self.now)) >= SETTINGS.min_calls
        if model.streak >= SETTINGS.consecutive_failures or (is_enough and model.is_excessive(self.now)):
            self.open()

    def judge_probe(self, reading: Reading) -> None:
        model = self.model
        model.successes += reading.sign is not Sign.FAILURE
        if reading.sign is Sign.FAILURE:
            self.open()
        elif model.successes >= SETTINGS.half_open_probes:
            if model.is_excessive(self.now):
                self.open()
            else:
                model.become("closed")

    def open(self) -> None:
        self.model.become("open")
        self.model.until = self.now + SETTINGS.open_seconds

    @invariant()
    def the_state_is_the_models(self) -> None:
        assert self.model.state == self.circuit.state

    @invariant()
    def who_must_wait_waits_for_as_long_as_needed(self) -> None:
        model, left = self.model, max(0.0, self.model.until - self.now)
        is_full = len(model.probes) + model.successes >= SETTINGS.half_open_probes
        expected = {"closed": 0.0, "open": left, "half_open": min(PROBE_RETRY_SECONDS, left) if is_full else 0.0}
        assert expected[model.state] == self.circuit.wait(self.now)

    @invariant()
    def nobody_is_shut_out_for_good(self) -> None:
        assert 0.0 == self.circuit.wait(self.now + SETTINGS.open_seconds)

    @invariant()
    def every_move_is_one_that_exists_and_follows_the_last(self) -> None:
        assert LEGAL.issuperset((move.before, move.after) for move in self.moves)
        assert [move.after for move in self.moves[:-1]] == [move.before for move in self.moves[1:]]


CircuitMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=60)
TestCircuit = CircuitMachine.TestCase
