"""`weir demo` as a real process: its screen's figures, its end, and what it leaves behind."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ARGV = [sys.executable, "-m", "weir", "demo"]
ENV = {**os.environ, "COLUMNS": "100", "PYTHONUNBUFFERED": "1"}
GIVE_UP_SECONDS = 60


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo keeps its files."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def shown(temporary: Path) -> str:
    """What a short demo prints where there is no terminal; a proxy that is set must not lead it off this machine."""
    dead = "http://127.0.0.1:9"
    env = {**ENV, "TMPDIR": str(temporary), "HTTP_PROXY": dead, "http_proxy": dead}
    done = subprocess.run([*ARGV, "--seconds", "2"], capture_output=True, env=env, timeout=GIVE_UP_SECONDS, check=False)
    text = done.stdout.decode()
    assert 0 == done.returncode, text + done.stderr.decode()
    assert b"" == done.stderr
    return text


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[bytes]]:
    """A demo that would last; whatever is left of it is killed."""
    with subprocess.Popen([*ARGV, "--seconds", "300"], stdout=subprocess.PIPE, env=ENV) as process:
        yield process
        process.kill()


def rows(text: str) -> dict[str, list[str]]:
    """The table of calls: what stands behind each tool's name."""
    found = re.findall(
        r"^│ (search|report|book|all) +(\d+) +(\d+) +(\d+|–) +(\d+|–) +([\d.,]+) ms +([\d.,]+) ms", text, re.MULTILINE
    )
    return {tool: list(values) for tool, *values in found}


def sent(text: str) -> dict[str, int]:
    """What the demo's clients counted themselves, as its last progress line says."""
    line = [line for line in text.splitlines() if "called its tools" in line][-1]
    return {tool: int(count) for count, tool in re.findall(r"(\d+) (search|report|book)", line)}


def test_weir_saw_every_call_that_was_sent(shown: str) -> None:
    """The clients' own counts, tool by tool, are those of the table."""
    table = rows(shown)
    assert {"search", "report", "book"} == sent(shown).keys()
    assert sent(shown) == {tool: int(values[0]) for tool, values in table.items() if tool != "all"}
    total = sum(sent(shown).values())
    assert total == int(table["all"][0])
    assert f"✓ clients sent {total}, the access log has {total}, /metrics counts {total}" in shown


def test_outcomes_are_told_apart(shown: str) -> None:
    """Every third booking is a tool's error; the two calls without a server are failures."""
    table = rows(shown)
    assert int(table["book"][0]) // 3 == int(table["book"][2].replace("–", "0"))
    assert ["1", "–", "1"] == [table[tool][3] for tool in ("search", "book", "report")]
    for values in table.values():
        calls, ok, *bad = (int(value.replace("–", "0")) for value in values[:4])
        assert calls == ok + sum(bad)


def test_failures_say_what_happened_and_whose_fault_it_was(shown: str) -> None:
    """Word for word as the clients got them."""
    words = re.sub(r"[│\s]+", " ", shown)
    assert "upstream_reset blame: upstream sent: yes MCP server 'demo': the stream ended before the answer." in words
    assert "upstream_connect_error blame: upstream sent: no MCP server 'demo': cannot connect" in words


def test_the_waterfall_adds_up_to_the_slowest_call(shown: str) -> None:
    """Its phases are the whole of it, and it is no report's failure."""
    whole = float(re.findall(r"the slowest call: report, ([\d.,]+) ms", shown)[0].replace(",", ""))
    spent = re.findall(r"^│ [a-z_]+ +[▏█]+ +([\d.,]+) ms", shown, re.MULTILINE)
    assert pytest.approx(whole, abs=0.5) == sum(float(value.replace(",", "")) for value in spent)


def test_it_leaves_no_files(shown: str, temporary: Path) -> None:
    """Its configuration and logs are gone with it."""
    assert [] == list(temporary.iterdir())


def test_ctrl_c_while_clients_call_shows_what_was_seen(demo: subprocess.Popen[bytes]) -> None:
    """It is enough traffic, not an error; nothing runs on."""
    assert demo.stdout is not None
    programs = []
    for line in demo.stdout:
        if b"clients call" in line:
            programs = psutil.Process(demo.pid).children(recursive=True)
            demo.send_signal(signal.SIGINT)
            break
    rest = demo.stdout.read().decode()
    assert 0 == demo.wait(GIVE_UP_SECONDS)
    assert "weir saw" in rest
    assert 2 <= len(programs)
    assert [] == [program for program in programs if program.is_running()]


def test_ctrl_c_while_it_starts_stops_it(demo: subprocess.Popen[bytes]) -> None:
    """With one word and no traceback."""
    assert demo.stdout is not None
    assert b"starting" in demo.stdout.readline()
    demo.send_signal(signal.SIGINT)
    assert "stopped" == demo.stdout.read().decode().splitlines()[-1]
    assert 0 == demo.wait(GIVE_UP_SECONDS)


def test_on_a_terminal_it_moves_while_it_works() -> None:
    """A terminal sees a bar, then the same screen in colours; eighty columns, the narrowest in use, are enough."""
    ours, theirs = pty.openpty()
    env = {**ENV, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen([*ARGV, "--seconds", "1"], stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    before, screen = read_to_end(ours).split("weir saw")
    assert 0 == process.wait(GIVE_UP_SECONDS)
    assert "━" in before
    assert "\x1b[1m" in screen
    lines = re.sub(r"\x1b\[[0-9;]*m", "", screen).splitlines()[1:]
    assert {80} == {len(line) for line in lines if line}
    assert not any("…" in line for line in lines)


def read_to_end(descriptor: int) -> str:
    """All that a terminal was sent."""
    pieces = []
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < give_up:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # the other side is closed
            break
        pieces.append(piece)
    os.close(descriptor)
    return b"".join(pieces).decode(errors="replace")
