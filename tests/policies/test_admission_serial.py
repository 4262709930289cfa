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


def after_pairs(gaps: list[tuple[float, float]], takes: float = 1.0) -> SerialWatch:
    """A call alone; then pairs: the second comes so long before the first ends, and ends so long after it.

    Both are told in the time that a call takes alone.
    """
    serial, now = SerialWatch(), 100.0
    serial.ended(serial.began(now), now + takes)
    for early, gap in gaps:
        now += 100.0
        first = serial.began(now)
        second = serial.began(now + takes * (1.0 - early))
        serial.ended(first, now + takes)
        serial.ended(second, now + takes * (1.0 + gap))
    return serial


def test_the_evidence_is_of_eight_calls() -> None:
    """The alone ones between them say what a call takes."""
    assert not after_pairs([(0.75, 1.0)] * 7).is_serial
    assert after_pairs([(0.75, 1.0)] * 8).is_serial


def test_one_that_says_the_opposite_ends_the_evidence_before_it() -> None:
    """It begins from nothing."""
    assert not after_pairs([*[(0.75, 1.0)] * 7, (0.75, 0.25), *[(0.75, 1.0)] * 7]).is_serial
    assert after_pairs([*[(0.75, 1.0)] * 7, (0.75, 0.25), *[(0.75, 1.0)] * 8]).is_serial


@pytest.mark.parametrize("takes", [0.25, 1.0, 8.0])
@pytest.mark.parametrize(("early", "expected"), [(0.5, True), (0.4375, False)])
def test_only_calls_that_came_in_the_first_half_are_evidence(early: float, expected: bool, takes: float) -> None:
    """Of the time that the one before them took."""
    assert expected is after_pairs([(early, 1.0)] * 8, takes).is_serial


@pytest.mark.parametrize("takes", [0.25, 1.0, 8.0])
@pytest.mark.parametrize(("gap", "expected"), [(0.5, True), (0.4375, False), (2.0, True), (2.125, False)])
def test_evidence_ends_after_about_the_time_of_a_call(gap: float, expected: bool, takes: float) -> None:
    """From the half of it to the double."""
    assert expected is after_pairs([(0.75, gap)] * 8, takes).is_serial


@pytest.mark.parametrize(("more", "expected"), [(7, False), (8, True)])
def test_a_call_without_an_answer_ends_the_evidence(more: int, expected: bool) -> None:
    """It begins from nothing; one that is not known changes nothing."""
    serial = after_pairs([(0.75, 1.0)] * 7)
    serial.forgotten(serial.began(5000.0))
    for number in range(more):
        now = 6000.0 + 100.0 * number
        first, second = serial.began(now), serial.began(now + 0.25)
        serial.ended(first, now + 1.0)
        serial.ended(second, now + 2.0)
        serial.forgotten(second)
    assert expected is serial.is_serial


def test_calls_that_take_no_time_say_nothing() -> None:
    """A server that answers within a tick of the clock."""
    serial = SerialWatch()
    for number in range(2 * EVIDENCE):
        turns = [serial.began(100.0 + number) for _ in range(2)]
        assert [False, False] == [serial.ended(turn, 100.0 + number) for turn in turns]
    assert not serial.is_serial


def test_a_call_of_another_kind_neither_adds_to_the_evidence_nor_ends_it() -> None:
    """It took three times as long."""
    assert after_pairs([*[(0.75, 1.0)] * 4, (0.75, 3.0), *[(0.75, 1.0)] * 4]).is_serial


def test_what_a_call_takes_follows_the_calls_that_are_alone() -> None:
    """A fifth of each is taken over: after one of 1 s and ten of 4 s it is nearly 4 s."""
    serial, now = SerialWatch(), 100.0
    for took in [1.0, *[4.0] * 10]:
        now += 100.0
        serial.ended(serial.began(now), now + took)
    assert 3.4 < serial._alone_seconds < 3.7


def test_a_call_that_comes_when_the_one_before_ends_is_alone() -> None:
    """It found the server free."""
    serial = SerialWatch()
    for number in range(50):
        serial.ended(serial.began(100.0 + number), 101.0 + number)
    assert not serial.is_serial


def test_without_a_call_alone_nothing_is_known() -> None:
    """What a call takes cannot be told from calls that waited."""
    serial = SerialWatch()
    hanging = serial.began(1.0)
    serial.forgotten(hanging)
    turns = [serial.began(2.0) for _ in range(20)]
    for number, turn in enumerate(turns[1:]):
        assert not serial.ended(turn, 3.0 + number)


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
    turns = [serial.began(1.0) for _ in range(OPEN_LIMIT + 1)]
    assert (OPEN_LIMIT, turns[-2]) == (len(serial._open), next(reversed(serial._open)))
