"""Finished calls are read some at a time: what waits is bounded, and nothing is read twice or kept."""

import pytest

from support.watched import OK, answer, call_of, giving, tool_call, watching
from weir.core.call import Attempt, Call
from weir.core.events import CallFinished
from weir.core.outcome import Replied
from weir.telemetry.reading import WAITING_BYTES, WAITING_CALLS, Reader, Reading

pytestmark = pytest.mark.anyio


def finished(call: Call) -> CallFinished:
    call.attempts.append(Attempt(call, 1, 100.0))
    return CallFinished(call, OK)


def no_bug(error: Exception) -> None:
    raise error


class Fold:
    """Keeps what it is given; fails when told to."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.calls: list[Call] = []
        self.attempts: list[int] = []

    def __call__(self, reading: Reading) -> None:
        if self.fails:
            raise RuntimeError("a bug")
        self.calls.append(reading.call)
        self.attempts.append(len(reading.call.attempts))


def test_calls_wait_until_there_are_enough_of_them() -> None:
    """Then each fold gets each once, in order."""
    first, second = Fold(), Fold()
    reader = Reader([first, second], no_bug)
    (handle,) = reader.handlers().values()
    calls = [call_of(tool_call()) for _ in range(WAITING_CALLS)]
    for call in calls[:-1]:
        handle(finished(call))
    assert [] == first.calls
    handle(finished(calls[-1]))
    assert calls == first.calls == second.calls
    reader.flush()
    assert WAITING_CALLS == len(first.calls)


def test_large_bodies_do_not_wait_for_others() -> None:
    """A reply lives no longer than needed."""
    fold = Fold()
    (handle,) = Reader([fold], no_bug).handlers().values()
    handle(finished(call_of(tool_call(), bytes_sent=WAITING_BYTES)))
    assert 1 == len(fold.calls)


def test_a_read_call_lets_go_of_its_attempts() -> None:
    """After every fold has seen them; without the cycle its memory is free at once."""
    fold = Fold()
    reader = Reader([fold], no_bug)
    (handle,) = reader.handlers().values()
    call = call_of(tool_call())
    handle(finished(call))
    reader.flush()
    assert ([1], []) == (fold.attempts, call.attempts)


def test_a_fold_that_fails_harms_no_other() -> None:
    """Every failure is reported."""
    failures: list[Exception] = []
    fold = Fold()
    reader = Reader([Fold(fails=True), fold], failures.append)
    (handle,) = reader.handlers().values()
    for _ in range(3):
        handle(finished(call_of(tool_call())))
    reader.flush()
    assert (3, 3) == (len(failures), len(fold.calls))


async def test_a_scrape_and_the_end_read_what_waits() -> None:
    """Nothing is lost, and /metrics is never behind."""
    async with watching() as watch:
        await watch.serve(call_of(tool_call()), answer)
        assert 1 == await watch.value("weir_requests_total", reason="ok")
        await watch.serve(call_of(tool_call()), giving(Replied(200, [], b"{}")))
        assert 4 == len(await watch.spans())
