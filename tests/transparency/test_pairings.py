"""The same transcripts between the two ends alone and with weir between them, over every pairing of transports.

Bodies must arrive byte for byte, both ways. With traces on, three keys of `params._meta` are weir's, and with policies
that of the deadline; where modern clients share a stdio child, ids and progress tokens are its too, and each must come
back as its owner wrote it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.processes import Running
from support.rawhttp import ScriptedServer
from support.weirs import GENEROUS, UNTRACED, Config, command, weir_http, weir_stdio_argv
from transparency.conversation import Conversation, Names
from transparency.ends import HttpClient, HttpServer, StdioServer, stdio_client, stdio_server
from transparency.transcripts import HANDSHAKE_REVISIONS, TRANSCRIPTS

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

HANDSHAKE_SCENES = (*HANDSHAKE_REVISIONS, "batches", "tasks_of_2025_11_25")
"""How the names of transcripts with a session end."""
TRACED: Config = {"telemetry": {"traces": {"exporter": "console"}}}
"""Spans are made and written to stderr; nothing needs to listen."""
CONFIGS = {"untraced": UNTRACED, "traced": TRACED, "policed": {**UNTRACED, **GENEROUS}}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module's servers."""
    return "asyncio"


@dataclass
class Servers:
    """Both kinds of upstream, for the whole module."""

    http: ScriptedServer
    stdio: StdioServer

    def upstream(self, kind: str) -> Config:
        """The configuration that leads to one of them."""
        return {"url": self.http.url} if kind == "http" else command(self.stdio.argv)


@pytest.fixture(scope="module")
async def servers() -> AsyncIterator[Servers]:
    """Started once; each test scripts them anew."""
    async with asyncio.TaskGroup() as group, ScriptedServer() as http, stdio_server(group) as stdio:
        yield Servers(http, stdio)


@pytest.fixture(scope="module", params=CONFIGS)
def tracing(request: pytest.FixtureRequest) -> str:
    """With traces off and on, and with every policy."""
    return str(request.param)


@pytest.fixture(scope="module", params=["http", "stdio"])
def kind(request: pytest.FixtureRequest) -> str:
    """How the server is reached."""
    return str(request.param)


@pytest.fixture(scope="module")
def weir(servers: Servers, kind: str, tracing: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """weir on HTTP before that server."""
    with weir_http(tmp_path_factory.mktemp("weir"), servers.upstream(kind), CONFIGS[tracing]) as one:
        yield one


@contextlib.asynccontextmanager
async def http_client(port: int, group: asyncio.TaskGroup) -> AsyncIterator[HttpClient]:
    """A client that ends its session when the block ends."""
    client = HttpClient(port, group)
    yield client
    await client.close()


def answering(servers: Servers, kind: str) -> HttpServer | StdioServer:
    """The server's end for one test."""
    servers.stdio.inbox = asyncio.Queue()
    return HttpServer(servers.http) if kind == "http" else servers.stdio


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_http_ends_understand_each_other_by_themselves(servers: Servers, name: str) -> None:
    """The transcript holds without weir: what follows measures weir, not the ends."""
    server = answering(servers, "http")
    async with asyncio.TaskGroup() as group, http_client(servers.http.port, group) as client:
        await Conversation(client, server, Names(may_differ=False)).run(TRANSCRIPTS[name])


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_stdio_ends_understand_each_other_by_themselves(servers: Servers, tmp_path: Path, name: str) -> None:
    """The same, for pipes."""
    server = answering(servers, "stdio")
    async with asyncio.TaskGroup() as group, stdio_client(servers.stdio.argv, tmp_path / "log", group) as client:
        await Conversation(client, server, Names(may_differ=False)).run(TRANSCRIPTS[name])


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_an_http_client_hears_through_weir_what_it_would_hear_alone(
    servers: Servers, weir: Running, tracing: str, kind: str, name: str
) -> None:
    """HTTP to HTTP, and HTTP to stdio."""
    server = answering(servers, kind)
    async with asyncio.TaskGroup() as group, http_client(weir.port, group) as client:
        names = Names(may_differ=kind == "stdio")
        await Conversation(client, server, names, tracing != "untraced").run(TRANSCRIPTS[name])


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_a_stdio_client_hears_through_weir_what_it_would_hear_alone(
    servers: Servers, tmp_path: Path, tracing: str, kind: str, name: str
) -> None:
    """stdio to HTTP, and stdio to stdio. When the client has gone, its session is deleted at an HTTP server."""
    server = answering(servers, kind)
    argv = weir_stdio_argv(tmp_path, servers.upstream(kind), CONFIGS[tracing])
    async with asyncio.TaskGroup() as group, stdio_client(argv, tmp_path / "log", group) as client:
        names = Names(may_differ=kind == "stdio")
        await Conversation(client, server, names, tracing != "untraced").run(TRANSCRIPTS[name])
    if isinstance(server, HttpServer):
        assert name.endswith(HANDSHAKE_SCENES) == bool(server.deleted)
