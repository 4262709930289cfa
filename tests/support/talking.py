"""A client that talks with a running weir over the pipes of its process."""

import asyncio
import json
from typing import Any

from support.limits import HANG_SECONDS
from support.processes import Running

INITIALIZE = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
    b'"clientInfo":{"name":"t","version":"1"}}}'
)
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}'


def tell(weir: Running, *messages: bytes) -> None:
    """Writes messages to weir, a line each."""
    weir.stdin.write(b"".join(message + b"\n" for message in messages))
    weir.stdin.flush()


async def hear(weir: Running) -> Any:
    """Returns the next message that weir writes."""
    async with asyncio.timeout(HANG_SECONDS):
        return json.loads(await asyncio.to_thread(weir.stdout.readline))


async def ask(weir: Running, message: bytes) -> Any:
    """Writes a request, and returns the next message."""
    tell(weir, message)
    return await hear(weir)


async def leave(weir: Running) -> int:
    """Closes weir's stdin and waits for its end, while the server of the test can still answer."""
    weir.stdin.close()
    return await asyncio.to_thread(weir.wait)
