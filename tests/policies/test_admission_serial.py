"""Whether a server works on one call at a time: seen in when calls end."""

import heapq
import random

import pytest

from weir.policies.admission_serial import EVIDENCE, OPEN_LIMIT, SerialWatch


def watch(arrivals: list[float], seconds: list[float], places: int) -> SerialWatch:
    """Calls that come at these instants, on a server of so many places that takes them in their order."""
    serial = SerialWatch()
    free = [0.0] * places
    events: list[tuple[float, int, int]] = []
    for number, (at, took) in enumerate(zip(arrivals, seconds, strict=True)):
        ends = max(at, heapq.heappop(free)) + took
        heapq.heappush(free, ends)
        events += [(at, 0, number), (ends, 1, number)]
    turns: dict[int, int] = {}
    # at one instant a call ends before another begins
    for at, is_end, number in sorted(events, key=lambda each: (each[0], -each[1], each[2])):
        if is_end:
            serial.ended(turns[number], at)
        else:
            turns[number] = serial.began(at)
    return serial


def bursts(calls: int, size: int, every: float) -> list[float]:
    """So many calls, in bursts."""
    return [1.0 + every * (number // size) for number in range(calls)]


@pytest.mark.parametrize("size", [2, 4, 10])
def test_a_server_that_takes_calls_one_by_one_is_recognised(size: int) -> None:
    """From bursts of any size."""
    draws = random.Random(size)
    seconds = [draws.uniform(0.8, 1.2) for _ in range(60)]
    assert watch(bursts(60, size, 20.0), seconds, 1).is_serial


@pytest.mark.parametrize("places", [2, 3, 16])
@pytest.mark.parametrize("size", [2, 4, 10])
def test_a_server_that_works_on_several_is_not_taken_for_one(places: int, size: int) -> None:
    """Whether calls take the same time or not."""
    draws = random.Random(size)
    for seconds in ([1.0] * 200, [draws.uniform(0.2, 1.8) for _ in range(200)]):
        assert not watch(bursts(200, size, 20.0), seconds, places).is_serial


def test_steady_calls_that_overlap_a_little_say_nothing() -> None:
    """Each comes when the one before is nearly done: a server of two would end them at the same instants."""
    arrivals = [1.0 + 0.9 * number for number in range(30)]
    assert not watch(arrivals, [1.0] * 30, 16).is_serial


def test_random_calls_on_both_kinds_of_server() -> None:
    """At seven tenths of what one place can do."""
    draws = random.Random(3)
    at, arrivals = 1.0, []
    for _ in range(400):
        at += draws.expovariate(0.7)
        arrivals.append(at)
    seconds = [draws.uniform(0.9, 1.1) for _ in range(400)]
    assert watch(arrivals, seconds, 1).is_serial
    assert not watch(arrivals, seconds, 8).is_serial


def test_calls_that_never_meet_say_nothing() -> None:
    """One client, one call after the other."""
    assert not watch([1.0 + 2.0 * number for number in range(50)], [1.0] * 50, 1).is_serial


def test_one_call_that_overtakes_is_enough_for_the_opposite() -> None:
    """The server may have been given more places."""
    serial = watch(bursts(60, 4, 20.0), [1.0] * 60, 1)
    before = serial.is_serial
    first, second = serial.began(9000.0), serial.began(9000.1)
    assert serial.ended(second, 9000.5)
    assert (True, False) == (before, serial.is_serial)
    assert not serial.ended(first, 9001.0)


def test_two_that_end_nearly_together_are_too() -> None:
    """Half a call's time apart at most."""
    serial = watch(bursts(60, 4, 20.0), [1.0] * 60, 1)
    first, second = serial.began(9000.0), serial.began(9000.1)
    assert not serial.ended(first, 9001.0)
    assert serial.ended(second, 9001.1)
    assert not serial.is_serial


def test_it_says_so_once() -> None:
    """When it changes."""
    serial = SerialWatch()
    changes = 0
    for burst in range(20):
        turns = [serial.began(100.0 * burst) for _ in range(3)]
        changes += sum(serial.ended(turn, 100.0 * burst + number + 1.0) for number, turn in enumerate(turns))
    assert (1, True) == (changes, serial.is_serial)


def test_a_call_without_an_answer_says_nothing() -> None:
    """Nobody knows when the server was done with it."""
    serial = SerialWatch()
    for burst in range(20):
        turns = [serial.began(100.0 * burst) for _ in range(EVIDENCE)]
        serial.ended(turns[0], 100.0 * burst + 1.0)
        for number, turn in enumerate(turns[1:]):
            serial.ended(turn, 100.0 * burst + number + 2.0) if number < EVIDENCE - 2 else serial.forgotten(turn)
    assert not serial.is_serial


def test_an_end_that_is_told_twice_is_heard_once() -> None:
    """And one of a call that is not known, not at all."""
    serial = SerialWatch()
    turn = serial.began(1.0)
    assert not serial.ended(turn, 2.0)
    assert not serial.ended(turn, 3.0)
    assert not serial.ended(turn + 1, 3.0)


def test_it_watches_a_bounded_number_of_calls() -> None:
    """Those beyond are let go."""
    serial = SerialWatch()
    turns = [serial.began(1.0) for _ in range(OPEN_LIMIT + 5)]
    assert not serial.ended(turns[-1], 2.0)
