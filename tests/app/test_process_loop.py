"""The event loop's timers stand still with the process: a blocked thread stands for a stopped process."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from weir.app.process_loop import READ_FIRST_SECONDS, ProcessLoop, watch_process
from weir.core.events import StoodStill
from weir.core.process_clock import STOOD_STILL_SECONDS, ProcessClock

STOP_SECONDS = STOOD_STILL_SECONDS + 0.5


def run(main: Callable[[ProcessClock], Coroutine[Any, Any, None]]) -> list[StoodStill]:
    """Run it on weir's loop, with its watch; what the watch told."""
    clock, told = ProcessClock(time.monotonic), list[StoodStill]()

    async def watched() -> None:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(watch_process(clock, told.append))
            await asyncio.sleep(0)
            await main(clock)
            watch.cancel()

    with asyncio.Runner(loop_factory=lambda: ProcessLoop(clock)) as runner:
        runner.run(watched())
    return told


def stand_still() -> None:
    """Nothing runs in this process for a while."""
    time.sleep(STOP_SECONDS)


def test_what_came_while_the_process_stood_still_is_read_before_a_limit_runs_out() -> None:
    """The answer is in the socket when the process wakes, and the limit is long over on the wall."""

    async def main(clock: ProcessClock) -> None:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"answer")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with asyncio.timeout(1.0):
            stand_still()
            assert b"answer" == await reader.read()
        writer.close()
        server.close()

    run(main)


def test_a_limit_moves_by_the_time_that_was_lost() -> None:
    """It still runs out, after all of its own time."""

    async def main(clock: ProcessClock) -> None:
        began, began_on_the_wall = clock(), time.monotonic()
        try:
            async with asyncio.timeout(0.8):
                stand_still()
                await asyncio.Event().wait()
        except TimeoutError:
            assert clock() - began >= 0.8 - 0.01
            assert time.monotonic() - began_on_the_wall >= STOP_SECONDS + 0.8 - 0.01
            return
        raise AssertionError("it never ran out")

    [event] = run(main)
    assert event.seconds >= STOP_SECONDS


def test_timers_fire_in_time_and_can_be_cancelled() -> None:
    """As those of any loop, also after the process stood still."""

    async def main(clock: ProcessClock) -> None:
        loop, fired = asyncio.get_running_loop(), list[str]()
        loop.call_soon(fired.append, "soon")
        loop.call_later(0.0, fired.append, "at once")
        loop.call_at(loop.time() + 0.01, fired.append, "later")
        gone = loop.call_later(0.02, fired.append, "never")
        gone.cancel()
        late = loop.call_later(0.02, fired.append, "nor this")
        assert gone.cancelled()
        assert late.when() > loop.time()
        stand_still()
        await asyncio.sleep(0)
        late.cancel()
        await asyncio.sleep(2 * READ_FIRST_SECONDS)
        assert ["soon", "at once", "later"] == fired

    run(main)
