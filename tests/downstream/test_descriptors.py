"""Reading and writing on descriptors of every kind, on asyncio's own loop and on uvloop's."""

import asyncio
import os
import socket
import tty
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from support.limits import HANG_SECONDS
from weir.downstream.descriptors import HIGH_WATER_BYTES, Input, Output

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]
pytestmark = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
Loop = Callable[[], asyncio.AbstractEventLoop]


def run(loop: Loop, body: Callable[[], Awaitable[None]]) -> None:
    """Run a test on one kind of loop."""

    async def limited() -> None:
        async with asyncio.timeout(HANG_SECONDS):
            await body()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(limited())


def test_a_pipe_is_read_as_it_is_written_and_to_its_end(loop: Loop) -> None:
    """What has arrived comes at once; b"" is the end."""
    read_end, write_end = os.pipe()

    async def body() -> None:
        source = Input(read_end)
        os.write(write_end, b"one")
        assert b"one" == await source.read()
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(source.read())
            await asyncio.sleep(0)
            os.write(write_end, b"two")
        assert b"two" == reading.result()
        os.close(write_end)
        assert b"" == await source.read()

    run(loop, body)
    os.close(read_end)


def test_reading_can_be_abandoned(loop: Loop) -> None:
    """A cancelled read leaves nothing behind on the loop, and takes nothing away."""
    read_end, write_end = os.pipe()

    async def body() -> None:
        source = Input(read_end)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await source.read()
        os.write(write_end, b"later")
        assert b"later" == await source.read()

    run(loop, body)
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize("name", ["file", "/dev/null"])
def test_a_file_is_read_to_its_end(loop: Loop, tmp_path: Path, name: str) -> None:
    """epoll refuses it, and nobody has to wait for it either."""
    path = Path(name) if name.startswith("/") else tmp_path / name
    expected = b"" if name.startswith("/") else b"x" * 200_000
    if expected:
        path.write_bytes(expected)
    descriptor = os.open(path, os.O_RDONLY)

    async def body() -> None:
        source = Input(descriptor)
        found = b""
        while chunk := await source.read():
            found += chunk
        assert expected == found

    run(loop, body)
    os.close(descriptor)


def test_one_socket_may_be_both_ends(loop: Loop) -> None:
    """socat and inetd hand out one socket for stdin and stdout: what arrives there is no end of writing."""
    ours, theirs = socket.socketpair()

    async def body() -> None:
        source, sink = Input(ours.fileno()), Output(ours.fileno())
        theirs.send(b"question\n")
        assert b"question\n" == await source.read()
        theirs.send(b"more\n")
        await sink.write(b"answer\n")
        assert b"more\n" == await source.read()
        assert b"answer\n" == theirs.recv(100)
        assert not sink.broken.is_set()
        sink.close()

    run(loop, body)
    ours.close()
    theirs.close()


def test_a_terminal_that_hangs_up_is_an_end(loop: Loop) -> None:
    """Linux says EIO; to weir nobody is there any more."""
    master, slave = os.openpty()
    tty.setraw(slave)

    async def body() -> None:
        source = Input(slave)
        os.write(master, b"typed\n")
        assert b"typed\n" == await source.read()
        os.close(master)
        assert b"" == await source.read()

    run(loop, body)
    os.close(slave)


def test_a_full_pipe_holds_the_writer(loop: Loop) -> None:
    """Until the reader has caught up; every byte arrives, in order."""
    read_end, write_end = os.pipe()
    lines = [b"%d:" % number + b"x" * HIGH_WATER_BYTES + b"\n" for number in range(8)]

    async def body() -> None:
        sink, source = Output(write_end), Input(read_end)

        async def write() -> None:
            for line in lines:
                await sink.write(line)
            await sink.flush()
            sink.close()
            os.close(write_end)

        found = b""
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(write())
            for _ in range(20):
                await asyncio.sleep(0)
            assert not writing.done()
            while chunk := await source.read():
                found += chunk
        assert b"".join(lines) == found

    run(loop, body)
    os.close(read_end)


def test_a_write_that_is_cancelled_while_it_waits_writes_nothing(loop: Loop) -> None:
    """A line is whole or absent, whoever gives up when."""
    read_end, write_end = os.pipe()
    big = b"b" * (4 * HIGH_WATER_BYTES) + b"\n"

    async def body() -> None:
        sink, source = Output(write_end), Input(read_end)
        await sink.write(big)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sink.write(b"given up\n")
        found = b""
        async with asyncio.TaskGroup() as group:
            group.create_task(sink.write(b"next\n"))
            while not found.endswith(b"next\n"):
                found += await source.read()
        assert big + b"next\n" == found
        sink.close()

    run(loop, body)
    os.close(read_end)
    os.close(write_end)


def test_a_reader_that_left_is_noticed(loop: Loop) -> None:
    """Nothing waits for it any more, and what is written is dropped."""
    read_end, write_end = os.pipe()

    async def body() -> None:
        sink = Output(write_end)
        async with asyncio.TaskGroup() as group:
            await sink.write(b"x" * (4 * HIGH_WATER_BYTES))
            writing = group.create_task(sink.write(b"behind it"))
            await asyncio.sleep(0)
            assert not writing.done()
            os.close(read_end)
        assert sink.broken.is_set()
        await sink.write(b"more\n")
        await sink.flush()
        sink.close()

    run(loop, body)
    os.close(write_end)


def test_a_descriptor_is_left_as_it_was_found(loop: Loop) -> None:
    """Other processes may share it."""
    read_end, write_end = os.pipe()

    async def body() -> None:
        sink = Output(write_end)
        assert not os.get_blocking(write_end)
        sink.close()
        assert os.get_blocking(write_end)

    run(loop, body)
    os.close(read_end)
    os.close(write_end)
