"""The guardian: a small process that is the parent of every stdio server, and ends them all when weir is gone.

It runs by itself (`python -I -S guardian.py FD LIMIT`) and imports nothing of weir, so that it stays small. FD is a
SOCK_SEQPACKET socket to weir (upstream/guarded.py): requests and process ends go over it, and its end says that weir is
gone, however weir ended. As a child subreaper (prctl(2), Linux) the guardian becomes the parent of every orphan below
it, so a server that daemonizes itself cannot get away.
"""

import contextlib
import ctypes
import errno
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

REQUEST = struct.Struct("<BIi")
"""Kind, sequence number, process id."""
START, REMEMBER, CLEAR = range(3)
"""START carries four descriptors: the command (see `Invocation`), stdin, stdout and stderr. REMEMBER notes the
descendants of a process that is about to end; CLEAR ends those of them that still live."""

REPORT = struct.Struct("<BIii")
"""Kind, sequence number, process id, and an errno or an exit code as in subprocess (negative for a signal)."""
STARTED, FAILED, EXITED = range(3)

KILL_AFTER_SECONDS = 2.0
"""From SIGTERM to SIGKILL, for what is left when weir is gone. As in the ladder of upstream/child.py."""
GIVE_UP_SECONDS = 10.0
"""A process that outlives SIGKILL for so long waits in the kernel; nobody can end it."""
_POLL_SECONDS = 0.02
_DESCRIPTOR = struct.Struct("i")
_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
"""Only the end of weir ends the guardian: a terminal and a service manager signal whole groups."""


class Invocation(NamedTuple):
    """What to run. An empty `cwd` is the guardian's own, which is weir's."""

    cwd: bytes
    arguments: Sequence[bytes]
    variables: Sequence[bytes]
    """NAME=VALUE each."""

    def encode(self) -> bytes:
        """Returns the command as NUL-separated fields, since none of them can contain a NUL."""
        return b"\0".join((self.cwd, b"%d" % len(self.arguments), *self.arguments, *self.variables))

    @classmethod
    def decode(cls, data: bytes) -> "Invocation":
        """Reads what `encode` wrote."""
        cwd, count, *rest = data.split(b"\0")
        return cls(cwd, rest[: int(count)], rest[int(count) :])


class Member(NamedTuple):
    """One process. The start time tells it from a later process with the same id."""

    pid: int
    started: bytes


