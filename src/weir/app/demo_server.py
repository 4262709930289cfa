"""The demo's MCP server (the SDK's): one quick tool, one slow one with progress, one that fails for some seats.

`python -m weir.app.demo_server PORT [HOST]`
"""

import asyncio
import random
import sys

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

PAGE_SECONDS = 0.15

server = MCPServer("weir-demo", log_level="WARNING")


@server.tool()
async def search(query: str) -> str:
    """Look something up; quick."""
    await asyncio.sleep(random.uniform(0.002, 0.02))
    return f"three results for {query}"


@server.tool()
async def report(ctx: Context, pages: int) -> str:
    """Write a report; slow, and says how far it is."""
    for page in range(1, pages + 1):
        await asyncio.sleep(PAGE_SECONDS)
        await ctx.report_progress(page, pages)
    return f"a report of {pages} pages"


@server.tool()
async def book(row: int) -> str:
    """Book a seat; every third row is taken."""
    await asyncio.sleep(random.uniform(0.01, 0.05))
    if row % 3 == 0:
        raise ToolError(f"row {row} is taken")
    return f"a seat in row {row} is yours"


if __name__ == "__main__":
    server.run(transport="streamable-http", port=int(sys.argv[1]), host=(sys.argv[2:] or ["127.0.0.1"])[0])
