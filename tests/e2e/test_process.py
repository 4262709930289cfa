"""weir as a process: it starts or says why not, stops when told with nothing left behind, and notices who is gone."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from support.processes import NotReadyError, Running, free_port, running
from support.rawhttp import JSON_POST, LIMIT_SECONDS, Exchange, ScriptedServer, ask, fetch, post
from support.weirs import UNTRACED, Config, command, weir_argv, weir_http, weir_stdio

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}'
INITIALIZE = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
    b'"capabilities":{},"clientInfo":{"name":"test","version":"0"}}}'
)
PROGRESS = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}\n\n'
DRAIN_SECONDS = 2
STOP_SECONDS = DRAIN_SECONDS + 6
"""The drain deadline, the kill ladder of a stubborn child, and Python's own shutdown."""
DRAINING: Config = {**UNTRACED, "drain": {"deadline": f"{DRAIN_SECONDS}s"}}

ANSWERING_CHILD = """
import json, subprocess, sys
grandchild = subprocess.Popen(["sleep", "600"])
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "x", "version": "0"}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
STUBBORN_CHILD = (
    "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + ANSWERING_CHILD + "\nsignal.pause()\n"
)


@pytest.fixture
def weir(server: ScriptedServer, tmp_path: Path) -> Iterator[Running]:
    """weir with a short drain."""
    with weir_http(tmp_path, {"url": server.url}, DRAINING) as one:
        yield one


async def exit_code(weir: Running) -> int:
    """Wait for the end without holding up the loop that the scripted server runs on."""
    return await asyncio.to_thread(weir.wait, STOP_SECONDS)


class Opened:
    """A server that opens a stream, says one thing, and then waits until weir goes."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.is_gone = asyncio.Event()

    async def script(self, exchange: Exchange) -> None:
        """Hold the stream."""
        await exchange.open()
        await exchange.write(PROGRESS)
        self.is_open.set()
        await exchange.gone()
        self.is_gone.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_stops_an_idle_weir_at_once_with_code_0(weir: Running, number: int) -> None:
    """Nothing to wait for: nothing waited for."""
    weir.interrupt(number)
    assert 0 == await exit_code(weir), weir.log()


