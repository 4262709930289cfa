"""The life of the process: bind, start, serve, drain, stop."""

import asyncio
import gc
import signal
import sys

import uvloop

from weir.app.build import Weir, server_tls
from weir.app.listen import Address, ListenError, bind
from weir.config.model import Config
from weir.core.events import LimitReached, Notice
from weir.downstream.server import Server, ServerSettings, build_server

EXIT_OK, EXIT_FAILED = 0, 1


def run(config: Config) -> int:
    """Serve until SIGINT or SIGTERM. Returns the process's exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_serve(config))
        except ListenError as error:
            print(f"weir: {error}", file=sys.stderr)  # noqa: T201 - the last word of a process that cannot start
            return EXIT_FAILED


async def _serve(config: Config) -> int:
    listen = config.listen
    mcp = bind(Address(*listen.http), "listen.http")
    stop = _stop_on_signals()
    weir = Weir(config)
    # what was made until here lives as long as the process: no collection need ever look at it again
    gc.collect()
    gc.freeze()
    server = build_server(
        weir.downstream,
        ServerSettings(listen.http.host, listen.http.port, server_tls(config), drain_seconds=config.drain_seconds),
        lambda limit: weir.telemetry.emit(LimitReached("", limit)),
    )
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(weir.telemetry.run())
        serving = tasks.create_task(server.serve(sockets=[mcp]))
        weir.telemetry.emit(Notice("info", "listening", {"mcp": str(Address(*mcp.getsockname()[:2]))}))
        await stop.wait()
        await _drain(weir, server, serving)
        watching.cancel()
    await weir.telemetry.aclose()
    return EXIT_OK


async def _drain(weir: Weir, server: Server, serving: "asyncio.Task[None]") -> None:
    weir.telemetry.emit(Notice("info", "draining", {"seconds": weir.config.drain_seconds}))
    server.should_exit = True
    weir.downstream.end_streams()
    await serving


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