class Guardian:
    """Starts processes, reports their ends, and ends what is left."""

    def __init__(self, weir: socket.socket, dispositions: dict[int, signal.Handlers]) -> None:
        self._weir = weir
        self._dispositions = dispositions
        self._leaders: set[int] = set()
        self._remembered: dict[int, set[Member]] = {}
        self._doomed: list[tuple[float, set[Member]]] = []
        """What was told to end, and when it is killed."""
        self._wakeup = _wakeup_by_signals()

    def run(self) -> None:
        """Serves weir until weir is gone, then ends every descendant."""
        try:
            while self._turn():
                pass
        finally:
            self._end_all()

    def _turn(self) -> bool:
        weir, pause_seconds = self._weir.fileno(), _POLL_SECONDS if self._doomed else None
        readable, _, _ = select.select([weir, self._wakeup], [], [], pause_seconds)
        if self._wakeup in readable:
            os.read(self._wakeup, 4096)
        self._reap()
        self._kill_the_overdue()
        return weir not in readable or self._serve_one()

    def _serve_one(self) -> bool:
        try:
            packet, descriptors = _receive(self._weir)
        except ConnectionError:
            return False
        if not packet:
            return False
        kind, sequence, pid = REQUEST.unpack(packet)
        if kind == START:
            self._start(sequence, descriptors)
        elif kind == REMEMBER:
            self._remembered[pid] = set(_descendants(pid))
        else:
            self._clear(pid)
        return True

    def _start(self, sequence: int, descriptors: list[int]) -> None:
        try:
            pid = _spawn(descriptors, self._dispositions)
        except OSError as error:
            self._report(FAILED, sequence, 0, error.errno or 0)
        else:
            self._leaders.add(pid)
            self._report(STARTED, sequence, pid, 0)
        finally:
            for each in descriptors:
                os.close(each)

    def _clear(self, pid: int) -> None:
        left = {member for member in self._remembered.pop(pid, ()) if _is_alive(member)}
        if left:
            _signal(left, signal.SIGTERM)
            self._doomed.append((time.monotonic() + KILL_AFTER_SECONDS, left))

    def _kill_the_overdue(self) -> None:
        now = time.monotonic()
        for due, members in self._doomed:
            if now >= due:
                _signal({member for member in members if _is_alive(member)}, signal.SIGKILL)
        self._doomed = [each for each in self._doomed if now < each[0]]

    def _reap(self) -> bool:
        """Collects ended children, adopted orphans included. Returns whether any child lives."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid in self._leaders:
                self._leaders.discard(pid)
                self._report(EXITED, 0, pid, os.waitstatus_to_exitcode(status))

    def _report(self, kind: int, sequence: int, pid: int, value: int) -> None:
        # the end of weir is read from the socket, in one place
        with contextlib.suppress(OSError):
            self._weir.send(REPORT.pack(kind, sequence, pid, value))

    def _end_all(self) -> None:
        began = time.monotonic()
        _signal(_descendants(os.getpid()), signal.SIGTERM)
        while self._reap() and time.monotonic() - began < GIVE_UP_SECONDS:
            if time.monotonic() - began >= KILL_AFTER_SECONDS:
                # again and again: what forks meanwhile is found by the next look
                _signal(_descendants(os.getpid()), signal.SIGKILL)
            time.sleep(_POLL_SECONDS)


def _receive(weir: socket.socket) -> tuple[bytes, list[int]]:
    # not socket.recv_fds: in Python 3.11 it ignores its flags, and what is started would inherit the descriptors
    room = socket.CMSG_LEN(4 * _DESCRIPTOR.size)
    packet, ancillary, _, _ = weir.recvmsg(REQUEST.size, room, socket.MSG_CMSG_CLOEXEC)
    found = [data for level, kind, data in ancillary if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)]
    return packet, [number for data in found for (number,) in _DESCRIPTOR.iter_unpack(data)]


def _spawn(descriptors: list[int], dispositions: dict[int, signal.Handlers]) -> int:
    """Starts a command in a session, and so a group, of its own. Returns its process id; raises OSError."""
    if len(descriptors) != 4:
        # the kernel hands over fewer when this process has no room for them
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    command = Invocation.decode(_read_all(descriptors[0]))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(command, descriptors[1:], writer, dispositions)
    os.close(writer)
    # exec closes the other end, and says nothing when it works
    failure = os.read(reader, 8)
    os.close(reader)
    if failure:
        os.waitpid(pid, 0)
        number = int.from_bytes(failure, "little")
        raise OSError(number, os.strerror(number))
    return pid


def _become(command: Invocation, pipes: list[int], writer: int, dispositions: dict[int, signal.Handlers]) -> NoReturn:
    try:
        os.setsid()
        for number, disposition in dispositions.items():
            signal.signal(number, disposition)
        for target, pipe in enumerate(pipes):
            os.dup2(pipe, target)
        if command.cwd:
            os.chdir(command.cwd)
        variables = dict(each.split(b"=", 1) for each in command.variables)
        os.execvpe(command.arguments[0], list(command.arguments), variables)
    except OSError as error:
        os.write(writer, (error.errno or 0).to_bytes(8, "little"))
    finally:
        os._exit(127)


def _read_all(descriptor: int) -> bytes:
    with open(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return file.read()


def _wakeup_by_signals() -> int:
    """Returns a descriptor that can be read when a child has ended."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return reader


def _descendants(ancestor: int) -> list[Member]:
    """Returns every living process below one, without it."""
    children: dict[int, list[Member]] = {}
    for parent, member in _processes():
        children.setdefault(parent, []).append(member)
    found: list[Member] = []
    waiting = [ancestor]
    while waiting:
        members = children.pop(waiting.pop(), [])
        found += members
        waiting += [member.pid for member in members]
    return found


def _processes() -> Iterator[tuple[int, Member]]:
    """Yields each process of the machine with its parent's id; see proc_pid_stat(5)."""
    for name in os.listdir("/proc"):
        if name[0] in "123456789" and (fields := _stat(int(name))):
            yield int(fields[1]), Member(int(name), fields[19])


def _stat(pid: int) -> list[bytes]:
    """Returns the fields behind the name, which itself can contain anything; empty for a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _is_alive(member: Member) -> bool:
    fields = _stat(member.pid)
    return bool(fields) and fields[19] == member.started and fields[0] != b"Z"


def _signal(members: "set[Member] | list[Member]", number: signal.Signals) -> None:
    for member in members:
        # gone, or it took another user's identity
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(member.pid, number)


def main(descriptor: int, descriptors_limit: int) -> None:
    """Runs the guardian on a socket to weir, under the soft limit of descriptors that weir was started with.

    weir raises its own limit; a server that uses select(2) fails above 1,024 descriptors.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_limit, hard))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"weir-guardian", 0, 0, 0)
    dispositions: dict[int, signal.Handlers] = {}
    for each in _IGNORED:
        found = signal.signal(each, signal.SIG_IGN)
        # under nohup SIGHUP is ignored already, and stays so in what is started; SIGPIPE is Python's own choice
        is_kept = found == signal.SIG_IGN and each is not signal.SIGPIPE
        dispositions[each] = signal.SIG_IGN if is_kept else signal.SIG_DFL
    dispositions[signal.SIGCHLD] = signal.SIG_DFL
    os.set_inheritable(descriptor, False)
    Guardian(socket.socket(fileno=descriptor), dispositions).run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
