"""An SDK client that calls a tool, and one that asks it back: `asking_client.py URL | COMMAND ARGS...`."""

import sys
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp_types import CreateMessageResult, TextContent


async def think(context: Any, params: Any) -> CreateMessageResult:
    """Answer a server's sampling request."""
    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="thought"), model="none")


async def main(server: Any) -> None:
    """Two calls."""
    async with Client(server, mode="legacy", sampling_callback=think) as client:
        for tool, arguments in (("add", {"a": 1, "b": 2}), ("think", {})):
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result


if __name__ == "__main__":
    target = sys.argv[1:]
    anyio.run(main, target[0] if len(target) == 1 else StdioServerParameters(command=target[0], args=target[1:]))
