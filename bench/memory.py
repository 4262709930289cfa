"""The memory table: large results in flight, open streams, and whether calls leave anything behind."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from bench import measure, stand, targets
from bench.pace import Pace
from bench.report import Goal, Table
from bench.rounds import Load, WrongReplyError
from bench.stand import ROOT, Ground, MissingError, Standing, standing

IN_FLIGHT = 32
SETTLE_SECONDS = 2.0
_MB = 1e6


def memory(land: Ground, pace: Pace) -> Table:
    """Every figure is of the proxy's own processes."""
    table = Table("memory", "Memory, and CPU of a 1 MB result", ("", "nginx", "weir"))
    _line(table, land, pace, f"1 MB result, {IN_FLIGHT} in flight: CPU ms a call", _big_cpu, 3.0, " ms")
    _line(table, land, pace, "the same: extra MB a call in flight, at the peak", _big_peak, 2.0, " MB")
    _line(table, land, pace, "readers that stall: extra MB a call in flight", _stalled, 2.0, " MB")
    streams = f"{pace.streams:,} sessions, each with its GET stream: MB over idle"
    _line(table, land, pace, streams, _streams, 60.0 * pace.streams / 1000, " MB")
    first, more = pace.flat_calls
    flat = f"MB grown between call {first:,} and {first + more:,}"
    _line(table, land, pace, flat, _flat, 5.0, " MB")
    return table


Measure = Callable[[Standing, Pace], float]


def _line(table: Table, land: Ground, pace: Pace, name: str, take: Measure, limit: float, unit: str) -> None:
    cells = [name]
    for target in (targets.NGINX, targets.WEIR):
        try:
            with standing(target, land) as up:
                figure = take(up, pace)
        except (MissingError, WrongReplyError) as reason:
            table.missing[f"{name} ({target.name})"] = str(reason)
            cells.append("—")
            continue
        cells.append(f"{figure:.2f}")
        if target is targets.WEIR:
            table.goals.append(Goal(name, limit, figure, unit))
    table.rows.append(cells)


def _own(up: Standing) -> Sequence[int]:
    return measure.tree(up.pid).own


def _warm(up: Standing) -> None:
    """Imports, pools and caches are in place before anything is compared."""
    with Load(up.port, connections=IN_FLIGHT, calls=2_000) as load:
        load.run()


def _big_cpu(up: Standing, pace: Pace) -> float:
    with Load(up.port, tool="big", connections=IN_FLIGHT, seconds=2 * pace.seconds, warm_up_calls=64) as load:
        pids = _own(up)
        before = measure.cpu_seconds(pids)
        calls = int(load.run()["calls"])
        return 1e3 * (measure.cpu_seconds(pids) - before) / calls


def _big_peak(up: Standing, pace: Pace) -> float:
    _warm(up)
    pids = _own(up)
    idle = measure.rss_bytes(pids)
    measure.forget_peak(pids)
    with Load(up.port, tool="big", connections=IN_FLIGHT, seconds=2 * pace.seconds, warm_up_calls=0) as load:
        load.run()
    return (measure.peak_rss_bytes(pids) - idle) / IN_FLIGHT / _MB


def _stalled(up: Standing, _: Pace) -> float:
    _warm(up)
    pids = _own(up)
    idle = measure.rss_bytes(pids)
    measure.forget_peak(pids)
    with _held("stall", up.port, IN_FLIGHT):
        time.sleep(SETTLE_SECONDS)
    return (measure.peak_rss_bytes(pids) - idle) / IN_FLIGHT / _MB


def _streams(up: Standing, pace: Pace) -> float:
    _warm(up)
    pids = _own(up)
    idle = measure.rss_bytes(pids)
    with _held("streams", up.port, pace.streams):
        time.sleep(SETTLE_SECONDS)
        return (measure.rss_bytes(pids) - idle) / _MB


def _flat(up: Standing, pace: Pace) -> float:
    first, more = pace.flat_calls
    pids = _own(up)
    with Load(up.port, calls=first, warm_up_calls=0) as load:
        load.run()
    early = measure.rss_bytes(pids)
    with Load(up.port, calls=more, warm_up_calls=0) as load:
        load.run()
    return (measure.rss_bytes(pids) - early) / _MB


@contextlib.contextmanager
def _held(kind: str, port: int, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.holder", kind, str(port), str(count)]
    holder = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        preexec_fn=stand.raise_files_limit,  # noqa: PLW1509 - no threads here
    )  # fmt: skip
    assert holder.stdout is not None
    try:
        if holder.stdout.readline().strip() != "ready":
            raise WrongReplyError(f"could not hold {count} {kind}: {holder.communicate()[1].strip().splitlines()[-1:]}")
        yield
        out, complaint = holder.communicate("go\n", timeout=120)
        if out.strip() != "done":
            raise WrongReplyError(f"letting go of {kind}: {complaint.strip().splitlines()[-1:]}")
    finally:
        holder.kill()
        holder.communicate()
