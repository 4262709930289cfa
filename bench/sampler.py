"""Runs weir with a watcher inside: SIGUSR1 starts it, SIGUSR2 writes what it saw.

`samples` looks which function runs, by a timer that counts CPU time only: a sampler that looks from outside counts the
time in which another process has the core, too, and on a busy machine every `send` that wakes a client then looks
dear. `counts` counts function calls, which are the same on a busy machine and an idle one.
Run: python -m bench.sampler samples|counts OUTPUT run --config FILE
"""

import dis
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Protocol

from weir.cli import main

EVERY_CPU_SECONDS = 0.001  # the kernel rounds this up to its own tick
_RESUME = dis.opmap["RESUME"]
_RUNS_THE_LOOP = ("asyncio/runners.py", "uvloop/__init__.py", "weir/app/run.py", "weir/cli.py")
LOOP = "(event loop, in C)"


class Watcher(Protocol):
    """Sees what runs; `seen` are lines of `outer;...;inner COUNT`."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def seen(self) -> list[str]: ...


class Sampler:
    """Counts stacks, outermost function first."""

    def __init__(self) -> None:
        self._stacks: Counter[tuple[str, ...]] = Counter()

    def start(self) -> None:
        """Look from now on."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, EVERY_CPU_SECONDS, EVERY_CPU_SECONDS)

    def stop(self) -> None:
        """Look no more."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)

    def seen(self) -> list[str]:
        """A line a stack."""
        return [f"{';'.join(stack)} {count}" for stack, count in self._stacks.items()]

    def _sample(self, _signal: int, frame: FrameType | None) -> None:
        # Python looks for signals when a function begins: the time before that was its caller's, or the loop's
        if frame is not None and _is_beginning(frame):
            frame = frame.f_back
        names = []
        while frame is not None and not frame.f_code.co_filename.endswith(_RUNS_THE_LOOP):
            names.append(_name(frame))
            frame = frame.f_back
        self._stacks[tuple(reversed(names)) or (LOOP,)] += 1


class CallCounter:
    """Counts calls of Python functions, and of C functions by name. A coroutine counts each time it is resumed."""

    def __init__(self) -> None:
        self._calls: Counter[object] = Counter()

    def start(self) -> None:
        """Count from now on."""
        sys.setprofile(self._note)

    def stop(self) -> None:
        """Count no more."""
        sys.setprofile(None)

    def seen(self) -> list[str]:
        """A line a function."""
        return [f"{_counted_name(called)} {count}" for called, count in self._calls.items()]

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            self._calls[frame.f_code] += 1
        elif event == "c_call":
            self._calls[getattr(argument, "__qualname__", "?")] += 1


def _counted_name(called: object) -> str:
    if isinstance(called, CodeType):
        return f"{called.co_qualname} ({called.co_filename}:{called.co_firstlineno})"
    return f"{called} (C.py:0)"


def watch(watcher: Watcher, output: Path) -> None:
    """Obey the two signals."""

    def start(_signal: int, _frame: FrameType | None) -> None:
        watcher.start()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        watcher.stop()
        output.with_suffix(".part").write_text("\n".join(watcher.seen()))
        output.with_suffix(".part").rename(output)

    signal.signal(signal.SIGUSR1, start)
    signal.signal(signal.SIGUSR2, stop)


def _is_beginning(frame: FrameType) -> bool:
    return frame.f_code.co_code[frame.f_lasti] == _RESUME


def _name(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})"


if __name__ == "__main__":
    watch(Sampler() if sys.argv[1] == "samples" else CallCounter(), Path(sys.argv[2]))
    sys.argv = ["weir", *sys.argv[3:]]
    main()