async def test_under_nohup_the_end_of_the_terminal_stops_nothing(server: ScriptedServer) -> None:
    """SIGHUP was ignored before weir began, and stays so."""
    port = free_port()
    options = weir_argv("--upstream", server.url, "--listen", f"127.0.0.1:{port}", "--diagnostics", "off")
    with running(["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *options], port=port) as weir:
        weir.interrupt(signal.SIGHUP)
        assert 500 == (await post(port, CALL)).status
        weir.interrupt()
        assert 0 == await exit_code(weir), weir.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_weir_with_streams_open(weir: Running, server: ScriptedServer, number: int) -> None:
    """A GET stream and a call in flight cannot hold it up beyond the drain deadline."""
    held = Opened()
    server.script = held.script
    get = [(b"Accept", b"text/event-stream")]
    async with (
        ask(weir.port, "GET", "/mcp", get) as stream,
        ask(weir.port, "POST", "/mcp", JSON_POST, CALL) as call,
    ):
        assert (PROGRESS, PROGRESS) == (await stream.event(), await call.event())
        weir.interrupt(number)
        assert 0 == await exit_code(weir), weir.log()


async def test_a_call_in_flight_may_end_within_the_drain(weir: Running, server: ScriptedServer) -> None:
    """SIGTERM lets what was accepted be answered, and takes nothing new."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        asked.set()
        await may_answer.wait()
        await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{}}')

    server.script = waits
    async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
        answer = group.create_task(post(weir.port, CALL))
        await asked.wait()
        weir.interrupt()
        await refuses_connections(weir.port)
        may_answer.set()
        assert 200 == (await answer).status
    assert 0 == await exit_code(weir), weir.log()


async def test_a_stream_that_the_drain_cuts_off_ends_with_the_error(weir: Running, server: ScriptedServer) -> None:
    """Every request gets one answer, also one that had begun to stream when the deadline passed."""
    held = Opened()
    server.script = held.script
    async with ask(weir.port, "POST", "/mcp", JSON_POST, CALL) as call:
        assert PROGRESS == await call.event()
        weir.interrupt()
        error = json.loads((await call.rest()).partition(b"data: ")[2])
    assert (7, "cancelled", "weir") == (error["id"], error["error"]["data"]["reason"], error["error"]["data"]["blame"])
    assert 0 == await exit_code(weir), weir.log()
    assert '"limit":"drain_deadline"' in weir.log()
    assert "uvicorn" not in weir.log()


async def refuses_connections(port: int) -> None:
    """Wait until nobody listens there any more."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        writer.transport.abort()


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """A port that is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.mark.parametrize("taken_by", ["listen", "diagnostics"])
def test_a_port_in_use_is_a_clear_error(taken_by: str) -> None:
    """One line that names the address, no traceback, and a code that is not 0."""
    with listening() as port:
        free = free_port()
        addresses = {"listen": free, "diagnostics": free_port(), taken_by: port}
        options = [f"--{name}=127.0.0.1:{number}" for name, number in addresses.items()]
        with running(weir_argv("--upstream", "http://127.0.0.1:1/mcp", *options)) as weir:
            assert 0 != weir.wait()
            assert str(port) in weir.log()
            assert "Traceback" not in weir.log()


@pytest.mark.parametrize("verb", ["POST", "GET"])
async def test_a_client_that_vanishes_takes_the_upstream_exchange_with_it(
    weir: Running, server: ScriptedServer, verb: str
) -> None:
    """As it would be without weir: the server sees the connection close."""
    held = Opened()
    server.script = held.script
    async with ask(weir.port, verb, "/mcp", JSON_POST, CALL if verb == "POST" else b"") as answer:
        await answer.event()
        answer.drop()
        async with asyncio.timeout(LIMIT_SECONDS):
            await held.is_gone.wait()


async def test_a_client_that_vanishes_before_any_reply_takes_the_exchange_too(
    weir: Running, server: ScriptedServer
) -> None:
    """Watched for even while nothing is being written."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        asked.set()
        await exchange.gone()
        gone.set()

    server.script = waits
    async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
        call = group.create_task(post(weir.port, CALL))
        await asked.wait()
        call.cancel()
        await gone.wait()


def child(source: str) -> Config:
    """A stdio server from a few lines of Python."""
    return command([sys.executable, "-c", source])


async def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Which of them still run, after the time that dying takes."""
    _, left = await asyncio.to_thread(psutil.wait_procs, processes, 3)
    return [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("source", [ANSWERING_CHILD, STUBBORN_CHILD], ids=["wrapper with a grandchild", "stubborn"])
async def test_children_are_gone_when_weir_has_stopped(tmp_path: Path, source: str) -> None:
    """Grandchildren of wrappers and children that ignore SIGTERM included."""
    with weir_http(tmp_path, child(source), DRAINING) as weir:
        assert 200 == (await post(weir.port, INITIALIZE)).status
        family = weir.children()
        assert 2 <= len(family)
        weir.interrupt()
        assert 0 == await exit_code(weir), weir.log()
        assert [] == await alive(family)


async def test_the_end_of_a_session_stops_its_child(tmp_path: Path) -> None:
    """DELETE is what a client does when it is done."""
    with weir_http(tmp_path, child(ANSWERING_CHILD), DRAINING) as weir:
        opened = await post(weir.port, INITIALIZE)
        session = [(b"Mcp-Session-Id", opened.get(b"mcp-session-id"))]
        family = weir.children()
        assert (await fetch(weir.port, "DELETE", "/mcp", session)).status in (200, 202, 204)
        assert [] == await alive(family)
        assert 404 == (await post(weir.port, CALL, session)).status


DYING_CHILD = (
    ANSWERING_CHILD + "    elif message.get('method') == 'tools/call':\n        grandchild.kill(); sys.exit(3)\n"
)
NOISY_CHILD = (
    "import sys\nprint('booting...')\nprint('{half', flush=True)\nsys.stderr.write('x' * 300_000)\n" + ANSWERING_CHILD
)


async def test_a_child_that_dies_mid_call_gives_one_clear_error(tmp_path: Path) -> None:
    """Under the request's own id, at once."""
    with weir_http(tmp_path, child(DYING_CHILD), DRAINING) as weir:
        opened = await post(weir.port, INITIALIZE)
        reply = await post(weir.port, CALL, [(b"Mcp-Session-Id", opened.get(b"mcp-session-id"))])
    assert (502, True, True) == (reply.status, b'"id":7' in reply.body, b'"upstream_exited"' in reply.body)


async def test_noise_on_a_childs_stdout_and_stderr_harms_nobody(tmp_path: Path) -> None:
    """Lines that are no JSON are skipped; a full stderr pipe blocks nothing."""
    with weir_http(tmp_path, child(NOISY_CHILD), DRAINING) as weir:
        opened = await post(weir.port, INITIALIZE)
    assert (200, True) == (opened.status, b'"id":0' in opened.body or b'"id": 0' in opened.body)


@pytest.mark.parametrize("program", ["/nonexistent/server", sys.executable])
async def test_a_child_that_cannot_run_gives_one_clear_error(tmp_path: Path, program: str) -> None:
    """A command that is not there, and one that ends at once."""
    with weir_http(tmp_path, command([program, "-c", "raise SystemExit(1)"]), DRAINING) as weir:
        reply = await post(weir.port, INITIALIZE)
    assert (502, True) == (reply.status, b'"id":0' in reply.body)


def ends_stdin(weir: Running) -> None:
    """What a client does when it is done."""
    weir.stdin.close()


def terminates(weir: Running) -> None:
    """What an impatient client does."""
    weir.interrupt()


@pytest.mark.parametrize("end", [ends_stdin, terminates], ids=lambda end: end.__name__)
def test_weir_on_stdio_ends_with_its_client(tmp_path: Path, end: Callable[[Running], None]) -> None:
    """Exit code 0, and no child is left."""
    with weir_stdio(tmp_path, child(ANSWERING_CHILD), DRAINING) as weir:
        weir.stdin.write(INITIALIZE + b"\n")
        weir.stdin.flush()
        assert b'"protocolVersion"' in weir.stdout.readline()
        family = weir.children()
        end(weir)
        assert 0 == weir.wait(STOP_SECONDS), weir.log()
        assert [] == asyncio.run(alive(family))


def test_no_listening_port_without_a_configuration_that_holds(tmp_path: Path) -> None:
    """A mistake in the file is told before anything is opened."""
    with pytest.raises(NotReadyError) as told, weir_http(tmp_path, {"url": "http://127.0.0.1:1/mcp", "colour": "red"}):
        pass
    assert "colour" in str(told.value)
    assert "Traceback" not in str(told.value)
