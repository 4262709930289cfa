"""The breaker: when a circuit moves, and what its layer makes of that."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from support.policed import (
    ACCEPTED,
    CLIENT_GONE,
    LATE,
    LOST,
    OK,
    REFUSED,
    TOOL_ERROR,
    UNREACHED,
    Gate,
    PlayedUpstream,
    Told,
    attempt_of,
    batch_of,
    body_of,
    call_of,
    call_with,
    clock_of_loop,
    rpc_error,
    status,
    tool_call,
    traced,
    two_names,
)
from support.virtual_loop import VIRTUAL, turns
from weir.config.policies import Breaker as Section
from weir.core.call import Call
from weir.core.events import BreakerMoved, Decided, LevelChanged, LimitReached
from weir.core.outcome import Failed, FailureKind, Mode, Outcome, RefusalKind, Refused
from weir.policies.breaker import (
    PROBE_RETRY_SECONDS,
    TOOLS_LIMIT,
    Breaker,
    BreakerSettings,
    Circuit,
    Move,
    Scope,
    Standing,
    Trip,
)
from weir.policies.breaker_window import Reading, Sign

pytestmark = pytest.mark.anyio

WELL, ILL, SLOW, TOLD_ERROR, NOTHING = (
    Reading(Sign.SUCCESS),
    Reading(Sign.FAILURE, trace_id="ill"),
    Reading(Sign.SUCCESS, is_slow=True, trace_id="slow"),
    Reading(Sign.TOOL_ERROR, trace_id="told"),
    Reading(Sign.NOTHING),
)
BY_TOOL = BreakerSettings(scope=Scope.TOOL)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


class Played:
    """A circuit with a clock of its own and its moves."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1000.0
        self.moves: list[Move] = []
        self.circuit = Circuit(BreakerSettings(**settings), self.moves.append)

    def end(self, *readings: Reading) -> str:
        """One call after the other, each with its reading; the state after them."""
        for reading in readings:
            assert self.circuit.wait(self.now) == 0.0
            self.circuit.report(self.circuit.enter(self.now), reading, self.now)
        return self.circuit.state

    def opened(self) -> "Played":
        """Open it by failures in a row."""
        while self.circuit.state != "open":
            self.end(ILL)
        return self


# the circuit


def test_it_opens_at_so_many_failures_in_a_row() -> None:
    """A success between them starts the count again; what says nothing does not."""
    played = Played(consecutive_failures=3, min_calls=100)
    assert "closed" == played.end(ILL, ILL, WELL, ILL, ILL)
    assert "open" == played.end(NOTHING, ILL)
    assert [Move("closed", "open", "consecutive_failures", ("ill",) * 5)] == played.moves


def test_a_tools_error_ends_a_row_of_failures() -> None:
    """The server was reached and answered."""
    played = Played(consecutive_failures=2, min_calls=100)
    assert "closed" == played.end(ILL, TOLD_ERROR, ILL, SLOW, ILL)


@pytest.mark.parametrize(("row", "state"), [(5, "open"), (20, "closed")])
def test_how_soon_a_row_comes_by_chance_depends_on_how_busy_a_server_is(row: int, state: str) -> None:
    """100 calls a second for five minutes, of which a fifth fail: far below the share that is allowed."""
    played, draws = Played(consecutive_failures=row, min_calls=100), random.Random(7)
    for _ in range(30_000):
        played.now += 0.01
        played.end(ILL if draws.random() < 0.2 else WELL)
        if played.circuit.state == "open":
            break
    assert state == played.circuit.state


def test_it_opens_at_a_share_of_failures_once_there_are_enough_calls() -> None:
    """The share is reached at the first of them already."""
    played = Played(consecutive_failures=100, failure_rate=0.5, min_calls=6)
    assert "closed" == played.end(ILL, WELL, ILL, WELL, ILL)
    assert "open" == played.end(WELL)
    assert "failure_rate" == played.moves[0].reason


def test_just_below_the_share_it_stays_closed() -> None:
    """Nine of twenty."""
    played = Played(consecutive_failures=100, failure_rate=0.5, min_calls=20)
    assert "closed" == played.end(*[WELL] * 11, *[ILL] * 9)
    assert "closed" == played.end(WELL, ILL)
    assert "open" == played.end(ILL, ILL)


def test_what_is_older_than_the_window_does_not_count() -> None:
    """Neither as failures nor as calls."""
    played = Played(consecutive_failures=100, min_calls=4, window_seconds=30.0)
    played.end(ILL, ILL, ILL)
    played.now += 31.0
    assert "closed" == played.end(ILL, ILL, ILL)
    played.now += 20.0
    assert "open" == played.end(ILL)


def test_it_opens_when_most_calls_are_slow() -> None:
    """However well they end."""
    played = Played(min_calls=10, slow_rate=0.9)
    assert "closed" == played.end(WELL, *[SLOW] * 8)
    assert "open" == played.end(SLOW)
    assert Move("closed", "open", "slow_calls", ("slow",) * 5) == played.moves[0]
    assert played.circuit.trip is not None
    assert "slow_calls" == played.circuit.trip.reason


