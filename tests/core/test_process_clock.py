"""A clock that stands still with the process."""

from weir.core.process_clock import STOOD_STILL_SECONDS, ProcessClock


class Wall:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_time_in_which_nobody_could_read_the_clock_is_left_out() -> None:
    """Gaps add up, and each is told of once."""
    wall = Wall()
    clock = ProcessClock(wall)
    clock.watch()
    for seconds, expected in ((0.25, 1000.25), (20.0, 1000.25), (0.25, 1000.5), (5.0, 1000.5)):
        wall.now += seconds
        assert expected == clock()
    assert [25.0, 0.0] == [clock.untold(), clock.untold()]
    assert 2 == clock.pauses


def test_a_loop_that_is_late_is_not_a_process_that_stood_still() -> None:
    """Up to a second."""
    wall = Wall()
    clock = ProcessClock(wall)
    clock.watch()
    wall.now += STOOD_STILL_SECONDS
    assert (1000.0 + STOOD_STILL_SECONDS, 0.0, 0) == (clock(), clock.untold(), clock.pauses)


def test_nothing_is_left_out_while_nobody_watches() -> None:
    """Before weir serves and after, long steps block the loop and nothing waits."""
    wall = Wall()
    clock = ProcessClock(wall)
    wall.now += 60.0
    assert 1060.0 == clock()
    clock.watch()
    wall.now += 60.0
    assert 1060.0 == clock()
    clock.unwatch()
    wall.now += 60.0
    assert 1120.0 == clock()
