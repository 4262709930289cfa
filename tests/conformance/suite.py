#!/usr/bin/env python3
"""The official MCP conformance suite against one server, and what a run lost against an earlier one.

    suite.py URL [--wire REVISION ...] [--json FILE] [--baseline FILE]

Prints one line a scenario and `N passed, M failed, K skipped`. With --baseline (a file that --json wrote) it prints
a LOST line for every check that succeeded there and does not here. Exit 0: nothing failed, or nothing was lost.

Wires: 2025-03-26, 2025-06-18 and 2025-11-25 (handshake, really negotiated at that revision), 2026-07-28 (stateless).
Use `localhost` in the URL: a scenario sends the URL's own Host and needs a local name. Standard library only.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ.get("WEIR_CACHE", Path.home() / ".cache")) / "weir-conformance"
NODE = HOME / "bin/node24"
CLI = HOME / "suite/node_modules/@modelcontextprotocol/conformance/dist/index.js"
WIRES = ("2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
PINNED = frozenset({"2025-03-26", "2025-06-18"})
"""The suite's own client opens these sessions at its newest revision unless pinwire.mjs pins it."""
SCENARIO_SECONDS = 15
WIRE_SECONDS = 240
CLIENT_SECONDS = 45
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LISTED = re.compile(r"^\s+- (\S+) \[[^\]]*\]", re.MULTILINE)
_RESULT_DIRECTORY = re.compile(r"server-(.+)-\d{4}-\d\d-\d\dT")


@dataclass(frozen=True)
class Check:
    """One check of a scenario. Repeated ids are numbered: `id`, `id#2`, ..."""

    id: str
    status: str
    message: str = ""


Results = dict[str, list[Check]]
"""Checks by `<wire>/<scenario>`; a scenario that left no result has one failed check."""


@dataclass(frozen=True)
class Lost:
    """A check that succeeded in the baseline and does not now."""

    scenario: str
    check: str
    status: str
    message: str

    def __str__(self) -> str:
        return f"LOST {self.scenario} {self.check} -> {self.status}: {self.message[:200]}"