@pytest.mark.parametrize("counts", [False, True])
def test_tools_errors_count_only_when_asked_for(counts: bool) -> None:
    """With a rate of their own."""
    played = Played(min_calls=4, counts_tool_errors=counts, tool_error_rate=0.75)
    assert "closed" == played.end(WELL, TOLD_ERROR, TOLD_ERROR)
    assert ("open" if counts else "closed") == played.end(TOLD_ERROR)
    assert (["tool_errors"] if counts else []) == [move.reason for move in played.moves]
    assert not counts or played.moves[0].traces == ("told",) * 3


def test_open_it_says_when_to_come_again() -> None:
    """Exactly until it lets a probe pass."""
    played = Played(open_seconds=60.0).opened()
    assert 60.0 == played.circuit.wait(played.now)
    played.now += 59.5
    assert 0.5 == played.circuit.wait(played.now)
    played.now += 0.5
    assert 0.0 == played.circuit.wait(played.now)
    assert "open" == played.circuit.state


def test_asking_changes_nothing() -> None:
    """Only who enters moves it to half-open."""
    played = Played().opened()
    played.now += 60.0
    assert [0.0, 0.0] == [played.circuit.wait(played.now) for _ in range(2)]
    assert "open" == played.circuit.state
    played.circuit.enter(played.now)
    assert "half_open" == played.circuit.state
    assert Move("open", "half_open", "cooled_down") == played.moves[-1]


def test_half_open_lets_so_many_probes_pass_and_no_more() -> None:
    """At once; who comes later is told to come again soon."""
    played = Played(half_open_probes=3).opened()
    played.now += 60.0
    permits = [played.circuit.enter(played.now) for _ in range(3)]
    assert [True] * 3 == [permit.is_probe for permit in permits]
    assert PROBE_RETRY_SECONDS == played.circuit.wait(played.now)
    played.circuit.report(permits[0], WELL, played.now)
    assert PROBE_RETRY_SECONDS == played.circuit.wait(played.now)


def test_as_many_successes_in_a_row_close_it() -> None:
    """And what was before is forgotten."""
    played = Played(half_open_probes=3, consecutive_failures=5).opened()
    played.now += 60.0
    assert ["half_open", "half_open", "closed"] == [played.end(WELL) for _ in range(3)]
    assert Move("half_open", "closed", "probes_succeeded") == played.moves[-1]
    assert "closed" == played.end(*[ILL] * 4)
    assert "open" == played.end(ILL)


def test_a_closed_circuit_begins_with_an_empty_window() -> None:
    """However long the window is: what opened it is over, and so are its probes."""
    played = Played(half_open_probes=3, consecutive_failures=5, window_seconds=3600.0, min_calls=4).opened()
    played.now += 60.0
    played.end(WELL, WELL, WELL)
    assert "closed" == played.end(ILL, ILL, ILL)
    assert "open" == played.end(ILL)


def test_one_failure_of_a_probe_opens_it_again() -> None:
    """For the whole time, and with the trace of the probe; what tripped it first stays its trouble."""
    played = Played(min_calls=2, slow_rate=1.0)
    played.end(SLOW, SLOW)
    played.now += 60.0
    assert "open" == played.end(WELL, ILL)
    assert Move("half_open", "open", "probe_failed", ("ill",)) == played.moves[-1]
    assert 60.0 == played.circuit.wait(played.now)
    assert played.circuit.trip is not None
    assert "slow_calls" == played.circuit.trip.reason


def test_probes_that_are_all_slow_do_not_close_what_opened_for_slowness() -> None:
    """One of three may be."""
    played = Played(half_open_probes=3).opened()
    played.now += 60.0
    assert "open" == played.end(SLOW, SLOW, SLOW)
    assert "slow_calls" == played.moves[-1].reason
    played.now += 60.0
    assert "closed" == played.end(WELL, SLOW, WELL)


def test_a_probe_that_says_nothing_gives_its_place_to_another() -> None:
    """A caller's mistake closes nothing and opens nothing."""
    played = Played(half_open_probes=1).opened()
    played.now += 60.0
    assert "half_open" == played.end(NOTHING, NOTHING)
    assert "closed" == played.end(WELL)


def test_a_cancelled_probe_gives_its_place_back_once() -> None:
    """Twice would let two in for it."""
    played = Played(half_open_probes=1).opened()
    played.now += 60.0
    permit = played.circuit.enter(played.now)
    played.circuit.leave(permit)
    assert 0.0 == played.circuit.wait(played.now)
    played.circuit.enter(played.now)
    assert PROBE_RETRY_SECONDS == played.circuit.wait(played.now)


