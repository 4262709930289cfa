"""Raw bytes, both ways, direct and through a weir that nobody configured: every difference is on one list.

Recorded are the scripted exchanges, the scripted conversations, and the SDK's client before the SDK's server.
"""

import asyncio
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conformance.suite import CLI, run_node
from support.installs import require_installed
from support.limits import HANG_SECONDS
from support.processes import Running, free_port, running
from support.rawhttp import ScriptedServer, fetch
from support.weirs import weir_argv
from transparency.conversation import Conversation, Names, Says
from transparency.ends import HttpClient, HttpServer, events
from transparency.exchanges import BODIES, PLACES, REPLIES, REQUESTS, Said
from transparency.pinned import ALLOWED, differences
from transparency.tap import Message, Pair, Tap, tapping
from transparency.transcripts import TRANSCRIPTS

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

ROOT = Path(__file__).parents[2]
SDK_CLIENT = ROOT / "tests/clients/sdk_client.py"
SDK_SERVER = ROOT / "tests/support/sdk_server.py"
PIPE_TAP = ROOT / "tests/transparency/pipe_tap.py"
CONFORMANCE = ROOT / "tests/conformance"
SCENARIOS = (
    "2025-11-25/ping",
    "2025-11-25/tools-call-with-progress",
    "2025-11-25/tools-call-sampling",
    "2025-11-25/tools-call-elicitation",
    "2025-11-25/server-sse-polling",
    "2026-07-28/tools-call-with-progress",
    "2026-07-28/http-header-validation",
    "2026-07-28/tools-call-mixed-content",
)
SCRIPTED = {
    **REQUESTS,
    **PLACES,
    **{
        f"body: {name}": Said(body, chunks=(b'{"jsonrpc":"2.0","id":null,"error":{}}',))
        for name, body in BODIES.items()
    },
    **{f"reply: {name}": Said(chunks=(body,)) for name, body in REPLIES.items()},
}
FOUND: set[str] = set()
"""Differences that the tests of this file have found."""

Talk = Callable[[int], Awaitable[None]]
"""One conversation with whoever is on this port."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module's servers."""
    return "asyncio"


@pytest.fixture(scope="module")
async def taps() -> AsyncIterator[tuple[Tap, Tap]]:
    """Before weir, and between weir and the server."""
    async with tapping() as outer, tapping() as inner:
        yield outer, inner


@contextmanager
def unconfigured(upstream: int) -> Iterator[Running]:
    """weir as its first command line in the README starts it."""
    port = free_port()
    options = (
        "--upstream",
        f"http://127.0.0.1:{upstream}/mcp",
        "--listen",
        f"127.0.0.1:{port}",
        "--diagnostics",
        "off",
    )
    with running(weir_argv(*options), port=port) as weir:
        yield weir


@pytest.fixture(scope="module")
def weir(taps: tuple[Tap, Tap]) -> Iterator[Running]:
    """weir before the inner tap."""
    with unconfigured(taps[1].port) as one:
        yield one


async def _answered(client: HttpClient, posts: int) -> None:
    """Waits until each POST has its status: a client that leaves before is another conversation."""
    async with asyncio.timeout(HANG_SECONDS):
        while len(client.statuses) < posts:  # noqa: ASYNC110 - a list tells nobody that it grew
            await asyncio.sleep(0.01)


async def record(taps: tuple[Tap, Tap], weir: Running, server: int, talk: Talk) -> dict[str, set[str]]:
    """Has the conversation twice without weir and once through it. Returns what differs and is not on the list.

    Direct, one tap sees what both ends see. Through weir, the client's tap has the replies, the server's the requests.
    """
    outer, inner = taps
    direct: list[list[Pair]] = []
    for _ in range(2):
        inner.begin(server)
        await talk(inner.port)
        direct.append(inner.pairs())
    inner.begin(server)
    outer.begin(weir.port)
    await talk(outer.port)
    got, heard = inner.pairs(), outer.pairs()
    through = [Pair(sent.request, None) for sent in got]
    answers = [Pair(pair.request, pair.reply) for pair in heard]
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, place in differences(_requests(direct[0]), _requests(direct[1]), through):
        found[name].add(place)
    for name, place in differences(direct[0], direct[1], answers):
        if not name.startswith("request"):
            found[name].add(place)
    FOUND.update(found)
    return {name: places for name, places in found.items() if name not in ALLOWED}


def _requests(pairs: list[Pair]) -> list[Pair]:
    return [Pair(pair.request, None) for pair in pairs]


