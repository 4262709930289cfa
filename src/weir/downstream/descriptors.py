"""Bytes in and whole lines out on descriptors that weir was given (stdin, stdout), whatever they are.

asyncio's pipe transports refuse regular files, misread a socket that is stdin and stdout at once, and
leave descriptors that other processes share non-blocking. This waits for readiness where the kernel
offers it and otherwise just reads and writes.
"""

import asyncio
import os
import stat
from collections import deque

# what one read takes: a pipe's usual capacity
CHUNK_BYTES = 64 * 1024
# a writer waits once this much is waiting for the reader of our stdout; a pipe's usual capacity again
HIGH_WATER_BYTES = 64 * 1024


class Input:
    """A descriptor to read from. Made inside the running loop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._is_pollable = True

    async def read(self) -> bytes:
        """What has arrived, at most CHUNK_BYTES; b"" when the other end has closed."""
        while True:
            if self._is_pollable:
                await self._readable()
            try:
                return os.read(self._descriptor, CHUNK_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                # a terminal that hung up (EIO) or a socket that was reset: nobody is there any more
                return b""

    async def _readable(self) -> None:
        ready = self._loop.create_future()
        try:
            self._loop.add_reader(self._descriptor, _settle, ready)
        except (PermissionError, ValueError):
            # epoll knows no regular files; reading one never waits for anybody
            self._is_pollable = False
            return
        try:
            await ready
        finally:
            self._loop.remove_reader(self._descriptor)


class Output:
    """A descriptor to write lines to. A line that was taken goes out whole, in order.

    `broken` is set when nobody reads any more; what is written after that is dropped.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._is_watching = False
        self._progress = asyncio.Event()
        self.broken = asyncio.Event()
        mode = os.fstat(descriptor).st_mode
        # only these can be waited for; a write to a file or a terminal just takes its time
        self._is_pollable = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        self._was_blocking = os.get_blocking(descriptor)
        if self._is_pollable:
            os.set_blocking(descriptor, False)

    async def write(self, line: bytes) -> None:
        """Take one line once the reader is close enough behind: at most HIGH_WATER_BYTES and a line ever wait."""
        await self._until_at_most(HIGH_WATER_BYTES)
        if self.broken.is_set():
            return
        self._waiting.append(memoryview(line))
        self._waiting_bytes += len(line)
        if not self._is_watching:
            self._push()

    async def flush(self) -> None:
        """Wait until everything taken has been written (or nobody reads any more)."""
        await self._until_at_most(0)

    def close(self) -> None:
        """Stop writing and leave the descriptor as it was found. It stays open: weir did not open it."""
        self._drop()
        if self._is_pollable and self._was_blocking:
            os.set_blocking(self._descriptor, True)

    async def _until_at_most(self, waiting_bytes: int) -> None:
        while self._waiting_bytes > waiting_bytes:
            self._progress.clear()
            await self._progress.wait()

    def _push(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            try:
                written = os.write(self._descriptor, first)
            except BlockingIOError:
                self._watch()
                return
            except OSError:
                self.broken.set()
                self._drop()
                return
            self._waiting_bytes -= written
            if written == len(first):
                self._waiting.popleft()
            else:
                self._waiting[0] = first[written:]
            self._progress.set()
        self._unwatch()

    def _watch(self) -> None:
        if not self._is_watching:
            self._is_watching = True
            self._loop.add_writer(self._descriptor, self._push)

    def _unwatch(self) -> None:
        if self._is_watching:
            self._is_watching = False
            self._loop.remove_writer(self._descriptor)

    def _drop(self) -> None:
        self._unwatch()
        self._waiting.clear()
        self._waiting_bytes = 0
        self._progress.set()


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
