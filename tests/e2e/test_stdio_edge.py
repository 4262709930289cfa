"""SDK clients on weir's stdin and stdout, before real SDK servers over HTTP and over stdio."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import (
    CreateMessageResult,
    ElicitResult,
    TextContent,
    ToolListChangedNotification,
)

from support.limits import HANG_SECONDS
from support.processes import free_port, running
from support.weirs import command, weir_stdio_argv

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

SERVER = [sys.executable, str(Path(__file__).parents[1] / "support" / "sdk_server.py")]
MODERN = "2026-07-28"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The SDK server over HTTP."""
    port = free_port()
    with running([*SERVER, "http", str(port)], port=port):
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.fixture(params=["http", "stdio"])
def weir(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> StdioServerParameters:
    """weir on pipes before either."""
    upstream = {"url": url} if request.param == "http" else command([*SERVER, "stdio"])
    program, *args = map(str, weir_stdio_argv(tmp_path, upstream))
    return StdioServerParameters(command=program, args=args)


@pytest.fixture
def http_weir(url: str, tmp_path: Path) -> StdioServerParameters:
    """weir on pipes before the HTTP server."""
    program, *args = map(str, weir_stdio_argv(tmp_path, {"url": url}))
    return StdioServerParameters(command=program, args=args)


class Person:
    """What the client is asked, and what it is told."""

    def __init__(self) -> None:
        self.progress: list[float] = []
        self.tools_changed = asyncio.Event()

    async def elicited(self, context: Any, params: Any) -> ElicitResult:
        """The person answers."""
        return ElicitResult(action="accept", content={"name": "Ada"})

    async def sampled(self, context: Any, params: Any) -> CreateMessageResult:
        """The model answers."""
        return CreateMessageResult(role="assistant", content=TextContent(type="text", text="hm"), model="none")

    async def told(self, message: Any) -> None:
        """The server says something unasked."""
        if isinstance(message, ToolListChangedNotification):
            self.tools_changed.set()

    async def progressed(self, progress: float, total: float | None, message: str | None) -> None:
        """A call is under way."""
        self.progress.append(progress)


@asynccontextmanager
async def connected(weir: StdioServerParameters, mode: str, person: Person | None = None) -> AsyncIterator[Client]:
    """A client before weir."""
    person = person or Person()
    client = Client(
        weir,
        mode=mode,
        read_timeout_seconds=20,
        elicitation_callback=person.elicited,
        sampling_callback=person.sampled,
        message_handler=person.told,
    )
    async with asyncio.timeout(HANG_SECONDS), client:
        yield client


def text(result: Any) -> str:
    """The text of a tool's result."""
    assert not result.is_error, result
    return str(result.content[0].text)


@pytest.mark.parametrize("mode", ["auto", "legacy", MODERN])
async def test_calls_and_progress_pass(weir: StdioServerParameters, mode: str) -> None:
    """Whatever era the two agree on."""
    person = Person()
    async with connected(weir, mode, person) as client:
        assert "add" in [tool.name for tool in (await client.list_tools()).tools]
        assert text(await client.call_tool("add", {"a": 2, "b": 40})) == "42"
        result = await client.call_tool("steps", {"count": 3}, progress_callback=person.progressed)
        assert text(result) == "3 steps"
    assert [1, 2, 3] == person.progress


async def test_what_the_server_asks_during_a_call_is_answered(weir: StdioServerParameters) -> None:
    """Elicitation and sampling: the server waits in the middle of a call for what the client says."""
    async with connected(weir, "legacy") as client:
        assert text(await client.call_tool("greet")) == "hello Ada"
        assert text(await client.call_tool("think")) == "hm"


async def test_what_the_server_says_outside_of_calls_arrives(weir: StdioServerParameters) -> None:
    """Over HTTP it comes on the GET stream, which weir keeps open."""
    person = Person()
    async with connected(weir, "legacy", person) as client:
        assert text(await client.call_tool("announce")) == "announced"
        async with asyncio.timeout(HANG_SECONDS):
            await person.tools_changed.wait()


async def test_a_polled_call_gets_its_answer(http_weir: StdioServerParameters) -> None:
    """The server closes the call's stream and works on; weir comes back for the answer."""
    async with connected(http_weir, "legacy") as client:
        assert text(await client.call_tool("poll")) == "worth the wait"


async def test_an_argument_that_belongs_in_a_header_gets_there(http_weir: StdioServerParameters) -> None:
    """The client of a pipe knows no headers; before it has listed anything weir finds out by itself."""
    async with connected(http_weir, MODERN) as client:
        assert text(await client.call_tool("query", {"region": "München"})) == "from München"


@pytest.mark.parametrize("mode", ["legacy", MODERN])
async def test_a_call_that_is_cancelled_stops(weir: StdioServerParameters, mode: str) -> None:
    """In each era in its own way."""
    under_way = asyncio.Event()

    async def begun(progress: float, total: float | None, message: str | None) -> None:
        under_way.set()

    async with connected(weir, mode) as client:
        async with asyncio.TaskGroup() as group:
            calling = group.create_task(client.call_tool("sleep", progress_callback=begun))
            await under_way.wait()
            calling.cancel()
        assert text(await client.call_tool("was_stopped")) == "true"
