"""One stdio server: a process in a group of its own, from its start to the end of its last descendant.

`Child.run` is the one supervisor: whoever owns the child runs it in a TaskGroup, and when it returns
nothing of the child is left. Everything else here is called by the event loop or by the owner.

Shutdown is the specification's (2025-11-25, basic/lifecycle, Shutdown: stdin's end, SIGTERM, SIGKILL);
the times and the whole group are the Python SDK's. What weir leaves behind because weir itself was killed is
ended by the guardian (upstream/guardian.py).
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from weir.core.budget import Account, LastingHold
from weir.core.events import ChildExited, ChildStarted, Emit, LimitReached, LineSkipped, Notice
from weir.core.outcome import Blame, Failed, FailureKind, Sent
from weir.core.shortage import is_shortage
from weir.protocol.envelope import Kind, Message, peek
from weir.protocol.framing import Lines, encode
from weir.protocol.salvage import salvage
from weir.upstream.child_environment import inherited
from weir.upstream.child_texts import how_it_ended, what_is_short, why_not_started
from weir.upstream.flood import LINE_BYTES, Flood
from weir.upstream.guarded import LOST, Command, Launcher
from weir.upstream.process import Process

# what a leader wrote before it ended is still in the pipe; a grandchild may hold that pipe open for ever
_FLUSH_SECONDS = 0.5
# nothing tells when the last grandchild is gone, so it is looked for
_GROUP_POLL_SECONDS = 0.02
# a bug that every line provokes is told as often as somebody reads, and its text is the server's own
_BUGS_LOGGED, _BUG_TEXT = 10, 500


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """How a stdio server is started and stopped."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    line_limit_bytes: int = 16 * 1024 * 1024
    stderr_tail_bytes: int = 4096
    eof_seconds: float = 2.0
    """From the end of its stdin to SIGTERM."""
    term_seconds: float = 2.0
    """From SIGTERM to SIGKILL."""


class Receiver(Protocol):
    """Who gets what a child says."""

    def message(self, message: Message, body: bytes) -> None:
        """One message, in the order written. JSON that is no JSON-RPC message comes as Kind.OPAQUE."""

    def spoiled(self, message: Message) -> None:
        """A bug of weir's cost this message."""

    def overflowed(self) -> None:
        """A line was longer than the limit, and is lost."""

    def ended(self, why: Failed) -> None:
        """The child will say no more. Called once, and only for a child that had started."""


