"""A client on the pipes of a stdio edge."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.limits import HANG_SECONDS
from weir.downstream.descriptors import Input
from weir.downstream.stdio import StdioDownstream

PATIENCE_SECONDS = HANG_SECONDS


class PipeClient:
    """The client's ends of weir's stdin and stdout."""

    def __init__(self) -> None:
        self.weir_in, self._stdin = os.pipe()
        self._stdout, self.weir_out = os.pipe()
        self._source = Input(self._stdout)
        self._heard = b""

    def say(self, *lines: bytes) -> None:
        """Write whole lines."""
        os.write(self._stdin, b"".join(line + b"\n" for line in lines))

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        os.write(self._stdin, data)

    async def hear(self) -> bytes:
        """The next line of weir's stdout, without its end; b"" when stdout is closed."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while b"\n" not in self._heard:
                chunk = await self._source.read()
                if not chunk:
                    return b""
                self._heard += chunk
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    async def hear_all(self) -> list[bytes]:
        """Every line until stdout is closed."""
        lines = []
        while line := await self.hear():
            lines.append(line)
        return lines

    def hang_up(self) -> None:
        """Close weir's stdin."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def stop_reading(self) -> None:
        """Close the reading end of weir's stdout."""
        if self._stdout >= 0:
            os.close(self._stdout)
            self._stdout = -1

    def close_weirs_ends(self) -> None:
        """What the end of weir's process would do."""
        os.close(self.weir_in)
        os.close(self.weir_out)

    def close(self) -> None:
        """Close what is still open of the client's own."""
        self.hang_up()
        self.stop_reading()


@asynccontextmanager
async def piped(downstream: StdioDownstream) -> AsyncIterator[PipeClient]:
    """`downstream` at work for one client; its run is awaited at the end."""
    client = PipeClient()

    async def run() -> None:
        try:
            await downstream.run(client.weir_in, client.weir_out)
        finally:
            client.close_weirs_ends()

    try:
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            group.create_task(run())
            yield client
            client.hang_up()
    finally:
        client.close()
