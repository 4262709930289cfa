"""Two ways to start a process: through the guardian, and as weir's own child."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from support.limits import HANG_SECONDS
from support.stdio_children import launching, members
from weir.upstream.guarded import Command, Guarded, Launcher, Unguarded

pytestmark = pytest.mark.anyio

linux = pytest.mark.skipif(sys.platform != "linux", reason="the guardian needs Linux's child subreaper")


def ignore(event: object) -> None:
    """An observer that keeps nothing."""


@pytest.fixture(params=[pytest.param(Unguarded, id="unguarded"), pytest.param(Guarded, id="guarded", marks=linux)])
def way(request: pytest.FixtureRequest) -> Any:
    """Each launcher, made but not started."""
    return request.param() if request.param is Unguarded else request.param(ignore)


async def ended(way: Launcher, *arguments: str, env: dict[str, str] | None = None, cwd: str | None = None) -> int:
    """Runs a command with all three pipes closed at once; returns its exit code."""
    code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    null = os.open(os.devnull, os.O_RDWR)
    try:
        await way.launch(
            Command(arguments, env if env is not None else dict(os.environ), cwd), (null,) * 3, code.set_result
        )
    finally:
        os.close(null)
    async with asyncio.timeout(HANG_SECONDS):
        return await code


@pytest.mark.parametrize(
    ("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9)], ids=["zero", "seven", "killed"]
)
async def test_an_exit_code_is_told_as_subprocess_tells_it(way: Launcher, command: str, code: int) -> None:
    """Negative for the signal that ended the process."""
    assert code == await ended(way, "sh", "-c", command)
    await way.aclose()


@pytest.mark.parametrize(
    ("command", "cwd", "error"),
    [
        (("no-such-command",), None, FileNotFoundError),
        (("/etc/passwd",), None, PermissionError),
        (("true",), "/no/such/directory", FileNotFoundError),
        (("nul\0",), None, ValueError),
    ],
    ids=["absent", "not executable", "no directory", "nul byte"],
)
async def test_what_cannot_start_raises(
    way: Launcher, command: tuple[str, ...], cwd: str | None, error: type[Exception]
) -> None:
    """With the error that subprocess raises, so that one text fits both ways."""
    with pytest.raises(error):
        await ended(way, *command, cwd=cwd)
    await way.aclose()


async def test_the_command_is_sought_in_its_own_path(way: Launcher, tmp_path: Any) -> None:
    """A configured PATH names the program, weir's own does not."""
    program = tmp_path / "own-program"
    program.write_text("#!/bin/sh\nexit 5\n")
    program.chmod(0o755)
    assert 5 == await ended(way, "own-program", env={"PATH": f"{tmp_path}:/bin:/usr/bin"})
    await way.aclose()


async def test_a_large_environment_and_a_relative_program_work(way: Launcher, tmp_path: Any) -> None:
    """The program is sought below its working directory, as a shell would."""
    program = tmp_path / "here"
    program.write_text('#!/bin/sh\n[ "${#LARGE}" = 100000 ] && [ "$PWD" = "$AT" ] && exit 6\n')
    program.chmod(0o755)
    env = {"LARGE": "x" * 100_000, "AT": str(tmp_path.resolve()), "PATH": "/bin:/usr/bin"}
    assert 6 == await ended(way, "./here", env=env, cwd=str(tmp_path))
    await way.aclose()


@pytest.fixture
def heard_interrupts() -> Iterator[None]:
    """SIGINT is not ignored, as it is in what a script starts in the background; children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard_interrupts")
async def test_signals_that_python_and_the_guardian_ignore_are_not_ignored_in_servers(way: Launcher) -> None:
    """A server that writes to a closed pipe ends, and one that is asked to end can."""
    for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT):
        assert -number == await ended(way, "sh", "-c", f"kill -{int(number)} $$; exit 0")
    await way.aclose()


@linux
async def test_a_start_that_was_cancelled_leaves_no_process() -> None:
    """The guardian's answer finds nobody, and the process ends."""
    null = os.open(os.devnull, os.O_RDWR)
    async with launching() as one:
        assert isinstance(one, Guarded)
        assert 0 == await ended(one, "true")
        async with asyncio.TaskGroup() as tasks:
            command = Command(("sleep", "1000"), dict(os.environ))
            starting = tasks.create_task(one.launch(command, (null,) * 3, lambda code: None))
            await asyncio.sleep(0)
            starting.cancel()
        # whatever comes later finds the report of the cancelled start read already
        assert 0 == await ended(one, "true")
        left = psutil.Process(one.pid).children(recursive=True)
        psutil.wait_procs(left, timeout=HANG_SECONDS)
        assert [] == [process for process in left if members(process.pid)]
    os.close(null)


@linux
async def test_the_guardian_ends_with_its_last_user() -> None:
    """Closing returns when it has ended; a second closing does nothing."""
    one = Guarded(ignore)
    assert 0 == await ended(one, "true")
    pid = one.pid
    await one.aclose()
    await one.aclose()
    assert not psutil.pid_exists(pid)
    assert 0 == one.pid


@linux
async def test_many_starts_at_once_each_hear_of_their_own_process() -> None:
    """Reports are told apart by their numbers."""
    async with launching() as one, asyncio.TaskGroup() as tasks:
        codes = [tasks.create_task(ended(one, "sh", "-c", f"exit {number}")) for number in range(40)]
    assert list(range(40)) == [task.result() for task in codes]
