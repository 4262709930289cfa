"""Runs weir with a sampler inside: SIGUSR1 starts it, SIGUSR2 writes what it saw. The timer counts CPU time only.

A sampler that looks from outside counts the time in which another process has the core, too: on a busy machine every
`send` that wakes a client then looks dear. Run: python -m bench.sampler OUTPUT run --config FILE
"""

import dis
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from weir.cli import main

EVERY_CPU_SECONDS = 0.001  # the kernel rounds this up to its own tick
_RESUME = dis.opmap["RESUME"]
_RUNS_THE_LOOP = ("asyncio/runners.py", "uvloop/__init__.py", "weir/app/run.py", "weir/cli.py")
LOOP = "(event loop, in C)"


class Sampler:
    """Counts stacks, outermost function first."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._stacks: Counter[tuple[str, ...]] = Counter()
        signal.signal(signal.SIGUSR1, self._start)
        signal.signal(signal.SIGUSR2, self._stop)

    def _start(self, _signal: int, _frame: FrameType | None) -> None:
        self._stacks.clear()
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, EVERY_CPU_SECONDS, EVERY_CPU_SECONDS)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        lines = [f"{';'.join(stack)} {count}" for stack, count in self._stacks.items()]
        self._output.with_suffix(".part").write_text("\n".join(lines))
        self._output.with_suffix(".part").rename(self._output)

    def _sample(self, _signal: int, frame: FrameType | None) -> None:
        # Python looks for signals when a function begins: the time before that was its caller's, or the loop's
        if frame is not None and _is_beginning(frame):
            frame = frame.f_back
        names = []
        while frame is not None and not frame.f_code.co_filename.endswith(_RUNS_THE_LOOP):
            names.append(_name(frame))
            frame = frame.f_back
        self._stacks[tuple(reversed(names)) or (LOOP,)] += 1


def _is_beginning(frame: FrameType) -> bool:
    return frame.f_code.co_code[frame.f_lasti] == _RESUME


def _name(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})"


if __name__ == "__main__":
    Sampler(Path(sys.argv[1]))
    sys.argv = ["weir", *sys.argv[2:]]
    main()
