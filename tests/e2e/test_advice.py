"""What weir says when a server, a path or a command is wrong: the cause that it is, and what to do about it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.limits import HANG_SECONDS
from support.rawhttp import Exchange, Headers, ScriptedServer, fetch
from support.talking import CALL, INITIALIZE, INITIALIZED, ask, leave, tell
from support.weirs import UNTRACED, Config, command, weir_argv, weir_http, weir_stdio, write_config

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

DATE = (b"Date", b"Wed, 09 Jun 2021 10:18:14 GMT")
PROBLEM = (b"Content-Type", b"Application/Problem+JSON; charset=utf-8")
PAGE = (b"Content-Type", b"text/html")


class Refusing:
    """Answers calls with one reply; the handshake too, unless it gives a session."""

    def __init__(self, server: ScriptedServer, *, has_session: bool = True) -> None:
        self._has_session = has_session
        self.reply: tuple[int, Headers, bytes] = (500, [], b"")
        server.script = self.answer

    async def answer(self, exchange: Exchange) -> None:
        """As it is set."""
        message = json.loads(exchange.request.body or b"{}")
        if message.get("method") == "initialize" and self._has_session:
            result = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {}}).encode()
            await exchange.json(result, headers=[(b"Mcp-Session-Id", b"abc")])
        elif "id" in message:
            await exchange.reply(*self.reply)
        else:
            await exchange.reply(202 if message else 405)


async def error_of(weir: Any, message: bytes) -> tuple[str, dict[str, Any]]:
    """The text and the data of the error that answers a message."""
    error = (await ask(weir, message))["error"]
    return error["message"], error["data"]


@pytest.mark.parametrize("status", [404, 405])
async def test_nothing_at_the_path_of_an_initialize_is_a_wrong_path(
    server: ScriptedServer, tmp_path: Path, status: int
) -> None:
    """To initialize again would not help."""
    Refusing(server, has_session=False).reply = (status, [PAGE], b"<h1>404</h1>")
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        for message in (INITIALIZE, CALL):
            text, _ = await error_of(weir, message)
            assert f"has no MCP endpoint at the path of its url (HTTP {status}); the path has to be corrected" in text
            assert "initialize again" not in text
        await leave(weir)


async def test_a_404_under_a_session_says_that_the_session_is_gone(server: ScriptedServer, tmp_path: Path) -> None:
    Refusing(server).reply = (404, [], b"")
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        await ask(weir, INITIALIZE)
        tell(weir, INITIALIZED)
        text, _ = await error_of(weir, CALL)
        await leave(weir)
    assert "knows the session no more (HTTP 404); a client has to initialize again" in text


WAITS: dict[str, tuple[int, Headers, int | None]] = {
    "seconds": (429, [(b"Retry-After", b"7")], 7000),
    "a date": (503, [(b"retry-after", b"Wed, 09 Jun 2021 10:18:44 GMT"), DATE], 30_000),
    "no number": (503, [(b"Retry-After", b"soon")], None),
    "for ever": (429, [(b"Retry-After", b"9" * 40)], None),
    "nothing": (429, [], None),
}


async def test_retry_after_reaches_a_client_on_a_pipe(server: ScriptedServer, tmp_path: Path) -> None:
    refusing = Refusing(server)
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        await ask(weir, INITIALIZE)
        for status, headers, milliseconds in WAITS.values():
            refusing.reply = (status, [*headers, (b"Content-Type", b"text/plain")], b"slow down")
            text, data = await error_of(weir, CALL)
            assert f"HTTP {status}" in text
            assert milliseconds == data.get("retryAfterMs")
            assert milliseconds is None or f"Try again in {milliseconds // 1000} s." in text
            assert 2 > text.lower().count("try again") + text.count("tried again")
        await leave(weir)


QUOTA = {"title": "Quota exceeded", "status": 403, "detail": "Your plan allows 10 calls a day"}
PROBLEMS: dict[str, tuple[bytes, str]] = {
    "a detail": (json.dumps(QUOTA).encode(), "forbids this (HTTP 403): Your plan allows 10 calls a day. The server"),
    "a title only": (b'{"title":"Quota exceeded"}', "(HTTP 403): Quota exceeded. The"),
    "two lines": (b'{"detail":"one\\r\\n two\\tthree"}', "(HTTP 403): one two three. The"),
    "a credential": (b'{"detail":"token=sk-abcdefghijklmnop0123456789 is expired"}', "(HTTP 403): token="),
    "a long one": (json.dumps({"detail": "x" * 5000}).encode(), "(HTTP 403): " + "x" * 300 + ". The"),
    "no text": (b'{"detail":{"a":1}}', "(HTTP 403). The"),
    "no object": (b'"words"', "(HTTP 403). The"),
    "no JSON": (b"<html>", "(HTTP 403). The"),
}


async def test_the_detail_of_a_problem_reaches_a_client_on_a_pipe(server: ScriptedServer, tmp_path: Path) -> None:
    """In one line, shortened, and without what looks like a credential."""
    refusing = Refusing(server)
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        await ask(weir, INITIALIZE)
        for body, expected in PROBLEMS.values():
            refusing.reply = (403, [PROBLEM], body)
            text, data = await error_of(weir, CALL)
            assert expected in text
            assert ("upstream", "abcdefghijklmnop" in text) == (data["blame"], False)
        await leave(weir)


async def test_an_open_circuit_blames_the_upstream(server: ScriptedServer, tmp_path: Path) -> None:
    Refusing(server).reply = (503, [], b"")
    breaker: Config = {**UNTRACED, "policies": {"breaker": {"consecutive_failures": 1, "clients": 1}}}
    with weir_stdio(tmp_path, {"url": server.url}, breaker) as weir:
        await ask(weir, INITIALIZE)
        await ask(weir, CALL)
        _, data = await error_of(weir, CALL)
        await leave(weir)
    assert ("circuit_open", "upstream", True) == (data["reason"], data["blame"], data["retryAfterMs"] > 0)


async def test_a_path_that_is_not_served_is_told_where_servers_are(server: ScriptedServer, tmp_path: Path) -> None:
    """One server is at /mcp; several have names."""
    with weir_http(tmp_path, {"url": server.url}) as weir:
        only = await fetch(weir.port, "POST", "/", body=CALL)
    several: Config = {**UNTRACED, "upstreams": [{"name": name, "url": server.url} for name in ("a", "b")]}
    with weir_http(tmp_path, {}, several) as weir:
        other = await fetch(weir.port, "POST", "/mcp", body=CALL)
    assert (404, b"weir serves no MCP server at this path; it is at /mcp\n") == (only.status, only.body)
    assert (404, True) == (other.status, other.body.endswith(b"each is at /servers/<name>/mcp\n"))


LINE = f"{sys.executable} -m some_server --key secret"


def forms(folder: Path) -> dict[str, Sequence[str | Path]]:
    """The ways to give weir a command, and a whole command line where the program should stand."""
    servers = folder / "mcp.json"
    servers.write_text(json.dumps({"mcpServers": {"a": {"command": LINE}}}))
    return {
        "servers file": ("--config", servers),
        "list": ("--config", write_config(folder, command([LINE]), UNTRACED, "")),
        "flag": ("--", LINE),
    }


@pytest.mark.parametrize("form", ["servers file", "list", "flag"])
def test_a_command_line_in_one_string_is_told_from_a_missing_program(tmp_path: Path, form: str) -> None:
    """`npx -y some-server` as the name of one program; nothing of its arguments is shown."""
    given = forms(tmp_path)[form]
    argv = weir_argv("--stdio", "--log-level", "error", *given)
    asked = subprocess.run(argv, input=INITIALIZE + b"\n", capture_output=True, check=False, timeout=HANG_SECONDS)
    said = [asked.stdout.decode()]
    if form != "flag":
        argv = [sys.executable, "-m", "weir", "check", given[1]]
        checked = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=HANG_SECONDS)
        said.append(checked.stdout + checked.stderr)
    for text in said:
        assert "`command` holds its arguments, too" in text
        assert Path(sys.executable).name in text
        assert "secret" not in text


async def test_a_missing_program_is_still_one(tmp_path: Path) -> None:
    with weir_stdio(tmp_path, command(["no such program"])) as weir:
        text, _ = await error_of(weir, INITIALIZE)
    assert "cannot start 'no': there is no such command; install it" in text
