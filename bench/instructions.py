"""Counts the instructions of a plain call, in user mode, of two revisions: python -m bench.instructions REV [--top 40]

Both are run in their compiled form under callgrind (valgrind must be installed). The counts do not depend on what else
the machine does, and differ from run to run by a thousandth; the kernel's share of a call is not in them.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from bench import targets
from bench.against import built
from bench.rounds import Load
from bench.stand import Ground, MissingError, Standing, Target, ground, standing

CALLS = 2000
WARM_UP = {"warm_up_calls": 600, "warm_up_seconds": 120.0}
DUMP_SECONDS = 30.0
_LINE = re.compile(r"\s*([\d,]+)\s+\S+?:(.+?)(?: \[.*\])?$")


def under_callgrind(target: Target, output: Path) -> Target:
    """The same weir; its instructions are counted once `callgrind_control` says so."""
    command = target.command
    assert command is not None

    def counting(land: Ground, port: int) -> list[str]:
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={output}"]
        return [*valgrind, sys.executable, *command(land, port)]

    # the order of sets and dictionaries is the same in every run
    return replace(target, command=counting, environment=target.environment | {"PYTHONHASHSEED": "0"})


def counted(target: Target, land: Ground, output: Path) -> Counter[str]:
    """Instructions by function, own ones, over CALLS calls."""
    with (
        standing(under_callgrind(target, output), land) as up,
        Load(up.port, connections=16, calls=CALLS, **WARM_UP) as load,
    ):
        _control(up, "--instr=on")
        load.run()
        _control(up, "--instr=off")
        return parse(_dumped(up, output))


def _dumped(up: Standing, output: Path) -> str:
    _control(up, "--dump")
    dump, until = output.with_name(f"{output.name}.1"), time.monotonic() + DUMP_SECONDS
    while time.monotonic() < until:
        if dump.exists() and "\ntotals: " in dump.read_text():
            command = ["callgrind_annotate", "--threshold=100", "--show-percs=no", str(dump)]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout
        time.sleep(0.1)
    raise MissingError("callgrind wrote nothing")


def _control(up: Standing, what: str) -> None:
    subprocess.run(["callgrind_control", what, str(up.pid)], check=True, capture_output=True)


def parse(annotated: str) -> Counter[str]:
    """Reads what callgrind_annotate prints. Recursive calls (`name'2`) are counted with the others."""
    counts: Counter[str] = Counter()
    for line in annotated.splitlines():
        if found := _LINE.match(line):
            counts[found[2].partition("'")[0]] += int(found[1].replace(",", ""))
    return counts


def show(old: Counter[str], new: Counter[str], top: int) -> None:
    """Prints the totals, and the functions that changed most."""
    before, after = old.total() / CALLS, new.total() / CALLS
    print(f"instructions a plain call: {before:,.0f} -> {after:,.0f} ({100 * (after / before - 1):+.1f} %)")
    changes = sorted(((new[name] - old[name]) / CALLS, name) for name in old | new)
    changes.sort(key=lambda change: -abs(change[0]))
    for change, name in changes[:top]:
        print(f"  {change:+8.0f}  {old[name] / CALLS:8.0f} {new[name] / CALLS:8.0f}  {name}")


def main() -> None:
    """Count both and compare."""
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    parser.add_argument("revision", help="what HEAD is compared with")
    parser.add_argument("--top", type=int, default=40, help="functions listed")
    asked = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("bench.instructions needs valgrind (apt-get install valgrind)")
    with ground() as land:
        old, new = (
            counted(targets.weir_built(name, built(name)), land, land.folder / f"callgrind-{number}")
            for number, name in enumerate((asked.revision, "HEAD"))
        )
    show(old, new, asked.top)


if __name__ == "__main__":
    main()
