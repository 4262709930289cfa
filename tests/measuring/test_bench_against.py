"""Two revisions in pairs: the arithmetic of the verdict."""

import pytest
from bench.against import LIMIT, Pair, interval, is_slower, line, student_t, turns
from bench.rounds import Run


def run(cpu_us: float, p50: float = 1.0) -> Run:
    """One round."""
    return Run(calls=10, per_second=1.0, p50=p50, p95=1, p99=1, cpu_us=cpu_us, server_cpu_us=0)


@pytest.mark.parametrize(("freedom", "quantile"), [(4, 2.776), (9, 2.262), (19, 2.093), (1000, 1.962)])
def test_the_quantile_is_students(freedom: int, quantile: float) -> None:
    """As tables have it, within one percent."""
    assert pytest.approx(quantile, rel=0.01) == student_t(freedom)


def test_the_order_within_pairs_alternates() -> None:
    """A B, B A: drift hits both revisions alike."""
    assert [(0, 1), (1, 0), (0, 1), (1, 0)] == list(turns(4))


def test_a_pair_compares_the_new_revision_with_the_old_one() -> None:
    """Above one is slower."""
    pair = Pair(old=run(50, 2.0), new=run(55, 1.0))
    assert pytest.approx((1.1, 0.5)) == (pair.ratio("cpu_us"), pair.ratio("p50"))
    assert "  1    50.0    55.0 +10.0 %     2.00   1.00 -50.0 %" == line(1, pair)


def test_the_mean_is_geometric_and_the_interval_lies_around_it() -> None:
    """Twice as slow and twice as fast are no change."""
    found = interval([2.0, 0.5, 2.0, 0.5])
    assert pytest.approx(1.0) == found.mean
    assert pytest.approx(1.0) == found.low * found.high
    assert found.low < 1.0 < found.high


def test_equal_ratios_leave_no_doubt() -> None:
    """The interval has no width."""
    assert (1.05, 1.05, 1.05) == pytest.approx(tuple(interval([1.05] * 20)))


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([1.06, 1.05, 1.04, 1.05] * 5, True),
        ([1.04, 1.02, 1.03, 1.04] * 5, False),
        ([1.5, 0.8, 1.4, 0.7] * 5, False),
        ([0.9] * 20, False),
    ],
    ids=["clearly slower", "about the limit", "noise", "faster"],
)
def test_only_what_is_slower_beyond_doubt_fails(ratios: list[float], verdict: bool) -> None:
    """The lower end of the interval decides."""
    assert verdict is is_slower(interval(ratios))
    assert verdict is (interval(ratios).low > LIMIT)
