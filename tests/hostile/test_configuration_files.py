"""Configuration, env and client files that are not what they seem: weir refuses them at once, or names what it does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import running
from support.weirs import weir_argv

pytestmark = pytest.mark.e2e

ENDS_A_HANG_SECONDS = 60.0
SHOW_ENVIRONMENT = """
import json, os, sys
message = json.loads(sys.stdin.readline())
print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": dict(os.environ)}), flush=True)
sys.stdin.read()
"""
INITIALIZE = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}\n'


def weir(command: str, file: Path) -> subprocess.CompletedProcess[str]:
    """One command of weir's on a file, which must end by itself."""
    argv = [sys.executable, "-m", "weir", *(["check"] if command == "check" else ["run", "--config"]), str(file)]
    return subprocess.run(
        argv,
        check=False,
        capture_output=True,
        text=True,
        timeout=ENDS_A_HANG_SECONDS,
    )


def checked(directory: Path, text: object, mode: int = 0o600) -> tuple[int, str]:
    """The exit code and the words of `weir check` on a file, without the folder."""
    file = directory / "file"
    file.write_text(text if isinstance(text, str) else json.dumps(text, indent=1))
    file.chmod(mode)
    done = weir("check", file)
    assert "Traceback" not in done.stderr
    return done.returncode, (done.stdout + done.stderr).replace(f"{directory}/", "")


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "large"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, command: str, kind: str) -> None:
    """A pipe would block, a device has no end."""
    file = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind == "pipe":
        os.mkfifo(file)
    if kind == "directory":
        file.mkdir()
    if kind == "large":
        with file.open("wb") as large:
            large.truncate(1024**3)
    done = weir(command, file)
    reason = "is larger than 16 MiB" if kind == "large" else f"is a {kind}, not a file"
    assert (1 if command == "check" else 2, True) == (done.returncode, f"{file}: {reason}" in done.stderr)


def test_a_secret_that_all_users_can_read_is_warned_of(tmp_path: Path) -> None:
    """By its path, never with its value; a reference and a file of one's own are fine."""
    text = "upstreams: [{name: a, url: 'http://127.0.0.1:1/mcp', headers: {Authorization: 'Bearer %s'}}]\n"
    warned = checked(tmp_path, text % "MARKER-secret", mode=0o644)
    assert (0, True) == (warned[0], "warning: file: every user of this machine can read this file" in warned[1])
    assert ("(upstreams[0].headers.Authorization)" in warned[1], "MARKER" in warned[1]) == (True, False)
    for literal, mode in (("MARKER-secret", 0o600), ("${TOKEN:-none}", 0o644)):
        assert "every user" not in checked(tmp_path, text % literal, mode=mode)[1]


@pytest.mark.parametrize(
    ("problem", "setting"),
    [
        pytest.param(
            "upstreams[0].url: the URL's host is no host name: it has two dots in a row",
            "upstreams: [{name: a, url: 'http://a..b/mcp'}]",
            id="dots",
        ),
        pytest.param(
            "upstreams[0].url: the URL's host is no host name: one of its labels is longer than 63 characters",
            f"upstreams: [{{name: a, url: 'http://{'a' * 64}.example/mcp'}}]",
            id="label",
        ),
        pytest.param(
            "listen.http: 'a..b:80' names no host: it has two dots in a row",
            "upstreams: [{name: a, command: [cat]}]\nlisten: {http: 'a..b:80'}",
            id="listen",
        ),
        pytest.param(
            "listen.public_url: the URL's host is no host name",
            "upstreams: [{name: a, command: [cat]}]\nlisten: {public_url: 'https://xn--9999999999.example'}",
            id="public-url",
        ),
        pytest.param(
            "listen.allowed_hosts[0]: 'https://a.example' is not a host",
            "upstreams: [{name: a, command: [cat]}]\nlisten: {allowed_hosts: ['https://a.example']}",
            id="allowed-hosts",
        ),
        pytest.param(
            "listen.max_body: this is not a size",
            f"upstreams: [{{name: a, command: [cat]}}]\nlisten: {{max_body: {'9' * 400}MiB}}",
            id="size",
        ),
        pytest.param(
            "listen.max_body: '99999999999999999999GiB' is more than a TiB",
            "upstreams: [{name: a, command: [cat]}]\nlisten: {max_body: 99999999999999999999GiB}",
            id="large-size",
        ),
        pytest.param(
            "upstreams[0].connections: '\u00b2' is not a whole number",
            "upstreams: [{name: a, url: 'http://a.example', connections: '\u00b2'}]",
            id="superscript",
        ),
        pytest.param(
            "upstreams[0].connections: this is not a whole number",
            f"upstreams: [{{name: a, url: 'http://a.example', connections: '{'9' * 5000}'}}]",
            id="digits",
        ),
        pytest.param(
            "upstreams[0].command: has a NUL character",
            'upstreams: [{name: a, command: ["ca\\0t"]}]',
            id="nul",
        ),
    ],
)
def test_a_value_that_would_fail_later_is_refused_with_its_place(tmp_path: Path, problem: str, setting: str) -> None:
    """Neither a traceback at the start nor an error at the first call."""
    code, said = checked(tmp_path, setting)
    assert (1, True) == (code, problem in said), said


