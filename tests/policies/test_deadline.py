"""Deadlines: which limit of a call runs out when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.policed import (
    tool_call,
)
from weir.policies.deadline import (
    LOOK_AGAIN_SECONDS,
    Allowance,
    Expired,
    Limits,
)

LIMITS = Limits(attempt_seconds=60.0, total_seconds=120.0, client_input_seconds=600.0)


class Playing:
    """An allowance, its call, and a clock."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.now = 1000.0
        self.call = tool_call()
        self.allowance = Allowance(self.call, limits, limits.total_seconds, self.now)

    def look(self, seconds: float = 0.0) -> Expired | float:
        """What is found after so many more seconds: what ran out, or how long to wait before looking again."""
        self.now += seconds
        found = self.allowance.look(self.now)
        return found if isinstance(found, Expired) else found - self.now


def test_between_attempts_only_the_total_can_run_out() -> None:
    """It is looked at when it can be over, not before."""
    play = Playing()
    assert (120.0, False) == (play.look(), play.allowance.is_extended)
    assert 20.0 == play.look(100.0)
    assert Expired("total", 120.0) == play.look(20.0)


def test_the_limits_are_those_of_the_example() -> None:
    """weir.example.yaml."""
    assert Limits(60.0, 120.0, 600.0, True, None) == Limits()


def test_half_a_second_before_the_end_nothing_has_run_out() -> None:
    """Neither of the attempt nor of the total."""
    play = Playing()
    assert 0.5 == play.look(119.5)
    play = Playing()
    play.allowance.begin_attempt(play.now)
    assert 0.5 == play.look(59.5)


def test_an_attempt_has_its_own_limit_until_it_ends() -> None:
    """The next one begins anew."""
    play = Playing()
    play.allowance.begin_attempt(play.now)
    assert 60.0 == play.look()
    assert Expired("attempt", 60.0) == play.look(60.0)
    play.allowance.end_attempt()
    assert 60.0 == play.look()
    assert 50.0 == play.allowance.begin_attempt(play.now + 10.0)


def test_an_attempt_never_outlasts_the_total() -> None:
    """When both are over, it is the total that is told."""
    play = Playing()
    play.look(100.0)
    play.allowance.begin_attempt(play.now)
    assert 20.0 == play.look()
    assert Expired("total", 120.0) == play.look(60.0)


def test_progress_starts_the_attempts_clock_again_and_not_the_totals() -> None:
    """Up to the total, never past it."""
    play = Playing()
    play.allowance.begin_attempt(play.now)
    for _ in range(2):
        play.now += 50.0
        play.call.progressed(play.now)
    assert 20.0 == play.look()
    assert play.allowance.is_extended
    assert Expired("total", 120.0) == play.look(20.0)


def test_progress_of_an_earlier_attempt_says_nothing_of_this_one() -> None:
    """It began later."""
    play = Playing()
    play.call.progressed(play.now)
    play.now += 10.0
    play.allowance.begin_attempt(play.now)
    assert 60.0 == play.look()
    assert not play.allowance.is_extended


def test_progress_does_not_count_where_the_operator_says_so() -> None:
    """extend_on_progress: false."""
    play = Playing(Limits(60.0, 120.0, 600.0, extend_on_progress=False))
    play.allowance.begin_attempt(play.now)
    play.now += 50.0
    play.call.progressed(play.now)
    assert 10.0 == play.look()


def test_clocks_stand_still_while_the_client_is_asked() -> None:
    """An hour of thinking takes nothing from the server."""
    play = Playing(Limits(60.0, 120.0, client_input_seconds=7200.0))
    play.allowance.begin_attempt(play.now)
    play.now += 50.0
    play.call.ask_began(play.now)
    assert 10.0 == play.look(3600.0)
    play.call.ask_ended(play.now)
    assert 10.0 == play.look()
    assert Expired("attempt", 60.0) == play.look(10.0)


def test_a_client_that_is_asked_has_a_limit_of_its_own() -> None:
    """However much is left of the others."""
    play = Playing(Limits(60.0, 120.0, client_input_seconds=5.0))
    assert 5.0 == play.look()
    play.call.ask_began(play.now + 3.0, "sampling/createMessage")
    assert 3.0 == play.look(5.0)
    assert Expired("client_input", 5.0) == play.look(3.0)


