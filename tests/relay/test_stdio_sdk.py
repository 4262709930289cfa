"""The SDK's own server on a pipe, behind the bridge, in both eras."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from support import sdk_server
from support.bridges import MODERN, Client, Events, RecordingSink, bridge, notification, request, tool
from weir.core.events import ChildExited, ChildStarted, LineSkipped
from weir.core.outcome import Outcome, Replied
from weir.upstream.child import ChildSettings

pytestmark = pytest.mark.anyio

SERVER = ChildSettings((sys.executable, str(Path(sdk_server.__file__)), "stdio"))
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}
CAPABLE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"elicitation": {}, "sampling": {}},
    "clientInfo": {"name": "test", "version": "1"},
}


def result(outcome: Outcome) -> Any:
    """The result of a JSON reply."""
    assert isinstance(outcome, Replied), outcome
    return json.loads(outcome.body or b"")["result"]


def modern(method: str, params: dict[str, Any], raw_id: object, meta: dict[str, Any] | None = None) -> bytes:
    """A request of 2026-07-28."""
    return request(method, {**params, "_meta": {**ENVELOPE, **(meta or {})}}, raw_id)


async def open_session(client: Client) -> None:
    """initialize and initialized."""
    outcome = await client.post(request("initialize", CAPABLE, 0))
    assert isinstance(outcome, Replied)
    client.session = dict(outcome.headers)[b"mcp-session-id"].decode()
    await client.post(notification("notifications/initialized", {}))


async def test_a_legacy_session_with_calls_progress_and_questions() -> None:
    """Everything that a 2025-11-25 server does on a pipe."""
    events = Events()
    async with bridge(child=SERVER, emit=events) as upstream, asyncio.TaskGroup() as tasks:
        client = Client(upstream)
        await open_session(client)
        assert "add" in {each["name"] for each in result(await client.post(request("tools/list", {}, 1)))["tools"]}
        assert "5" == result(await client.post(tool("add", 2, a=2, b=3)))["content"][0]["text"]
        steps = RecordingSink()
        await client.post(tool("steps", 3, {"progressToken": "p"}, count=3), steps)
        assert [1, 2, 3] == [json.loads(body)["params"]["progress"] for body in steps.data()[:-1]]
        asked = RecordingSink()
        greeting = tasks.create_task(client.post(tool("greet", 4), asked))
        question = json.loads((await asked.messages(1))[0])
        assert "elicitation/create" == question["method"]
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"name": "Ada"}}}
        await client.post(json.dumps(reply).encode())
        await greeting
        assert "hello Ada" == json.loads(asked.data()[-1])["result"]["content"][0]["text"]
        stream = RecordingSink()
        listening = tasks.create_task(client.get(stream))
        await stream.opened()
        await client.post(tool("announce", 5))
        assert b"notifications/tools/list_changed" in (await stream.messages(1))[0]
        listening.cancel()
        await client.delete()
        [exited] = await events.until(ChildExited)
        assert (0, True) == (exited.code, exited.expected)
    assert [] == events.of(LineSkipped)


async def test_many_modern_callers_with_equal_ids() -> None:
    """One process, everybody's own answer and progress."""
    events = Events()
    async with bridge(child=SERVER, emit=events) as upstream:
        client = Client(upstream)
        discovered = result(await client.post(modern("server/discover", {}, 1)))
        assert [MODERN] == discovered["supportedVersions"]
        sums = await asyncio.gather(
            *(client.post(modern("tools/call", {"name": "add", "arguments": {"a": n, "b": 1}}, 1)) for n in range(20))
        )
        assert [str(n + 1) for n in range(20)] == [result(each)["content"][0]["text"] for each in sums]
        sinks = [RecordingSink() for _ in range(5)]
        await asyncio.gather(
            *(
                client.post(
                    modern("tools/call", {"name": "steps", "arguments": {"count": n + 1}}, 1, {"progressToken": 1}),
                    sink,
                )
                for n, sink in enumerate(sinks)
            )
        )
        for n, sink in enumerate(sinks):
            assert list(range(1, n + 2)) == [json.loads(body)["params"]["progress"] for body in sink.data()[:-1]]
            assert 1 == json.loads(sink.data()[-1])["id"]
    assert 1 == len(events.of(ChildStarted))


async def test_a_modern_caller_that_leaves_stops_its_work() -> None:
    """The server is told on its pipe what it would see as a closed stream."""
    async with bridge(child=SERVER) as upstream, asyncio.TaskGroup() as tasks:
        client, sink = Client(upstream), RecordingSink()
        body = modern("tools/call", {"name": "sleep", "arguments": {}}, 1, {"progressToken": 1})
        sleeping = tasks.create_task(client.post(body, sink))
        await sink.messages(1)
        sleeping.cancel()
        was_stopped = await client.post(modern("tools/call", {"name": "was_stopped", "arguments": {}}, 2))
        assert "true" == result(was_stopped)["content"][0]["text"]


async def test_a_subscription_is_acknowledged_and_told_of_changes() -> None:
    """Under the id that the caller gave it."""
    async with bridge(child=SERVER) as upstream, asyncio.TaskGroup() as tasks:
        client, sink = Client(upstream), RecordingSink()
        body = modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, "mine")
        listening = tasks.create_task(client.post(body, sink))
        acknowledged = json.loads((await sink.messages(1))[0])
        assert "notifications/subscriptions/acknowledged" == acknowledged["method"]
        assert "mine" == acknowledged["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"]
        await client.post(modern("tools/call", {"name": "announce", "arguments": {}}, 2), RecordingSink())
        listening.cancel()


async def test_both_eras_at_once() -> None:
    """A server of the SDK decides by its first request: there are two."""
    events = Events()
    async with bridge(child=SERVER, emit=events) as upstream:
        one, other = Client(upstream), Client(upstream)
        await one.post(modern("server/discover", {}, 1))
        await open_session(other)
        assert "3" == result(await other.post(tool("add", 2, a=1, b=2)))["content"][0]["text"]
        modern_add = await one.post(modern("tools/call", {"name": "add", "arguments": {"a": 2, "b": 2}}, 3))
        assert "4" == result(modern_add)["content"][0]["text"]
    assert 2 == len(events.of(ChildStarted))
