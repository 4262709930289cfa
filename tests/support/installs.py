"""Third-party programs that tests run: installed once by `tests/install.sh`, or packages of the operating system."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("WEIR_CACHE", Path.home() / ".cache"))
_INSTALL_SECONDS = 900
_APT = "apt-get install "


def require_installed(script: Path) -> None:
    """Skips the test unless an install script has done its work. In CI it runs the script, and a failure is red.

    The script must exit at once when its work is done and must accept `--check`, which only says whether it is.
    """
    if subprocess.run(["bash", script, "--check"], check=False).returncode == 0:
        return
    if os.environ.get("CI") == "true":
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "weir-install.lock").open("w") as lock:
            # another worker may be installing the same
            fcntl.flock(lock, fcntl.LOCK_EX)
            subprocess.run(["bash", script], check=True, timeout=_INSTALL_SECONDS)
        return
    pytest.skip(f"needs what this installs: bash {os.path.relpath(script)}")


def require_package(program: str, package: str) -> None:
    """Skips the test without a program of the operating system's; the reason names the package that has it."""
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}: {_APT}{package}")


def needs(reasons: Sequence[str]) -> str:
    """One line that says what skipped tests need and which command brings it; empty when nothing is missing.

    Reasons of the form "needs PROGRAM: COMMAND" count; other tests are skipped for what no command brings.
    """
    commands = [reason.partition(": ")[2] for reason in reasons if reason.startswith("needs ")]
    if not commands:
        return ""
    packages = sorted({command.removeprefix(_APT) for command in commands if command.startswith(_APT)})
    others = sorted({command for command in commands if not command.startswith(_APT)})
    wanted = [_APT + " ".join(packages)] if packages else []
    return f"{len(commands)} tests were skipped. To run them: {'; '.join([*wanted, *others])}"
