"""Where weir's CPU goes on one path: sampled by CPU time inside the process, and by perf if it is there.

Named so because a module called `profile` beside other scripts would shadow the standard library's.
Run: python -m bench.hotspots [--traces 1.0] [--tool sse] [--stdio] [--seconds 8] [--top 40] [--calls]
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bench import measure, targets
from bench.rounds import Load
from bench.stand import Ground, Standing, Target, ground, standing

WRITTEN_SECONDS = 10.0
PERF_SECONDS = 3.0
COUNTED_CALLS = 2000
_FRAME = re.compile(r"(?P<name>.+) \((?P<file>.+\.pyx?):(?P<line>\d+)\)$")


class Frame(NamedTuple):
    """One Python function. A frame of no file is the event loop."""

    name: str
    file: str


class Profile(NamedTuple):
    """Samples by function. `own` counts the C code that a function calls as its own; `within` all below it."""

    samples: int
    own: Counter[Frame]
    lines: Counter[str]
    within: Counter[Frame]


LOOP = Frame("(event loop, in C)", "")


def parse(collapsed: Iterable[str]) -> Profile:
    """Fold the sampler's lines, `outer;...;inner COUNT`."""
    profile = Profile(0, Counter(), Counter(), Counter())
    samples = 0
    for text in collapsed:
        stack, _, count = text.rpartition(" ")
        if not stack or not count.isdigit():
            continue
        found = [match for part in stack.split(";") if (match := _FRAME.match(part))]
        frames = [Frame(match["name"], match["file"]) for match in found]
        samples += int(count)
        profile.own[frames[-1] if frames else LOOP] += int(count)
        profile.lines[f"{short(frames[-1].file)}:{found[-1]['line']}" if frames else LOOP.name] += int(count)
        for frame in set(frames):
            profile.within[frame] += int(count)
    return profile._replace(samples=samples)


def short(file: str) -> str:
    """A file's path from its package on."""
    parts = Path(file).parts
    for mark in ("site-packages", "src", "python3.11"):
        if mark in parts:
            return "/".join(parts[len(parts) - parts[::-1].index(mark) :])
    return file


def place(frame: Frame) -> str:
    """Which part of the program a function belongs to: a room of weir, a package, a module."""
    parts = short(frame.file).split("/")
    return "/".join(parts[:2]) if parts[0] == "weir" else parts[0] or LOOP.name


def _sampled(up: Standing, output: Path, seconds: float) -> list[str]:
    os.kill(up.pid, signal.SIGUSR1)
    time.sleep(seconds)
    return _written(up, output)


def _written(up: Standing, output: Path) -> list[str]:
    os.kill(up.pid, signal.SIGUSR2)
    until = time.monotonic() + WRITTEN_SECONDS
    while not output.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return output.read_text().splitlines()


def _perf(up: Standing, output: Path) -> list[str]:
    if shutil.which("perf") is None:
        return ["perf is not on this system"]
    record = ["perf", "record", "-e", "cpu-clock", "-F", "999", "-o", str(output), "-p", str(up.pid)]
    subprocess.run([*record, "--", "sleep", str(PERF_SECONDS)], check=False, capture_output=True)
    report = ["perf", "report", "-i", str(output), "--stdio", "--sort", "dso", "--no-children"]
    text = subprocess.run(report, check=False, capture_output=True, text=True).stdout
    return [line.strip() for line in text.splitlines() if re.match(r"\s+\d+\.\d+%", line)][:8]


def _print(title: str, counts: Iterable[tuple[str, int]], samples: int, cpu_us: float) -> None:
    print(f"\n{title}\n  {'µs/call':>8}  {'share':>6}")
    for name, count in counts:
        print(f"  {cpu_us * count / samples:8.2f}  {100 * count / samples:5.1f}%  {name}")


