"""How upstreams are, folded from traffic in virtual time."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.app.health import FAILURES_IN_A_ROW, WINDOW_ATTEMPTS, WINDOW_SECONDS, Health, State
from weir.core.call import Attempt, Call, Headers, Peer, Transport
from weir.core.events import AttemptFinished, CallFinished, CallStarted, ChildExited
from weir.core.outcome import (
    NO_ANSWER,
    PLAIN,
    Blame,
    Failed,
    FailureKind,
    Outcome,
    RefusalKind,
    Refused,
    Replied,
    Verdict,
)

OK = Replied(200, [], b"{}", PLAIN)
TIMEOUT = Failed(FailureKind.TIMEOUT, "no answer within 60 s", timer="attempt", after_seconds=60)
REFUSED_CONNECTION = Failed(FailureKind.CONNECT, "connection refused")


class NoSink:
    """Nobody reads."""

    async def open(self, status: int, headers: Headers) -> None:
        """Nothing."""

    async def write(self, chunk: bytes) -> None:
        """Nothing."""


def call(upstream: str = "a", verb: bytes = b"POST") -> Call:
    return Call(upstream=upstream, peer=Peer(Transport.STDIO), sink=NoSink(), received_at=0.0, verb=verb)


class World:
    """A health fold, its clock, and its traffic."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.health = Health(["a", "b"], lambda: self.now)
        self._handlers: dict[type, Callable[[Any], None]] = self.health.handlers()

    def emit(self, event: object) -> None:
        self._handlers[type(event)](event)

    def attempt(self, *outcomes: Outcome, upstream: str = "a") -> None:
        for outcome in outcomes:
            self.emit(AttemptFinished(Attempt(call(upstream), 1, self.now), outcome))

    def exit(self, *, expected: bool = False) -> None:
        self.emit(ChildExited("a", 7, -9, expected, "a secret on stderr"))

    @property
    def state(self) -> str:
        return str(self.health.conditions()["a"].state.value)

    @property
    def reason(self) -> str:
        return self.health.conditions()["a"].reason

    @property
    def since(self) -> float:
        return self.health.conditions()["a"].since


@pytest.fixture
def world() -> World:
    """Nothing has happened yet."""
    return World()


def test_an_upstream_is_unknown_until_it_was_asked(world: World) -> None:
    """weir never probes."""
    assert (State.UNKNOWN, "not asked yet", 1000.0) == world.health.conditions()["a"]


def test_an_answer_makes_it_healthy_and_it_stays_so_without_traffic(world: World) -> None:
    """Silence is no news."""
    world.attempt(OK)
    world.now += 10 * WINDOW_SECONDS
    assert (State.HEALTHY, "", 1000.0) == world.health.conditions()["a"]
    assert State.UNKNOWN is world.health.conditions()["b"].state


def test_some_failures_degrade_it_and_the_reason_says_what_and_when(world: World) -> None:
    """One line for a person."""
    world.attempt(OK, OK, TIMEOUT)
    world.now += 4
    expected = "1 failed of the last 3 attempts, the last 4 s ago: upstream_timeout: no answer within 60 s"
    assert ("degraded", expected) == (world.state, world.reason)


def test_failures_leave_with_the_window(world: World) -> None:
    """By time, or by attempts when it is busy."""
    world.attempt(TIMEOUT, OK)
    world.now += WINDOW_SECONDS + 1
    assert "healthy" == world.state
    world.attempt(TIMEOUT, *[OK] * (WINDOW_ATTEMPTS - 1))
    assert "degraded" == world.state
    world.attempt(OK)
    assert "healthy" == world.state


def test_failures_in_a_row_make_it_unhealthy_until_one_success(world: World) -> None:
    """It degrades first, and recovers through degraded."""
    world.attempt(OK)
    seen = []
    for _ in range(FAILURES_IN_A_ROW):
        world.attempt(TIMEOUT)
        seen.append(world.state)
    assert ["degraded"] * (FAILURES_IN_A_ROW - 1) + ["unhealthy"] == seen
    world.attempt(OK)
    assert "degraded" == world.state


def test_when_all_in_the_window_failed_it_is_unhealthy_but_one_alone_only_degrades(world: World) -> None:
    """One failure may be one slow tool."""
    world.attempt(TIMEOUT)
    assert "degraded" == world.state
    world.attempt(TIMEOUT)
    assert "unhealthy" == world.state


def test_what_cannot_be_reached_is_unhealthy_at_once(world: World) -> None:
    """There is nothing to wait for."""
    world.attempt(OK, REFUSED_CONNECTION)
    assert "unhealthy" == world.state
    assert world.reason.endswith("upstream_connect_error: connection refused")
    world.attempt(OK)
    assert "degraded" == world.state


def test_an_unhealthy_upstream_that_nobody_asks_is_only_degraded(world: World) -> None:
    """Else a balancer that reads /readyz would keep away the traffic that tells."""
    world.attempt(REFUSED_CONNECTION, REFUSED_CONNECTION)
    world.now += WINDOW_SECONDS + 1
    assert "degraded" == world.state
    assert world.reason.startswith("not asked since it failed, the last 61 s ago: upstream_connect_error")
    world.attempt(REFUSED_CONNECTION)
    assert "unhealthy" == world.state


