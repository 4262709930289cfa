"""The life of the process: bind, start, serve, drain, stop."""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from weir.app import check, rooms
from weir.app.build import Weir
from weir.app.capacity import DIAGNOSTICS_CONNECTIONS, capacity, held, raised_descriptor_limit
from weir.app.listen import ListenError, bind
from weir.app.process_loop import ProcessLoop, watch_process
from weir.app.rooms import SetupError
from weir.config.model import Config
from weir.config.quantities import Address
from weir.core.events import Emit, LimitReached, Notice, RequestRefused
from weir.core.process_clock import ProcessClock
from weir.downstream.asgi import asgi
from weir.downstream.server import ServerSettings
from weir.downstream.serving import Server, build_server

EXIT_OK, EXIT_FAILED = 0, 1
GC_THRESHOLDS = (20_000, 10, 10)
"""Calls leave no cycles; at Python's 700 the calls that wait to be counted would start a collection every few dozen."""
SWITCH_SECONDS = 0.0005
"""How long the thread that encodes spans may keep the interpreter: a tenth of Python's default, which would
show in p99.9."""


RESTART_SECONDS = 1.0
"""Before a service that a bug has ended runs again: a bug that repeats must not take the CPU."""


def run(config: Config) -> int:
    """Serve until SIGINT, SIGTERM or SIGHUP, or until the client on stdin leaves. Returns the process's exit code."""
    sys.setswitchinterval(SWITCH_SECONDS)
    clock = ProcessClock(time.monotonic)
    with asyncio.Runner(loop_factory=partial(ProcessLoop, clock)) as runner:
        try:
            return runner.run(_serve(config, clock))
        except (ListenError, SetupError) as error:
            print(f"weir: {error}", file=sys.stderr)  # noqa: T201 - the last word of a process that cannot start
            return EXIT_FAILED


async def _serve(config: Config, clock: ProcessClock) -> int:
    stop = _stop_on_signals()
    ports = _bind(config)
    weir = Weir(config, clock)
    # after the launcher has noted what stdio servers are to have
    descriptors = raised_descriptor_limit()
    serve_clients = partial(_serve_stdio, weir) if config.stdio else _http_service(weir, ports["mcp"], descriptors)
    for finding in check.findings(config):
        weir.emit(Notice("error" if finding.is_error else "warning", finding.text, {"subject": finding.subject}))
    # what was made until here lives as long as the process: no collection need ever look at it again
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    async with asyncio.TaskGroup() as watching:
        ticking = watching.create_task(watch_process(clock, weir.emit))
        flushing = watching.create_task(weir.telemetry.run())
        async with asyncio.TaskGroup() as serving:
            services = [serving.create_task(kept(service, weir.emit)) for service in weir.services()]
            async with _diagnostics(weir, ports.get("diagnostics")):
                code = await serve_clients(stop)
            await weir.aclose()
            for service in services:
                service.cancel()
        await weir.telemetry.aclose()
        flushing.cancel()
        ticking.cancel()
    return code


async def kept(service: Callable[[], Awaitable[None]], emit: Emit) -> None:
    """Runs a service that many share, and runs it again when a bug has ended it: the process goes on."""
    while True:
        try:
            await service()
            return
        except Exception as error:  # noqa: BLE001 - a bug in one service must not end the calls of all
            emit(Notice("error", "a bug in weir", {"error": repr(error)}))
        await asyncio.sleep(RESTART_SECONDS)


def _http_service(weir: Weir, port: socket.socket, descriptors: int) -> Callable[[asyncio.Event], Awaitable[int]]:
    """What serves the MCP port until it is told to stop. Raises SetupError."""
    room = capacity(weir.config, descriptors)
    settings = rooms.server(weir.config, weir.budget, room.connections, room.of_one_client)
    server = build_server(
        weir.downstream,
        settings,
        lambda limit: weir.emit(LimitReached("", limit)),
        lambda status, reason, address: weir.emit(RequestRefused("", status, reason, address)),
    )
    weir.subject.held = lambda: held(server.open_connections, room, weir.budget)
    return partial(_serve_http, weir, server, port)


async def _serve_http(weir: Weir, server: Server, port: socket.socket, stop: asyncio.Event) -> int:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[port]))
        _tell_listening(weir, "mcp", port)
        await stop.wait()
        weir.emit(Notice("info", "draining", {"seconds": weir.config.drain_seconds}))
        weir.subject.is_draining = True
        server.should_exit = True
        weir.downstream.end_streams()
    return EXIT_OK


async def _serve_stdio(weir: Weir, stop: asyncio.Event) -> int:
    client = weir.stdio_downstream()
    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(_stop_client(client, stop))
        await client.run(sys.stdin.fileno(), sys.stdout.fileno())
        stopping.cancel()
    # an editor that started weir in place of the server must see that the server failed
    return EXIT_FAILED if client.is_upstream_gone else EXIT_OK


async def _stop_client(client: Any, stop: asyncio.Event) -> None:
    await stop.wait()
    client.stop()


@contextlib.asynccontextmanager
async def _diagnostics(weir: Weir, port: socket.socket | None) -> AsyncIterator[None]:
    """The second port, up to the end: readiness must be seen to fall while weir drains."""
    if port is None:
        yield
        return
    address = weir.config.listen.diagnostics
    settings = ServerSettings(
        str(address), 0, drain_seconds=1.0, connections=DIAGNOSTICS_CONNECTIONS, serves_on_reserve=True
    )
    server = build_server(asgi(weir.diagnostics), settings, lambda limit: None)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[port]))
        _tell_listening(weir, "diagnostics", port)
        yield
        server.should_exit = True


def _bind(config: Config) -> dict[str, socket.socket]:
    listen = config.listen
    ports = {}
    if not config.stdio:
        ports["mcp"] = bind(listen.http, "listen.http")
    if listen.diagnostics is not None:
        ports["diagnostics"] = bind(listen.diagnostics, "listen.diagnostics")
    return ports


def _tell_listening(weir: Weir, name: str, port: socket.socket) -> None:
    host, number = port.getsockname()[:2]
    address = str(Address(host, number))
    weir.subject.addresses[name] = address
    weir.emit(Notice("info", "listening", {"port": name, "address": address}))


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        # the terminal is gone; whoever started weir with nohup wants it to go on
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    return stop
