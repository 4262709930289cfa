"""An MCP server made with the SDK that does everything weir has to carry: `sdk_server.py http PORT | stdio`."""

import sys
from typing import Annotated, Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import SamplingMessage, TextContent
from pydantic import BaseModel, Field

server = MCPServer("everything")
stopped = anyio.Event()


class Name(BaseModel):
    """What a person is asked for."""

    name: str


class Memory(EventStore):
    """Every event of every stream, for resumption."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        """Keep one."""
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send what came later on the same stream."""
        at = int(last_event_id)
        stream = self._events[at - 1][0]
        for number, (other, message) in enumerate(self._events[at:], at + 1):
            if other == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


@server.tool()
async def add(a: int, b: int) -> int:
    """Two numbers."""
    return a + b


@server.tool()
async def steps(ctx: Context, count: int) -> str:
    """Progress and log lines, then the result."""
    for step in range(1, count + 1):
        await ctx.report_progress(step, count)
    return f"{count} steps"


@server.tool()
async def greet(ctx: Context) -> str:
    """Asks the person."""
    answer = await ctx.elicit("Who are you?", Name)
    return f"hello {answer.data.name}" if answer.action == "accept" else answer.action


@server.tool()
async def think(ctx: Context) -> str:
    """Asks the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text="think"))
    answer = await ctx.request_context.session.create_message([message], max_tokens=5)
    return getattr(answer.content, "text", "")


@server.tool()
async def announce(ctx: Context) -> str:
    """The tools have changed: told outside of this call."""
    await ctx.request_context.session.send_tool_list_changed()
    return "announced"


@server.tool()
async def poll(ctx: Context) -> str:
    """Lets the client go and works on: 2025-11-25 polling."""
    await ctx.close_sse_stream()
    await anyio.sleep(0.2)
    return "worth the wait"


@server.tool()
async def query(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Wants its argument in a header."""
    return f"from {region}"


@server.tool()
async def sleep(ctx: Context) -> str:
    """Never ends; notes when it is stopped."""
    global stopped  # noqa: PLW0603 - one server, one test at a time
    stopped = anyio.Event()
    await ctx.report_progress(0)
    try:
        await anyio.Event().wait()
    finally:
        stopped.set()
    return "never"


@server.tool()
async def was_stopped() -> bool:
    """Whether the last `sleep` was stopped."""
    with anyio.move_on_after(60):
        await stopped.wait()
    return stopped.is_set()


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        app = server.streamable_http_app(event_store=Memory(), retry_interval=50)
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