def test_late_reports_from_before_are_void() -> None:
    """Old successes do not close it, old failures do not open it again."""
    played = Played(half_open_probes=1, consecutive_failures=2)
    before = [played.circuit.enter(played.now) for _ in range(5)]
    played.opened()
    played.circuit.report(before[0], WELL, played.now)
    assert "open" == played.circuit.state
    played.now += 60.0
    probe = played.circuit.enter(played.now)
    played.circuit.report(before[1], ILL, played.now)
    played.circuit.report(before[2], WELL, played.now)
    played.circuit.leave(before[3])
    assert "half_open" == played.circuit.state
    assert PROBE_RETRY_SECONDS == played.circuit.wait(played.now)
    played.circuit.report(probe, WELL, played.now)
    played.circuit.report(before[4], ILL, played.now)
    assert "closed" == played.end(ILL)


def test_probes_that_never_come_back_are_given_up() -> None:
    """After as long as it would have been open; then others may try, and the successes so far stand."""
    played = Played(half_open_probes=2, open_seconds=60.0).opened()
    played.now += 60.0
    played.end(WELL)
    hung = played.circuit.enter(played.now)
    played.now += 59.5
    assert 0.5 == played.circuit.wait(played.now)
    played.now += 0.5
    assert "closed" == played.end(WELL)
    played.circuit.report(hung, ILL, played.now)
    assert "closed" == played.circuit.state


def test_a_slow_trickle_of_probes_closes_it_too() -> None:
    """Successes need not come within the time it was open."""
    played = Played(half_open_probes=3, open_seconds=60.0).opened()
    for _ in range(3):
        played.now += 500.0
        played.end(WELL)
    assert "closed" == played.circuit.state


def test_exempt_calls_take_no_place_and_are_heard() -> None:
    """In every state but open, where there is nothing to learn."""
    played = Played(half_open_probes=2).opened()
    played.circuit.report(played.circuit.enter_exempt(), WELL, played.now)
    assert "open" == played.circuit.state
    played.now += 60.0
    played.circuit.enter(played.now)
    played.circuit.report(played.circuit.enter_exempt(), WELL, played.now)
    played.circuit.report(played.circuit.enter_exempt(), WELL, played.now)
    assert "closed" == played.circuit.state
    for _ in range(5):
        played.circuit.report(played.circuit.enter_exempt(), ILL, played.now)
    assert "open" == played.circuit.state


def test_an_exempt_call_that_is_cancelled_frees_nobodys_place() -> None:
    """It had none."""
    played = Played(half_open_probes=1).opened()
    played.now += 60.0
    played.circuit.enter(played.now)
    played.circuit.leave(played.circuit.enter_exempt())
    assert PROBE_RETRY_SECONDS == played.circuit.wait(played.now) == 1.0


