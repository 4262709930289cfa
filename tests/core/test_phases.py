"""Where the time of a call went: the phases add up, however many attempts there were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.policed import attempt_of, call_of
from weir.core.call import NOWHERE, Attempt, Call, Peer, Transport
from weir.core.phases import Phases, of

INSTANTS = st.floats(0, 100, allow_nan=False)


def tried(call: Call, *instants: float, connect_seconds: float = 0.0) -> None:
    """An attempt: started, sent, first byte, ended."""
    attempt = attempt_of(call, len(call.attempts) + 1)
    attempt.started_at, attempt.sent_at, attempt.first_byte_at, attempt.ended_at = instants
    attempt.connect_seconds = connect_seconds


def finished(ended_at: float) -> Call:
    """A call received at 1000 s, its body complete at 1001 s."""
    call = call_of("tools/list")
    call.body_at, call.ended_at = 1001.0, ended_at
    return call


def test_one_attempt_is_told_part_by_part() -> None:
    """Each stretch has its phase."""
    call = finished(1020.0)
    call.queued_seconds = 2.0
    tried(call, 1004.0, 1006.0, 1010.0, 1015.0, connect_seconds=2.0)
    call.client_seconds = 1.0
    assert (1.0, 2.0, 1.0, 2.0, 4.0, 4.0, 1.0, 5.0) == of(call)


def test_attempts_one_after_the_other_are_added_up() -> None:
    """The pause between them is weir's."""
    call = finished(1010.0)
    tried(call, 1001.0, 1002.0, 0.0, 1003.0, connect_seconds=1.0)
    tried(call, 1005.0, 1005.0, 1007.0, 1010.0)
    assert (1.0, 0.0, 0.0, 1.0, 3.0, 3.0, 0.0, 2.0) == of(call)


@pytest.mark.parametrize("hedge_wins", [True, False])
def test_time_in_which_two_attempts_ran_is_told_once(hedge_wins: bool) -> None:
    """A hedge begins while the first try waits; whoever wins, somebody waited for the upstream."""
    call = finished(1006.0)
    tried(call, 1001.0, 1001.0, 0.0 if hedge_wins else 1004.0, 1004.5)
    tried(call, 1003.0, 1003.5, 1004.0 if hedge_wins else 0.0, 1006.0 if hedge_wins else 1004.5, connect_seconds=0.5)
    phases = of(call)
    assert (0.0, 3.5 if hedge_wins else 3.0) == (phases.connect, phases.upstream_first_byte)
    assert (1.5 if hedge_wins else 0.5) == phases.upstream_stream
    assert pytest.approx(6.0) == sum(phases)


def test_an_attempt_that_still_runs_takes_nothing_away() -> None:
    """A shared call may go on after its first caller has left."""
    call = finished(1005.0)
    tried(call, 1001.0, 1002.0, 0.0, 0.0)
    assert (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0) == of(call)


@given(st.lists(st.lists(INSTANTS, min_size=4, max_size=4), max_size=3))
def test_phases_are_never_negative_and_never_more_than_the_call_took(attempts: list[list[float]]) -> None:
    """However the attempts lie over each other."""
    call = finished(1200.0)
    for instants in sorted(attempts, key=min):
        tried(call, *(1001.0 + instant for instant in sorted(instants)))
    phases = of(call)
    assert min(phases) >= 0.0
    assert pytest.approx(200.0) == sum(phases)


def test_the_short_way_of_one_attempt_says_what_the_long_way_says() -> None:
    """Nearly every call goes it; a call that has waited a nanosecond goes the long way."""

    def made(queued_seconds: float) -> Phases:
        call = Call(upstream="u", peer=Peer(Transport.HTTP), sink=NOWHERE, received_at=10.0)
        call.body_at, call.ended_at, call.queued_seconds = 11.0, 30.0, queued_seconds
        attempt = Attempt(call, 1, 12.0)
        attempt.connect_seconds, attempt.sent_at, attempt.first_byte_at, attempt.ended_at = 1.5, 14.0, 20.0, 27.0
        call.attempts.append(attempt)
        return of(call)

    assert tuple(made(1e-12)) == pytest.approx(tuple(made(0.0)), abs=1e-9)
    assert Phases(1.0, 0.0, 1.0, 1.5, 6.0, 7.0, 0.0, 3.5) == made(0.0)
