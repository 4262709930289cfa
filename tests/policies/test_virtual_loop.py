"""The loop that policies are tested in: waiting takes no time, and a test that can never end fails."""

import asyncio
import time

import pytest

from support.virtual_loop import VIRTUAL, Stuck, VirtualLoop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


async def test_a_day_of_sleep_passes_at_once() -> None:
    """The clock has moved by the day; the wall has not."""
    clock, wall = asyncio.get_running_loop().time, time.perf_counter()
    before = clock()
    await asyncio.sleep(86_400)
    assert pytest.approx(86_400) == clock() - before
    assert time.perf_counter() - wall < 1


async def test_timers_fire_in_their_order() -> None:
    """However many tasks wait."""
    order: list[int] = []

    async def sleeper(seconds: int) -> None:
        await asyncio.sleep(seconds)
        order.append(seconds)

    async with asyncio.TaskGroup() as group:
        for seconds in (300, 1, 60):
            group.create_task(sleeper(seconds))
    assert [1, 60, 300] == order


def test_waiting_for_nothing_fails_instead_of_hanging() -> None:
    """No timer, no data: nobody will ever wake the task."""

    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    loop = VirtualLoop()
    task = loop.create_task(wait_for_ever())
    with pytest.raises(Stuck):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
