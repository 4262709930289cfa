"""The retry budget as a state machine: never more than the share of the calls and the floor of the time."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from weir.policies.retry import Budget

RATIOS = st.sampled_from([0.0, 0.001, 0.1, 0.2, 0.5, 1.0])
RATES = st.sampled_from([0.0, 0.01, 0.5, 1.0, 3.0])


class BudgetMachine(RuleBasedStateMachine):
    """Calls begin, time passes, retries are taken and some are given back."""

    def __init__(self) -> None:
        super().__init__()
        self.began = self.now = 1000.0
        self.calls = self.spent = 0
        self.ratio, self.rate = 0.2, 1.0
        self.budget = Budget(0.2, 1.0, self.now)

    @initialize(ratio=RATIOS, rate=RATES)
    def begin(self, ratio: float, rate: float) -> None:
        self.ratio, self.rate = ratio, rate
        self.budget = Budget(ratio, rate, self.now)

    @property
    def most(self) -> float:
        """A hundred calls' worth and ten seconds' worth; at least one, unless there is none at all."""
        saved = self.ratio * 100 + self.rate * 10
        return max(saved, 1.0) if saved else 0.0

    @rule(count=st.integers(1, 50))
    def calls_begin(self, count: int) -> None:
        for _ in range(count):
            self.budget.deposit()
        self.calls += count

    @rule(seconds=st.floats(0.0, 100.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_retry_is_taken(self) -> None:
        left = self.budget.remaining(self.now)
        taken = self.budget.withdraw(self.now)
        assert taken == (left >= 1.0 - 1e-9)
        assert self.budget.remaining(self.now) == pytest.approx(max(0.0, left - taken))
        self.spent += taken

    @rule()
    def a_retry_that_was_taken_is_not_made(self) -> None:
        if self.spent:
            self.budget.refund()
            self.spent -= 1

    @rule(seconds=st.floats(0.0, 10.0))
    def an_older_instant_takes_nothing_away(self, seconds: float) -> None:
        left = self.budget.remaining(self.now)
        assert left == self.budget.remaining(self.now - seconds)

    @invariant()
    def what_was_spent_was_earned(self) -> None:
        earned = self.ratio * self.calls + self.rate * (1.0 + self.now - self.began)
        assert self.spent <= earned + 1e-6

    @invariant()
    def no_more_is_saved_up_than_the_bound(self) -> None:
        assert -1e-9 <= self.budget.remaining(self.now) <= self.most + 1e-9


BudgetMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50)
TestBudget = BudgetMachine.TestCase


def test_a_share_of_the_calls_may_be_retried() -> None:
    """One in five; a tenth ten times is one too."""
    for ratio, calls in ((0.2, 5), (0.1, 10)):
        budget = Budget(ratio, 0.0, 0.0)
        for _ in range(calls - 1):
            budget.deposit()
        assert not budget.withdraw(0.0)
        budget.deposit()
        assert [True, False] == [budget.withdraw(0.0), budget.withdraw(0.0)]


def test_a_floor_accrues_with_time() -> None:
    """The first second's worth is there from the start."""
    budget = Budget(0.0, 2.0, 100.0)
    assert [True, True, False] == [budget.withdraw(100.0) for _ in range(3)]
    assert [True, False] == [budget.withdraw(100.5) for _ in range(2)]


def test_share_and_floor_add_up() -> None:
    """Halves of each make one."""
    budget = Budget(0.5, 0.5, 0.0)
    budget.deposit()
    assert [True, False] == [budget.withdraw(0.0) for _ in range(2)]


def test_a_quiet_hour_does_not_pay_for_a_storm() -> None:
    """Ten seconds' worth is saved up, and a hundred calls' worth."""
    budget = Budget(0.0, 1.0, 0.0)
    assert 10.0 == budget.remaining(3600.0)
    budget = Budget(0.2, 0.0, 0.0)
    for _ in range(10_000):
        budget.deposit()
    assert 20.0 == pytest.approx(budget.remaining(0.0))


def test_a_small_budget_can_be_spent() -> None:
    """However small: it saves up for one."""
    budget = Budget(0.0, 0.01, 0.0)
    assert [False, True, False] == [budget.withdraw(now) for now in (98.0, 99.1, 99.2)]


def test_no_budget_is_none() -> None:
    """Nothing comes of waiting."""
    budget = Budget(0.0, 0.0, 0.0)
    budget.deposit()
    budget.refund()
    assert [0.0, False] == [budget.remaining(1e9), budget.withdraw(1e9)]
