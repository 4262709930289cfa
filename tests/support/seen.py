"""What a running weir shows of itself: its log and its second port."""

import asyncio
import json

from support.processes import Running
from support.rawhttp import LIMIT_SECONDS, fetch

_POLL_SECONDS = 0.02


async def logged(weir: Running, text: str, times: int = 1) -> list[str]:
    """Wait until so many lines of its log have the text; gives them.

    Raises:
        TimeoutError: there are fewer.
    """
    async with asyncio.timeout(LIMIT_SECONDS):
        while len(lines := [line for line in weir.log().splitlines() if text in line]) < times:  # noqa: ASYNC110 - a file that another process writes
            await asyncio.sleep(_POLL_SECONDS)
    return lines


async def diagnostics_port(weir: Running) -> int:
    """Where its diagnostics are, with `diagnostics: 127.0.0.1:0`."""
    [line] = await logged(weir, '"port":"diagnostics"')
    address: str = json.loads(line)["address"]
    return int(address.rpartition(":")[2])


async def shown(weir: Running, path: str) -> bytes:
    """One page of its diagnostics."""
    return (await fetch(await diagnostics_port(weir), "GET", path)).body


async def counted(weir: Running, sample: bytes) -> None:
    """Wait until its metrics have a line that begins so.

    Raises:
        TimeoutError: there is none.
    """
    async with asyncio.timeout(LIMIT_SECONDS):
        while b"\n" + sample not in await shown(weir, "/metrics"):  # noqa: ASYNC110 - a number tells nobody that it changed
            await asyncio.sleep(_POLL_SECONDS)
