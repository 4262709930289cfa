"""Compares two revisions of weir in interleaved pairs: `python -m bench --against REV [--pairs N]`.

Both revisions are built in their compiled form and run side by side before the same server. Each pair loads both, once
each, and the order alternates (A B, B A, ...), so that what the machine does meanwhile hits both alike.
"""

import math
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench import targets
from bench.rounds import Run, once
from bench.stand import CACHE, ROOT, Ground, Target, ground, standing

PAIRS = 20
SECONDS = 1.0
CONNECTIONS = 16
LIMIT = 1.03
"""A plain call may cost three percent more: below, twenty pairs on a quiet machine cannot tell."""
CONFIDENCE = 0.95
BUILDS = CACHE / "revisions"


class BuildError(Exception):
    """A revision does not exist or does not build; the text says why."""


class Interval(NamedTuple):
    """The mean of ratios and where it lies with `CONFIDENCE`."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_percent(self.mean)} ({CONFIDENCE:.0%}: {_percent(self.low)} to {_percent(self.high)})"


@dataclass(frozen=True)
class Pair:
    """One round of each revision, close in time."""

    old: Run
    new: Run

    def ratio(self, name: str) -> float:
        """How much of one figure the new revision has for each of the old one's."""
        return float(getattr(self.new, name) / getattr(self.old, name))


def interval(ratios: Sequence[float]) -> Interval:
    """Returns the geometric mean of at least two ratios and its confidence interval (Student's t of the logs)."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    margin = student_t(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Interval(math.exp(mean), math.exp(mean - margin), math.exp(mean + margin))


def student_t(freedom: int) -> float:
    """Returns the two-sided quantile of Student's t at `CONFIDENCE`: Hill's expansion, within 1 % from 3 degrees on."""
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        z,
        (z**3 + z) / (4 * freedom),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3),
    )
    return sum(terms)


def is_slower(cpu: Interval) -> bool:
    """Says whether even the lower end of the interval is above the limit."""
    return cpu.low > LIMIT


def turns(pairs: int) -> Iterator[tuple[int, int]]:
    """Yields who goes first and second in each pair, 0 for the old revision and 1 for the new one: A B, B A, ..."""
    for number in range(pairs):
        yield (0, 1) if number % 2 == 0 else (1, 0)


def built(revision: str) -> Path:
    """Builds a revision's compiled form, once for each commit. Returns a folder for PYTHONPATH.

    Raises:
        BuildError: there is no such revision, or it does not build.
    """
    commit = _run(["git", "rev-parse", "--verify", f"{revision}^{{commit}}"]).strip()
    folder = BUILDS / commit
    if (folder / ".made").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "source"
    source.mkdir(parents=True)
    print(f"building {revision} ({commit[:10]}), a minute and a half ...", flush=True)
    archive = folder / "source.tar"
    _run(["git", "archive", "-o", str(archive), commit])
    _run(["tar", "-xf", str(archive), "-C", str(source)])
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    environment = {"HATCH_BUILD_HOOKS_ENABLE": "true", "PIP_CONSTRAINT": str(source / "constraints.txt")}
    _run([*pip, "--target", str(folder), str(source)], environment)
    shutil.rmtree(source)
    archive.unlink()
    (folder / ".made").touch()
    return folder


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | (environment or {}), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"{' '.join(command[:3])}: {done.stderr.strip()[-500:]}")
    return done.stdout


def measured(old: Target, new: Target, land: Ground, pairs: int) -> Iterator[Pair]:
    """Yields the pairs as they are measured, after one round of each that warms up.

    Raises:
        MissingError: a revision did not start.
        WrongReplyError: a reply was not right.
    """
    with ExitStack() as stack:
        both = [stack.enter_context(standing(target, land)) for target in (old, new)]
        for stand in both:
            once(stand, land, seconds=SECONDS, connections=CONNECTIONS)
        for order in turns(pairs):
            runs = {index: once(both[index], land, seconds=SECONDS, connections=CONNECTIONS) for index in order}
            yield Pair(runs[0], runs[1])


def compare(revision: str, pairs: int, against: str = "HEAD") -> int:
    """Prints the pairs and their mean. Returns 1 when `against` costs more than `revision` by more than the limit."""
    old, new = targets.weir_built(revision, built(revision)), targets.weir_built(against, built(against))
    found: list[Pair] = []
    print(f"CPU µs a plain call, {revision} then {against}; p50 ms beside")
    with ground() as land:
        for pair in measured(old, new, land, pairs):
            found.append(pair)
            print(line(len(found), pair), flush=True)
    cpu = interval([pair.ratio("cpu_us") for pair in found])
    print(f"CPU a call: {cpu}\np50:        {interval([pair.ratio('p50') for pair in found])}")
    print(f"slower than {_percent(LIMIT)}: {'yes' if is_slower(cpu) else 'no'}")
    return int(is_slower(cpu))


def line(number: int, pair: Pair) -> str:
    """Returns the line of one pair."""
    cpu = f"{pair.old.cpu_us:7.1f} {pair.new.cpu_us:7.1f} {_percent(pair.ratio('cpu_us')):>7}"
    return f"{number:3} {cpu}   {pair.old.p50:6.2f} {pair.new.p50:6.2f} {_percent(pair.ratio('p50')):>7}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"
