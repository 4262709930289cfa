"""Third-party programs that tests run: installed once into a cache directory by a script, which CI runs by itself."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("WEIR_CACHE", Path.home() / ".cache"))
_INSTALL_SECONDS = 900


def require_installed(script: Path) -> None:
    """Run an install script (quick when all is there) in CI; elsewhere skip the test unless it has run before.

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
    if shutil.which("npm") is None:
        pytest.skip(f"needs npm, then: bash {script}")
    pytest.skip(f"needs what `bash {os.path.relpath(script)}` installs")
