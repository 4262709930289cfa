"""A process in a group of its own and its three pipes, on whichever event loop runs.

Not the loop's own subprocesses: uvloop's get every pipe twice and all inheritable descriptors, so that a
server that closes its stdout, or leaves a daemon behind, keeps it open; asyncio's take a thread each.
"""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Protocol, cast


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

    def __init__(self, process: subprocess.Popen[bytes], owner: Owner) -> None:
        self.pid = process.pid
        """Its group's id too."""
        self._process = process
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._pidfd = -1
        self._pipes: list[asyncio.BaseTransport] = []

    @property
    def code(self) -> int | None:
        return self._process.returncode

    @property
    def stdin(self) -> asyncio.WriteTransport:
        return cast(asyncio.WriteTransport, self._pipes[0])

    @property
    def stdout(self) -> asyncio.ReadTransport:
        return cast(asyncio.ReadTransport, self._pipes[1])

    @classmethod
    async def start(cls, command: Sequence[str], env: Mapping[str, str], cwd: str | None, owner: Owner) -> "Process":
        """Start a command.

        Raises:
            OSError: there is no such command or directory, or it cannot be executed.
            ValueError: a NUL byte in the command.
        """
        process = cls(_spawn(command, env, cwd), owner)
        try:
            await process._attach()
        except BaseException:
            process.signal_group(signal.SIGKILL)
            process.close()
            raise
        return process

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and all its descendants that have not left its group."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            # gone, or it took another user's identity: nothing that weir can end
            return

    @property
    def has_group(self) -> bool:
        """Whether anything of the group lives. To be asked after the process itself ended."""
        try:
            # where weir is process 1 of a container, orphans become its children
            os.waitpid(-self.pid, os.WNOHANG)
        except ChildProcessError:
            pass
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
        self._unwatch()
        self._process.poll()

    @property
    def _files(self) -> list[IO[bytes]]:
        process = self._process
        return [file for file in (process.stdin, process.stdout, process.stderr) if file is not None]

    async def _attach(self) -> None:
        stdin, stdout, stderr = self._files
        owner, loop = self._owner, self._loop
        self._pipes.append((await loop.connect_write_pipe(lambda: _Input(owner), stdin))[0])
        self._pipes.append((await loop.connect_read_pipe(lambda: _Output(owner, 1, owner.take), stdout))[0])
        self._pipes.append((await loop.connect_read_pipe(lambda: _Output(owner, 2, owner.take_stderr), stderr))[0])
        self._watch()

    def _watch(self) -> None:
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            # no Linux, or an old one
            threading.Thread(target=self._wait, name=f"wait-{self.pid}", daemon=True).start()
            return
        self._loop.add_reader(self._pidfd, self._exited)

    def _wait(self) -> None:
        self._process.wait()
        try:
            self._loop.call_soon_threadsafe(self._owner.process_exited)
        except RuntimeError:
            # the loop has closed: nobody is left to be told
            return

    def _exited(self) -> None:
        self._unwatch()
        self._process.poll()
        self._owner.process_exited()

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def _spawn(command: Sequence[str], env: Mapping[str, str], cwd: str | None) -> subprocess.Popen[bytes]:
    """Blocks until the child has replaced itself, a millisecond or two: so do the loops' own subprocesses."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, env=env, cwd=cwd, start_new_session=True, bufsize=0
    )


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