def _show(profile: Profile, cpu_us: float, top: int) -> None:
    places: Counter[str] = Counter()
    for frame, count in profile.own.items():
        places[place(frame)] += count
    samples = max(1, profile.samples)
    _print("By place, own time", places.most_common(20), samples, cpu_us)
    own = [(f"{frame.name}  {short(frame.file)}", count) for frame, count in profile.own.most_common(top)]
    _print("By function, own time (the C it calls included)", own, samples, cpu_us)
    _print("By line, own time", profile.lines.most_common(top), samples, cpu_us)
    within = [(f, count) for f, count in profile.within.most_common() if place(f).startswith("weir/")]
    listed = [(f"{frame.name}  {short(frame.file)}", count) for frame, count in within[:top]]
    _print("weir's functions, with all they call", listed, samples, cpu_us)


def watched(target: Target, what: str, output: Path) -> Target:
    """The same weir, with a watcher inside (see sampler.py)."""
    command = target.command
    assert command is not None

    def sampled(land: Ground, port: int) -> list[str]:
        return [sys.executable, "-m", "bench.sampler", what, str(output), *command(land, port)[1:]]

    return replace(target, command=sampled)


def profiled(target: Target, land: Ground, seconds: float, tool: str) -> tuple[Profile, float, list[str]]:
    """One target under load: samples, undisturbed CPU µs a call, and perf's shares by binary."""
    output = land.folder / "samples.txt"
    with standing(watched(target, "samples", output), land) as up:
        with Load(up.port, tool=tool, connections=16, seconds=seconds / 2) as load:
            tree = measure.tree(up.pid)
            before = measure.cpu_seconds(tree.own)
            calls = load.run()["calls"]
            cpu_us = 1e6 * (measure.cpu_seconds(tree.own) - before) / calls
        lines = _under_load(up, tool, seconds, lambda: _sampled(up, output, seconds))
        shares = _under_load(up, tool, PERF_SECONDS, lambda: _perf(up, land.folder / "perf.data"))
    return parse(lines), cpu_us, shares


def counted(target: Target, land: Ground, tool: str, calls: int) -> Profile:
    """How often each function is called, over `calls` calls."""
    output = land.folder / "counts.txt"
    with (
        standing(watched(target, "counts", output), land) as up,
        Load(up.port, tool=tool, connections=16, calls=calls) as load,
    ):
        os.kill(up.pid, signal.SIGUSR1)
        time.sleep(0.2)
        load.run()
        return parse(_written(up, output))


def _show_counts(profile: Profile, calls: int, top: int) -> None:
    in_c = sum(count for frame, count in profile.own.items() if frame.file == "C.py")
    print(f"{(profile.samples - in_c) / calls:.1f} Python and {in_c / calls:.1f} C function calls a call\n")
    for frame, count in profile.own.most_common(top):
        print(f"  {count / calls:6.1f}  {frame.name}  {short(frame.file)}")


def _under_load(up: Standing, tool: str, seconds: float, watch: Callable[[], list[str]]) -> list[str]:
    with Load(up.port, tool=tool, connections=16, seconds=seconds + 1) as load:
        load.begin()
        lines = watch()
        load.finish()
    return lines


def main() -> None:
    """Profile weir on one path."""
    parser = argparse.ArgumentParser(prog="python -m bench.hotspots", description=__doc__)
    parser.add_argument("--traces", type=float, default=0.0, help="share of calls traced to a local sink")
    parser.add_argument("--tool", default="echo", choices=["echo", "sse", "big"])
    parser.add_argument("--stdio", action="store_true", help="a stdio server behind weir")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--top", type=int, default=40)
    parser.add_argument("--calls", action="store_true", help="count function calls instead of taking samples")
    asked = parser.parse_args()
    # a sampler sees nothing of compiled functions
    target = targets.pure(targets.weir_with(sample=asked.traces, stdio=asked.stdio))
    with ground() as land:
        if asked.calls:
            _show_counts(counted(target, land, asked.tool, COUNTED_CALLS), COUNTED_CALLS, asked.top)
            return
        profile, cpu_us, shares = profiled(target, land, asked.seconds, asked.tool)
    print(f"{target.name}: {cpu_us:.1f} µs CPU a call, {profile.samples} samples")
    _show(profile, cpu_us, asked.top)
    print("\nBy binary (perf, all threads)\n  " + "\n  ".join(shares))


if __name__ == "__main__":
    main()