@pytest.mark.parametrize(
    "outcome",
    [
        Failed(FailureKind.CANCELLED, "the client went away", Blame.DOWNSTREAM),
        Failed(FailureKind.INTERNAL, "a bug", Blame.WEIR),
        Refused(RefusalKind.CIRCUIT_OPEN, "open"),
    ],
)
def test_what_the_client_or_weir_got_wrong_says_nothing(world: World, outcome: Outcome) -> None:
    """Neither good nor bad."""
    world.attempt(outcome)
    assert "unknown" == world.state
    world.attempt(OK, *[outcome] * 10)
    assert "healthy" == world.state


@pytest.mark.parametrize(
    "outcome",
    [
        Replied(200, [], b"{}", Verdict(is_tool_error=True)),
        Replied(200, [], b"{}", Verdict(error_code=-32603)),
        Replied(500, [], b"{}", Verdict(error_code=-32603)),
        Replied(401, [], b"", NO_ANSWER),
        Replied(404, [], b"", NO_ANSWER),
        Replied(202, [], b"", NO_ANSWER),
    ],
)
def test_an_error_that_the_server_answers_is_an_answer(world: World, outcome: Outcome) -> None:
    """It is up."""
    world.attempt(outcome)
    assert "healthy" == world.state


def test_a_5xx_that_is_no_answer_counts_as_a_failure(world: World) -> None:
    """It comes from what stands where the server should be."""
    world.attempt(*[Replied(503, [], b"<html>", NO_ANSWER)] * 2)
    assert "unhealthy" == world.state
    assert world.reason.endswith("HTTP 503")


def test_a_process_that_ends_unasked_degrades(world: World) -> None:
    """Its stderr is not shown: it may hold a secret. What weir ended itself is nothing."""
    world.exit(expected=True)
    assert "unknown" == world.state
    world.exit()
    assert "degraded" == world.state
    assert world.reason.endswith("the server process ended with code -9")
    assert "secret" not in world.reason
    world.now += WINDOW_SECONDS + 1
    assert "unknown" == world.state


def test_a_process_that_ends_under_a_call_is_told_by_the_call(world: World) -> None:
    """Once is enough."""
    under_way = call()
    world.emit(CallStarted(under_way))
    world.exit()
    assert "unknown" == world.state
    world.attempt(Failed(FailureKind.EXITED, "the server exited with code 1"))
    assert "1 failed of the last 1 attempts" in world.reason


def test_since_is_when_the_state_began(world: World) -> None:
    """Not when it was last confirmed."""
    world.attempt(OK)
    world.now += 5
    world.attempt(OK)
    assert 1000.0 == world.since
    world.attempt(TIMEOUT)
    world.now += 5
    world.attempt(OK, TIMEOUT)
    assert 1005.0 == world.since


def test_a_reason_is_one_short_line(world: World) -> None:
    """Whatever the failure says."""
    world.attempt(Failed(FailureKind.PROTOCOL, "bad\r\nline\x1b[31m" + "x" * 1000))
    assert "\n" not in world.reason
    assert world.reason.isprintable()
    assert len(world.reason) < 300


def test_calls_and_streams_in_flight_are_counted_apart(world: World) -> None:
    """A stream is open by nature."""
    calls = [call(), call(), call(verb=b"GET"), call("b")]
    for one in calls:
        world.emit(CallStarted(one))
    assert (2, 1, 1) == (world.health.in_flight("a"), world.health.streams("a"), world.health.in_flight("b"))
    for one in calls:
        world.emit(CallFinished(one, OK))
    assert (0, 0, 0) == (world.health.in_flight("a"), world.health.streams("a"), world.health.in_flight("b"))


def test_upstreams_that_are_not_configured_are_not_kept(world: World) -> None:
    """Nothing grows."""
    world.attempt(TIMEOUT, upstream="zzz")
    world.emit(CallStarted(call("zzz")))
    world.emit(ChildExited("zzz", 1, 1, False, ""))
    assert ["a", "b"] == list(world.health.conditions())


_steps = st.lists(
    st.one_of(st.sampled_from([OK, TIMEOUT, REFUSED_CONNECTION]), st.floats(0, 2 * WINDOW_SECONDS)), max_size=80
)


@given(_steps)
def test_after_any_history_the_rules_hold(steps: list[Outcome | float]) -> None:
    """Checked against the plain list of all attempts."""
    world = World()
    history: list[tuple[float, Outcome]] = []
    for step in steps:
        if isinstance(step, float):
            world.now += step
        else:
            world.attempt(step)
            history.append((world.now, step))
    state = world.state
    recent = [outcome for at, outcome in history[-WINDOW_ATTEMPTS:] if world.now - at <= WINDOW_SECONDS]
    if not history:
        assert "unknown" == state
    elif any(outcome is not OK for outcome in recent):
        assert ("healthy" if recent[-1] is not OK else "unhealthy") != state
    elif history[-1][1] is OK:
        assert "healthy" == state
    else:
        assert "degraded" == state
