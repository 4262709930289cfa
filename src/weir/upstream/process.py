"""A process in a group of its own and its three pipes, on whichever event loop runs.

Not the loop's own subprocesses: uvloop's get every pipe twice and all inheritable descriptors, so that a
server that closes its stdout, or leaves a daemon behind, keeps it open; asyncio's take a thread each
(docs/decisions/0009). Who is the process's parent is the launcher's choice (upstream/guarded.py).
"""

import asyncio
import os
import signal
from typing import IO, Protocol, cast

from weir.upstream.guarded import Command, Launcher


class Owner(Protocol):
    """Who is told what happens to a process, by callbacks of the event loop."""

    def take(self, data: bytes) -> None:
        """Bytes of stdout."""

    def take_stderr(self, data: bytes) -> None:
        """Bytes of stderr."""

    def pipe_lost(self, fd: int) -> None:
        """Pipe 0, 1 or 2 is closed."""

    def writable(self, can_write: bool) -> None:
        """Stdin is full, or takes more again."""

    def process_exited(self) -> None:
        """The process itself ended (its descendants may live), and `code` says how."""


class Process:
    """A running process. `code` is as in subprocess: negative for a signal, None while it runs."""

    def __init__(self, owner: Owner, pipes: list[IO[bytes]]) -> None:
        self.pid = 0
        """Its group's id too."""
        self.code: int | None = None
        self._owner = owner
        self._files = pipes
        self._pipes: list[asyncio.BaseTransport] = []

    @property
    def stdin(self) -> asyncio.WriteTransport:
        return cast(asyncio.WriteTransport, self._pipes[0])

    @property
    def stdout(self) -> asyncio.ReadTransport:
        return cast(asyncio.ReadTransport, self._pipes[1])

    @property
    def stderr(self) -> asyncio.ReadTransport:
        return cast(asyncio.ReadTransport, self._pipes[2])

    @classmethod
    async def start(cls, command: Command, owner: Owner, launcher: Launcher) -> "Process":
        """Start a command.

        Raises:
            OSError: there is no such command or directory, it cannot be executed, or the machine has no room.
            ValueError: a NUL byte in the command.
        """
        ours, theirs = _three_pipes()
        process = cls(owner, ours)
        try:
            try:
                process.pid = await launcher.launch(command, theirs, process._exited)
            finally:
                for each in theirs:
                    os.close(each)
            await process._attach()
        except BaseException:
            process.signal_group(signal.SIGKILL)
            process.close()
            raise
        return process

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and all its descendants that have not left its group."""
        if self.pid == 0:
            # it has not started, and 0 would be weir's own group
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            # gone, or it took another user's identity: nothing that weir can end
            return

    @property
    def has_group(self) -> bool:
        """Whether anything of the group lives. To be asked after the process itself ended."""
        try:
            os.killpg(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def close(self) -> None:
        """Let go of the pipes."""
        for pipe in self._pipes:
            pipe.close()
        for file in self._files[len(self._pipes) :]:
            file.close()

    async def _attach(self) -> None:
        stdin, stdout, stderr = self._files
        owner, loop = self._owner, asyncio.get_running_loop()
        self._pipes.append((await loop.connect_write_pipe(lambda: _Input(owner), stdin))[0])
        self._pipes.append((await loop.connect_read_pipe(lambda: _Output(owner, 1, owner.take), stdout))[0])
        self._pipes.append((await loop.connect_read_pipe(lambda: _Output(owner, 2, owner.take_stderr), stderr))[0])

    def _exited(self, code: int) -> None:
        self.code = code
        self._owner.process_exited()


def _three_pipes() -> tuple[list[IO[bytes]], tuple[int, int, int]]:
    """Opens the pipes of a process: this end of each as a file, and the process's ends. Raises OSError."""
    opened: list[int] = []
    try:
        for _ in range(3):
            opened += os.pipe()
    except OSError:
        for each in opened:
            os.close(each)
        raise
    stdin, to_stdin, from_stdout, stdout, from_stderr, stderr = opened
    ours: list[IO[bytes]] = [
        os.fdopen(to_stdin, "wb", buffering=0),
        os.fdopen(from_stdout, "rb", buffering=0),
        os.fdopen(from_stderr, "rb", buffering=0),
    ]
    return ours, (stdin, stdout, stderr)


class _Input(asyncio.BaseProtocol):
    """The pipe to the process."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def pause_writing(self) -> None:
        self._owner.writable(False)

    def resume_writing(self) -> None:
        self._owner.writable(True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.pipe_lost(0)


class _Output(asyncio.Protocol):
    """A pipe from the process. Callbacks instead of streams: one task switch less a message."""

    def __init__(self, owner: Owner, fd: int, take: "_Take") -> None:
        self._owner = owner
        self._fd = fd
        self.data_received = take  # type: ignore[method-assign]  # the loop calls it for each piece: one frame less

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.pipe_lost(self._fd)


class _Take(Protocol):
    def __call__(self, data: bytes) -> None: ...
