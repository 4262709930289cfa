"""Overload: four times what a server can do, offered whether or not it answers. Run: python -m bench.overload

A server of 16 places, 50 ms a call (give or take a fifth), behind weir with `concurrency: {adaptive: true}`; 1,280
calls a second, open loop: each is sent at its instant on whatever connection is free, however late the others are, and
its latency counts from that instant. First 100 calls one after the other say what a call takes without load. What is
judged begins after `--warm-up` seconds, in which the limit comes down from its ceiling.
"""

import argparse
import asyncio
import re
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httptools
import uvloop

from bench.load import FIRST_ID, Plan, Wire, handshake
from bench.stand import DIAGNOSTICS_ABOVE, free_port, process, raise_files_limit

PLACES, SERVICE_SECONDS, JITTER = 16, 0.05, 0.2
OFFERED = 1280
ALONE_CALLS = 100
CONNECTIONS_LIMIT = 1000
DRAIN_SECONDS = 2.0
GOODPUT_TARGET, P99_TARGET = 0.9, 2.5

_CONFIG = """
listen: {{http: '127.0.0.1:{port}', diagnostics: '127.0.0.1:{diagnostics}'}}
upstreams: [{{name: bench, url: 'http://127.0.0.1:{server}/mcp', connections: 200}}]
policies: {{concurrency: {concurrency}}}
telemetry: {{traces: {{exporter: none}}, logs: {{format: json, access: false}}}}
"""
_LIMIT = re.compile(rb'weir_policy_level\{[^}]*policy="admission"[^}]*scope="limit"[^}]*\} ([0-9.e+]+)')


@dataclass
class Outcomes:
    """What came of the calls: latencies in seconds of those that were answered, each with its instant."""

    wire: Wire
    answered_at: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    odd: dict[int, int] = field(default_factory=dict)
    dropped: int = 0
    """Not sent: the load generator has no more connections."""


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one call in flight."""

    def __init__(self, outcomes: Outcomes, idle: "list[Connection]") -> None:
        self._outcomes = outcomes
        self._idle = idle
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.WriteTransport | None = None
        self._due_at = 0.0
        self.done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are not subclasses

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """From the parser: the reply is whole."""
        outcomes, status, now = self._outcomes, self._parser.get_status_code(), time.perf_counter()
        if status == 200:
            outcomes.answered_at.append(now)
            outcomes.latencies.append(now - self._due_at)
        elif status == 503:
            outcomes.refused += 1
        else:
            outcomes.odd[status] = outcomes.odd.get(status, 0) + 1
        self._idle.append(self)
        if self.done is not None:
            self.done.set_result(None)

    def send(self, number: int, due_at: float) -> None:
        """One call, which was to be sent at that instant."""
        assert self._transport is not None
        self._due_at = due_at
        self._transport.write(self._outcomes.wire.request(number))

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


class Load:
    """Connections to weir, opened as they are needed."""

    def __init__(self, port: int, wire: Wire) -> None:
        self.outcomes = Outcomes(wire)
        self._port = port
        self._idle: list[Connection] = []
        self._open: list[Connection] = []
        self._number = FIRST_ID

    async def connect(self, count: int) -> None:
        """Open connections beforehand: opening them is not what is measured."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, made = await loop.create_connection(
                lambda: Connection(self.outcomes, self._idle), "127.0.0.1", self._port
            )
            self._open.append(made)
            self._idle.append(made)

    async def alone(self, calls: int) -> None:
        """One call after the other."""
        loop = asyncio.get_running_loop()
        for _ in range(calls):
            connection = self._idle[-1]
            connection.done = loop.create_future()
            self.send(time.perf_counter())
            await connection.done
            connection.done = None

    async def offer(self, per_second: float, seconds: float) -> None:
        """Calls at even instants, whatever becomes of them."""
        began = time.perf_counter()
        for number in range(int(per_second * seconds)):
            due_at = began + number / per_second
            late = time.perf_counter() - due_at
            if late < 0:
                await asyncio.sleep(-late)
            self.send(due_at)
        await asyncio.sleep(DRAIN_SECONDS)

    def send(self, due_at: float) -> None:
        """One call on a connection that is free."""
        if not self._idle:
            self.outcomes.dropped += 1
            return
        self._number += 1
        self._idle.pop().send(self._number, due_at)

    def close(self) -> None:
        """Hang up."""
        for each in self._open:
            each.close()


