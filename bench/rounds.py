"""Measures targets against each other: every round runs each of them once, so that noise hits all alike."""

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench import measure
from bench.stand import ROOT, Ground, MissingError, Standing, Target, cores, standing

SPANS_QUIET_SECONDS = 2.5  # longer than the schedule delay that stand.py asks the exporter for
ENOUGH = 0.95  # of the spans, log lines and counts that there should be
ENOUGH_SAMPLED = 0.8  # the same where chance has a part


_COUNT = re.compile(r"^mcp_server_operation_duration_seconds_count\{[^}]*\} (\S+)", re.MULTILINE)


class WrongReplyError(Exception):
    """The load saw a reply that is not the server's. A figure would mean nothing."""


class Run(NamedTuple):
    """One round of one target. CPU in µs per call; latencies in ms."""

    calls: int
    per_second: float
    p50: float
    p95: float
    p99: float
    cpu_us: float
    server_cpu_us: float
    spans: int = 0
    log_lines: int = 0
    counted: int = 0


@dataclass
class Row:
    """A target's runs, and why it has none."""

    target: Target
    runs: list[Run] = field(default_factory=list)
    missing: str = ""

    def median(self, name: str) -> float:
        """Of one figure over the rounds."""
        return float(statistics.median(getattr(run, name) for run in self.runs))

    def total(self, name: str) -> int:
        """Of one count over the rounds."""
        return sum(getattr(run, name) for run in self.runs)

    def doubt(self) -> str:
        """Why the figure is not of what the row's name says, "" where it is."""
        calls, target = self.total("calls"), self.target
        if not self.runs:
            return "not measured"
        if target.counts and self.total("log_lines") < ENOUGH * calls:
            return f"{self.total('log_lines')} log lines for {calls} calls"
        if target.counts and self.total("counted") < ENOUGH * calls:
            return f"its metrics count {self.total('counted')} of {calls} calls"
        due = 2 * target.sampled * calls
        if self.total("spans") < (ENOUGH if target.sampled == 1.0 else ENOUGH_SAMPLED) * due:
            return f"{self.total('spans')} of {due:.0f} spans arrived"
        return ""


class Load:
    """The load generator's process: ready once entered, then one run."""

    def __init__(self, port: int, **plan: Any) -> None:
        command = [sys.executable, "-m", "bench.load", json.dumps({"port": port, **plan})]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )

    def __enter__(self) -> "Load":
        if self._read() != "ready":
            _, complaint = self._process.communicate()
            raise WrongReplyError(f"the load could not begin: {complaint.strip().splitlines()[-1:]}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._say("done")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.communicate()

    def run(self) -> dict[str, Any]:
        """Make the calls. The report, as load.py prints it.

        Raises:
            WrongReplyError: a reply was not right.
        """
        self.begin()
        return self.finish()

    def begin(self) -> None:
        """Let it make its calls, and go on at once."""
        self._say("go")

    def finish(self) -> dict[str, Any]:
        """Wait for the end of what `begin` began. The report; raises as `run` does."""
        line = self._read()
        if not line:
            raise WrongReplyError(f"the load died: {self._process.communicate()[1].strip().splitlines()[-1:]}")
        report: dict[str, Any] = json.loads(line)
        if report["faults"]:
            raise WrongReplyError(f"{report['faults']} of {report['calls']}: {report['first_faults'][0]}")
        return report

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def once(stand: Standing, land: Ground, **plan: Any) -> Run:
    """One run against one standing target.

    Raises:
        WrongReplyError: a reply was not right.
    """
    target = stand.target
    with Load(stand.port, exact=target.exact, **(plan | target.plan)) as load:
        tree = measure.tree(stand.pid)
        for pid in tree.servers:
            os.sched_setaffinity(pid, cores()[1])
        seen = _accounts(stand, land)
        own, servers = measure.cpu_seconds(tree.own), measure.cpu_seconds(tree.servers)
        report = load.run()
        if target.sampled:
            _settle(land)
        own, servers = measure.cpu_seconds(tree.own) - own, measure.cpu_seconds(tree.servers) - servers
        spans, log_lines, counted = (now - before for now, before in zip(_accounts(stand, land), seen, strict=True))
    calls = report["calls"]
    return Run(
        calls=calls,
        per_second=calls / report["seconds"],
        p50=report["p50"],
        p95=report["p95"],
        p99=report["p99"],
        cpu_us=1e6 * own / calls,
        server_cpu_us=1e6 * servers / calls,
        spans=spans,
        log_lines=log_lines,
        counted=counted,
    )


def _accounts(stand: Standing, land: Ground) -> tuple[int, int, int]:
    """Spans that arrived, lines that were logged, calls that weir's own metrics count."""
    spans = _spans(land) if stand.target.sampled else 0
    if not stand.target.counts:
        return spans, 0, 0
    with stand.log.open("rb") as log:
        return spans, sum(1 for _ in log), _counted(stand)


def _counted(stand: Standing) -> int:
    try:
        with urllib.request.urlopen(stand.metrics_url, timeout=10) as reply:
            text = reply.read().decode()
    except OSError:
        return 0
    return int(sum(float(found) for found in _COUNT.findall(text)))


def _spans(land: Ground) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{land.sink_port}/count", timeout=10) as reply:
        return int(reply.read())


def _settle(land: Ground) -> None:
    """Wait until no spans arrive any more: the work they cost belongs to the calls."""
    count, since = _spans(land), time.monotonic()
    while time.monotonic() - since < SPANS_QUIET_SECONDS:
        time.sleep(0.25)
        now = _spans(land)
        if now != count:
            count, since = now, time.monotonic()


@contextlib.contextmanager
def _all_standing(targets: Sequence[Target], land: Ground) -> Iterator[list[tuple[Row, Standing | None]]]:
    with contextlib.ExitStack() as stack:
        pairs: list[tuple[Row, Standing | None]] = []
        for target in targets:
            row = Row(target)
            try:
                pairs.append((row, stack.enter_context(standing(target, land))))
            except MissingError as reason:
                row.missing = str(reason)
                pairs.append((row, None))
        yield pairs


def rounds(targets: Sequence[Target], land: Ground, *, times: int, **plan: Any) -> list[Row]:
    """`times` rounds over all targets, in turn. A target that fails is reported as missing, with what went wrong."""
    with _all_standing(targets, land) as pairs:
        for _ in range(times):
            for row, stand in pairs:
                if stand is None or row.missing:
                    continue
                try:
                    row.runs.append(once(stand, land, **plan))
                except WrongReplyError as wrong:
                    row.missing, row.runs = f"wrong reply: {wrong}", []
        return [row for row, _ in pairs]


def ratio(row: Row, base: Row, name: str = "cpu_us") -> float:
    """Median over the rounds of one figure divided by the base's in the same round."""
    pairs = zip(row.runs, base.runs, strict=False)
    return float(statistics.median(getattr(mine, name) / getattr(theirs, name) for mine, theirs in pairs))


def added(row: Row, base: Row, name: str) -> float:
    """Median over the rounds of how much one figure is above the base's in the same round."""
    pairs = zip(row.runs, base.runs, strict=False)
    return float(statistics.median(getattr(mine, name) - getattr(theirs, name) for mine, theirs in pairs))
