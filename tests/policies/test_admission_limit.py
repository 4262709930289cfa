"""The adaptive limit: it finds what a server can do, follows it, and leaves alone whom it need not find anything of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.simulated import Draw, Figures, Load, Simulation, jittered, steady
from weir.policies.admission_limit import AdaptiveLimit
from weir.policies.admission_queue import Places

SERVICE = 0.05
ADAPTIVE = Places(limit=64, queue=32, adaptive=True)
OVERLOAD = 4.0
"""Times what the server can do."""


def simulate(slots: int, later: int, service: Draw, seconds: float = 60.0, seed: int = 1) -> Figures:
    """An overload of a server that has so many places for 30 s, and then another number."""
    load = Load(lambda now: slots if now < 30.0 else later, service, OVERLOAD * slots / SERVICE, seed)
    return Simulation(ADAPTIVE, load).run(seconds)


@pytest.mark.parametrize("service", [steady(SERVICE), jittered(SERVICE, 0.2), jittered(SERVICE, 0.5)])
@pytest.mark.parametrize("slots", [4, 8, 16, 40])
def test_a_capacity_is_found_and_found_again_after_it_halves(slots: int, service: Draw) -> None:
    """Within 20 %, or one place, in 30 s; the figure is the mean of the five seconds before."""
    figures = simulate(slots, slots // 2, service)
    found, found_again = (sum(figures.estimates[at - 5 : at]) / 5 for at in (30, 60))
    assert slots == pytest.approx(found, rel=0.2)
    assert slots // 2 == pytest.approx(found_again, rel=0.2, abs=0.5)


@pytest.mark.parametrize("slots", [1, 2])
def test_a_server_with_next_to_no_places_is_found_from_far_above(slots: int) -> None:
    """With 64 calls in it, a server of one place answers the last of them after three seconds."""
    figures = simulate(slots, slots, jittered(SERVICE, 0.2), seconds=40.0)
    assert slots == figures.estimates[-1]


def test_a_capacity_that_doubles_is_found_too() -> None:
    """There is room, so more is tried each time."""
    figures = simulate(10, 20, jittered(SERVICE, 0.2))
    assert pytest.approx(20, rel=0.2) == sum(figures.estimates[-5:]) / 5


@pytest.mark.parametrize("seed", [1, 2])
def test_in_an_overload_little_is_lost_and_nobody_waits_long(seed: int) -> None:
    """1,280 calls a second for 16 places of 50 ms: 90 % of 320 answers a second, within 2.5 times the 50 ms."""
    figures = simulate(16, 16, jittered(SERVICE, 0.2), seconds=30.0, seed=seed)
    assert figures.goodput(5.0, 30.0) >= 0.9 * 16 / SERVICE
    assert figures.latency(0.99, 5.0, 30.0) <= 2.5 * SERVICE


def test_a_server_that_is_not_overloaded_loses_nothing() -> None:
    """Three quarters of its capacity are asked for, in bursts: all is answered, and nothing is taken from the limit."""
    simulation = Simulation(ADAPTIVE, Load(lambda _: 64, jittered(SERVICE, 0.5), 0.75 * 64 / SERVICE))
    figures = simulation.run(30.0)
    assert 0 == figures.refused
    assert 64 == simulation.bulkhead.capacity


def test_a_server_with_more_room_than_the_ceiling_is_used_up_to_it() -> None:
    """Looking for a limit that is not there costs next to nothing."""
    simulation = Simulation(ADAPTIVE, Load(lambda _: 200, jittered(SERVICE, 0.2), OVERLOAD * 64 / SERVICE))
    figures = simulation.run(20.0)
    assert 64 == simulation.bulkhead.capacity
    assert figures.goodput(5.0, 20.0) >= 0.97 * 64 / SERVICE


def test_a_server_that_becomes_slower_is_not_taken_for_one_with_fewer_places() -> None:
    """Each call takes three times as long; as many as before can be worked on."""
    clock = [0.0]
    draw = jittered(1.0, 0.2)

    def slots(now: float) -> int:
        clock[0] = now
        return 16

    load = Load(slots, lambda draws: draw(draws) * (SERVICE if clock[0] < 15.0 else 3 * SERVICE), 1280.0)
    figures = Simulation(ADAPTIVE, load).run(45.0)
    assert pytest.approx(16, rel=0.2) == sum(figures.estimates[-5:]) / 5


# the machine by itself


def fill(limit: AdaptiveLimit, seconds: float, rounds: int) -> None:
    """So many calls, each taking the last place and then so long."""
    for _ in range(rounds):
        limit.ended(limit.began(True), seconds)


def test_it_begins_at_the_ceiling() -> None:
    """A limit is lowered for a reason only."""
    assert 64 == AdaptiveLimit(64).limit


def test_calls_that_do_not_fill_the_limit_change_nothing() -> None:
    """However long they take."""
    limit = AdaptiveLimit(64)
    for number in range(10_000):
        limit.ended(limit.began(False), float(number))
    assert (64, 64.0) == (limit.limit, limit.estimate)


def test_a_lower_limit_is_given_up_when_the_calls_become_fewer() -> None:
    """It was an experiment, which then has no result."""
    limit = AdaptiveLimit(64)
    while limit.limit == 64:
        fill(limit, 1.0, 1)
    for _ in range(1000):
        limit.ended(limit.began(False), 1.0)
    assert 64 == limit.limit


def test_a_call_of_an_earlier_phase_says_nothing() -> None:
    """It was there under another limit."""
    limit = AdaptiveLimit(64)
    late = None
    while late is None:
        late = limit.began(True)
    while limit.limit == 64:
        fill(limit, 1.0, 1)
    before = limit.limit
    for _ in range(1000):
        limit.ended(late, 1000.0)
    assert before == limit.limit


def test_calls_that_hang_do_not_stop_the_search() -> None:
    """One in ten is not waited for; if it is more, the phase is begun again."""
    limit = AdaptiveLimit(64)
    for number in range(5000):
        phase = limit.began(True)
        if number % 3:
            limit.ended(phase, 1.0)
    assert limit.typical_seconds == pytest.approx(1.0) or limit.limit == 64


def test_a_call_without_an_answer_makes_room_for_another_in_the_phase() -> None:
    """It says nothing of what an answer takes."""
    limit = AdaptiveLimit(8)
    for _ in range(1000):
        limit.forgotten(limit.began(True))
    assert 0.0 == limit.typical_seconds


@given(
    st.integers(1, 300),
    st.lists(st.tuples(st.booleans(), st.floats(0.0, 1e6), st.integers(0, 2)), max_size=600),
)
def test_the_limit_stays_between_one_and_the_ceiling(ceiling: int, calls: list[tuple[bool, float, int]]) -> None:
    """Whatever the calls are like."""
    limit = AdaptiveLimit(ceiling)
    open_phases = []
    for is_filled, seconds, what in calls:
        open_phases.append(limit.began(is_filled))
        if what and open_phases:
            phase = open_phases.pop(0)
            if what == 1:
                limit.ended(phase, seconds)
            else:
                limit.forgotten(phase)
        assert 1 <= limit.limit <= ceiling
        assert 1.0 <= limit.estimate <= ceiling
