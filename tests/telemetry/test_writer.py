"""Lines for stderr: batched, bounded, and never in anybody's way."""

import os
import threading

from weir.telemetry.writer import BATCH_BYTES, Writer, to_stderr

ENOUGH_SECONDS = 10.0


class Reader:
    """A stderr that takes nothing until it is told to."""

    def __init__(self) -> None:
        self.may_take = threading.Event()
        self.has_begun = threading.Event()
        self.batches: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Wait, then take."""
        self.has_begun.set()
        self.may_take.wait(ENOUGH_SECONDS)
        self.batches.append(data)


def test_lines_are_written_in_order_and_in_batches() -> None:
    """What was added between two flushes is one write."""
    written: list[bytes] = []
    writer = Writer(written.append)
    for number in range(3):
        writer.add(b"%d\n" % number)
    assert [] == written
    writer.flush()
    writer.add(b"last\n")
    writer.close(ENOUGH_SECONDS)
    assert [b"0\n1\n2\n", b"last\n"] == written


def test_a_large_batch_does_not_wait_for_the_next_tick() -> None:
    """It is handed over as soon as it is large."""
    reader = Reader()
    writer = Writer(reader.write)
    writer.add(b"x" * BATCH_BYTES)
    assert reader.has_begun.wait(ENOUGH_SECONDS)
    reader.may_take.set()
    writer.close(ENOUGH_SECONDS)


def test_a_reader_that_is_stuck_costs_lines_and_nothing_else() -> None:
    """Adding never blocks; what found no room is counted; when it reads again lines flow again."""
    reader = Reader()
    writer = Writer(reader.write, limit_bytes=10)
    writer.add(b"12345\n")
    writer.flush()
    assert reader.has_begun.wait(ENOUGH_SECONDS)
    writer.add(b"678\n")
    writer.add(b"lost\n")
    assert 1 == writer.dropped
    writer.close(0.01)
    reader.may_take.set()
    writer.add(b"9\n")
    writer.close(ENOUGH_SECONDS)


def test_a_closed_stderr_loses_lines_and_counts_them() -> None:
    """There is nobody left to tell."""

    def closed(data: bytes) -> None:
        raise BrokenPipeError

    writer = Writer(closed)
    writer.add(b"1\n")
    writer.add(b"2\n")
    writer.close(ENOUGH_SECONDS)
    assert 2 == writer.dropped


def test_stderr_gets_everything_even_when_it_is_non_blocking_and_full() -> None:
    """A stdout that somebody made non-blocking may share its open file."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    data = os.urandom(300_000)
    pieces: list[bytes] = []

    def read_all() -> None:
        while sum(map(len, pieces)) < len(data):
            pieces.append(os.read(reading, 65536))

    thread = threading.Thread(target=read_all)
    thread.start()
    to_stderr(data, writing)
    thread.join(ENOUGH_SECONDS)
    os.close(reading)
    os.close(writing)
    assert data == b"".join(pieces)
