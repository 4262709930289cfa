"""Where weir's CPU goes on one path: sampled from outside by py-spy (C frames included), and by perf if it is there.

Named so because a module called `profile` beside other scripts would shadow the standard library's.
Run: python -m bench.hotspots [--traces 1.0] [--tool sse] [--stdio] [--seconds 6] [--top 40]
"""

import argparse
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from bench import measure, stand
from bench.rounds import Load
from bench.stand import CACHE, Ground, Standing, Target, ground, needed, standing

SAMPLES_PER_SECOND = 400
_PYTHON_FRAME = re.compile(r"(?P<name>.+) \((?P<file>.+\.pyx?):\d+\)$")


class Frame(NamedTuple):
    """One Python function."""

    name: str
    file: str


class Profile(NamedTuple):
    """Samples by function. `own` counts C code under the Python function that called it; `within` all below it."""

    samples: int
    own: Counter[Frame]
    within: Counter[Frame]


NOWHERE = Frame("(event loop, no Python function)", "")


def parse(collapsed: Iterable[str]) -> Profile:
    """Fold py-spy's raw lines, `outer;...;inner COUNT`."""
    own: Counter[Frame] = Counter()
    within: Counter[Frame] = Counter()
    samples = 0
    for line in collapsed:
        stack, _, count = line.rpartition(" ")
        if not count.strip().isdigit():
            continue
        frames = [Frame(found["name"], found["file"]) for part in stack.split(";") if (found := _frame(part))]
        # what runs the loop is beneath everything: a sample with nothing above it is the loop's own C code
        inner = frames[-1] if frames and not _runs_the_loop(frames[-1]) else NOWHERE
        own[inner] += int(count)
        for frame in set(frames):
            within[frame] += int(count)
        samples += int(count)
    return Profile(samples, own, within)


def _frame(part: str) -> re.Match[str] | None:
    return _PYTHON_FRAME.match(part)


def _runs_the_loop(frame: Frame) -> bool:
    return frame.name in ("Runner.run", "run", "<module>", "main") or frame.file.endswith(("runners.py", "runpy.py"))


def place(frame: Frame) -> str:
    """Which part of the program a function belongs to: a room of weir, a package, the standard library."""
    parts = Path(frame.file).parts
    for package in ("weir", "site-packages"):
        if package in parts[:-1]:
            inside = parts[len(parts) - 1 - parts[::-1].index(package) + 1 :]
            return f"weir/{inside[0]}" if package == "weir" else inside[0]
    return parts[0] if len(parts) > 1 else (frame.file or "event loop (C, system calls)")


def _record(stand_: Standing, seconds: float, output: Path) -> list[str]:
    spy = needed("py-spy", CACHE / "py-spy" / "bin" / "py-spy")
    command = [spy, "record", "--native", "--format", "raw", "--rate", str(SAMPLES_PER_SECOND)]
    command += ["--duration", str(int(seconds)), "--output", str(output), "--pid", str(stand_.pid)]
    subprocess.run(command, check=True, capture_output=True)
    return output.read_text(errors="replace").splitlines()


def _perf(stand_: Standing, seconds: float, output: Path) -> list[str]:
    if shutil.which("perf") is None:
        return ["perf is not on this system"]
    record = ["perf", "record", "-e", "cpu-clock", "-F", "999", "-o", str(output), "-p", str(stand_.pid)]
    subprocess.run([*record, "--", "sleep", str(seconds)], check=False, capture_output=True)
    report = ["perf", "report", "-i", str(output), "--stdio", "--sort", "dso", "--no-children"]
    text = subprocess.run(report, check=False, capture_output=True, text=True).stdout
    return [line.strip() for line in text.splitlines() if re.match(r"\s+[1-9]\d*\.\d+%", line)]


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
    own = ((f"{frame.name}  {frame.file}", count) for frame, count in profile.own.most_common(top))
    _print("By function, own time (the C it calls included)", own, samples, cpu_us)
    within = ((f, count) for f, count in profile.within.most_common() if place(f).startswith("weir/"))
    listed = [(f"{frame.name}  {frame.file}", count) for frame, count in within][:top]
    _print("weir's functions, with all they call", listed, samples, cpu_us)


def measure_target(target: Target, land: Ground, seconds: float, tool: str) -> tuple[Profile, float, list[str]]:
    """Profile one target under load: samples, CPU µs a call, and perf's shares by binary."""
    with standing(target, land) as up:
        with Load(up.port, tool=tool, connections=16, seconds=seconds) as load:
            tree = measure.tree(up.pid)
            before = measure.cpu_seconds(tree.own)
            calls = load.run()["calls"]  # undisturbed: this is the figure that shares are of
            cpu_us = 1e6 * (measure.cpu_seconds(tree.own) - before) / calls
        lines = _under_load(up, tool, seconds, lambda: _record(up, seconds, land.folder / "spy.txt"))
        shares = _under_load(up, tool, 3, lambda: _perf(up, 3, land.folder / "perf.data"))
    return parse(lines), cpu_us, shares


def _under_load(up: Standing, tool: str, seconds: float, watch: Callable[[], list[str]]) -> list[str]:
    with Load(up.port, tool=tool, connections=16, seconds=seconds + 2) as load:
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
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--top", type=int, default=40)
    asked = parser.parse_args()
    target = stand.weir_with(sample=asked.traces, stdio=asked.stdio)
    with ground() as land:
        profile, cpu_us, shares = measure_target(target, land, asked.seconds, asked.tool)
    print(f"{target.name}: {cpu_us:.1f} µs CPU a call, {profile.samples} samples")
    _show(profile, cpu_us, asked.top)
    print("\nBy binary (perf, all threads)\n  " + "\n  ".join(shares))


if __name__ == "__main__":
    main()
