"""A running weir shows neither the path of an upstream's URL nor what a server wrote to stderr."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import free_port
from support.rawhttp import post
from support.seen import logged, shown
from support.weirs import Config, command, weir_http, write_config

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add"}}'
INITIALIZE = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
    b'"capabilities":{},"clientInfo":{"name":"test","version":"0"}}}'
)
WATCHED: Config = {"listen": {"diagnostics": "127.0.0.1:0"}, "telemetry": {"logs": {"level": "debug"}}}
PAGES = ("/status", "/readyz", "/metrics")

LAST_WORDS = """
import sys
sys.stdin.readline()
sys.exit("the licence of customer 4711 MARKER ran out")
"""


async def test_the_path_of_a_url_is_shown_nowhere(tmp_path: Path) -> None:
    """Hosted servers have their key in it. The address is shown, so that an operator knows which server it is."""
    port = free_port()
    upstream = {"url": f"http://127.0.0.1:{port}/s/MARKER/mcp?key=MARKER"}
    with weir_http(tmp_path, upstream, WATCHED) as weir:
        reply = await post(weir.port, CALL)
        pages = [(await shown(weir, page)).decode() for page in PAGES]
        texts = [reply.body.decode(), weir.log(), *pages]
    assert 502 == reply.status
    assert f'"http://127.0.0.1:{port}"' in pages[0]
    assert [False] * len(texts) == ["MARKER" in text for text in texts]


def test_weir_check_shows_no_path_of_a_url_and_no_argument(tmp_path: Path) -> None:
    """Neither in what is served nor in what it warns of."""
    file = write_config(tmp_path, {"url": "https://mcp.example/s/MARKER/mcp"}, {}, "")
    done = subprocess.run([sys.executable, "-m", "weir", "check", file], check=False, capture_output=True, text=True)
    assert "one: https://mcp.example\n" in done.stdout
    assert "MARKER" not in done.stdout + done.stderr


async def test_a_servers_stderr_is_in_the_log_and_in_no_answer(tmp_path: Path) -> None:
    """Another caller's data may be in it. The client reads the exit code and where the reason is."""
    with weir_http(tmp_path, command([sys.executable, "-c", LAST_WORDS]), WATCHED) as weir:
        reply = await post(weir.port, INITIALIZE)
        [line] = await logged(weir, "exited by itself")
        pages = [(await shown(weir, page)).decode() for page in PAGES]
    assert "MARKER" in line
    assert b"exited with code 1; weir's log has its last stderr lines" in reply.body
    assert [False] * 4 == ["MARKER" in text for text in (reply.body.decode(), *pages)]


async def test_a_program_that_cannot_start_is_named_without_its_folder(tmp_path: Path) -> None:
    """Callers are not told how the machine is laid out."""
    child = {**command(["/opt/MARKER/server", "--token", "MARKER"]), "cwd": str(tmp_path)}
    with weir_http(tmp_path, child, WATCHED) as weir:
        reply = await post(weir.port, INITIALIZE)
    assert b"cannot start 'server'" in reply.body
    assert (b"MARKER" not in reply.body, str(tmp_path).encode() not in reply.body) == (True, True)


CHATTY = """
import sys
for words in (
    "api key is MARKER", "--password MARKER", "sk-MARKERMARKER", "postgres://u:p@MARKER@h/",
    '{"error": "{\\\\"token\\\\": \\\\"MARKER\\\\"}"}',
    "-----BEGIN PRIVATE KEY-----\\nMARKER\\n-----END PRIVATE KEY-----",
):
    print(words, file=sys.stderr, flush=True)
sys.stdin.readline()
sys.exit("api key is MARKER")
"""


async def test_what_servers_say_of_their_secrets_is_not_in_the_log(tmp_path: Path) -> None:
    """In the shapes of command lines, sentences, connection strings, quoted JSON and key files."""
    with weir_http(tmp_path, command([sys.executable, "-c", CHATTY]), WATCHED) as weir:
        await post(weir.port, INITIALIZE)
        lines = [*await logged(weir, '"server stderr"', 6), *await logged(weir, "exited by itself")]
    assert any("api key is [redacted]" in line for line in lines)
    assert [] == [line for line in lines if "MARKER" in line]
