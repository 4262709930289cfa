"""FastMCP's client: `fastmcp_client.py auto TARGET` prints what it saw, as JSON. Runs in FastMCP's own environment."""

import asyncio
import json
import sys
from typing import Any

from fastmcp import Client  # type: ignore[import-not-found]  # installed elsewhere
from fastmcp.client.transports import StdioTransport  # type: ignore[import-not-found]


async def elicited(message: str, response_type: Any, params: Any, context: Any) -> Any:
    """The person answers."""
    return {"name": "Ada"}


async def sampled(messages: Any, params: Any, context: Any) -> str:
    """The model answers."""
    return "42"


async def outcome(asked: Any) -> Any:
    """Text and structured content of a result, or the kind of the error."""
    try:
        result = await asked
    except Exception as error:  # noqa: BLE001 - an error is an observation like any other
        return {"raised": type(error).__name__}
    return [result.is_error, [getattr(block, "text", None) for block in result.content], result.structured_content]


async def see(target: dict[str, Any]) -> dict[str, Any]:
    """Connect, ask everything, note what came back."""
    argv = target.get("command")
    server = target["url"] if argv is None else StdioTransport(argv[0], argv[1:], keep_alive=False)
    progress: list[float] = []

    async def progressed(done: float, total: float | None, message: str | None) -> None:
        progress.append(done)

    async with Client(server, elicitation_handler=elicited, sampling_handler=sampled) as client:
        seen = {
            "tools": [tool.name for tool in await client.list_tools()],
            "add": await outcome(client.call_tool("add", {"a": 2, "b": 3})),
            "steps": await outcome(client.call_tool("steps", {"count": 3}, progress_handler=progressed)),
            "greet": await outcome(client.call_tool("greet", {}, raise_on_error=False)),
            "think": await outcome(client.call_tool("think", {}, raise_on_error=False)),
            "query": await outcome(client.call_tool("query", {"region": "tést 🙂"})),
            "unknown": await outcome(client.call_tool("nothing", {}, raise_on_error=False)),
        }
    return {**seen, "progress": progress}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(see(json.loads(sys.argv[2])))))
