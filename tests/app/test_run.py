"""The process as whoever started it sees it: its exit code and its last words."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.limits import HANG_SECONDS
from weir.app.run import kept
from weir.core.events import Notice

pytestmark = pytest.mark.anyio
READING = [sys.executable, "-c", "import sys; sys.stdin.read()"]
UNINSTALLED = """
import importlib.metadata
known = importlib.metadata.version
def version(name):
    if name == "mcp-weir":
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)
importlib.metadata.version = version
from weir.cli import main
main()
"""
INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}\n'


def weir(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "weir", "run", *arguments],
        input=stdin,
        capture_output=True,
        timeout=HANG_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("reason", "command"),
    [
        ("upstream_exited", [sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(3)"]),
        ("upstream_exited", [sys.executable, "-c", "import sys; sys.exit(3)"]),
        ("upstream_connect_error", ["no-such-program-anywhere"]),
    ],
)
def test_a_server_that_dies_under_its_client_is_a_failure_of_the_process(reason: str, command: list[str]) -> None:
    """An editor started weir in the server's place: it must see that the server failed, after the clear error."""
    # the pipe must stay open for the server to be the one that ends it
    process = subprocess.Popen(
        [sys.executable, "-m", "weir", "run", "--stdio", "--", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(INITIALIZE)
        process.stdin.flush()
        answer = process.stdout.readline()
        assert 1 == process.wait(timeout=HANG_SECONDS)
    assert f'"reason":"{reason}"'.encode() in answer


def test_a_client_that_takes_its_time_learns_too_that_its_server_did_not_start() -> None:
    """The error is the answer to its first request, whenever that comes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "weir", "run", "--stdio", "--log-format", "json", "--", sys.executable, "-c", ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        while b"exited by itself" not in process.stderr.readline():
            assert process.poll() is None
        process.stdin.write(INITIALIZE)
        process.stdin.flush()
        answer = process.stdout.readline()
        assert 1 == process.wait(timeout=HANG_SECONDS)
    assert b'"reason":"upstream_exited"' in answer


def test_a_client_that_leaves_is_a_clean_end() -> None:
    """Stdin's end is how a client on a pipe stops its server."""
    done = weir("--stdio", "--", *READING)
    assert (0, b"") == (done.returncode, done.stdout)


def test_weir_runs_from_a_tree_that_was_never_installed() -> None:
    """Nobody knows its version then, and nobody needs it."""
    command = [sys.executable, "-c", UNINSTALLED, "run", "--stdio", "--", *READING]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=HANG_SECONDS, check=False)
    assert (0, b"") == (done.returncode, done.stdout), done.stderr


@pytest.mark.parametrize("diagnostics", ["off", "127.0.0.1:0"])
@pytest.mark.parametrize(
    ("listen", "upstream", "told"),
    [
        ("", "tls: {ca: nowhere.pem}", "upstream 'a': tls: No such file or directory (nowhere.pem)"),
        ("tls: {cert: no.pem, key: no.key}", "", "listen.tls: No such file or directory (no.pem, no.key)"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, diagnostics: str, listen: str, upstream: str, told: str
) -> None:
    """TLS material is looked at before anything is served: one line, the place and the mend, and no traceback."""
    file = tmp_path / "weir.yaml"
    file.write_text(
        f"listen: {{http: '127.0.0.1:0', diagnostics: '{diagnostics}', {listen}}}\n"
        f"upstreams: [{{name: a, url: 'https://127.0.0.1:1/mcp', {upstream}}}]\n"
    )
    done = weir("--config", str(file))
    assert 1 == done.returncode
    assert [f"weir: {told}; give PEM files that weir can read"] == done.stderr.decode().splitlines()


async def test_a_service_that_a_bug_has_ended_is_logged_and_runs_again() -> None:
    """Many share it: its end must not be the end of all their calls."""
    runs: list[int] = []
    told: list[Any] = []

    async def service() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("a bug")

    await kept(service, told.append)
    assert 2 == len(runs)
    assert [Notice("error", "a bug in weir", {"error": "RuntimeError('a bug')"})] == told
