"""The places and the queue before them: who is let in, who waits, who is sent away, and that no place is lost."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from weir.policies.admission_queue import (
    OVERLOAD_SECONDS,
    PASSED_OVER_TIMES,
    Bulkhead,
    Overload,
    Places,
    Rank,
    Rate,
    Waiter,
)

CALL, LIST, CONTROL, BACK = Rank.INTERACTIVE, Rank.LIST, Rank.CONTROL, Rank.RETURNING


class Hall:
    """A bulkhead, its clock, and the order in which those who waited were let in."""

    def __init__(self, limit: int = 1, queue: int = 2, *, adaptive: bool = False) -> None:
        self.now = 1000.0
        self.bulkhead = Bulkhead(Places(limit, queue, 5.0, adaptive), "")
        self.let_in: list[str] = []
        self.sent_away: list[str] = []

    def come(self, name: str, rank: Rank = CALL) -> Waiter | None:
        """Somebody comes and would wait. None: there is no room."""

        def wake() -> None:
            (self.let_in if waiter.is_admitted else self.sent_away).append(name)

        waiter = Waiter(rank, wake)
        return waiter if self.bulkhead.join(waiter, self.now) else None

    def fill(self) -> None:
        """All places are taken."""
        while self.bulkhead.enter():
            pass

    def leave(self, times: int = 1) -> None:
        """So many places become free, one after the other."""
        for _ in range(times):
            self.bulkhead.leave(self.now)


def test_as_many_enter_as_there_are_places() -> None:
    """No more."""
    hall = Hall(limit=3)
    assert [True, True, True, False] == [hall.bulkhead.enter() for _ in range(4)]
    hall.leave()
    assert hall.bulkhead.enter()


def test_who_waits_is_let_in_in_the_order_of_coming() -> None:
    """First in, first out."""
    hall = Hall(queue=3)
    hall.fill()
    for name in "abc":
        hall.come(name)
    hall.leave(3)
    assert ["a", "b", "c"] == hall.let_in


def test_control_goes_before_calls_and_calls_before_lists() -> None:
    """And who already ran before all."""
    hall = Hall(queue=4)
    hall.fill()
    for name, rank in (("list", LIST), ("call", CALL), ("control", CONTROL), ("back", BACK)):
        hall.come(name, rank)
    hall.leave(4)
    assert ["back", "control", "call", "list"] == hall.let_in


def test_nobody_overtakes_those_who_wait() -> None:
    """A place that is free in passing belongs to the queue."""
    hall = Hall(limit=1, queue=1)
    hall.fill()
    hall.come("a")
    assert not hall.bulkhead.enter()


def test_a_full_queue_takes_nobody() -> None:
    """And who was not taken leaves no trace."""
    hall = Hall(queue=2)
    hall.fill()
    hall.come("a")
    hall.come("b")
    assert hall.come("c") is None
    assert 2 == hall.bulkhead.waiting
    hall.leave(3)
    assert (["a", "b"], 0) == (hall.let_in, hall.bulkhead.in_use)


def test_without_a_queue_nobody_waits() -> None:
    """Not even who is more urgent."""
    hall = Hall(queue=0)
    hall.fill()
    assert hall.come("a", CONTROL) is None


def test_a_full_queue_evicts_the_newest_waiter_of_the_lowest_priority() -> None:
    """Lists do not keep calls out. Waiters of the same class keep their places, and so does the first of each class."""
    hall = Hall(queue=3)
    hall.fill()
    for name, rank in (("list 1", LIST), ("list 2", LIST), ("list 3", LIST)):
        hall.come(name, rank)
    assert hall.come("call 1") is not None
    assert hall.come("call 2") is not None
    assert hall.come("call 3") is not None
    assert hall.come("call 4") is None
    assert hall.come("list 4", LIST) is None
    assert ["list 3", "list 2"] == hall.sent_away
    hall.leave(4)
    assert ["call 1", "call 2", "call 3", "list 1"] == hall.let_in


def test_the_first_waiter_of_a_class_has_room_in_a_full_queue() -> None:
    """Only the first: the queue is longer by the number of classes at most."""
    hall = Hall(queue=2)
    hall.fill()
    hall.come("call 1")
    hall.come("call 2")
    assert [True, False] == [hall.come(name, LIST) is not None for name in ("list 1", "list 2")]
    assert hall.come("control", CONTROL) is not None
    assert ([], 4) == (hall.sent_away, hall.bulkhead.waiting)


def test_a_class_that_was_passed_over_four_times_has_the_next_turn() -> None:
    """Calls come without end; of five places one is a list's."""
    hall = Hall(queue=40)
    hall.fill()
    for number in range(3):
        hall.come(f"list {number}", LIST)
    for number in range(20):
        hall.come(str(number))
    hall.leave(15)
    assert [4, 9, 14] == [place for place, name in enumerate(hall.let_in) if name.startswith("list")]


