"""The far end answers as an MCP server would."""

import json
import subprocess
import sys
from pathlib import Path

from bench import lines


def test_a_call_is_answered_under_its_own_id() -> None:
    """The id's JSON text comes back as it was, a string as a string."""
    assert lines.call_result(b'"7"') == lines.answer(b'{"jsonrpc":"2.0","id":"7","method":"tools/call","params":{}}')


def test_initialize_agrees_to_the_version_that_was_asked_for() -> None:
    """Any client's handshake succeeds."""
    reply = lines.answer(b'{"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-03-26"}}')
    assert reply is not None
    assert json.loads(reply)["result"]["protocolVersion"] == "2025-03-26"


def test_a_notification_gets_no_answer() -> None:
    """None is returned, whatever the notification is."""
    assert lines.answer(b'{"jsonrpc":"2.0","method":"notifications/initialized"}') is None


def test_the_big_tool_answers_a_million_bytes_of_text() -> None:
    """The size that the memory table is about."""
    reply = lines.answer(b'{"id":1,"method":"tools/call","params":{"name":"big"}}')
    assert reply is not None
    assert len(json.loads(reply)["result"]["content"][0]["text"]) == 1_000_000


def test_run_as_a_file_it_answers_a_line_for_a_line() -> None:
    """The stdio form needs no package on the path."""
    file = Path(lines.__file__)
    asked = b'{"id":1,"method":"ping"}\n{"method":"notifications/x"}\n{"id":2,"method":"nonsense"}\n'
    out = subprocess.run([sys.executable, file], input=asked, capture_output=True, check=True).stdout
    ping, unknown = out.splitlines()
    assert json.loads(ping) == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert json.loads(unknown)["error"]["code"] == -32601
