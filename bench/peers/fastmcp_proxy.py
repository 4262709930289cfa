"""FastMCP's own proxy over HTTP. Run with its venv: python fastmcp_proxy.py fresh|shared UPSTREAM_URL PORT

fresh: as `create_proxy(url)` comes, a new upstream session for every call. shared: one connected client.
"""

import asyncio
import sys

from fastmcp import Client  # type: ignore[import-not-found]
from fastmcp.server import create_proxy  # type: ignore[import-not-found]


async def main(mode: str, url: str, port: int) -> None:
    serve = {"transport": "http", "host": "127.0.0.1", "port": port, "show_banner": False, "log_level": "error"}
    if mode == "fresh":
        await create_proxy(url).run_async(**serve)
        return
    async with Client(url) as client:
        await create_proxy(client).run_async(**serve)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