class Child:
    """A stdio server's process and its three pipes."""

    def __init__(
        self,
        upstream: str,
        settings: ChildSettings,
        launcher: Launcher,
        emit: Emit,
        on_stderr: Callable[[bytes], None] | None = None,
    ) -> None:
        self._upstream = upstream
        self._launcher = launcher
        self._settings = settings
        self._emit = emit
        self._on_stderr = on_stderr
        self._lines = Lines(settings.line_limit_bytes)
        self._receiver: Receiver | None = None
        self._process: Process | None = None
        self._pid = 0
        self._started: asyncio.Future[Failed | None] = asyncio.get_running_loop().create_future()
        self._tail = b""
        self._bugs = 0
        self._is_stopping = False
        self._ended: Failed | None = None
        self._ending = asyncio.Event()
        self._exited = asyncio.Event()
        self._drained = asyncio.Event()
        self._writable = asyncio.Event()
        self._turn = asyncio.Lock()
        self._unread = LastingHold()
        self._is_held = False
        """The owner has paused it."""
        self._throttled = 0
        """Pauses of weir's own that have not run out."""
        now = asyncio.get_running_loop().time()
        self._flood, self._stderr_flood = Flood(now), Flood(now)

    @property
    def pid(self) -> int:
        """The leader's process id, which is its group's id too; 0 before the start."""
        return self._pid

    @property
    def is_ending(self) -> bool:
        """It takes no more messages, and will be gone soon; what it has said is still handed on."""
        return self._ending.is_set()

    # for the owner

    async def run(self, receiver: Receiver) -> None:
        """Start the process, hand on what it says, and return when nothing of it is left.

        Cancelling this kills the whole group at once.
        """
        self._receiver = receiver
        failed: Failed | None = Failed(FailureKind.CONNECT, "weir stopped before it had started", sent=Sent.NO)
        try:
            failed = await self._spawn()
            self._started.set_result(failed)
            if self._process is not None:
                await self._ending.wait()
                await self._wind_down(self._process)
        finally:
            self._ended = self._ended or failed
            self._writable.set()
            if not self._started.done():
                self._started.set_result(failed)
            if self._process is not None:
                await self._finish(self._process)

    async def started(self) -> Failed | None:
        """Wait until the process runs; returns why it does not."""
        return await asyncio.shield(self._started)

    async def send(self, message: bytes, account: Account | None = None) -> Failed | None:
        """Write one message, whole and in turn; waits while the child does not read. See relay/stdio_pipe."""
        if self._writable.is_set() and not self._turn.locked():
            return self._write(message, account)
        async with self._turn:
            await self._writable.wait()
            return self._write(message, account)

    def pause(self) -> None:
        """Read no more of what the child says, until `resume`: it will block when the pipe is full."""
        self._is_held = True
        if self._process is not None and not self._is_stopping and not self._exited.is_set():
            self._process.stdout.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._is_held = False
        self._read_on()

    def unwanted(self, size: int) -> None:
        """A message of so many bytes reached nobody: a child that says such things without end is paced and ended."""
        self._flood.waste(size + LINE_BYTES, asyncio.get_running_loop().time())

    def _read_on(self) -> None:
        is_over = self._exited.is_set()
        if self._process is not None and not self._drained.is_set() and (is_over or not self._throttled):
            self._process.stdout.resume_reading()

    def _pace(self) -> None:
        """Read nothing for as long as the unwanted bytes were too many; end a child that goes on."""
        seconds, loop = self._flood.pause_seconds(), asyncio.get_running_loop()
        if not seconds or self._process is None or self._exited.is_set():
            return
        self._end_flood(self._flood, "stdout")
        if not self._throttled:
            self._throttled = 1
            self._emit(LimitReached(self._upstream, "unwanted_output"))
            self._process.stdout.pause_reading()
            loop.call_later(seconds, self._unthrottled)

    def _unthrottled(self) -> None:
        self._throttled = 0
        if not self._is_held or self._is_stopping:
            self._read_on()

    def _end_flood(self, flood: Flood, pipe: str) -> None:
        if self._ending.is_set() or not flood.is_endless(asyncio.get_running_loop().time()):
            return
        self._ended = self._ended or Failed(FailureKind.EXITED, f"was ended by weir: it wrote to {pipe} without end")
        self._emit(
            Notice("error", "a server that writes without end is ended", {"upstream": self._upstream, "pipe": pipe})
        )
        self._tell_end()
        self._ending.set()

    def stop(self) -> None:
        """Ask the supervisor to end it; nothing it says from now on is handed on."""
        if self._is_stopping:
            return
        self.resume()
        self._is_stopping = True
        self._ended = self._ended or Failed(FailureKind.EXITED, "the server was stopped", sent=Sent.NO)
        self._writable.set()
        self._ending.set()

    # the process's life

    async def _spawn(self) -> Failed | None:
        command, cwd = self._settings.command, self._settings.cwd
        env = {**inherited(os.environ), **self._settings.env}
        try:
            self._process = await Process.start(Command(command, env, cwd), self, self._launcher)
        except (OSError, ValueError) as error:
            if is_shortage(error):
                return Failed(FailureKind.CONNECT, what_is_short(command[0], error), Blame.WEIR, Sent.NO)
            return Failed(FailureKind.CONNECT, why_not_started(command[0], cwd, env, error), sent=Sent.NO)
        self._pid = self._process.pid
        self._writable.set()
        self._emit(ChildStarted(self._upstream, self.pid))
        return None

    async def _wind_down(self, process: Process) -> None:
        """The ladder, then the rest of the group. Stdout is read all the while, so that a blocked writer can end."""
        self._launcher.remember(process.pid)
        process.stdin.close()
        if self._drained.is_set() and not await _within(_FLUSH_SECONDS, self._exited):
            # it can say nothing more, so nobody needs to wait for the ladder
            self._tell_end()
        for seconds, number in (
            (self._settings.eof_seconds, signal.SIGTERM),
            (self._settings.term_seconds, signal.SIGKILL),
        ):
            if await _within(seconds, self._exited):
                break
            process.signal_group(number)
        await _within(_FLUSH_SECONDS, self._exited)
        await _within(_FLUSH_SECONDS, self._drained)
        self._tell_end()
        await self._clear_group(process)

    async def _clear_group(self, process: Process) -> None:
        """End what the leader left behind (npx and uv are wrappers; servers fork)."""
        for number, seconds in ((signal.SIGTERM, self._settings.term_seconds), (signal.SIGKILL, _FLUSH_SECONDS)):
            if not process.has_group:
                return
            process.signal_group(number)
            polls = round(seconds / _GROUP_POLL_SECONDS)
            while polls > 0 and process.has_group:
                await asyncio.sleep(_GROUP_POLL_SECONDS)
                polls -= 1

    async def _finish(self, process: Process) -> None:
        """The last step of every end, a cancelled supervisor's included: nothing of the group runs on."""
        process.signal_group(signal.SIGKILL)
        self._launcher.clear(process.pid)
        try:
            await _within(_FLUSH_SECONDS, self._exited)
        finally:
            self._tell_end()
            process.close()
            self._unread.end()
            code = -signal.SIGKILL if process.code in (None, LOST) else process.code
            tail = self._tail.decode("utf-8", "replace")
            self._emit(ChildExited(self._upstream, self.pid, code, self._is_stopping, tail))
            # the two point at each other, and weir's garbage collector runs seldom
            self._process = None

    def _tell_end(self) -> None:
        receiver, self._receiver = self._receiver, None
        code = self._process.code if self._process is not None else None
        self._ended = self._ended or how_it_ended(code, has_last_words=bool(self._tail.strip()))
        self._writable.set()
        if receiver is not None:
            receiver.ended(self._ended)

    def _write(self, message: bytes, account: Account | None) -> Failed | None:
        if self._ended is not None:
            return Failed(self._ended.kind, self._ended.detail, sent=Sent.NO)
        if self._process is None or self._process.stdin.is_closing():
            return Failed(FailureKind.EXITED, "no longer reads its input", sent=Sent.NO)
        # encoded here: a message that waits for its turn must not wait as two copies
        self._process.stdin.write(encode(message))
        if account is not None and not self._writable.is_set():
            # one line at most: the next one waits until the child has read it
            self._unread.hold(account, self._process.stdin.get_write_buffer_size())
        return None

    # for the process

    def take(self, data: bytes) -> None:
        """Bytes of stdout."""
        oversized = self._lines.oversized
        for line in self._lines.feed(data):
            self._take_line(line)
        if self._lines.is_skipping:
            self._flood.waste(len(data), asyncio.get_running_loop().time())
        for _ in range(self._lines.oversized - oversized):
            self._emit(LineSkipped(self._upstream, self._settings.line_limit_bytes))
            if self._receiver is not None and not self._is_stopping:
                self._receiver.overflowed()
        if self._flood.pause_seconds():
            self._pace()

    def _take_line(self, line: bytes) -> None:
        message: Message | None = None
        try:
            message = peek(line)
            if message.kind is Kind.OPAQUE:
                message = salvage(line)
            if message is None:
                self._emit(LineSkipped(self._upstream, len(line)))
                self.unwanted(len(line))
            elif self._receiver is not None and not self._is_stopping:
                self._receiver.message(message, line)
                if message.kind is Kind.RESPONSE:
                    self._flood.excuse()
                    self._stderr_flood.excuse()
        except Exception as error:  # noqa: BLE001 - many callers may share this server: a bug costs them one line
            self._spoiled(message, len(line), error)

    def _spoiled(self, message: Message | None, size: int, error: Exception) -> None:
        """Count a line that a bug of weir's cost, and end the call that waited for it."""
        self._emit(LineSkipped(self._upstream, size))
        self._note_bug(error)
        if message is not None and self._receiver is not None and not self._is_stopping:
            self._receiver.spoiled(message)

    def _note_bug(self, error: Exception) -> None:
        self._bugs += 1
        if self._bugs <= _BUGS_LOGGED:
            self._emit(Notice("error", "a bug in weir", {"error": repr(error)[:_BUG_TEXT], "upstream": self._upstream}))

    def take_stderr(self, data: bytes) -> None:
        """Bytes of stderr: always read, so that the child never blocks on it; the end of it is kept."""
        self._tail = (self._tail + data)[-self._settings.stderr_tail_bytes :]
        flood, loop = self._stderr_flood, asyncio.get_running_loop()
        flood.waste(len(data), loop.time())
        if flood.pause_seconds() and self._process is not None and not self._exited.is_set():
            self._end_flood(flood, "stderr")
            self._process.stderr.pause_reading()
            loop.call_later(flood.pause_seconds(), self._process.stderr.resume_reading)
        if self._on_stderr is None:
            return
        try:
            self._on_stderr(data)
        except Exception as error:  # noqa: BLE001 - the event loop would close the pipe, and the child with it
            self._note_bug(error)

    def pipe_lost(self, fd: int) -> None:
        """A pipe was closed at the child's end."""
        if fd == 1:
            last = self._lines.flush()
            if last:
                self._take_line(last)
            self._drained.set()
        if fd != 2:
            self._ending.set()

    def process_exited(self) -> None:
        """The leader ended. What is left in the pipe is less than a pipe holds."""
        self._exited.set()
        self.resume()
        self._ending.set()

    def writable(self, can_write: bool) -> None:
        """The child's stdin is full, or takes more again."""
        if can_write:
            self._unread.end()
        if can_write or self._ended is not None:
            self._writable.set()
        else:
            self._writable.clear()


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Whether the event came in time."""
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
