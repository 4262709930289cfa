"""Nothing of a call over a pipe is alive after its end, without the garbage collector: on both sides of weir."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from support.bridges import Client, bridge, modern, request
from support.bridges import tool as named_tool
from support.limits import HANG_SECONDS
from support.pipes import piped
from support.played import INITIALIZE, PlayedServer, Told, call_of, echo, edge, event, handshake, stream
from weir.core.call import Attempt, Call
from weir.core.outcome import Outcome, Replied
from weir.relay.posting import Posting
from weir.relay.stdio_mailbox import Mailbox
from weir.relay.stdio_server import StdioUpstream
from weir.relay.unwrap import Unwrap

pytestmark = pytest.mark.anyio

LARGE = 300_000


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only counts of references free anything."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> set[int]:
    """What belongs to a call: Attempts, Calls and what stands for them on a pipe."""
    return {id(each) for each in gc.get_objects() if isinstance(each, Attempt | Call | Mailbox | Posting | Unwrap)}


@pytest.fixture
def before() -> set[int]:
    """Those of other tests."""
    return alive()


async def forgotten(before: set[int]) -> None:
    """Wait until all is gone.

    Raises:
        TimeoutError: something stays.
    """
    async with asyncio.timeout(HANG_SECONDS):
        while alive() - before:  # noqa: ASYNC110 - what is freed tells nobody
            await asyncio.sleep(0.01)


async def streamed(call: Call) -> Outcome | None:
    """An event stream with a large answer."""
    answer = b'{"jsonrpc":"2.0","id":%b,"result":{"t":"%b"}}' % (call.message.id, b"x" * LARGE)
    return await stream(call, event(answer))


async def broken(call: Call) -> Outcome | None:
    """A bug behind the client's edge."""
    raise ZeroDivisionError


async def unanswered(call: Call) -> Outcome | None:
    """Nothing, for as long as the client waits."""
    await asyncio.get_running_loop().create_future()
    return None


@pytest.mark.parametrize("answer", [echo, streamed, broken], ids=["whole", "streamed", "a bug"])
@pytest.mark.usefixtures("no_collector")
async def test_nothing_of_a_call_of_a_client_on_a_pipe_outlives_its_answer(answer: object, before: set[int]) -> None:
    """However it was answered."""
    server = PlayedServer(handshake, answer)  # type: ignore[arg-type]  # one of the three above
    told = Told()
    async with piped(edge(server, told=told)) as client:
        client.say(INITIALIZE)
        await client.hear()
        for number in (b"5", b"6"):
            client.say(call_of(number))
            await client.hear()
        server.calls.clear()
        told.finished.clear()
        await forgotten(before)


@pytest.mark.usefixtures("no_collector")
async def test_nothing_of_a_call_that_a_client_on_a_pipe_leaves_is_left(before: set[int]) -> None:
    """It has no answer."""
    server = PlayedServer(handshake, unanswered)
    told = Told()
    async with piped(edge(server, told=told)) as client:
        client.say(INITIALIZE)
        await client.hear()
        client.say(call_of(b"5"))
        await server.receives(lambda call: call.message.method == "tools/call")
        client.hang_up()
        assert [] == await client.hear_all()
    server.calls.clear()
    told.finished.clear()
    await forgotten(before)


@pytest.mark.parametrize("is_shared", [False, True], ids=["legacy", "shared"])
@pytest.mark.parametrize("tool", ["echo", "big", "exit"])
@pytest.mark.usefixtures("no_collector")
async def test_nothing_of_a_call_to_a_stdio_server_outlives_its_answer(
    tool: str, before: set[int], *, is_shared: bool
) -> None:
    """However it was answered, or was not."""
    async with bridge() as upstream:
        client = await opened(upstream, is_shared=is_shared)
        body = modern(tool, 1, size=LARGE) if is_shared else named_tool(tool, 1, size=LARGE)
        await ended(client, body)
        await forgotten(before)


@pytest.mark.parametrize("is_shared", [False, True], ids=["legacy", "shared"])
@pytest.mark.usefixtures("no_collector")
async def test_nothing_of_a_call_to_a_stdio_server_outlives_a_caller_that_left(
    before: set[int], *, is_shared: bool
) -> None:
    """Its answer never comes."""
    async with bridge() as upstream:
        client = await opened(upstream, is_shared=is_shared)
        try:
            async with asyncio.timeout(0.1):
                await ended(client, modern("never", 1) if is_shared else named_tool("never", 1))
        except TimeoutError:
            pass
        await forgotten(before)


async def opened(upstream: StdioUpstream, *, is_shared: bool) -> Client:
    """A client, with a session where it needs one."""
    client = Client(upstream)
    if not is_shared:
        params = {"protocolVersion": "2025-11-25", "capabilities": {}}
        outcome = await ended(client, request("initialize", params, 0))
        assert isinstance(outcome, Replied)
        client.session = dict(outcome.headers)[b"mcp-session-id"].decode()
    return client


async def ended(client: Client, body: bytes) -> Outcome:
    """The outcome of a call, which telemetry has forgotten."""
    call = client.call(body)
    try:
        return await client.send(call)
    finally:
        call.forget()