@given(
    st.integers(1, 8),
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from([CONTROL, CALL, LIST, BACK]), st.integers(0, 3)), min_size=1, max_size=300),
    st.sampled_from([CONTROL, CALL, LIST]),
)
def test_no_class_starves(queue: int, limit: int, arrivals: list[tuple[Rank, int]], rank: Rank) -> None:
    """Whoever else comes, and in whatever order: one who tries until it waits, and then waits, is soon let in."""
    hall = Hall(limit=limit + 1, queue=queue)
    hall.fill()
    mine: Waiter | None = None
    turns_waited = 0
    for other, leaving in arrivals:
        if mine is None:
            mine = hall.come("mine", rank)
            ahead = len(hall.bulkhead._queues[rank])
            if mine is None:
                assert ahead > 1
                break
            if ahead > 1:
                break
        hall.come("other", other)
        assert not mine.is_displaced
        for _ in range(leaving):
            if mine.is_admitted or not hall.bulkhead.in_use:
                break
            hall.leave()
            turns_waited += 1
        assert turns_waited <= PASSED_OVER_TIMES + len(Rank)
        if mine.is_admitted:
            mine, turns_waited = None, 0


def test_who_returns_needs_no_room_in_the_queue() -> None:
    """It was in once; but no more return than there are places."""
    hall = Hall(limit=2, queue=1)
    hall.fill()
    hall.come("a")
    assert hall.come("back 1", BACK) is not None
    assert hall.come("back 2", BACK) is not None
    assert hall.come("back 3", BACK) is None
    assert hall.come("b") is None
    hall.leave(3)
    assert ["back 1", "back 2", "a"] == hall.let_in


def test_those_who_return_take_no_room_from_the_queue() -> None:
    """It is as long as it was for those who come."""
    hall = Hall(limit=2, queue=1)
    hall.fill()
    hall.come("back", BACK)
    assert hall.come("a") is not None
    assert hall.come("b") is None


def test_the_places_are_those_of_the_example() -> None:
    """weir.example.yaml."""
    assert Places(64, 32, 5.0, False) == Places()


def test_who_goes_away_is_not_let_in() -> None:
    """The next one is."""
    hall = Hall()
    hall.fill()
    a, _ = hall.come("a"), hall.come("b")
    assert a is not None
    hall.bulkhead.withdraw(a, hall.now)
    hall.bulkhead.withdraw(a, hall.now)
    assert 1 == hall.bulkhead.waiting
    hall.leave()
    assert ["b"] == hall.let_in


def test_a_place_given_to_one_who_went_away_in_the_same_moment_goes_to_the_next() -> None:
    """It is not lost."""
    hall = Hall()
    hall.fill()
    a, _ = hall.come("a"), hall.come("b")
    assert a is not None
    hall.leave()
    hall.bulkhead.withdraw(a, hall.now)
    assert ["a", "b"] == hall.let_in
    assert 1 == hall.bulkhead.in_use


def test_when_to_come_again_is_taken_from_how_fast_calls_leave() -> None:
    """Ten a second, and five wait."""
    hall = Hall(limit=4, queue=5)
    hall.fill()
    assert hall.bulkhead.retry_after(hall.now) is None
    for _ in range(300):
        hall.now += 0.1
        hall.leave()
        hall.bulkhead.enter()
    for name in "abcde":
        hall.come(name)
    assert pytest.approx(0.6, rel=0.05) == hall.bulkhead.retry_after(hall.now)


def test_nobody_is_told_to_come_again_in_hours() -> None:
    """By then things have changed; and after a long silence nobody knows."""
    hall = Hall(limit=1, queue=100)
    hall.fill()
    hall.leave()
    hall.fill()
    for number in range(100):
        hall.come(str(number))
    assert 60.0 == hall.bulkhead.retry_after(hall.now)
    assert hall.bulkhead.retry_after(hall.now + 3600.0) is None


@given(st.floats(0.1, 1000.0))
def test_a_rate_is_that_of_late(per_second: float) -> None:
    """After a while of it."""
    rate, now = Rate(), 1000.0
    for _ in range(int(per_second * 40) + 1):
        now += 1 / per_second
        rate.note(now)
    assert rate.per_second(now) <= 1.2 * per_second + 0.2
    assert rate.per_second(now) >= 0.9 * per_second


def test_what_was_five_seconds_ago_counts_a_third() -> None:
    """1 / e, to be exact."""
    rate = Rate()
    rate.note(1000.0)
    assert [pytest.approx(0.2), pytest.approx(0.2 / math.e)] == [rate.per_second(1000.0), rate.per_second(1005.0)]


def test_nothing_has_no_rate() -> None:
    """Not even after a long time."""
    assert 0.0 == Rate().per_second(1e9)


# overload


def test_a_burst_is_no_overload() -> None:
    """The queue empties."""
    overload = Overload()
    for at in (0.0, 0.02, 0.04):
        overload.note(True, at, 0.0)
    overload.note(False, 0.05, 0.0)
    overload.note(True, 1.0, 0.0)
    assert not overload.is_standing


