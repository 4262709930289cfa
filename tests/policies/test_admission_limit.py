"""The adaptive limit: it finds what a server can do, follows it, and leaves alone whom it need not find anything of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.simulated import Draw, Figures, Load, Simulation, jittered, steady
from weir.policies.admission_limit import AdaptiveLimit, Phase
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
        if number % 11:
            limit.ended(phase, 1.0)
    assert 1.0 == limit.typical_seconds


def test_a_call_without_an_answer_makes_room_for_another_in_the_phase() -> None:
    """It says nothing of what an answer takes."""
    limit = AdaptiveLimit(8)
    for _ in range(1000):
        limit.forgotten(limit.began(True))
    assert 0.0 == limit.typical_seconds


def test_one_call_without_an_answer_makes_room_for_one() -> None:
    """In the phase that it began in; one that was not counted makes none."""
    limit = AdaptiveLimit(64)
    counted = [limit.began(True) for _ in range(32 + 24)][32:]
    assert (24, None) == (len([each for each in counted if each]), limit.began(True))
    limit.forgotten(None)
    assert limit.began(True) is None
    limit.forgotten(counted[0])
    assert [counted[0], None] == [limit.began(True) for _ in range(2)]
    for _ in range(22):
        limit.ended(counted[0], 1.0)
    assert 16 == limit.limit
    limit.forgotten(counted[0])
    assert [False] * 8 + [True] * 16 + [False] == [limit.began(True) is not None for _ in range(8 + 16 + 1)]


def transcript(*places: int) -> list[tuple[int, int, int, float]]:
    """A server of so many places in each phase, and 50 ms, give or take 10: limit, calls let pass, calls counted,
    and the estimate after the phase."""
    limit, rows, number = AdaptiveLimit(64), [], 0
    for slots in places:
        first, before, passed, counted = None, limit.limit, 0, 0
        while first is None or limit._phase is first:
            number += 1
            phase = limit.began(True)
            if phase is None:
                passed += 1
                continue
            first, counted = phase, counted + 1
            limit.ended(phase, 0.05 * max(1.0, before / slots) * (1.2 if number % 2 else 0.8))
        rows.append((before, passed, counted, round(limit.estimate, 3)))
    return rows


def test_how_ten_places_are_found() -> None:
    """From far above in a few phases, then to and fro around them."""
    assert [
        (64, 32, 22, 64.0),
        (16, 8, 15, 16.26),
        (20, 10, 22, 16.26),
        (4, 2, 15, 9.873),
        (12, 6, 36, 9.873),
        (9, 4, 15, 9.986),
        (12, 6, 36, 9.986),
        (9, 4, 15, 9.934),
    ] == transcript(*[10] * 8)


def test_how_a_server_that_grew_is_followed() -> None:
    """From 4 places to 40: further each time that there is room."""
    assert [
        (5, 2, 58, 4.008),
        (3, 1, 15, 4.461),
        (5, 2, 57, 4.461),
        (4, 2, 22, 5.75),
        (7, 3, 40, 5.75),
        (5, 2, 15, 9.601),
        (12, 6, 31, 9.601),
        (9, 4, 15, 18.773),
        (23, 11, 36, 18.773),
        (17, 8, 15, 41.621),
        (50, 25, 36, 41.621),
        (39, 19, 17, 39.85),
    ] == transcript(*[4] * 8, *[40] * 12)[8:]


def test_how_a_server_that_shrank_is_followed() -> None:
    """From 16 places to 8: the lower limit goes down until there is a difference."""
    assert [
        (19, 9, 42, 15.956),
        (15, 7, 19, 15.275),
        (18, 9, 22, 15.275),
        (10, 5, 15, 10.125),
        (12, 6, 22, 10.125),
        (5, 2, 15, 8.124),
        (10, 5, 42, 8.124),
        (7, 3, 15, 8.017),
    ] == transcript(*[16] * 8, *[8] * 8)[8:]


def test_how_a_server_with_room_to_spare_is_left_alone() -> None:
    """Eight calls at the ceiling for each one below it."""
    assert [
        (64, 32, 22, 64.0),
        (16, 8, 15, 64.0),
        (64, 32, 2160, 64.0),
        (60, 30, 270, 64.0),
    ] == transcript(*[100] * 4)


def test_how_a_single_place_is_found_and_kept() -> None:
    """There is no lower limit than one."""
    assert [(2, 1, 1.013), (1, 0, 1.013)] == [(row[0], row[1], row[3]) for row in transcript(*[1] * 14)[-2:]]


def test_a_phase_is_void_when_sixteen_more_calls_did_not_fill_the_limit_than_did() -> None:
    """The lower limit is given up with the next one."""
    limit = AdaptiveLimit(64)
    while limit.limit == 64:
        fill(limit, 1.0, 1)
    fill(limit, 1.0, 8 + 3)
    for _ in range(16 + 3):
        limit.began(False)
    before = limit.limit
    limit.began(False)
    assert (16, 64) == (before, limit.limit)


def test_a_phase_is_void_when_its_calls_never_end() -> None:
    """After three times as many as it has, and those of one limit."""
    limit = AdaptiveLimit(64)
    counted = [limit.began(True) is not None for _ in range(32 + 24 + (3 * 24 + 64 + 1) + 32 + 1)]
    assert [*[False] * 32, *[True] * 24, *[False] * (137 + 32), True] == counted


@pytest.mark.parametrize(
    ("times", "expected"),
    [([1.0, 3.0], (2.0, 0.5)), ([2.0, 2.0, 2.0], (2.0, 0.0)), ([5.0], (5.0, 1.0)), ([0.0, 0.0], (0.0, 1.0))],
)
def test_the_error_of_a_mean_is_a_share_of_it(times: list[float], expected: tuple[float, float]) -> None:
    """Of a single call, or of calls that take no time, nothing can be said: as large as the mean."""
    phase = Phase(8, 16)
    phase.times = times
    assert expected == pytest.approx(phase.mean_and_error())


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
