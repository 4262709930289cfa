"""Why a child did not start, or how it ended, in words."""

import os
import shutil
import signal
from collections.abc import Mapping


def signal_name(number: int) -> str:
    """The name of a signal, or its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def what_is_short(command: str, error: Exception) -> str:
    """One line: the machine has no room for the program. Callers read it, so it tells no folder."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "no memory"
    return f"there was no room to start '{os.path.basename(command)}' ({reason.lower()})"


def why_not_started(command: str, cwd: str | None, env: Mapping[str, str], error: Exception) -> str:
    """One line: which program, why, and the mend. Callers read it, so it tells no folder and no argument."""
    program = os.path.basename(command)
    if cwd is not None and not os.path.isdir(cwd):
        return f"cannot start '{program}': its working directory does not exist; correct `cwd`"
    is_sought = "/" not in command
    if isinstance(error, FileNotFoundError) or (is_sought and shutil.which(command, path=env.get("PATH")) is None):
        return f"cannot start '{program}': there is no such command; install it, or give its full path in `command`"
    if isinstance(error, PermissionError):
        return f"cannot start '{program}': it is not executable; correct its permissions or `command`"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "the command cannot be passed on"
    return f"cannot start '{program}': {reason}; correct `command`"
