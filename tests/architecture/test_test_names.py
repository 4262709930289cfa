"""Names of tests are constants: pytest-xdist refuses to start when two of its processes collect different ones."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.limits import HANG_SECONDS

ROOT = Path(__file__).parents[2]
_NOT_SOURCE = (".*", "__pycache__", "*.egg-info", "mutants", "build", "dist", "node_modules")


def test_the_names_of_tests_are_the_same_later_and_elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """They hold no time, path, address, order of a set, nor anything of the environment."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*_NOT_SOURCE))
    items = request.session.items
    names = {item.nodeid for item in items}
    files = sorted({str(item.path.relative_to(ROOT)) for item in items})
    found = _collected(copy, files)
    assert sorted(names - found) == []


def _collected(copy: Path, files: list[str]) -> set[str]:
    """What another process collects of the files in a copy of the project, with another seed, home and time zone."""
    away = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environ = {**away, "PYTHONHASHSEED": "7", "HOME": str(copy), "TZ": "Asia/Kathmandu", "WEIR_CACHE": str(copy)}
    options = ["--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        cwd=copy,
        env=environ,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return set(done.stdout.splitlines())
