"""The command line as one types it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.limits import HANG_SECONDS
from support.processes import free_port, running
from weir.app.version import installed_version

pytestmark = pytest.mark.e2e


def weir(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `weir` to its end."""
    environ = {**os.environ, "COLUMNS": "200", "TEAM": "s3cr3t"}
    command = [sys.executable, "-m", "weir", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=HANG_SECONDS, cwd=cwd, env=environ, check=False
    )


@pytest.mark.parametrize("form", ["version", "--version"])
def test_version_says_which_weir_this_is(form: str) -> None:
    """One line, and the exit code of success."""
    done = weir(form)
    assert (0, f"weir {installed_version()}\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["check", "--help"]])
def test_help_is_plain_text(arguments: list[str]) -> None:
    """No boxes, no colours: it is read by programs too."""
    done = weir(*arguments)
    assert 0 == done.returncode
    assert done.stdout.isascii()


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("say what to serve", ["run"]),
        ("in one form; these are 2: --upstream URL, --config FILE", ["run", "--upstream", "http://x", "--config", "y"]),
        ("in one form; these are 2: --upstream URL, -- COMMAND ARGS", ["run", "--upstream", "http://x", "--", "y"]),
        ("say what to check, in one of these forms: FILE, --config FILE, --upstream URL", ["check"]),
        ("No such option: --nope", ["run", "--nope"]),
        ("No such command 'nope'", ["nope"]),
        ("--upstream: this is not an http or https URL", ["run", "--upstream", "localhost"]),
        ("--listen: '8931' names no host", ["run", "--listen", "8931", "--upstream", "http://x"]),
        ("none.yaml: cannot be read: No such file", ["run", "--config", "none.yaml"]),
        ("in one form; these are 2: FILE, --config FILE", ["check", "a", "--config", "b"]),
    ],
)
def test_a_mistake_is_told_in_one_line_with_exit_code_2(text: str, arguments: list[str]) -> None:
    """Never a traceback; nothing on stdout."""
    done = weir(*arguments)
    assert (2, "") == (done.returncode, done.stdout)
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_faulty_file_stops_run_with_all_its_problems(tmp_path: Path) -> None:
    """And shows no value of a variable."""
    (tmp_path / "weir.yaml").write_text("upstreams:\n  - {name: a, url: '${TEAM}'}\n  - {nam: b}\n")
    done = weir("run", "--config", "weir.yaml", cwd=tmp_path)
    assert 2 == done.returncode
    assert ["weir.yaml:2", "weir.yaml:3", "weir.yaml:3", "weir.yaml:3"] == [
        line.partition(": ")[0] for line in done.stderr.splitlines()
    ]
    assert "s3cr3t" not in done.stderr


def test_check_says_what_is_served_and_exits_0(tmp_path: Path) -> None:
    """By file, by flag, by URL; warnings do not fail it."""
    (tmp_path / "weir.yaml").write_text("upstreams: [{name: a, url: 'https://a.example/mcp'}]\n")
    for arguments in (["weir.yaml"], ["--config", "weir.yaml"]):
        done = weir("check", *arguments, cwd=tmp_path)
        assert (0, "") == (done.returncode, done.stderr)
        assert "a: https://a.example\n  http://127.0.0.1:8931/mcp\n" in done.stdout
        assert "warning: a: if it asks for OAuth, clients will refuse" in done.stdout
    assert 0 == weir("check", "--upstream", "http://127.0.0.1:1").returncode


def test_check_exits_1_for_a_file_that_weir_cannot_run_with(tmp_path: Path) -> None:
    """Because it does not parse, or because it cannot work."""
    (tmp_path / "bad.yaml").write_text("upstreams: [{name: a, ulr: x}]\n")
    done = weir("check", "bad.yaml", cwd=tmp_path)
    assert (1, "") == (done.returncode, done.stdout)
    assert "bad.yaml:1: upstreams[0].ulr: unknown key; did you mean 'url'?" in done.stderr
    (tmp_path / "absent.yaml").write_text("upstreams: [{name: a, command: [no-such-program-anywhere]}]\n")
    done = weir("check", "absent.yaml", cwd=tmp_path)
    assert 1 == done.returncode
    assert "error: a: the program no-such-program-anywhere is not there" in done.stdout


def test_check_prints_the_schema() -> None:
    """For editors."""
    done = weir("check", "--schema")
    assert 0 == done.returncode
    assert "https://json-schema.org/draft/2020-12/schema" == json.loads(done.stdout)["$schema"]


@pytest.mark.parametrize("form", ["url", "command", "file"])
def test_run_serves_in_its_three_forms_until_it_is_told_to_stop(tmp_path: Path, form: str) -> None:
    """A clean stop exits with 0."""
    port = free_port()
    flags = ["--listen", f"127.0.0.1:{port}", "--diagnostics", "off"]
    (tmp_path / "mcp.json").write_text('{"mcpServers": {"a": {"url": "http://127.0.0.1:9/mcp"}}}')
    forms = {
        "url": ["--upstream", "http://127.0.0.1:9/mcp", *flags],
        "command": [*flags, "--name", "mine", "--", sys.executable, "-c", "input()"],
        "file": ["--config", str(tmp_path / "mcp.json"), *flags],
    }
    with running([sys.executable, "-m", "weir", "run", *forms[form]], port=port) as process:
        process.interrupt(signal.SIGTERM)
        assert 0 == process.wait()