def test_a_queue_that_stands_is_one_until_it_has_been_gone_for_as_long() -> None:
    """A moment without anybody waiting is not its end."""
    overload = Overload()
    overload.note(True, 0.0, 0.0)
    overload.note(True, OVERLOAD_SECONDS + 0.01, 0.0)
    assert overload.is_standing
    overload.note(False, 0.2, 0.0)
    overload.note(True, 0.25, 0.0)
    assert overload.is_standing
    overload.note(False, 0.3, 0.0)
    overload.note(True, 0.3 + OVERLOAD_SECONDS + 0.01, 0.0)
    assert not overload.is_standing


def test_what_is_a_burst_depends_on_how_long_calls_take() -> None:
    """Of calls of ten seconds, one wait of fifteen is nothing."""
    overload = Overload()
    overload.note(True, 0.0, 10.0)
    overload.note(True, 15.0, 10.0)
    assert not overload.is_standing
    overload.note(True, 21.0, 10.0)
    assert overload.is_standing


def test_in_an_overload_the_queue_of_an_adaptive_bulkhead_is_short() -> None:
    """A third of those that run; before that, and where the limit is fixed, as configured."""
    halls = [Hall(limit=8, queue=32, adaptive=adaptive) for adaptive in (True, False)]
    waiting = []
    for hall in halls:
        hall.fill()
        for number in range(40):
            hall.come(str(number))
        hall.now += 1.0
        hall.come("late")
        hall.leave(32)
        for _ in range(32):
            hall.come("later")
        waiting.append(hall.bulkhead.waiting)
    assert [3, 32] == waiting


def test_after_an_overload_the_queue_is_as_long_as_before() -> None:
    """Once nobody has waited for a while."""
    hall = Hall(limit=8, queue=32, adaptive=True)
    hall.fill()
    hall.come("first")
    hall.now += 1.0
    hall.come("second")
    hall.leave(3)
    assert 7 == hall.bulkhead.in_use
    hall.now += 1.0
    hall.fill()
    for number in range(40):
        hall.come(str(number))
    assert 32 == hall.bulkhead.waiting


def test_in_an_overload_one_may_always_wait() -> None:
    """Before a single place too."""
    hall = Hall(limit=1, queue=32, adaptive=True)
    hall.fill()
    hall.come("first")
    hall.now += 1.0
    assert hall.come("second") is None
    hall.leave()
    assert hall.come("third") is not None
    assert hall.come("fourth") is None


def test_shadow_counts_and_never_stops_anybody() -> None:
    """What would have happened."""
    bulkhead = Bulkhead(Places(limit=2, queue=1), "")
    assert ["", "", "would_queue", "would_refuse"] == [bulkhead.shadow_enter() for _ in range(4)]
    for _ in range(4):
        bulkhead.shadow_leave()
    assert 0 == bulkhead.in_use


class AnyOrder(RuleBasedStateMachine):
    """Comings, goings and changes of mind in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.hall = Hall(limit=3, queue=4)
        self.inside = 0
        self.waiting: list[Waiter] = []

    def settle(self) -> None:
        """Those who were let in are inside; those who were sent away wait no more."""
        self.inside += sum(waiter.is_admitted for waiter in self.waiting)
        self.waiting = [each for each in self.waiting if not each.is_admitted and not each.is_displaced]

    @rule(rank=st.sampled_from(Rank))
    def come(self, rank: Rank) -> None:
        """Enter, or wait."""
        self.hall.now += 0.01
        if self.hall.bulkhead.enter():
            self.inside += 1
        else:
            waiter = self.hall.come("x", rank)
            self.waiting += [waiter] if waiter is not None else []
            self.settle()

    @precondition(lambda self: self.inside)
    @rule()
    def leave(self) -> None:
        """One who is inside goes."""
        self.inside -= 1
        self.hall.leave()
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """One who waits goes."""
        waiter = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(waiter)
        self.hall.bulkhead.withdraw(waiter, self.hall.now)
        self.settle()

    @precondition(lambda self: self.inside and self.waiting)
    @rule()
    def let_in_one_who_gives_up(self) -> None:
        """Both in one moment."""
        before = list(self.waiting)
        self.inside -= 1
        self.hall.leave()
        lucky = next(each for each in before if each.is_admitted)
        self.waiting.remove(lucky)
        self.hall.bulkhead.withdraw(lucky, self.hall.now)
        self.settle()

    @invariant()
    def the_books_are_right(self) -> None:
        """Nobody is inside beyond the limit, no place stays empty while somebody waits, and the queue is bounded."""
        bulkhead = self.hall.bulkhead
        assert self.inside == bulkhead.in_use <= 3
        assert len(self.waiting) == bulkhead.waiting
        assert not bulkhead.waiting or bulkhead.in_use == 3
        ranks = [each.rank for each in self.waiting if each.rank is not BACK]
        # the first of each class has room in any case
        assert len(ranks) <= 4 + len(set(ranks)) - 1
        assert sum(each.rank is BACK for each in self.waiting) <= 3


TestAnyOrder = AnyOrder.TestCase


def test_nothing_is_known_of_a_rate_before_anything_left() -> None:
    """No division by it either."""
    assert Hall().bulkhead.retry_after(-math.inf) is None
