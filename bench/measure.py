"""What a process tree has used: CPU to the nanosecond, memory by the kernel's own account. Linux only."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

_CPUCLOCK_SCHED = 2  # clock_getcpuclockid(3): the CPU clock of a process is ((~pid) << 3) | 2
_PAGE_KIB = 1024


class Tree(NamedTuple):
    """The processes of one proxy: what it runs itself, and the stdio servers it started."""

    own: tuple[int, ...]
    servers: tuple[int, ...]


def tree(root: int, server_mark: str = "bench/lines.py") -> Tree:
    """The processes below and including `root`; those whose command line names `server_mark` are the servers."""
    own: list[int] = []
    servers: list[int] = []
    parent = psutil.Process(root)
    for process in [parent, *parent.children(recursive=True)]:
        is_server = process.pid != root and any(server_mark in word for word in process.cmdline())
        (servers if is_server else own).append(process.pid)
    return Tree(tuple(own), tuple(servers))


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time used so far by all threads of these processes."""
    return sum(time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids)


def rss_bytes(pids: Iterable[int]) -> int:
    """Resident memory now."""
    return sum(_status(pid, "VmRSS") for pid in pids)


def peak_rss_bytes(pids: Iterable[int]) -> int:
    """The highest resident memory since `forget_peak` (per process, so an upper bound for several)."""
    return sum(_status(pid, "VmHWM") for pid in pids)


def forget_peak(pids: Iterable[int]) -> None:
    """Start watching for the highest resident memory anew (proc(5), clear_refs)."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * _PAGE_KIB
    raise LookupError(f"{field} of process {pid}")
