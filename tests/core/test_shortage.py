"""What weir itself lacks is told apart from what a server did, and named."""

import errno
import os

import pytest

from weir.core.shortage import is_shortage, what_is_short


@pytest.mark.parametrize(
    ("number", "named"),
    [
        (errno.EMFILE, "weir has no file descriptor left (EMFILE)"),
        (errno.ENFILE, "the machine has no file descriptor left (ENFILE)"),
        (errno.ENOMEM, "the machine has no memory left for weir (ENOMEM)"),
        (errno.EAGAIN, "the machine has no process, thread or port left for weir (EAGAIN)"),
    ],
)
def test_a_limit_of_the_machine_is_named_with_its_mend(number: int, named: str) -> None:
    error = OSError(number, os.strerror(number))
    what, _, mend = what_is_short(error).partition("; ")
    assert (True, named, True) == (is_shortage(error), what, bool(mend))


def test_memory_that_python_does_not_get_is_the_machines() -> None:
    assert (True, True) == (is_shortage(MemoryError()), "(ENOMEM)" in what_is_short(MemoryError()))


@pytest.mark.parametrize("error", [OSError(errno.ECONNREFUSED, "refused"), OSError("no number"), ValueError()])
def test_what_a_server_did_is_no_shortage(error: Exception) -> None:
    assert not is_shortage(error)
