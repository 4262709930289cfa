"""The Python SDK's client: `sdk_client.py auto|legacy|MODERN-REVISION TARGET` prints what it saw, as JSON.

With `fails` in the target it prints what it shows of the calls or the connection that fail; `kill` is the pid of
the `server` to end before the last call.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable
from typing import Any
from urllib.parse import urlsplit

from mcp import Client, StdioServerParameters
from mcp_types import CreateMessageResult, ElicitResult, TextContent


def server_of(target: dict[str, Any]) -> Any:
    """What a client is made with."""
    argv = target.get("command")
    return target["url"] if argv is None else StdioServerParameters(command=argv[0], args=argv[1:])


async def elicited(context: Any, params: Any) -> ElicitResult:
    """The person answers."""
    return ElicitResult(action="accept", content={"name": "Ada"})


async def sampled(context: Any, params: Any) -> CreateMessageResult:
    """The model answers."""
    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="42"), model="none")


async def outcome(asked: Awaitable[Any]) -> Any:
    """A result as it would be on the wire, or the kind of the error."""
    try:
        result = (await asked).model_dump(mode="json", by_alias=True, exclude_none=True)
    except Exception as error:  # noqa: BLE001 - an error is an observation like any other
        return {"raised": type(error).__name__, "code": getattr(getattr(error, "error", None), "code", None)}
    result.pop("_meta", None)
    return result


async def shown(asked: Awaitable[Any]) -> Any:
    """The error as a program meets it; None: there was none."""
    try:
        await asked
    except Exception as error:  # noqa: BLE001 - an error is an observation like any other
        return described(error)
    return None


def described(error: BaseException) -> dict[str, Any]:
    """The innermost: task groups wrap what a connection ends with."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    said = getattr(error, "error", None)
    code, data = getattr(said, "code", None), getattr(said, "data", None)
    return {"raised": type(error).__name__, "code": code, "text": str(error), "data": data}


async def fail(mode: str, target: dict[str, Any]) -> list[Any]:
    """Connect and call twice."""
    try:
        async with Client(server_of(target), mode=mode) as client:
            first = await shown(client.call_tool("add", {"a": 2, "b": 3}))
            if "kill" in target:
                await end(target["kill"], target["server"])
            return [first, await shown(client.call_tool("add", {"a": 2, "b": 3}))]
    except Exception as error:  # noqa: BLE001 - an error is an observation like any other
        return [described(error)]


async def end(pid: int, url: str) -> None:
    """Until the server's port is closed."""
    os.kill(pid, signal.SIGKILL)
    where = urlsplit(url)
    while True:
        try:
            _, writer = await asyncio.open_connection(where.hostname, where.port)
        except OSError:
            return
        writer.close()


async def see(mode: str, target: dict[str, Any]) -> dict[str, Any]:
    """Connect, ask everything, note what came back."""
    steps: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with Client(server_of(target), mode=mode, elicitation_callback=elicited, sampling_callback=sampled) as client:
        seen = {
            "tools": [tool.name for tool in (await client.list_tools()).tools],
            "add": await outcome(client.call_tool("add", {"a": 2, "b": 3})),
            "steps": await outcome(client.call_tool("steps", {"count": 3}, progress_callback=progressed)),
            "greet": await outcome(client.call_tool("greet", {})),
            "think": await outcome(client.call_tool("think", {})),
            "query": await outcome(client.call_tool("query", {"region": "tést 🙂"})),
            "unknown": await outcome(client.call_tool("nothing", {})),
            "prompts": await outcome(client.list_prompts()),
            "revision": client.protocol_version,
        }
    return {**seen, "progress": steps}


if __name__ == "__main__":
    server = json.loads(sys.argv[2])
    print(json.dumps(asyncio.run((fail if "fails" in server else see)(sys.argv[1], server))))
