"""The ground of a run: the server behind, the sink beside, and what stands between, each a process with its port."""

import contextlib
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CACHE = Path(os.environ.get("WEIR_CACHE", Path.home() / ".cache")) / "weir-bench"
PEERS = Path(__file__).parent / "peers"
STDIO_SERVER = [sys.executable, str(Path(__file__).parent / "lines.py")]
START_SECONDS = 30.0
STOP_SECONDS = 10.0
FILES_LIMIT = 16384
# below the range that the kernel gives to outgoing connections, so that nobody takes the port before its owner binds it
_PORTS = range(20000, 26000)
_AVAILABLE = os.sched_getaffinity(0)
DIAGNOSTICS_ABOVE = 6000  # weir's second port is this much above its first


class MissingError(Exception):
    """A proxy is not installed; the text says why."""


@dataclass
class Ground:
    """What every proxy of one run shares: the server behind it, the sink for spans, a folder for its files."""

    origin_port: int
    origin_pid: int
    sink_port: int
    folder: Path
    apart: bool = True
    """What is measured has a core of its own."""

    @property
    def origin_url(self) -> str:
        """Where the HTTP server is."""
        return f"http://127.0.0.1:{self.origin_port}/mcp"


@dataclass(frozen=True)
class Target:
    """One row of a table."""

    name: str
    command: Callable[[Ground, int], list[str]] | None
    """Of the ground and the port to listen on; raises `MissingError`. None: nothing stands between."""
    version: Callable[[], str] = str
    """Called only when it runs."""
    exact: bool = True
    """The reply's bytes must pass unchanged."""
    sampled: float = 0.0
    """Share of calls whose spans go to the sink, two a call."""
    counts: bool = False
    """It keeps metrics and writes a log line a call: both are looked for."""
    environment: dict[str, str] = field(default_factory=dict)
    note: str = ""
    plan: dict[str, Any] = field(default_factory=dict)
    """What the load does otherwise for this row."""


@dataclass(frozen=True)
class Standing:
    """A target that runs."""

    target: Target
    port: int
    pid: int
    log: Path

    @property
    def metrics_url(self) -> str:
        """weir's own account."""
        return f"http://127.0.0.1:{self.port + DIAGNOSTICS_ABOVE}/metrics"


def free_port() -> int:
    """A port nobody has now."""
    while True:
        port = random.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def needed(name: str, path: Path) -> str:
    """A file that bench/setup.sh installs, or why it is not there."""
    if path.exists():
        return str(path)
    reason = CACHE / "missing" / name
    raise MissingError(reason.read_text().strip() if reason.exists() else "not installed: run bench/setup.sh")


def cores() -> tuple[set[int], set[int]]:
    """Which cores what stands between has, and which the load, the server and the sink have.

    Left to the scheduler, nginx took 5.6 to 12.2 µs a call from round to round on two cores (whether a wake-up finds
    the other core idle decides it); apart, 11.4 to 11.9.
    """
    available = sorted(_AVAILABLE)
    return (set(available[-1:]), set(available[:-1])) if len(available) > 1 else (set(available), set(available))


@contextlib.contextmanager
def cores_shared(land: Ground) -> Iterator[None]:
    """All cores for all, until left: for latency, a proxy must not wait for whoever else has its core."""
    land.apart = False
    for pid in (0, land.origin_pid):
        os.sched_setaffinity(pid, _AVAILABLE)
    try:
        yield
    finally:
        land.apart = True
        for pid in (0, land.origin_pid):
            os.sched_setaffinity(pid, cores()[1])


def _prepare_proxy(own: set[int]) -> None:
    os.sched_setaffinity(0, own)
    raise_files_limit()


def raise_files_limit() -> None:
    """As many open files as this system lets us have, up to what the memory table needs. For a child, before exec."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_LIMIT if hard == resource.RLIM_INFINITY else min(FILES_LIMIT, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > until:
            raise MissingError(f"did not start: {' '.join(log.read_text(errors='replace').split())[-300:]}")
        time.sleep(0.05)


@contextlib.contextmanager
def process(
    command: list[str],
    port: int,
    log: Path,
    environment: dict[str, str] | None = None,
    prepare: Callable[[], None] = raise_files_limit,
) -> Iterator[int]:
    """Run a command until left; it listens on `port` when entered. Yields its process id.

    Raises:
        MissingError: it ended, or did not listen in time.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            preexec_fn=prepare,  # noqa: PLW1509 - no threads here
        )
    try:
        _listening(port, child, log)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """The server, the sink and a folder, until left. This process and its children keep off the proxies' core."""
    os.sched_setaffinity(0, cores()[1])
    folder = Path(tempfile.mkdtemp(prefix="weir-bench-"))
    origin, sink = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        pids = []
        for module, port in (("origin", origin), ("sink", sink)):
            command = [sys.executable, "-m", f"bench.{module}", str(port)]
            pids.append(stack.enter_context(process(command, port, folder / f"{module}.log")))
        yield Ground(origin, pids[0], sink, folder)


@contextlib.contextmanager
def standing(target: Target, land: Ground) -> Iterator[Standing]:
    """The target, running between a port of its own and the server.

    Raises:
        MissingError: it is not installed or did not start.
    """
    if target.command is None:
        yield Standing(target, land.origin_port, land.origin_pid, land.folder / "origin.log")
        return
    port = free_port()
    command = target.command(land, port)
    log = land.folder / f"{port}.log"
    environment = target.environment | otlp_environment(land)
    prepare = partial(_prepare_proxy, cores()[0] if land.apart else _AVAILABLE)
    with process(command, port, log, environment, prepare) as pid:
        yield Standing(target, port, pid, log)


def otlp_environment(land: Ground) -> dict[str, str]:
    """Where spans go, in OpenTelemetry's own variables."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{land.sink_port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "1000",
    }