def run_node(args: Sequence[str | Path], env: Mapping[str, str], limit_seconds: float) -> str:
    """What node wrote; its whole process group is killed at the limit."""
    environ = {**os.environ, "NO_COLOR": "1", **env}
    process = subprocess.Popen(
        [NODE, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ, start_new_session=True
    )
    try:
        return process.communicate(timeout=limit_seconds)[0]
    except subprocess.TimeoutExpired:
        return ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def scenarios(wire: str) -> list[str]:
    """The server scenarios that the suite has for a revision.

    Raises:
        RuntimeError: the suite does not run.
    """
    out = run_node([CLI, "list", "--server", "--spec-version", wire], {}, SCENARIO_SECONDS)
    names = _LISTED.findall(_ANSI.sub("", out))
    if not names:
        raise RuntimeError(f"cannot list the scenarios of {wire}: {out[:500]}")
    return names


def run_suite(url: str, wires: Sequence[str] = WIRES) -> Results:
    """Every server scenario of the given revisions against one URL."""
    results: Results = {}
    for wire in wires:
        for name, checks in _run_wire(url, wire).items():
            results[f"{wire}/{name}"] = checks or [Check("no-result", "FAILURE", "the runner left no result")]
    return results


def _run_wire(url: str, wire: str) -> Results:
    names = scenarios(wire)
    env = {"MCP_WIRE": wire if wire in PINNED else ""}
    base: list[str | Path] = ["--import", HERE / "pinwire.mjs", CLI, "server", "--url", url, "--spec-version", wire]
    base += ["--timeout", str(SCENARIO_SECONDS * 1000)]
    with _scratch() as out:
        run_node([*base, "-o", out, "--suite", "all"], env, WIRE_SECONDS)
        for name in set(names) - set(_read_results(out, names)):
            run_node([*base, "-o", out, "--scenario", name], env, SCENARIO_SECONDS + 8)
        found = _read_results(out, names)
        return {name: found.get(name, []) for name in names}


def run_client(command: str, wire: str, scenario: str) -> list[Check]:
    """One client scenario: the suite plays the server, and starts the command with its URL as the last argument.

    One without a result is run again. The suite's server drops what it asks on a GET stream that is not there yet;
    the client opens that beside its first calls, and on a loaded machine it comes too late now and then.
    """
    args: list[str | Path] = [CLI, "client", "--command", command, "--scenario", scenario, "--spec-version", wire]
    log = ""
    for _ in range(2):
        with _scratch() as out:
            log = run_node([*args, "-o", out], {}, CLIENT_SECONDS)
            for path in out.glob("*/checks.json"):
                return number_checks(json.loads(path.read_text()))
    return [Check("no-result", "FAILURE", log[-500:])]


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="conformance-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _read_results(directory: Path, names: Sequence[str]) -> Results:
    found: Results = {}
    by_directory = {name.replace("/", "-"): name for name in names}
    for path in sorted(directory.glob("server-*/checks.json")):
        if named := _RESULT_DIRECTORY.match(path.parent.name):
            found[by_directory.get(named[1], named[1])] = number_checks(json.loads(path.read_text()))
    return found


def number_checks(raw: Sequence[Mapping[str, Any]]) -> list[Check]:
    """The suite's checks without the merely informative ones, each with an id of its own."""
    seen: Counter[str] = Counter()
    checks = []
    for check in raw:
        if check["status"] == "INFO":
            continue
        seen[check["id"]] += 1
        number = seen[check["id"]]
        name = check["id"] if number == 1 else f"{check['id']}#{number}"
        checks.append(Check(name, check["status"], check.get("errorMessage") or ""))
    return checks


def verdict(checks: Sequence[Check]) -> str:
    """PASS, FAIL or SKIP for one scenario."""
    statuses = {check.status for check in checks if check.id != "wire-schema-valid" or check.status == "FAILURE"}
    if "FAILURE" in statuses or not checks:
        return "FAIL"
    return "PASS" if statuses & {"SUCCESS", "WARNING"} else "SKIP"


def lost(baseline: Results, now: Results) -> list[Lost]:
    """Every check that succeeded in the baseline and did not in this run."""
    gone = []
    for scenario, checks in baseline.items():
        current = {check.id: check for check in now.get(scenario, [])}
        absent = Check("", "ABSENT", " ".join(check.message for check in current.values()))
        for was in checks:
            this = current.get(was.id, absent)
            if was.status == "SUCCESS" and this.status != "SUCCESS":
                gone.append(Lost(scenario, was.id, this.status, this.message))
    return gone


def dump(results: Results) -> str:
    """Results as JSON, for --baseline."""
    return json.dumps({key: [asdict(check) for check in checks] for key, checks in results.items()}, indent=1)


def parse(text: str) -> Results:
    """What `dump` wrote."""
    return {key: [Check(**check) for check in checks] for key, checks in json.loads(text).items()}


def report(results: Results) -> Iterator[str]:
    """One line a scenario, the tally last."""
    for scenario, checks in results.items():
        bad = [f"{check.id}: {check.message[:110]}" for check in checks if check.status == "FAILURE"]
        yield f"{verdict(checks)} {scenario}" + (f"  ({'; '.join(bad[:3])})" if bad else "")
    statuses = Counter(check.status for checks in results.values() for check in checks)
    yield f"checks: {statuses['SUCCESS']} ok, {statuses['FAILURE']} failed, {statuses['WARNING']} warnings"
    tally = Counter(verdict(checks) for checks in results.values())
    yield f"{tally['PASS']} passed, {tally['FAIL']} failed, {tally['SKIP']} skipped"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--wire", action="append", choices=WIRES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--baseline", type=Path)
    args = parser.parse_args()
    results = run_suite(args.url, args.wire or WIRES)
    print(*report(results), sep="\n")
    if args.json:
        args.json.write_text(dump(results))
    if args.baseline:
        gone = lost({k: v for k, v in parse(args.baseline.read_text()).items() if k in results}, results)
        print(*gone, f"{len(gone)} checks lost against the baseline", sep="\n")
        return int(bool(gone))
    return int(any(verdict(checks) == "FAIL" for checks in results.values()))


if __name__ == "__main__":
    sys.exit(main())
