"""How late the event loop is."""

import asyncio
from itertools import count

import pytest

from support.limits import HANG_SECONDS
from weir.telemetry.instants import EpochClock
from weir.telemetry.loop_lag import LoopLag
from weir.telemetry.series import Histogram

pytestmark = pytest.mark.anyio


async def test_the_delay_beyond_the_interval_is_observed() -> None:
    """On a clock that jumps three seconds with every look."""
    seen, ticks = Histogram((1.0, 5.0)), count(0, 3)
    enough = asyncio.Event()

    def clock() -> float:
        if seen.counts[1] >= 2:
            enough.set()
        return float(next(ticks))

    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(LoopLag(seen, clock, 0.001).run())
        await enough.wait()
        running.cancel()
    assert [0, seen.counts[1], 0] == seen.counts
    assert 2.999 * seen.counts[1] == pytest.approx(seen.sum)


async def test_a_loop_that_is_early_is_not_late() -> None:
    """Clocks differ by a hair; a negative lag is none."""
    seen, ticks = Histogram((1.0,)), iter([10.0, 10.0])

    def clock() -> float:
        return next(ticks)

    with pytest.raises((StopIteration, RuntimeError)):
        await LoopLag(seen, clock, 0.001).run()
    assert (1, 0.0) == (seen.counts[0], seen.sum)


def test_instants_follow_a_wall_clock_that_was_set_anew() -> None:
    """After the next comparison of the two."""
    wall = 1_700_000_000.0
    epoch = EpochClock(lambda: 50.0, lambda: wall)
    assert 1_700_000_010_000_000_000 == epoch(60.0)
    wall += 3600
    assert 1_700_000_010.0 == epoch.seconds(60.0)
    epoch.refresh()
    assert 1_700_003_610_000_000_000 == epoch(60.0)
