"""Why a child did not start, or how it ended, in words."""

import os
import shutil
import signal
from collections.abc import Mapping
from typing import Final

from weir.core import shortage
from weir.core.outcome import Blame, Failed, FailureKind
from weir.upstream.guarded import LOST

_SEE_LOG = "weir's log has its last stderr lines"


def how_it_ended(code: int | None, *, has_last_words: bool) -> Failed:
    """What its callers are told. They read the text, and stderr may quote what another caller sent, or a secret."""
    if code == LOST:
        text = "was ended with weir's guardian, the parent of the stdio servers; it is started again when it is asked"
        return Failed(FailureKind.EXITED, text, Blame.WEIR)
    if code is None:
        text = "closed its stdout and ran on"
    elif code < 0:
        text = f"was ended by {_signal_name(-code)}"
    else:
        text = f"exited with code {code}"
    return Failed(FailureKind.EXITED, f"{text}; {_SEE_LOG}" if has_last_words else text)


def _signal_name(number: int) -> str:
    """The name of a signal, or its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


ARGUMENTS_APART: Final = (
    "`command` holds its arguments, too, and is taken for one long name; "
    "give them apart, in `args` or as entries of their own"
)


def program_of(command: str) -> str:
    """Returns the name of the program without its folder; of a whole command line that of its first word."""
    words = command.split()
    is_line = len(words) > 1 and not os.path.exists(command)
    return os.path.basename(words[0] if is_line else command)


def holds_arguments(command: str, path: str | None) -> bool:
    """Returns whether a program's name is a whole command line (`npx -y some-server`).

    Names may have blanks: it is none if there is such a program.
    """
    words = command.split()
    return len(words) > 1 and shutil.which(command, path=path) is None and shutil.which(words[0], path=path) is not None


def what_is_short(command: str, error: Exception) -> str:
    """One line: the machine has no room for the program. Callers read it, so it tells no folder."""
    return f"cannot start '{program_of(command)}': {shortage.what_is_short(error)}"


def why_not_started(command: str, cwd: str | None, env: Mapping[str, str], error: Exception) -> str:
    """One line: which program, why, and the mend. Callers read it, so it tells no folder and no argument."""
    program = program_of(command)
    if cwd is not None and not os.path.isdir(cwd):
        return f"cannot start '{program}': its working directory does not exist; correct `cwd`"
    if holds_arguments(command, env.get("PATH")):
        return f"cannot start '{program}': {ARGUMENTS_APART}"
    is_sought = "/" not in command
    if isinstance(error, FileNotFoundError) or (is_sought and shutil.which(command, path=env.get("PATH")) is None):
        return f"cannot start '{program}': there is no such command; install it, or give its full path in `command`"
    if isinstance(error, PermissionError):
        return f"cannot start '{program}': it is not executable; correct its permissions or `command`"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "the command cannot be passed on"
    return f"cannot start '{program}': {reason}; correct `command`"
