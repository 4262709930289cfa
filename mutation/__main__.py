"""Mutants of the pure parts, and the share of them that the tests kill: `make mutate`.

    python -m mutation                 every file that `tool.mutmut` in pyproject.toml names, from nothing
    python -m mutation breaker sse     these alone; each survivor is shown

mutmut makes the mutants below mutants/, and runs each against the tests that reach its function. It changes the
bodies of functions: no docstrings, annotations, decorators, properties, and nothing outside of functions.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import mangled_name_from_mutant_name

LEAST_PERCENT = 90.0
"""Of each file, so that no file hides behind the others."""

NOT_RUN = 255
"""How a process ends whose tests pytest did not find; mutmut takes it for one that had no time left."""

NOTICED = frozenset({pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED})
"""How pytest ends when a test failed, or a file of tests could not be read."""

MUTANTS = Path("mutants")
LOG = MUTANTS / "run.log"
STATS = MUTANTS / "mutmut-stats.json"


class Score(NamedTuple):
    """What became of the mutants of one file. One that never ended was noticed, as any that failed a test."""

    name: str
    killed: int
    endless: int
    survivors: tuple[str, ...]

    @property
    def total(self) -> int:
        """All of them."""
        return self.killed + self.endless + len(self.survivors)

    @property
    def percent(self) -> float:
        """The share that was noticed."""
        return 100 * (self.killed + self.endless) / (self.total or 1)

    def line(self) -> str:
        """As a row of the table."""
        counts = f"{self.total:8}{self.killed:8}{self.endless:12}{len(self.survivors):10}"
        return f"{self.name:28}{counts}{self.percent:8.1f} %"


def settle(path: Path) -> None:
    """Try again those whose tests were not found, by whole files.

    Such a mutant breaks what tests do while they are read: then none of that file has a name that pytest finds.
    """
    noted = SourceFileMutationData(path=path)
    noted.load()
    for name, code in noted.exit_code_by_key.items():
        if code == NOT_RUN:
            files = files_that_reach(name)
            if tested("", files) != pytest.ExitCode.OK:
                sys.exit(f"without a mutant the tests of {', '.join(files)} fail, too")
            noted.exit_code_by_key[name] = int(tested(name, files) in NOTICED)
    noted.save()


def files_that_reach(mutant: str) -> tuple[str, ...]:
    """The files of the tests that come by its function, as mutmut found them."""
    reached = json.loads(STATS.read_text())["tests_by_mangled_function_name"]
    return tuple(sorted({test.partition("::")[0] for test in reached[mangled_name_from_mutant_name(mutant)]}))


@functools.cache
def tested(mutant: str, files: tuple[str, ...]) -> int:
    """How pytest ends for these files, with a mutant or (for "") without."""
    said = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]
    deselected = [each for each in said["pytest_add_cli_args_test_selection"] if each.startswith("--")]
    command = [sys.executable, "-m", "pytest", "-x", "-q", *said["pytest_add_cli_args"], *deselected, *files]
    environment = {**os.environ, "MUTANT_UNDER_TEST": mutant, "PYTHONPATH": str((MUTANTS / "src").absolute())}
    return subprocess.run(command, cwd=MUTANTS, env=environment, capture_output=True, check=False).returncode


def score_of(path: Path) -> Score:
    """Read what mutmut noted of a file."""
    noted = SourceFileMutationData(path=path)
    noted.load()
    verdicts = {
        name: status_by_exit_code[code] if code != NOT_RUN else "not run"
        for name, code in noted.exit_code_by_key.items()
    }
    counted = list(verdicts.values())
    survivors = tuple(name for name, verdict in verdicts.items() if verdict not in ("killed", "timeout"))
    return Score(f"{path.parent.name}/{path.stem}", counted.count("killed"), counted.count("timeout"), survivors)


def run(stems: list[str]) -> None:
    """Let mutmut test them, as many at a time as there are cores."""
    command = [
        str(Path(sys.executable).with_name("mutmut")),
        "run",
        "--max-children",
        str(len(os.sched_getaffinity(0))),
    ]
    command += [f"weir.*.{stem}.*" for stem in stems]
    if not stems:
        shutil.rmtree(MUTANTS, ignore_errors=True)
    MUTANTS.mkdir(exist_ok=True)
    # which tests reach a new function mutmut finds out only when it looks at all of them again
    STATS.unlink(missing_ok=True)
    with LOG.open("w") as log:
        output = None if sys.stdout.isatty() else log
        ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if ended.returncode:
        sys.exit(f"mutmut failed ({ended.returncode}): {LOG.read_text()[-2000:]}")


def show(score: Score, path: Path) -> None:
    """Each survivor, as a diff."""
    for name in score.survivors:
        print(f"\n{name}\n{get_diff_for_mutant(name, path=path)}")


def table(scores: list[Score]) -> str:
    """Each file, and all."""
    killed, endless = sum(score.killed for score in scores), sum(score.endless for score in scores)
    survivors = tuple(name for score in scores for name in score.survivors)
    head = f"{'':28}{'mutants':>8}{'killed':>8}{'never ended':>12}{'survived':>10}{'score':>10}"
    return "\n".join([head, *(score.line() for score in [*scores, Score("all", killed, endless, survivors)])])


def main(stems: list[str]) -> int:
    """0 when enough was noticed in every file."""
    paths = [path for path in sorted(walk_mutatable_files()) if not stems or path.stem in stems]
    unknown = {*stems} - {path.stem for path in paths}
    if unknown:
        sys.exit(f"not among tool.mutmut's only_mutate: {', '.join(sorted(unknown))}")
    began = time.monotonic()
    run(stems)
    for path in paths:
        settle(path)
    scores = [score_of(path) for path in paths]
    for score, path in zip(scores, paths, strict=True):
        if stems:
            show(score, path)
    print(f"\n{table(scores)}\n\n{(time.monotonic() - began) / 60:.0f} min")
    weak = [score.name for score in scores if score.percent < LEAST_PERCENT]
    if weak:
        print(f"under {LEAST_PERCENT:.0f} %: {', '.join(weak)}")
    return 1 if weak else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