async def test_scripted_exchanges_differ_as_listed_only(taps: tuple[Tap, Tap], weir: Running) -> None:
    """Requests and replies of every revision, odd bodies and odd replies."""
    async with ScriptedServer() as server:
        for said in SCRIPTED.values():
            server.script = said.answer

            async def talk(port: int, said: Said = said) -> None:
                await fetch(port, said.verb, f"/mcp{said.query}", said.headers, said.body)

            assert {} == await record(taps, weir, server.port, talk)


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_scripted_conversations_differ_as_listed_only(taps: tuple[Tap, Tap], weir: Running, name: str) -> None:
    """Streams, questions of the server, several calls at once."""
    async with ScriptedServer() as server:

        async def talk(port: int) -> None:
            end = HttpServer(server)
            async with asyncio.TaskGroup() as group:
                client = HttpClient(port, group)
                await Conversation(client, end, Names(may_differ=False)).run(TRANSCRIPTS[name])
                await _answered(client, sum(isinstance(step, Says) and step.is_client for step in TRANSCRIPTS[name]))
                await client.close()

        assert {} == await record(taps, weir, server.port, talk)


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
async def test_the_sdks_conversations_differ_as_listed_only(taps: tuple[Tap, Tap], weir: Running, mode: str) -> None:
    """Everything that its client can ask of its server."""
    port = free_port()
    with running([sys.executable, SDK_SERVER, "http", str(port)], port=port):

        async def talk(port: int) -> None:
            await _sdk_client(mode, {"url": f"http://127.0.0.1:{port}/mcp"})

        assert {} == await record(taps, weir, port, talk)


@pytest.fixture(scope="module")
def conformance_port() -> Iterator[int]:
    """The suite's reference server."""
    require_installed(CONFORMANCE / "setup.sh")
    port = free_port()
    with running(["bash", CONFORMANCE / "serve.sh", str(port)], port=port):
        yield port


@pytest.mark.node
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_conformance_scenarios_differ_as_listed_only(
    taps: tuple[Tap, Tap], weir: Running, conformance_port: int, scenario: str
) -> None:
    """One of each kind: each costs three starts of Node.js."""
    wire, name = scenario.split("/")

    async def talk(port: int) -> None:
        options = ["server", "--url", f"http://127.0.0.1:{port}/mcp", "--spec-version", wire, "--scenario", name]
        with tempfile.TemporaryDirectory() as out:
            await asyncio.to_thread(run_node, [CLI, *options, "-o", out], {}, HANG_SECONDS)

    assert {} == await record(taps, weir, conformance_port, talk)


async def test_the_sdks_lines_are_the_same_on_pipes(tmp_path: Path) -> None:
    """A client on a pipe before a server on a pipe: no byte differs but what differs between two direct runs."""
    server = [sys.executable, str(SDK_SERVER), "stdio"]
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    direct = [await _on_pipes(path, path, tapped(path, server)) for path in (tmp_path / "first", tmp_path / "second")]
    argv = [str(part) for part in weir_argv("--stdio", "--", *tapped(inner, server))]
    through = await _on_pipes(inner, outer, tapped(outer, argv))
    assert direct[0]
    assert [] == list(differences(direct[0], direct[1], through))


async def test_what_an_http_client_posts_is_what_a_server_on_a_pipe_reads(
    taps: tuple[Tap, Tap], tmp_path: Path
) -> None:
    """The SDK's client and server, with weir between the transports: the messages have the same bytes, both ways."""
    prefix, port = tmp_path / "server", free_port()
    argv = weir_argv("--listen", f"127.0.0.1:{port}", "--diagnostics", "off", "--")
    with running([*argv, *tapped(prefix, [sys.executable, str(SDK_SERVER), "stdio"])], port=port):
        outer = taps[0]
        outer.begin(port)
        await _sdk_client("legacy", {"url": f"http://127.0.0.1:{outer.port}/mcp"})
    pairs = outer.pairs()
    posted = [pair.request.body for pair in pairs if pair.request.body]
    replied = [pair.reply for pair in pairs if pair.reply is not None and pair.reply.body]
    heard = [
        message
        for reply in replied
        for message in (events(reply.body) if b"event-stream" in reply.values(b"content-type")[0] else [reply.body])
    ]
    assert sorted(posted) == sorted(_lines(prefix, "in"))
    assert sorted(heard) == sorted(_lines(prefix, "out"))


def tapped(prefix: Path, argv: list[str]) -> list[str]:
    """The command with its pipes kept."""
    return [sys.executable, str(PIPE_TAP), str(prefix), *argv]


async def _on_pipes(server: Path, client: Path, argv: list[str]) -> list[Pair]:
    """The SDK's client on this command's pipes. Lines that the server read and that the client read, as messages."""
    await _sdk_client("legacy", {"command": argv})
    lines = [*_lines(server, "in"), *_lines(client, "out")]
    return [Pair(Message(b"line", (), line), None) for line in lines]


def _lines(prefix: Path, end: str) -> list[bytes]:
    return prefix.with_suffix(f".{end}").read_bytes().splitlines()


async def _sdk_client(mode: str, target: dict[str, Any]) -> None:
    argv = [str(SDK_CLIENT), mode, json.dumps(target)]
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=asyncio.subprocess.DEVNULL)
    async with asyncio.timeout(HANG_SECONDS):
        assert 0 == await process.wait()


def test_each_difference_that_is_listed_is_found() -> None:
    """An entry that nothing shows is out of date. Needs the other tests of this file."""
    if not FOUND:
        pytest.skip("the recordings are those of the other tests of this file")
    assert set() == {name for name, allowed in ALLOWED.items() if not allowed.is_seldom} - FOUND


@pytest.mark.parametrize("name", ALLOWED)
def test_each_difference_has_a_reason_and_a_page_of_decisions(name: str) -> None:
    """Nobody adds one in passing."""
    allowed = ALLOWED[name]
    assert len(allowed.reason) > 20
    assert (ROOT / "docs/decisions" / allowed.page).is_file()