def quantile(values: list[float], share: float) -> float:
    """Of some values; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def limit_of(diagnostics: int) -> str:
    """The limit that weir has found, as its metrics tell it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{diagnostics}/metrics", timeout=5.0) as reply:
        found = _LIMIT.search(reply.read())
    return found.group(1).decode() if found else "?"


async def limits(diagnostics: int, into: list[str]) -> None:
    """Ask for the limit every second."""
    loop = asyncio.get_running_loop()
    while True:
        into.append(await loop.run_in_executor(None, limit_of, diagnostics))
        await asyncio.sleep(1.0)


async def run(port: int, seconds: float, warm_up: float) -> bool:
    """Measure and print. True: both targets are met."""
    plan = Plan(port=port)
    wire = Wire(plan, await asyncio.get_running_loop().run_in_executor(None, handshake, plan))
    quiet = Load(port, wire)
    await quiet.connect(1)
    await quiet.alone(ALONE_CALLS)
    quiet.close()
    alone = quiet.outcomes.latencies
    load, found = Load(port, wire), list[str]()
    await load.connect(CONNECTIONS_LIMIT)
    asking = limits(port + DIAGNOSTICS_ABOVE, found)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(asking)
        await load.offer(OFFERED, warm_up + seconds)
        watching.cancel()
    load.close()
    return report(alone, load.outcomes, found, (began + warm_up, began + warm_up + seconds))


def report(alone: list[float], outcomes: Outcomes, found: list[str], window: tuple[float, float]) -> bool:
    """Print the figures; True: both targets are met."""
    since, until = window
    pairs = zip(outcomes.answered_at, outcomes.latencies, strict=True)
    judged = [latency for at, latency in pairs if since <= at < until]
    capacity = PLACES / SERVICE_SECONDS
    goodput = len(judged) / (until - since)
    p50, p99 = quantile(judged, 0.5), quantile(judged, 0.99)
    ratio = p99 / quantile(alone, 0.5)
    share, times = 100 * goodput / capacity, 1000 * quantile(alone, 0.5)
    print(
        f"server            {PLACES} places x {1000 * SERVICE_SECONDS:g} ms = {capacity:g} calls/s; offered {OFFERED}/s"
    )
    print(f"without load      p50 {times:.1f} ms, p99 {1000 * quantile(alone, 0.99):.1f} ms")
    print(f"goodput           {goodput:.1f} calls/s = {share:.1f} % (target: {100 * GOODPUT_TARGET:g} %)")
    print(
        f"answered          p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms = {ratio:.2f} x (target: {P99_TARGET:g} x)"
    )
    print(f"refused           {outcomes.refused}, other statuses {outcomes.odd or 'none'}, not sent {outcomes.dropped}")
    print(f"limit each second {' '.join(found)}")
    met = goodput >= GOODPUT_TARGET * capacity and ratio <= P99_TARGET and not outcomes.odd and not outcomes.dropped
    print("targets met" if met else "TARGETS MISSED")
    return met


def main() -> int:
    """0 when the targets are met."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure")
    parser.add_argument("--warm-up", type=float, default=10.0, help="how long to wait before that")
    parser.add_argument("--fixed", type=int, default=0, help="a fixed limit instead, to compare")
    asked = parser.parse_args()
    raise_files_limit()
    port, server = free_port(), free_port()
    concurrency = f"{{limit: {asked.fixed}, queue: 32}}" if asked.fixed else "{limit: 64, queue: 32, adaptive: true}"
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as name:
        folder = Path(name)
        file = folder / "weir.yaml"
        numbers = {"port": port, "diagnostics": port + DIAGNOSTICS_ABOVE, "server": server}
        file.write_text(_CONFIG.format(concurrency=concurrency, **numbers))
        slots = [sys.executable, "-m", "bench.slots", str(server), str(PLACES), str(SERVICE_SECONDS), str(JITTER)]
        weir = [sys.executable, "-m", "weir", "run", "--config", str(file)]
        with process(slots, server, folder / "slots.log"), process(weir, port, folder / "weir.log"):
            return 0 if uvloop.run(run(port, asked.seconds, asked.warm_up)) else 1


if __name__ == "__main__":
    sys.exit(main())