CLIENT_FILE = {
    "projects": {"/home/me/x": {"mcpServers": {"of-a-project": {"command": "cat"}}}, "/empty": {"mcpServers": {}}},
    "disabledMcpServers": ["kept"],
    "mcpServers": {
        "off-by-word": {"command": "cat", "disabled": "true", "env": {"A": "${NOT_SET}"}},
        "off-by-enabled": {"command": "cat", "enabled": False},
        "kept": {"command": "cat", "disabled": False, "enabled": "true", "autoApprove": ["x"]},
        "restricted": {"url": "http://127.0.0.1:1/mcp", "excludeTools": ["delete"], "env": {"A": "b"}},
    },
    "servers": {"of-vs-code": {"type": "stdio", "command": "cat"}},
}


def test_a_client_file_is_honoured_or_each_key_that_is_not_is_named(tmp_path: Path) -> None:
    """A server that one believes to be off, or restricted, must not be served without a word."""
    code, said = checked(tmp_path, CLIENT_FILE)
    assert 0 == code
    served = {line.partition(":")[0] for line in said.splitlines()}
    assert {"kept", "restricted", "of-vs-code"} <= served
    assert not any(line.startswith(("off-", "of-a-project")) for line in said.splitlines())
    for named in (
        "projects./home/me/x.mcpServers: the servers of one project are not served: of-a-project;",
        "disabledMcpServers: is not read; give a server that weir must leave out 'disabled: true'",
        "mcpServers.restricted.excludeTools: has no effect",
        "mcpServers.restricted.env: has no effect",
    ):
        assert named in said
    assert "autoApprove" not in said


@pytest.mark.parametrize(
    ("problem", "tree"),
    [
        pytest.param(
            "only the editor knows '${file}'; write its value here",
            {"servers": {"a": {"command": "cat", "args": ["${file}"]}}},
            id="file",
        ),
        pytest.param(
            "only the editor knows '${config:x}'; write its value here",
            {"servers": {"a": {"command": "cat", "args": ["${config:x}"]}}},
            id="config",
        ),
        pytest.param(
            "write '${API_KEY}' here and set that variable",
            {"servers": {"a": {"command": "cat", "env": {"K": "${input:api-key}"}}}},
            id="input",
        ),
        pytest.param(
            "mcpServers.a.disabled: must be true or false",
            {"mcpServers": {"a": {"command": "cat", "disabled": "yes"}}},
            id="no-switch",
        ),
        pytest.param(
            "the servers of one project are not served: a; copy those to serve to mcpServers at the top",
            {"projects": {"/x": {"mcpServers": {"a": {"command": "cat"}}}}},
            id="only-projects",
        ),
        pytest.param(
            "servers.a: becomes the name 'a', as mcpServers.a does; rename one",
            {"mcpServers": {"a": {"command": "cat"}}, "servers": {"a": {"command": "ls"}}},
            id="both-roots",
        ),
    ],
)
def test_what_weir_cannot_do_for_a_client_file_is_an_error_with_the_right_mend(
    tmp_path: Path, problem: str, tree: object
) -> None:
    """Never the advice to set a variable that the editor has."""
    code, said = checked(tmp_path, tree)
    assert (1, True) == (code, problem in said), said


def env_file_of(directory: Path, content: bytes | None) -> Path:
    """A client's file whose server shows its environment, beside an env file of this content."""
    if content is not None:
        (directory / "e.env").write_bytes(content)
    server = {"command": sys.executable, "args": ["-c", SHOW_ENVIRONMENT], "envFile": "e.env"}
    file = directory / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"a": server}}))
    return file


def test_a_server_gets_the_variables_of_its_env_file(tmp_path: Path) -> None:
    """As python-dotenv reads them: byte order mark, export, comments, quotes over lines, U+2028."""
    text = '\ufeffFIRST=1\r\nexport E="a" # c\nM="one\ntwo"\nU=a\u2028b\n'
    with running(weir_argv("--stdio", "--config", env_file_of(tmp_path, text.encode())), pipes=True) as one:
        one.stdin.write(INITIALIZE)
        one.stdin.flush()
        got = json.loads(one.stdout.readline())["result"]
    assert {"FIRST": "1", "E": "a", "M": "one\ntwo", "U": "a\u2028b"} == {
        key: got.get(key) for key in ["FIRST", "E", "M", "U"]
    }


@pytest.mark.parametrize(
    ("reason", "content"),
    [
        pytest.param("is a pipe, not a file", None, id="pipe"),
        pytest.param("is larger than 1 MiB", b"A=1\n" + b"#" * 1024**2 + b"\nB=2\n", id="large"),
        pytest.param("is not UTF-8 text", b"A=\xe9\n", id="latin-1"),
        pytest.param("is not UTF-8 text", "A=1\n".encode("utf-16"), id="utf-16"),
        pytest.param("holds a NUL character", "A=1\n".encode("utf-16-le"), id="utf-16-without-mark"),
    ],
)
def test_an_env_file_that_cannot_be_one_is_an_error(tmp_path: Path, reason: str, content: bytes | None) -> None:
    """Neither a server without its variables nor a weir that hangs."""
    if content is None:
        os.mkfifo(tmp_path / "e.env")
    done = weir("check", env_file_of(tmp_path, content))
    assert (1, True) == (done.returncode, f"mcpServers.a.envFile: {reason}" in done.stderr), done.stderr


def test_aliases_of_aliases_are_refused_before_they_cost_anything(tmp_path: Path) -> None:
    """390 bytes stood for a million values."""
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))]
    code, said = checked(tmp_path, "\n".join(lines))
    assert (1, True) == (code, "aliases repeat more than 10000 values; this is no configuration" in said)