def test_the_defaults_are_those_of_the_configuration() -> None:
    """A section without values means the same in both rooms."""
    said = Section()
    assert BreakerSettings() == BreakerSettings(
        Mode(said.mode),
        Scope(said.scope),
        said.consecutive_failures,
        said.failure_rate,
        said.slow_call.over_seconds,
        said.slow_call.rate,
        said.tool_errors.count,
        said.tool_errors.rate,
        said.window_seconds,
        said.min_calls,
        said.open_seconds,
        said.half_open_probes,
    )


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Lisbon"])
def test_no_time_zone_changes_when_it_moves(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instants are monotonic; aiobreaker's own reading of the wall clock decides nothing."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        played = Played(open_seconds=60.0).opened()
        assert 60.0 == played.circuit.wait(played.now)
        played.now += 60.0
        assert "closed" == played.end(WELL, WELL, WELL)
    finally:
        monkeypatch.undo()
        time.tzset()


# the layer


class Stand:
    """A breaker before a played upstream, in virtual time."""

    def __init__(self, *outcomes: Any, settings: BreakerSettings | None = None, known: str = "add sub") -> None:
        self.told = Told()
        self.upstream = PlayedUpstream(*outcomes or (OK,))
        self.clock = clock_of_loop()
        self.known = known.split()
        self.breaker = Breaker(
            "demo", settings or BreakerSettings(), self.known.__contains__, self.told.append, self.clock
        )

    async def call(self, call: Call | None = None, inner: Any = None) -> Outcome:
        """One attempt."""
        return await self.breaker(attempt_of(call or tool_call()), inner or self.upstream)

    async def calls(self, count: int, make: Callable[[], Call] = tool_call) -> list[Outcome]:
        """So many, one after the other."""
        return [await self.call(make()) for _ in range(count)]

    def state(self, scope: str = "upstream") -> str:
        """Of a circuit."""
        return self.breaker.state(scope).state

    def moves(self) -> list[tuple[str, str, str]]:
        """Of all circuits."""
        return [(move.scope, move.before, move.after) for move in self.told.of(BreakerMoved)]


async def test_closed_every_outcome_passes_unchanged() -> None:
    """The same object."""
    for outcome in (OK, TOOL_ERROR, UNREACHED, REFUSED, status(503)):
        stand = Stand(outcome)
        assert outcome is await stand.call()


async def test_open_it_refuses_and_the_upstream_is_not_asked() -> None:
    """The text is one line for a language model: what happened, for whom."""
    stand = Stand(LOST)
    await stand.calls(5)
    await asyncio.sleep(20.0)
    refused = await stand.call()
    assert isinstance(refused, Refused)
    assert "MCP server 'demo' has been failing, so it is not being called for now." == refused.detail
    assert (RefusalKind.CIRCUIT_OPEN, "upstream") == (refused.kind, refused.scope)
    assert pytest.approx(40.0) == refused.retry_after_seconds
    assert 5 == len(stand.upstream.attempts)
    call = tool_call()
    await stand.call(call)
    assert Decided("breaker", "refused", call, detail="upstream") == stand.told.of(Decided)[-1]
    assert 2 == len(stand.told.of(Decided))


async def test_it_recovers_through_the_callers_own_calls() -> None:
    """Open, three probes, closed; each told with its level."""
    stand = Stand(*[LOST] * 5, OK)
    await stand.calls(5)
    await asyncio.sleep(60.0)
    assert [OK] * 4 == await stand.calls(4)
    assert [
        ("upstream", "closed", "open"),
        ("upstream", "open", "half_open"),
        ("upstream", "half_open", "closed"),
    ] == stand.moves()
    levels = stand.told.of(LevelChanged)
    assert [("breaker", "demo", "upstream", value) for value in (0.0, 2.0, 1.0, 0.0)] == [
        (level.policy, level.upstream, level.scope, level.value) for level in levels
    ]
    probes = [attempt.call for attempt in stand.upstream.attempts[5:8]]
    assert [Decided("breaker", "probe", call) for call in probes] == stand.told.of(Decided)


async def test_a_probe_of_a_tools_circuit_is_told_too() -> None:
    """With the call that it is."""
    stand = Stand(*[rpc_error(-32603)] * 5, OK, settings=BY_TOOL)
    await stand.calls(5)
    await asyncio.sleep(60.0)
    call = tool_call()
    await stand.call(call)
    assert [Decided("breaker", "probe", call)] == stand.told.of(Decided)


async def test_who_tripped_it_is_named() -> None:
    """The last few traces, in the event and in the state. What has no trace is left out."""
    stand = Stand(LOST, settings=BreakerSettings(consecutive_failures=6))
    for number in range(1, 3):
        await stand.call(traced(tool_call(), number))
    await stand.call()
    for number in range(3, 7):
        await stand.call(traced(tool_call(), number))
    traces = tuple(f"{number:032x}" for number in range(1, 6))
    assert (
        BreakerMoved("demo", "upstream", "closed", "open", "consecutive_failures", traces)
        == (stand.told.of(BreakerMoved)[0])
    )
    trip = Trip("consecutive_failures", stand.clock(), traces)
    standing = Standing("upstream", "open", 60.0, "consecutive_failures", traces, stand.clock(), trip)
    assert standing == stand.breaker.state()


async def test_what_tripped_it_is_told_until_something_else_does() -> None:
    """Whatever moves it made since: when it opened, by which calls, and since when it is as it is."""
    settings = BreakerSettings(consecutive_failures=1, open_seconds=30.0, half_open_probes=1)
    stand = Stand(LOST, LOST, OK, settings=settings)
    opened_at = stand.clock()
    await stand.call(traced(tool_call(), 1))
    trip = Trip("consecutive_failures", opened_at, (f"{1:032x}",))
    await asyncio.sleep(31.0)
    await stand.call(traced(tool_call(), 2))
    standing = stand.breaker.state()
    assert ("open", "probe_failed", opened_at + 31.0, trip) == (
        standing.state,
        standing.reason,
        standing.since,
        standing.trip,
    )
    await asyncio.sleep(32.0)
    await stand.call(traced(tool_call(), 3))
    standing = stand.breaker.state()
    assert ("closed", opened_at + 63.0, trip) == (standing.state, standing.since, standing.trip)


async def test_a_circuit_that_nobody_needed_is_closed() -> None:
    """Whatever its name."""
    stand = Stand()
    at = stand.clock()
    assert Standing("tool:other", "closed", 0.0, "", (), at, None) == stand.breaker.state("tool:other")
    assert Standing("upstream", "closed", 0.0, "", (), at, None) == stand.breaker.state()
    assert ("upstream",) == stand.breaker.scopes()


@pytest.mark.parametrize(
    "outcome", [REFUSED, CLIENT_GONE, rpc_error(-32602), status(429), status(404), status(401), TOOL_ERROR]
)
async def test_what_the_upstream_did_not_do_never_opens_it(outcome: Outcome) -> None:
    """A hundred times."""
    stand = Stand(outcome)
    await stand.calls(100)
    assert "closed" == stand.state()


async def test_the_end_of_a_process_is_one_failure_however_many_calls_it_ends() -> None:
    """It is started again for the next call: a crash now and then is no reason to stop calling."""
    ends = [Failed(FailureKind.EXITED, "exited with code 3") for _ in range(5)]
    stand = Stand(*[ends[0]] * 20, *[ends[1]] * 20, OK)
    await stand.calls(41)
    assert "closed" == stand.state()
    stand = Stand(*ends)
    await stand.calls(5)
    assert "open" == stand.state()


async def test_a_process_that_ends_with_all_probes_has_failed_once() -> None:
    """The circuit opens again, and what the other probes are told of changes nothing."""
    stand, gate = Stand(*[LOST] * 5), Gate()
    await stand.calls(5)
    await asyncio.sleep(60.0)
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(stand.call(inner=gate))
        await turns()
        end = Failed(FailureKind.EXITED, "exited with code 3")
        for number in range(3):
            gate.answer(number, end)
    assert ["open", "half_open", "open"] == [after for _, _, after in stand.moves()]


async def test_a_caller_that_cancels_says_nothing() -> None:
    """Nor does it leave anything behind."""
    stand, gate = Stand(), Gate()
    for _ in range(20):
        task = asyncio.get_running_loop().create_task(stand.call(inner=gate))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert "closed" == stand.state()


async def test_a_cancelled_probe_frees_its_place() -> None:
    """Otherwise nobody would ever be let in again."""
    stand = Stand(LOST, settings=BreakerSettings(half_open_probes=1))
    gate = Gate()
    await stand.calls(5)
    await asyncio.sleep(60.0)
    probe = asyncio.get_running_loop().create_task(stand.call(inner=gate))
    await turns()
    refused = await stand.call()
    assert isinstance(refused, Refused)
    assert PROBE_RETRY_SECONDS == refused.retry_after_seconds
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    stand.upstream.outcomes = [OK]
    assert OK is await stand.call()
    assert "closed" == stand.state()


async def test_probes_run_at_the_same_time() -> None:
    """As many as are needed; the fourth is refused, and three answers close it."""
    stand, gate = Stand(LOST), Gate()
    await stand.calls(5)
    await asyncio.sleep(60.0)
    async with asyncio.TaskGroup() as group:
        probes = [group.create_task(stand.call(inner=gate)) for _ in range(4)]
        await turns()
        assert 3 == len(gate.waiting)
        assert isinstance(probes[3].result(), Refused)
        for index in (2, 0, 1):
            gate.answer(index, OK)
    assert "closed" == stand.state()


async def test_a_late_answer_from_before_it_opened_changes_nothing() -> None:
    """Neither a success while half-open, nor a failure after."""
    stand, gate = Stand(*[LOST] * 5, OK), Gate()
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(stand.call(inner=gate))
        await turns()
        await stand.calls(5)
        await asyncio.sleep(60.0)
        await stand.call()
        for index in range(3):
            gate.answer(index, OK)
        await turns()
        assert "half_open" == stand.state()
        await stand.calls(2)
        for index in range(3, 8):
            gate.answer(index, LOST)
    assert "closed" == stand.state()


@pytest.mark.parametrize(
    "make",
    [
        lambda: call_with(body_of("notifications/cancelled", request_id=None)),
        lambda: call_with(b'{"jsonrpc":"2.0","id":9,"result":{}}'),
        lambda: call_of("initialize"),
        lambda: call_of("server/discover"),
        lambda: call_of("ping"),
        lambda: call_of("tasks/cancel"),
        lambda: call_of("subscriptions/listen"),
        lambda: call_with(verb=b"GET"),
        lambda: call_with(verb=b"DELETE"),
    ],
)
async def test_exempt_calls_pass_while_it_is_open(make: Callable[[], Call]) -> None:
    """An error there makes clients downgrade silently, or deadlocks the call that waits."""
    stand = Stand(*[LOST] * 5, OK)
    await stand.calls(5)
    assert OK is await stand.call(make())
    await asyncio.sleep(60.0)
    await stand.call(make())
    assert "open" == stand.state()


@pytest.mark.parametrize("make", [lambda: batch_of(body_of("tools/call")), lambda: call_with(b"\xef\xbb\xbf{}")])
async def test_what_may_be_work_is_refused(make: Callable[[], Call]) -> None:
    """A batch whole; what cannot be read too."""
    stand = Stand(LOST)
    await stand.calls(5)
    assert isinstance(await stand.call(make()), Refused)


async def test_outcomes_of_exempt_calls_count() -> None:
    """A server that cannot even be greeted is not asked for tools."""
    stand = Stand(UNREACHED)
    await stand.calls(5, lambda: call_of("initialize"))
    assert "open" == stand.state()


async def test_taken_notifications_do_not_hide_failures() -> None:
    """202 is no success."""
    stand = Stand(*[LOST, ACCEPTED] * 4, LOST)
    for _ in range(4):
        await stand.call()
        await stand.call(call_with(body_of("notifications/progress", request_id=None)))
    await stand.call()
    assert "open" == stand.state()


def waits(seconds: float, outcome: Outcome, asked: float = 0.0) -> Any:
    """An upstream that takes so long, part of it waiting for the client."""

    async def upstream(attempt: Any) -> Outcome:
        clock = clock_of_loop()
        attempt.call.ask_began(clock())
        await asyncio.sleep(asked)
        attempt.call.ask_ended(clock())
        await asyncio.sleep(seconds - asked)
        return outcome

    return upstream


async def test_slow_calls_open_it() -> None:
    """The refusal says so."""
    stand = Stand(waits(10.5, OK), settings=BreakerSettings(window_seconds=600.0))
    await stand.calls(10)
    refused = await stand.call()
    assert isinstance(refused, Refused)
    assert "MCP server 'demo' has been answering too slowly, so it is not being called for now." == refused.detail
    assert "slow_calls" == stand.breaker.state().reason


async def test_the_refusal_says_when_it_is_for_tools_errors() -> None:
    """Where they count."""
    stand = Stand(TOOL_ERROR, settings=BreakerSettings(counts_tool_errors=True))
    await stand.calls(10)
    refused = await stand.call()
    assert isinstance(refused, Refused)
    assert "MCP server 'demo' has been reporting errors, so it is not being called for now." == refused.detail


async def test_as_long_as_is_allowed_is_not_slow() -> None:
    """Ten seconds sharp."""
    stand = Stand(waits(10.0, OK), settings=BreakerSettings(window_seconds=600.0))
    await stand.calls(20)
    assert "closed" == stand.state()


async def test_time_spent_asking_the_client_is_not_the_upstreams() -> None:
    """Nor is what an earlier attempt was asked for this one's."""
    stand = Stand(waits(300.0, OK, asked=290.0), settings=BreakerSettings(window_seconds=60_000.0))
    await stand.calls(20)
    assert "closed" == stand.state()
    stand = Stand(waits(11.0, OK), settings=BreakerSettings(window_seconds=60_000.0))
    await stand.calls(10, lambda: tool_call(client_seconds=5.0))
    assert "open" == stand.state()


@pytest.mark.parametrize("make", [lambda: call_with(verb=b"GET"), lambda: call_of("tasks/result")])
async def test_long_lived_calls_are_never_slow(make: Callable[[], Call]) -> None:
    """They last for as long as they last."""
    stand = Stand(waits(3600.0, OK), settings=BreakerSettings(window_seconds=600_000.0))
    await stand.calls(20, make)
    assert "closed" == stand.state()


async def test_timeouts_are_failures() -> None:
    """Of the upstream."""
    stand = Stand(LATE)
    await stand.calls(5)
    assert "open" == stand.state()


# a circuit for each tool


async def test_one_bad_tool_closes_nothing_else() -> None:
    """Other tools and lists go on; the text names the tool."""
    stand = Stand(*[rpc_error(-32603)] * 5, OK, settings=BY_TOOL)
    await stand.calls(5)
    refused = await stand.call()
    assert isinstance(refused, Refused)
    assert "Tool 'add' of MCP server 'demo' has been failing, so it is not being called for now." == refused.detail
    assert ("tool", 60.0) == (refused.scope, refused.retry_after_seconds)
    assert [OK, OK] == [await stand.call(tool_call("sub")), await stand.call(call_of("tools/list"))]
    assert ("open", "closed", "closed") == (stand.state("tool:add"), stand.state("tool:sub"), stand.state())
    assert ("upstream", "tool:add", "tool:sub") == stand.breaker.scopes()


@pytest.mark.parametrize("names", [("add", "sub"), ("sub", "add"), ("x", "y")], ids="-".join)
async def test_a_call_that_may_be_of_any_tool_is_refused_while_one_tool_is(names: tuple[str, str]) -> None:
    """Readers differ in which of two names counts."""
    stand = Stand(*[rpc_error(-32603)] * 5, OK, settings=BY_TOOL)
    await stand.calls(5)
    asked = len(stand.upstream.attempts)
    assert isinstance(await stand.call(two_names(*names)), Refused)
    assert asked == len(stand.upstream.attempts)


async def test_a_call_that_may_be_of_any_tool_opens_no_tools_circuit_and_probes_none() -> None:
    """It says nothing of a tool that may not have been called."""
    stand = Stand(*[rpc_error(-32603)] * 10, OK, settings=BY_TOOL)
    await stand.call(tool_call("add"))
    for _ in range(6):
        await stand.call(two_names("add", "add"))
    assert "closed" == stand.state("tool:add")


async def test_an_unknown_tool_counts_at_the_upstream() -> None:
    """Clients may name what they like."""
    stand = Stand(LOST, settings=BY_TOOL)
    for number in range(5):
        await stand.call(tool_call(f"made-up-{number}"))
    assert ("open", ("upstream",)) == (stand.state(), stand.breaker.scopes())


async def test_a_tool_that_is_listed_later_gets_its_circuit_then() -> None:
    """It is asked for each time."""
    stand = Stand(settings=BY_TOOL)
    await stand.call(tool_call("later"))
    stand.known.append("later")
    await stand.call(tool_call("later"))
    assert ("upstream", "tool:later") == stand.breaker.scopes()


async def test_prompts_have_no_circuits() -> None:
    """Even with the name of a tool."""
    stand = Stand(settings=BY_TOOL)
    await stand.call(call_with(body_of("prompts/get", {"name": "add"})))
    assert ("upstream",) == stand.breaker.scopes()


async def test_not_reaching_the_server_counts_at_the_upstream_too() -> None:
    """Whatever tools were meant."""
    stand = Stand(UNREACHED, settings=BreakerSettings(scope=Scope.TOOL, consecutive_failures=4))
    for name in ("add", "sub", "add", "sub"):
        await stand.call(tool_call(name))
    assert ("open", "closed", "closed") == (stand.state(), stand.state("tool:add"), stand.state("tool:sub"))
    refused = await stand.call(tool_call("add"))
    assert isinstance(refused, Refused)
    assert "upstream" == refused.scope


async def test_a_tools_failures_are_not_the_upstreams_and_its_successes_are() -> None:
    """A success, even a tool's own error, ends a row of failures to connect."""
    stand = Stand(UNREACHED, settings=BreakerSettings(scope=Scope.TOOL, consecutive_failures=2, min_calls=100))
    for outcome, expected in ((LOST, "closed"), (UNREACHED, "closed"), (TOOL_ERROR, "closed"), (UNREACHED, "closed")):
        stand.upstream.outcomes = [outcome]
        await stand.call(tool_call("add" if outcome is not UNREACHED else "sub"))
        assert expected == stand.state()
    await stand.call(call_of("tools/list"))
    assert "open" == stand.state()


async def test_a_slow_failure_to_connect_is_a_failure_there_and_not_slow() -> None:
    """How long a tool takes is its own."""
    stand = Stand(
        waits(11.0, UNREACHED),
        settings=BreakerSettings(scope=Scope.TOOL, consecutive_failures=100, failure_rate=2.0, window_seconds=600.0),
    )
    await stand.calls(10)
    assert ("open", "closed") == (stand.state("tool:add"), stand.state())


async def test_what_says_nothing_of_a_tool_says_nothing_of_the_upstream() -> None:
    """Not even that it is well."""
    stand = Stand(settings=BreakerSettings(scope=Scope.TOOL, consecutive_failures=2, min_calls=100))
    for outcome in (UNREACHED, status(429), UNREACHED):
        stand.upstream.outcomes = [outcome]
        await stand.call(tool_call("sub" if outcome is UNREACHED else "add"))
    assert "open" == stand.state()


async def test_of_equal_waits_the_upstreams_is_told() -> None:
    """It says more."""
    stand = Stand(UNREACHED, settings=BY_TOOL)
    await stand.calls(5)
    refused = await stand.call()
    assert isinstance(refused, Refused)
    assert ("open", "open", "upstream") == (stand.state("tool:add"), stand.state(), refused.scope)


async def test_the_longer_wait_is_told() -> None:
    """Of tool and upstream, when both are open."""
    stand = Stand(LOST, settings=BY_TOOL)
    await stand.calls(5)
    await asyncio.sleep(10.0)
    await stand.calls(5, lambda: call_of("tools/list"))
    refused = await stand.call()
    assert isinstance(refused, Refused)
    assert ("upstream", 60.0) == (refused.scope, refused.retry_after_seconds)


async def test_who_is_refused_by_the_tool_takes_no_place_at_the_upstream() -> None:
    """Both are asked before either gives leave."""
    stand = Stand(LOST, settings=BreakerSettings(scope=Scope.TOOL, half_open_probes=1))
    await stand.calls(5, lambda: call_of("tools/list"))
    await asyncio.sleep(60.0)
    gate = Gate()
    # a tool that trips while the upstream is half-open
    async with asyncio.TaskGroup() as group:
        first = group.create_task(stand.call(inner=gate))
        await turns()
        gate.answer(0, rpc_error(-32603))
        await first
    assert ("half_open", 0.0) == stand.breaker.state()[1:3]
    for _ in range(4):
        stand.upstream.outcomes = [rpc_error(-32603)]
        await stand.call()
    assert "open" == stand.state("tool:add")
    assert isinstance(await stand.call(), Refused)
    stand.upstream.outcomes = [OK]
    assert OK is await stand.call(call_of("tools/list"))
    assert "closed" == stand.state()


async def test_a_cancelled_probe_frees_both_places() -> None:
    """The tool's and the upstream's."""
    stand = Stand(UNREACHED, settings=BreakerSettings(scope=Scope.TOOL, half_open_probes=1))
    gate = Gate()
    await stand.calls(5)
    await asyncio.sleep(60.0)
    probe = asyncio.get_running_loop().create_task(stand.call(inner=gate))
    await turns()
    assert isinstance(await stand.call(), Refused)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    stand.upstream.outcomes = [OK]
    assert OK is await stand.call()
    assert ("closed", "closed") == (stand.state(), stand.state("tool:add"))


async def test_circuits_of_tools_are_bounded() -> None:
    """Beyond the bound they count at the upstream, and somebody is told."""
    stand = Stand(settings=BY_TOOL)
    stand.breaker = Breaker("demo", BY_TOOL, lambda _: True, stand.told.append, stand.clock)
    for number in range(TOOLS_LIMIT + 1):
        await stand.call(tool_call(f"tool-{number}"))
    assert TOOLS_LIMIT + 1 == len(stand.breaker.scopes()) == 1001
    assert [LimitReached("demo", "breaker_tools")] == stand.told.of(LimitReached)


# shadow


async def test_shadow_changes_nothing_and_tells_everything() -> None:
    """Every call passes; the circuit moves as it would have."""
    stand = Stand(LOST, settings=BreakerSettings(mode=Mode.SHADOW))
    assert [LOST] * 7 == await stand.calls(7)
    assert 7 == len(stand.upstream.attempts)
    assert ["would_refuse"] * 2 == stand.told.actions()
    assert all(event.is_shadow for event in stand.told.of(Decided))
    assert all(event.is_shadow for event in stand.told.of(BreakerMoved))
    stand.upstream.outcomes = [OK]
    await asyncio.sleep(60.0)
    await stand.calls(3)
    assert ["probe"] * 3 == [event.action for event in stand.told.of(Decided) if event.is_shadow][2:]
    assert [("closed", "open"), ("open", "half_open"), ("half_open", "closed")] == [move[1:] for move in stand.moves()]


async def test_what_shadow_would_have_refused_teaches_it_nothing() -> None:
    """It would not have been seen."""
    stand = Stand(*[LOST] * 5, OK, settings=BreakerSettings(mode=Mode.SHADOW))
    await stand.calls(50)
    assert "open" == stand.state()


# tools that are looked at elsewhere, or not at all


def prompt(name: str = "add") -> Call:
    """A prompt, which may have a tool's name."""
    return call_with(body_of("prompts/get", {"name": name}))


async def test_a_tool_that_is_spared_counts_nowhere_and_passes_when_nothing_else_does() -> None:
    """A prompt of that name is none."""
    stand = Stand(LOST, settings=BreakerSettings(spared=frozenset({"add"}), consecutive_failures=2))
    assert [LOST] * 9 == await stand.calls(9)
    assert "closed" == stand.state()
    for call in (prompt(), tool_call("other")):
        assert LOST is await stand.call(call)
    assert "open" == stand.state()
    assert LOST is await stand.call(tool_call("add"))
    for call in (prompt(), tool_call("other")):
        assert isinstance(await stand.call(call), Refused)


async def test_of_a_tool_with_a_breaker_of_its_own_the_upstream_counts_what_is_not_the_tools() -> None:
    """That it was not reached, and that it was well. A prompt of that name is judged as any other call."""
    settings = BreakerSettings(apart=frozenset({"add"}), consecutive_failures=2)
    stand = Stand(LOST, settings=settings)
    await stand.calls(9)
    assert "closed" == stand.state()
    for _ in range(2):
        await stand.call(prompt())
    assert "open" == stand.state()
    unreached = Stand(UNREACHED, UNREACHED, OK, settings=settings)
    await unreached.calls(2)
    assert "open" == unreached.state()
    mended = Stand(UNREACHED, OK, UNREACHED, settings=settings)
    await mended.calls(3)
    assert "closed" == mended.state()


async def test_by_tool_a_tool_with_a_breaker_of_its_own_has_no_second_circuit() -> None:
    """One of them says no, and one is enough."""
    stand = Stand(LOST, settings=BreakerSettings(scope=Scope.TOOL, apart=frozenset({"add"}), consecutive_failures=2))
    await stand.calls(9)
    assert ("upstream",) == stand.breaker.scopes()
    for _ in range(2):
        await stand.call(tool_call("sub"))
    assert ("upstream", "tool:sub") == stand.breaker.scopes()
    assert isinstance(await stand.call(tool_call("sub")), Refused)


def test_aiobreaker_keeps_its_state_with_us() -> None:
    """Not in a storage of its own, of which nobody here would know."""
    played = Played().opened()
    circuit, seen = played.circuit, []

    def look() -> None:
        assert circuit._held.state is circuit._holder.current_state
        seen.append(circuit._held.state.name)

    look()
    assert circuit._held.opened_at is not None
    played.now += 60.0
    for _ in range(3):
        played.end(WELL)
        look()
    assert ["OPEN", "HALF_OPEN", "HALF_OPEN", "CLOSED"] == seen