def test_questions_one_after_the_other_each_have_that_limit() -> None:
    """It is a limit of one wait, not of all together."""
    play = Playing(Limits(60.0, 120.0, client_input_seconds=5.0))
    for _ in range(4):
        play.call.ask_began(play.now)
        assert not isinstance(play.look(4.0), Expired)
        play.call.ask_ended(play.now)
    assert 5.0 == play.look()


def test_standing_clocks_with_little_left_are_not_looked_at_all_the_time() -> None:
    """A millisecond that is left does not make a timer of a millisecond."""
    play = Playing()
    play.look(119.999)
    play.call.ask_began(play.now)
    assert pytest.approx(LOOK_AGAIN_SECONDS) == play.look(1.0)


def test_clocks_stand_still_while_the_client_does_not_read() -> None:
    """But not for ever: a client that takes a little now and then would keep its call and its place."""
    play = Playing(Limits(60.0, 120.0, client_input_seconds=600.0))
    play.allowance.begin_attempt(play.now)
    play.look(50.0)
    for _ in range(2):
        play.call.unread_began(play.now)
        assert not isinstance(play.look(299.0), Expired)
        play.call.unread_ended(play.now)
    play.call.unread_began(play.now)
    assert 1.0 == play.look(1.0)
    assert Expired("client_input", 600.0) == play.look(1.0)
    play.call.unread_ended(play.now)
    assert not isinstance(play.look(9.0), Expired)
    assert Expired("attempt", 60.0) == play.look(1.0)


def test_a_question_asked_of_a_client_that_does_not_read_is_one_wait() -> None:
    """The clocks go on when both are over; the limit counts from the question, or what was unread before it too."""
    play = Playing(Limits(60.0, 120.0, client_input_seconds=35.0))
    play.call.unread_began(play.now)
    play.look(30.0)
    play.call.ask_began(play.now)
    assert 1.0 == play.look(4.0)
    play.call.unread_ended(play.now)
    assert 0.0 == play.call.client_seconds
    play.call.ask_ended(play.now)
    assert 34.0 == play.call.client_seconds
    assert not play.call.is_standing


Step = tuple[str, float]
steps = st.lists(st.tuples(st.sampled_from(["wait", "ask", "answer", "progress"]), st.floats(0.0, 40.0)), max_size=30)


class Stopwatches:
    """The plainest account of the same: they run while nobody is asked, or while somebody is."""

    def __init__(self) -> None:
        self.total = self.attempt = self.asked = 0.0
        self.asking = 0

    def act(self, what: str, play: Playing) -> None:
        """Something happens, in both accounts."""
        if what == "ask":
            self.asking += 1
            play.call.ask_began(play.now)
        elif what == "answer" and self.asking:
            self.asking -= 1
            play.call.ask_ended(play.now)
        elif what == "progress":
            self.attempt = 0.0
            play.call.progressed(play.now)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.asked = self.asked + seconds if self.asking else 0.0
        if not self.asking:
            self.total += seconds
            self.attempt += seconds

    def expired(self) -> Expired | None:
        """What has run out."""
        if self.asked > 100.0:
            return Expired("client_input", 100.0)
        if self.asking:
            return None
        if self.total > 120.0:
            return Expired("total", 120.0)
        return Expired("attempt", 60.0) if self.attempt > 60.0 else None

    def is_on_the_edge(self) -> bool:
        """Rounding decides."""
        return min(abs(self.total - 120.0), abs(self.attempt - 60.0), abs(self.asked - 100.0)) < 1e-6


@given(steps)
def test_the_limits_are_those_of_a_stopwatch(script: list[Step]) -> None:
    """Whatever happens in whatever order."""
    play, watches = Playing(Limits(60.0, 120.0, client_input_seconds=100.0)), Stopwatches()
    play.allowance.begin_attempt(play.now)
    for what, seconds in script:
        watches.act(what, play)
        watches.wait(seconds)
        found, wanted = play.look(seconds), watches.expired()
        if watches.is_on_the_edge():
            return
        if wanted is not None:
            assert wanted == found
            return
        assert not isinstance(found, Expired)
        assert found > 0.0
