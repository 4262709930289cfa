"""An asyncio loop in which waiting takes no time: when every task sleeps, its clock jumps to the next timer.

    @pytest.fixture
    def anyio_backend() -> tuple[str, dict[str, object]]:
        return VIRTUAL

`asyncio.get_running_loop().time` is then the clock of everything under test. A test in which all tasks wait
and no timer is set fails at once with `Stuck` instead of hanging. No threads, no uvloop.
"""

import asyncio
import selectors
from collections.abc import Callable

START_SECONDS = 1000.0
"""Not 0.0, which is the instant that stands for "not yet"."""


class Stuck(Exception):  # noqa: N818 - it says what the test is
    """Every task waits for something that nobody will do."""


class _Selector(selectors.SelectSelector):
    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Stuck("all tasks wait and no timer is set")
        self._jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. `time` is in seconds, as real as the timers that were set."""

    def __init__(self) -> None:
        self._now = START_SECONDS
        super().__init__(_Selector(self._pass))

    def time(self) -> float:
        """The virtual instant."""
        return self._now

    def _pass(self, seconds: float) -> None:
        self._now += seconds


VIRTUAL: tuple[str, dict[str, object]] = ("asyncio", {"loop_factory": VirtualLoop})
"""What a test module's `anyio_backend` fixture returns."""


async def turns(count: int = 5) -> None:
    """Let every other task go as far as it can without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)
