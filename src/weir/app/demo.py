"""`weir demo`: a server, weir before it, clients that make traffic, and a screen of what weir saw.

Every figure on that screen comes from weir's own access log; its metrics must agree.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from weir.app import demo_screen as screen_parts
from weir.app import demo_seen as seen
from weir.app.demo_process import DemoError, Process
from weir.app.demo_screen import Screen, Step
from weir.app.demo_traffic import HABITS, Traffic

EXIT_OK, EXIT_FAILED = 0, 1
_TICK_SECONDS = 0.1
_SCRAPE_SECONDS = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# below the range that kernels give to outgoing connections: nobody takes the port while the server is down
_PORTS = range(20000, 32000)
_CONFIG = """\
listen: {{http: "127.0.0.1:0", diagnostics: "127.0.0.1:0"}}
upstreams: [{{name: demo, url: "http://127.0.0.1:{port}/mcp"}}]
drain: {{deadline: 2s}}
telemetry: {{logs: {{format: json}}}}
"""


class Result(NamedTuple):
    """What is left when all has stopped."""

    log: bytes
    metrics: str
    traffic: Traffic


class Demo:
    """One showing."""

    def __init__(self, seconds: float, screen: Screen, directory: Path) -> None:
        self._seconds = seconds
        self._screen = screen
        self._port = _free_port()
        config = directory / "weir.yaml"
        config.write_text(_CONFIG.format(port=self._port))
        self._server = Process("weir.app.demo_server", [str(self._port)], directory / "server.log")
        self._weir = Process("weir", ["run", "--config", str(config)], directory / "weir.log")
        self._enough = asyncio.Event()
        self._is_calling = False

    def interrupt(self, task: "asyncio.Task[int]") -> None:
        """Ctrl-C: while clients call, that is enough traffic; before and after, an end."""
        if self._is_calling and not self._enough.is_set():
            self._enough.set()
        else:
            task.cancel()

    async def show(self) -> int:
        """From nothing to the last screen. Returns the process's exit code."""
        async with self._running():
            traffic, metrics = await self._observe()
        log = self._weir.written()
        return self._report(Result(log, metrics, traffic))

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        try:
            with self._screen.step("starting a demo MCP server and weir", "a demo MCP server runs, and weir before it"):
                await self._server.start(lambda: _answers(self._port))
                await self._weir.start(lambda: len(seen.addresses(self._weir.written())) == 2)
            yield
        finally:
            with self._screen.step("stopping weir and the server", "weir and the server have stopped"):
                await self._weir.stop()
                await self._server.stop()

    async def _observe(self) -> tuple[Traffic, str]:
        addresses = seen.addresses(self._weir.written())
        mcp, diagnostics = f"http://{addresses['mcp']}/mcp", f"http://{addresses['diagnostics']}/metrics"
        self._screen.say(f"  MCP      {mcp}", "dim")
        self._screen.say(f"  figures  {diagnostics}", "dim")
        traffic = Traffic(mcp)
        await self._call(traffic)
        return traffic, await asyncio.to_thread(_get, diagnostics)

    async def _call(self, traffic: Traffic) -> None:
        """Half of the traffic, the server's death and return, the other half."""
        self._is_calling = True
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(traffic.run(self._enough))
            await self._wait(traffic, self._seconds / 2)
            with self._screen.step(
                "killing the server in the middle of a call",
                "the server was killed in the middle of a call, and started again",
            ):
                await traffic.during_outage(self._server.kill, self._restart)
            await self._wait(traffic, self._seconds / 2)
            self._enough.set()
        self._is_calling = False

    async def _restart(self) -> None:
        await self._server.start(lambda: _answers(self._port))

    async def _wait(self, traffic: Traffic, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        who = f"{len(HABITS)} clients"
        with self._screen.step(f"{who} call its tools", f"{who} called its tools", seconds) as step:
            while (spent := loop.time() - began) < seconds and not self._enough.is_set():
                _tell(step, spent, traffic)
                await asyncio.sleep(_TICK_SECONDS)
            _tell(step, seconds, traffic)

    def _report(self, result: Result) -> int:
        calls, sent = seen.tool_calls(result.log), result.traffic.sent.total()
        counted = seen.counted_calls(result.metrics)
        slow, failures = seen.slowest(calls), seen.failures(calls)
        self._screen.show(screen_parts.counts(calls, sent, counted))
        if slow is not None:
            self._screen.show(screen_parts.waterfall(slow, self._screen.width))
        if failures:
            self._screen.show(screen_parts.failed(failures, result.traffic.lost))
        self._screen.show(screen_parts.next_steps())
        return EXIT_OK if len(calls) == sent == counted else EXIT_FAILED


def run(seconds: float) -> int:
    """Show weir at work. Returns the process's exit code."""
    _keep_off_proxies()
    return asyncio.run(_showing(seconds))


async def _showing(seconds: float) -> int:
    screen = Screen()
    with tempfile.TemporaryDirectory(prefix="weir-demo-") as directory:
        demo = Demo(seconds, screen, Path(directory))
        task = asyncio.current_task()
        assert task is not None
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, demo.interrupt, task)
        try:
            return await demo.show()
        except DemoError as error:
            screen.say(f"✗ {error}", "red")
            return EXIT_FAILED
        except asyncio.CancelledError:
            screen.say("stopped", "dim")
            return EXIT_OK


def _tell(step: Step, done: float, traffic: Traffic) -> None:
    step.at(done, ", ".join(f"{count} {tool}" for tool, count in traffic.sent.items()))


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        if not _answers(port):
            return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=_SCRAPE_SECONDS) as reply:
        return str(reply.read(), "utf-8")


def _keep_off_proxies() -> None:
    """All of it is on this machine, whatever HTTP_PROXY says."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))
