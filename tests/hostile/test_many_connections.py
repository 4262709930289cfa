"""Idle connections: weir keeps below its descriptors, says no, and its second port answers all the while."""

import asyncio
import contextlib
import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.processes import Running, free_port, running
from support.rawhttp import JSON_POST, Exchange, ScriptedServer, await_head, request_bytes
from support.seen import counted, logged, shown
from support.weirs import UNTRACED, Config, weir_http, write_config

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}'
LISTEN: Config = {**UNTRACED, "listen": {"diagnostics": "127.0.0.1:0"}}


def abort(writer: asyncio.StreamWriter) -> None:
    """Close at once. Until then this keeps the writer, which closes when it is forgotten."""
    writer.transport.abort()


async def answering(exchange: Exchange) -> None:
    """A result for each call."""
    await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{}}')


async def connect(
    stack: contextlib.AsyncExitStack, port: int, source: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that stays open until the stack ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    stack.callback(abort, writer)
    return reader, writer


async def asks(stack: contextlib.AsyncExitStack, port: int, source: str) -> bytes:
    """The status line that a call from an address gets."""
    reader, writer = await connect(stack, port, source)
    writer.write(request_bytes("POST", "/mcp", JSON_POST, CALL))
    return (await await_head(reader)).line


@contextlib.contextmanager
def limited(directory: Path, url: str, descriptors: int) -> Iterator[Running]:
    """weir under `ulimit -n`."""
    port = free_port()
    path = write_config(directory, {"url": url}, LISTEN, f"127.0.0.1:{port}")
    script = f'ulimit -n {descriptors}; exec "{sys.executable}" -m weir run --config "{path}"'
    with running(["sh", "-c", script], port=port) as one:
        yield one


async def test_more_idle_connections_than_descriptors(tmp_path: Path) -> None:
    """Of 400 at a limit of 256 many are answered 503; diagnostics and another client are served; it is logged."""
    async with ScriptedServer(answering) as upstream, contextlib.AsyncExitStack() as stack:
        with limited(tmp_path, upstream.url, 256) as weir:
            for _ in range(400):
                await connect(stack, weir.port, "127.0.0.1")
            assert (await asks(stack, weir.port, "127.0.0.1")).startswith(b"HTTP/1.1 503 ")
            held = json.loads(await shown(weir, "/status"))["held"]
            assert 256 == held["descriptors"]["most"]
            assert held["connections"]["open"] == held["connections"]["most_of_one_client"] < 100
            assert (await asks(stack, weir.port, "127.0.0.2")).startswith(b"HTTP/1.1 200 ")
            await logged(weir, '"limit":"connections_of_client"')


async def test_a_full_port_says_so(tmp_path: Path) -> None:
    """And takes connections again, once others have ended."""
    config: Config = {**LISTEN, "listen": {**LISTEN["listen"], "max_connections": 2}}
    async with ScriptedServer(answering) as upstream, contextlib.AsyncExitStack() as stack:
        with weir_http(tmp_path, {"url": upstream.url}, config) as weir:
            async with contextlib.AsyncExitStack() as idle:
                for source in ("127.0.0.3", "127.0.0.4"):
                    assert (await asks(idle, weir.port, source)).startswith(b"HTTP/1.1 200 ")
                assert (await asks(stack, weir.port, "127.0.0.5")).startswith(b"HTTP/1.1 503 ")
                await counted(weir, b'weir_limit_reached_total{limit="connections"} ')
            async with asyncio.timeout(20):
                while not (await asks(stack, weir.port, "127.0.0.5")).startswith(b"HTTP/1.1 200 "):  # noqa: ASYNC110 - a port tells nobody
                    await asyncio.sleep(0.02)


async def test_where_there_is_no_descriptor_both_ports_answer(tmp_path: Path) -> None:
    """The limit falls while weir runs: the port for clients says no, the one for operators serves."""
    async with ScriptedServer(answering) as upstream, contextlib.AsyncExitStack() as stack:
        with weir_http(tmp_path, {"url": upstream.url}, LISTEN) as weir:
            assert b'"held"' in await shown(weir, "/status")
            before = resource.prlimit(weir.pid, resource.RLIMIT_NOFILE)
            used = psutil.Process(weir.pid).num_fds()
            resource.prlimit(weir.pid, resource.RLIMIT_NOFILE, (used, before[1]))
            for _ in range(3):
                await connect(stack, weir.port, "127.0.0.1")
            assert (await asks(stack, weir.port, "127.0.0.1")).startswith(b"HTTP/1.1 503 ")
            assert b"ok" in await shown(weir, "/healthz")
            resource.prlimit(weir.pid, resource.RLIMIT_NOFILE, before)
            await logged(weir, '"limit":"descriptors"')
            assert (await asks(stack, weir.port, "127.0.0.2")).startswith(b"HTTP/1.1 200 ")


async def test_more_connections_than_descriptors_are_not_promised(tmp_path: Path) -> None:
    """weir does not start, and says why."""
    config: Config = {**LISTEN, "listen": {**LISTEN["listen"], "max_connections": 100_000_000}}
    path = write_config(tmp_path, {"url": "http://127.0.0.1:1/mcp"}, config, f"127.0.0.1:{free_port()}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "weir", "run", "--config", str(path), stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert 1 == process.returncode
    assert b"listen.max_connections: 100000000 connections need " in said
