"""The breaker and its clients: one client alone opens no circuit before a server that serves the others."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.policed import LATE, LOST, OK, UNREACHED, attempt_of, rpc_error, status, tool_call
from weir.core.outcome import Failed, FailureKind, Outcome, Sent
from weir.policies.breaker import BreakerSettings, Circuit, Move
from weir.policies.breaker_window import CLIENTS_KEPT, Reading, Sign, Window, is_certain

WELL, ILL, SLOW, TOLD = (
    Reading(Sign.SUCCESS),
    Reading(Sign.FAILURE),
    Reading(Sign.SUCCESS, is_slow=True),
    Reading(Sign.TOOL_ERROR),
)
CERTAIN = Reading(Sign.FAILURE, is_certain=True)
LETTERS = {"+": WELL, "-": ILL, "~": SLOW, "!": CERTAIN, "?": TOLD}


class Played:
    """A circuit with a clock of its own and its moves."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1000.0
        self.moves: list[Move] = []
        self.circuit = Circuit(BreakerSettings(**settings), self.moves.append)

    def play(self, transcript: str) -> str:
        """`a+ b-`: one call after the other, with its client and what came of it; a number passes seconds."""
        for word in transcript.split():
            if word.isdecimal():
                self.now += int(word)
                continue
            assert self.circuit.wait(self.now) == 0.0
            self.circuit.report(self.circuit.enter(self.now), LETTERS[word[-1]], self.now, word[:-1])
        return self.circuit.state


@pytest.mark.parametrize(
    ("transcript", "state"),
    [
        ("a- a- a-", "open"),
        ("a+ a+ a- a- a-", "open"),
        ("b+ a- a- a- a- a- a-", "closed"),
        ("b+ a- a- b-", "open"),
        ("b+ a- a- a- 30 a-", "open"),
        ("b+ a! a! a!", "open"),
        ("b+ a! a! a- a-", "closed"),
        ("b+ a- a- a! a! a!", "open"),
        ("b- b+ a- a- a-", "closed"),
    ],
    ids=[
        "one client alone",
        "its own successes do not help",
        "another was served",
        "another fails too",
        "another was served long ago",
        "what no client can cause",
        "too little of that",
        "enough of that",
        "the others failure was before its success",
    ],
)
def test_a_row_of_failures_of_one_client(transcript: str, state: str) -> None:
    """Three in a row open the circuit; `-` may be the client's own fault, `!` cannot."""
    assert state == Played(consecutive_failures=3, min_calls=100).play(transcript)


def test_with_clients_1_a_client_alone_opens_it() -> None:
    """As it was before clients were looked at."""
    assert "open" == Played(consecutive_failures=3, min_calls=100, clients=1).play("b+ a- a- a-")


def test_three_clients_may_be_asked_for() -> None:
    """Two that fail are spared as one is."""
    played = Played(consecutive_failures=3, min_calls=100, clients=3)
    assert "closed" == played.play("c+ a- b- a- b-")
    assert "open" == played.play("d-")


@pytest.mark.parametrize("trouble", ["-", "~", "?"])
def test_rates_are_judged_without_the_client_that_has_most_of_the_trouble(trouble: str) -> None:
    """While another is served. Its share is what opens it otherwise."""
    settings = {"consecutive_failures": 100, "min_calls": 4, "failure_rate": 0.5, "slow_rate": 0.5}
    played = Played(**settings, counts_tool_errors=True, tool_error_rate=0.5)
    attack = f"a{trouble} " * 20
    assert "closed" == played.play("b+ b+ b+ b+ " + attack)
    assert "closed" == played.play(f"c{trouble}")
    assert "open" == played.play(f"c{trouble} b{trouble} c{trouble}")


def test_a_client_alone_opens_it_by_its_rates() -> None:
    """An editor with one client needs its circuit too."""
    played = Played(consecutive_failures=100, min_calls=4, failure_rate=0.5)
    assert "open" == played.play("a+ a- a+ a-")


def test_a_probe_of_one_client_does_not_open_it_again_while_others_succeed() -> None:
    """It is no success either: so many others must succeed."""
    played = Played(consecutive_failures=2, open_seconds=60.0, half_open_probes=2)
    assert "half_open" == played.play("a- a- 60 b+ a- a-")
    assert "closed" == played.play("b+")
    assert "open" == played.play("a- c- 60 a-")


def test_late_reports_and_cancelled_calls_say_nothing_of_a_client() -> None:
    """What began before the circuit moved is void."""
    played = Played(consecutive_failures=2, half_open_probes=1)
    old = played.circuit.enter(played.now)
    assert "open" == played.play("a- a-")
    played.circuit.report(old, WELL, played.now, "b")
    played.now += 60.0
    gone = played.circuit.enter(played.now)
    played.circuit.leave(gone)
    assert "open" == played.play("a-")


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (UNREACHED, True),
        (Failed(FailureKind.TLS, "bad certificate", sent=Sent.NO), True),
        (Failed(FailureKind.TIMEOUT, "late", sent=Sent.NO, timer="connect"), True),
        (Failed(FailureKind.TIMEOUT, "its input is full", sent=Sent.NO, timer="idle"), False),
        (LOST, False),
        (LATE, False),
        (status(500), False),
        (rpc_error(-32603), False),
        (OK, False),
    ],
    ids=["connect", "tls", "connect timer", "does not read", "reset", "late", "500", "-32603", "answered"],
)
def test_certain_is_what_happened_before_the_server_could_see_the_call(outcome: Outcome, expected: bool) -> None:
    """A server that crashes, stalls or fails may do so because of what it was asked."""
    assert expected is is_certain(attempt_of(tool_call()), outcome)


@given(st.lists(st.tuples(st.sampled_from("abcdefghijklmnop"), st.sampled_from([WELL, ILL, SLOW, TOLD])), max_size=400))
def test_memory_is_bounded_and_the_heaviest_is_found(events: list[tuple[str, Reading]]) -> None:
    """Whoever comes; with few clients the counts are exact."""
    window = Window(30.0, clients=2)
    for number, (client, reading) in enumerate(events):
        window.add(reading, 1000.0 + number / 100, client)
        assert all(len(held) <= CLIENTS_KEPT * 3 for held in window._troubled)
        assert len(window._succeeded) <= 2
    failing = [client for client, reading in events if reading is ILL]
    if 0 < len({client for client, _ in events}) <= CLIENTS_KEPT and failing:
        assert max(map(failing.count, failing)) == max(window.heaviest("failure", 1).values())


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from("+-~?")), max_size=120), st.integers(1, 29))
def test_one_client_never_opens_it_while_another_is_served(events: list[tuple[int, str]], seconds: int) -> None:
    """Whatever it does."""
    played = Played(consecutive_failures=2, min_calls=2, counts_tool_errors=True, window_seconds=30.0)
    for _, sign in events:
        played.now += seconds / 10
        assert "closed" == played.play(f"honest+ bad{sign}")
