"""Starts processes through the guardian (upstream/guardian.py), and hears from it how they end.

Where there is no child subreaper (not Linux) `Unguarded` starts them as weir's own children: they end with weir in
every orderly way, and may outlive a weir that was killed.
"""

import asyncio
import errno
import itertools
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from weir.core.events import Emit, Notice
from weir.upstream import guardian

Exited = Callable[[int], None]
"""Told the exit code of a process, as in subprocess: negative for a signal."""

LOST = -1000
"""The exit code of a process whose guardian was killed: it was killed with it, by weir."""

_SCRIPT = str(Path(guardian.__file__))
_CLOSE_SECONDS = guardian.GIVE_UP_SECONDS + 5.0


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, with its whole environment."""

    arguments: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None = None


class Launcher(Protocol):
    """Starts processes, each in a session and group of its own."""

    async def launch(self, command: Command, pipes: tuple[int, int, int], exited: Exited) -> int:
        """Starts a command with these descriptors as stdin, stdout and stderr. Returns its process id.

        The descriptors stay the caller's. `exited` is called once, on the event loop.

        Raises:
            OSError: there is no such command or directory, it cannot be executed, or the machine has no room.
            ValueError: a NUL byte in the command.
        """

    def remember(self, pid: int) -> None:
        """Notes the descendants of a process that is about to end, those outside its group included."""

    def clear(self, pid: int) -> None:
        """Ends the descendants that were noted and still live: SIGTERM now, SIGKILL 2 s later."""

    async def aclose(self) -> None:
        """Returns when nothing that was started is left."""


class Guarded:
    """Starts processes as children of the guardian, which is started before the first of them."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        # before weir raises it: what is started inherits it
        self._descriptors_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._guardian: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._sequence = itertools.count(1)
        self._starting: dict[int, tuple[asyncio.Future[int], Exited]] = {}
        self._running: dict[int, Exited] = {}
        self._closed: asyncio.Event | None = None

    @property
    def pid(self) -> int:
        """The guardian's process id; 0 before the first process and after the end."""
        return self._guardian.pid if self._guardian is not None else 0

    async def launch(self, command: Command, pipes: tuple[int, int, int], exited: Exited) -> int:
        """See Launcher."""
        text = _encoded(command)
        sequence = next(self._sequence)
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        # as a file, which can be as large as it likes: a message that waits for room would stop the loop
        file = os.memfd_create("weir-command")
        try:
            os.write(file, text)
            self._send(guardian.REQUEST.pack(guardian.START, sequence, 0), [file, *pipes])
        finally:
            os.close(file)
        self._starting[sequence] = (started, exited)
        try:
            return await started
        finally:
            self._starting.pop(sequence, None)

    def _send(self, request: bytes, descriptors: Sequence[int]) -> None:
        try:
            socket.send_fds(self._socket or self._start_guardian(), [request], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            # it was killed, and the loop has not told of it yet
            self._lose()
            socket.send_fds(self._start_guardian(), [request], descriptors)

    def remember(self, pid: int) -> None:
        """See Launcher."""
        self._tell(guardian.REMEMBER, pid)

    def clear(self, pid: int) -> None:
        """See Launcher."""
        self._tell(guardian.CLEAR, pid)

    async def aclose(self) -> None:
        """See Launcher."""
        if self._socket is None:
            return
        self._closed = asyncio.Event()
        self._socket.shutdown(socket.SHUT_WR)
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._closed.wait()
        except TimeoutError:
            self._lose()

    def _tell(self, kind: int, pid: int) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send(guardian.REQUEST.pack(kind, 0, pid))
        except OSError:
            # a guardian that does not read; its end is what tells of it
            return

    def _start_guardian(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._guardian = subprocess.Popen(
                    [sys.executable, "-I", "-S", _SCRIPT, str(theirs.fileno()), str(self._descriptors_limit)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    # nothing secret in the environment of a process that lives as long as weir
                    env={name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"},
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._readable)
        return ours

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            packet = self._socket.recv(guardian.REPORT.size)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if packet:
            self._heard(*guardian.REPORT.unpack(packet))
        else:
            self._lose()

    def _heard(self, kind: int, sequence: int, pid: int, value: int) -> None:
        if kind == guardian.EXITED:
            exited = self._running.pop(pid, None)
            if exited is not None:
                exited(value)
            return
        started, exited = self._starting.get(sequence, (None, None))
        if started is None or exited is None or started.done():
            # its caller was cancelled while the process started
            _kill_group(pid)
        elif kind == guardian.STARTED:
            self._running[pid] = exited
            started.set_result(pid)
        else:
            started.set_exception(OSError(value, os.strerror(value)))

    def _lose(self) -> None:
        """The guardian has ended: as it should, or killed, and then its processes are nobody's."""
        assert self._socket is not None
        assert self._guardian is not None
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._guardian.kill()
        self._guardian.wait()
        self._socket = self._guardian = None
        running, self._running = self._running, {}
        if self._closed is not None:
            self._closed.set()
        else:
            text = "the guardian of the stdio servers has ended, and they with it"
            self._emit(Notice("error", text, {"servers": len(running)}))
        for started, _ in self._starting.values():
            if not started.done():
                started.set_exception(OSError(errno.ECANCELED, "the guardian of the stdio servers has ended"))
        for pid, exited in running.items():
            _kill_group(pid)
            exited(LOST)


class Unguarded:
    """Starts processes as weir's own children; a thread waits for each."""

    async def launch(self, command: Command, pipes: tuple[int, int, int], exited: Exited) -> int:
        """See Launcher. Blocks until the child has replaced itself, a millisecond or two."""
        loop, process = asyncio.get_running_loop(), _own_child(command, pipes)

        def wait() -> None:
            code = process.wait()
            try:
                loop.call_soon_threadsafe(exited, code)
            except RuntimeError:
                # the loop has closed: nobody is left to be told
                return

        threading.Thread(target=wait, name=f"wait-{process.pid}", daemon=True).start()
        return process.pid

    def remember(self, pid: int) -> None:
        """Nothing: only the guardian finds what has left the group."""

    def clear(self, pid: int) -> None:
        """Nothing, as above."""

    async def aclose(self) -> None:
        """Nothing: whoever owns a process ends it."""


def launcher(emit: Emit) -> Guarded | Unguarded:
    """The way in which this system starts processes."""
    return Guarded(emit) if sys.platform == "linux" else Unguarded()


def _own_child(command: Command, pipes: tuple[int, int, int]) -> subprocess.Popen[bytes]:
    stdin, stdout, stderr = pipes
    return subprocess.Popen(
        command.arguments,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=command.env,
        cwd=command.cwd,
        start_new_session=True,
    )


def _encoded(command: Command) -> bytes:
    variables = [f"{name}={value}" for name, value in command.env.items()]
    fields = guardian.Invocation(
        os.fsencode(command.cwd or ""), [*map(os.fsencode, command.arguments)], [*map(os.fsencode, variables)]
    )
    if any(b"\0" in field for field in (fields.cwd, *fields.arguments, *fields.variables)):
        raise ValueError("embedded null byte")
    return fields.encode()


def _kill_group(pid: int) -> None:
    if pid == 0:
        return
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # gone, or it took another user's identity: nothing that weir can end
        return
