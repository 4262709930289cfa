"""A stdio server with exactly one client, on a pipe itself: one process, nothing renamed, nothing refused."""

import asyncio
import json
from typing import Any

import pytest

from support.bridges import Client, Events, RecordingSink, bridge, modern, notification, request, result_text, tool
from support.stdio_children import LOOPS
from weir.core.events import ChildExited, ChildStarted, LineSkipped
from weir.core.outcome import Failed, FailureKind, Outcome, Refused, Replied
from weir.relay.stdio_server import StdioSettings

pytestmark = pytest.mark.anyio

DEDICATED = StdioSettings("script", is_dedicated=True)
PROGRESS = '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":$TOKEN,"progress":0.50}}'
DONE = '{"jsonrpc":"2.0","id":$ID,"result":{"content":[],"x":1.0}}'


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops."""
    return request.param


def reply(outcome: Outcome) -> Replied:
    """The reply that an outcome is."""
    assert isinstance(outcome, Replied), outcome
    return outcome


async def test_any_first_message_reaches_the_one_server() -> None:
    """No session is asked for: a ping before initialize, a modern request, a legacy one."""
    events = Events()
    async with bridge(DEDICATED, emit=events) as upstream:
        client = Client(upstream)
        assert b'"method": "ping"' in (reply(await client.post(request("ping", {}))).body or b"")
        assert b'"1000' not in (reply(await client.post(modern("id", 5))).body or b"")
        opened = await client.initialize()
        assert 200 == opened.status
        assert "{}" == result_text(await client.tool("echo"))
    assert 1 == len(events.of(ChildStarted))


async def test_tokens_subscriptions_and_cancels_pass_as_they_are() -> None:
    """The server reads what the client wrote."""
    sink = RecordingSink()
    stderr = bytearray()
    async with bridge(DEDICATED, on_stderr=stderr.extend) as upstream:
        client = Client(upstream)
        await client.post(modern("say", 5, {"progressToken": "t"}, lines=[PROGRESS, DONE]), sink)
        assert [PROGRESS.replace("$TOKEN", '"t"').encode(), DONE.replace("$ID", "5").encode()] == sink.data()
        cancel = notification("notifications/cancelled", {"requestId": 99})
        assert 202 == reply(await client.post(cancel)).status
        await client.post(modern("echo"))
    assert b"told: " + cancel in stderr


async def test_what_cannot_be_read_passes_too() -> None:
    """NaN in a request: the server's own decoder takes it, and its answer goes to the GET stream."""
    stream = RecordingSink()
    async with bridge(DEDICATED) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        listening = tasks.create_task(client.get(stream))
        await stream.opened()
        outcome = reply(await client.post(b'{"jsonrpc":"2.0","id":3,"method":"x","params":{"n":NaN}}'))
        assert (202, b"") == (outcome.status, outcome.body)
        [answer] = await stream.messages(1)
        assert '"n":NaN' in json.loads(answer)["result"]["line"]
        listening.cancel()


async def test_strays_reach_the_client() -> None:
    """An answer to nothing and JSON that is no message pass as they would without weir; text does not."""
    events = Events()
    stream = RecordingSink()
    async with bridge(DEDICATED, emit=events) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await client.initialize()
        listening = tasks.create_task(client.get(stream))
        await stream.opened()
        await client.tool("say", lines=['{"id":99,"result":{}}', '{"x":1}', "banner", DONE])
        assert [b'{"id":99,"result":{}}', b'{"x":1}'] == await stream.messages(2)
        listening.cancel()
    assert [6] == [event.size for event in events.of(LineSkipped)]


async def test_a_late_answer_to_a_cancelled_request_passes() -> None:
    """A client on a pipe would see it without weir."""
    stream = RecordingSink()
    async with bridge(DEDICATED) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        listening = tasks.create_task(client.get(stream))
        await stream.opened()
        waiting = tasks.create_task(client.post(tool("never", "c")))
        await asyncio.sleep(0)
        await client.post(notification("notifications/cancelled", {"requestId": "c"}))
        cancelled = await waiting
        assert isinstance(cancelled, Failed)
        assert FailureKind.CANCELLED is cancelled.kind
        await client.tool("say", lines=['{"id":"c","result":{}}', DONE])
        assert [b'{"id":"c","result":{}}'] == await stream.messages(1)
        listening.cancel()


async def test_its_session_header_is_not_checked() -> None:
    """The client on the pipe has never seen it."""
    async with bridge(DEDICATED) as upstream:
        client = Client(upstream)
        await client.initialize()
        client.session = "another"
        assert "{}" == result_text(await client.tool("echo"))


async def test_after_an_exit_only_a_new_beginning_starts_it_again() -> None:
    """A legacy message in between belongs to a session that is gone."""
    events = Events()
    async with bridge(DEDICATED, emit=events) as upstream:
        client = Client(upstream)
        await client.initialize()
        outcome = await client.tool("exit")
        assert isinstance(outcome, Failed)
        assert FailureKind.EXITED is outcome.kind
        assert isinstance(await client.tool("echo"), Refused)
        await client.initialize()
        assert "{}" == result_text(await client.tool("echo"))
        await client.tool("exit")
        assert "{}" == result_text(await client.post(modern("echo")))
    assert 3 == len(events.of(ChildStarted))


async def test_delete_stops_it() -> None:
    """The client's stdin has ended."""
    events = Events()
    async with bridge(DEDICATED, emit=events) as upstream:
        client = Client(upstream)
        await client.initialize()
        assert 200 == reply(await client.delete()).status
        [exited] = await events.until(ChildExited)
        assert (0, True) == (exited.code, exited.expected)


async def test_messages_keep_their_order() -> None:
    """Sent one after the other without waiting for answers, they are read in that order."""
    stderr = bytearray()
    async with bridge(DEDICATED, on_stderr=stderr.extend) as upstream:
        client = Client(upstream)
        async with asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(client.post(notification("notifications/x", {"n": number})))
            tasks.create_task(client.post(tool("echo", 1)))
    told = [json.loads(line.removeprefix(b"told: "))["params"]["n"] for line in bytes(stderr).splitlines()]
    assert list(range(20)) == told
