"""Files of MCP clients, unchanged."""

import json
from pathlib import Path

import pytest

from weir.config.load import load
from weir.config.model import Config
from weir.config.problems import ConfigError


def loaded(file: Path, text: object, **environ: str) -> Config:
    """A file with this text (or tree) as weir reads it."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(text if isinstance(text, str) else json.dumps(text, indent=2))
    return load(str(file), environ)


def problems(file: Path, text: object, **environ: str) -> list[str]:
    """What is wrong with it, without the folder."""
    with pytest.raises(ConfigError) as caught:
        loaded(file, text, **environ)
    return str(caught.value).replace(f"{file.parent}/", "").splitlines()


def test_a_claude_file_as_it_is(tmp_path: Path) -> None:
    """Commands, URLs, headers, variables; keys of others are ignored, and so is what is disabled."""
    config = loaded(
        tmp_path / "claude_desktop_config.json",
        {
            "globalShortcut": "x",
            "mcpServers": {
                "filesystem": {
                    "command": "npx",
                    "args": ["-y", "@modelcontextprotocol/server-filesystem", "${HOME}/docs"],
                    "env": {"LEVEL": "${LEVEL:-info}", "PORT": 8080},
                    "cwd": "${HOME}",
                    "autoApprove": ["read_file"],
                    "timeout": 60,
                },
                "Remote Search_2": {
                    "type": "http",
                    "url": "https://search.example/mcp",
                    "headers": {"Authorization": "Bearer ${env:TOKEN}"},
                },
                "legacy": {"type": "sse", "url": "https://legacy.example/sse"},
                "off": {"command": "x", "disabled": True, "env": {"A": "${NOT_SET}"}},
            },
        },
        HOME="/home/me",
        TOKEN="t",
    )
    files, search, legacy = config.upstreams
    assert ("filesystem", "remote-search-2", "legacy") == tuple(one.name for one in config.upstreams)
    assert ("npx", "-y", "@modelcontextprotocol/server-filesystem", "/home/me/docs") == files.command
    assert ({"LEVEL": "info", "PORT": "8080"}, "/home/me") == (files.env, files.cwd)
    assert ({"Authorization": "Bearer t"}, "http", "sse") == (search.headers, search.transport, legacy.transport)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://a.example/mcp", {"serverUrl": "https://a.example/mcp"}),
        ("https://a.example/mcp", {"httpUrl": "https://a.example/mcp", "trust": True}),
        ("https://a.example/mcp", {"url": "https://a.example/mcp", "transport": "streamable-http"}),
        ("https://a.example/mcp", {"url": "https://a.example/mcp", "type": "streamableHttp", "command": ""}),
    ],
)
def test_variants_of_cursor_windsurf_and_others(tmp_path: Path, url: str, server: dict[str, object]) -> None:
    """They name the same thing differently."""
    assert url == loaded(tmp_path / "mcp.json", {"mcpServers": {"a": server}}).upstreams[0].url


def test_a_vs_code_file_as_it_is(tmp_path: Path) -> None:
    """Comments, trailing commas, its own variables, null in env, and an envFile beside the workspace."""
    (tmp_path / ".env").write_text("# keys\nexport KEY='a b'\nOTHER=x # comment\n\nLEVEL=debug\nnonsense\n")
    text = """\
// my servers
{
  "inputs": [{"type": "promptString", "id": "unused"}],
  "servers": {
    "local": {
      "type": "stdio",
      "command": "${workspaceFolder}/bin/server", // here
      "args": ["--home", "${userHome}", "--in", "${workspaceFolderBasename}"],
      "envFile": "${workspaceFolder}/.env",
      "env": {"LEVEL": "${env:LEVEL}", "GONE": null,},
    },
  },
}
"""
    config = loaded(tmp_path / ".vscode" / "mcp.json", text, LEVEL="info", HOME="/home/me")
    only = config.upstreams[0]
    assert (f"{tmp_path}/bin/server", "--home", "/home/me", "--in", tmp_path.name) == only.command
    assert {"KEY": "a b", "OTHER": "x", "LEVEL": "info"} == only.env


def test_an_input_is_an_error_that_names_it_and_the_mend(tmp_path: Path) -> None:
    """weir has nobody to ask."""
    text = '{"servers": {"a": {"url": "https://a.example",\n"headers": {"X-Key": "${input:api-key}"}}}}'
    assert [
        "mcp.json:2: servers.a.headers.X-Key: the input 'api-key' is a question that only the editor can ask; "
        "write '${API_KEY}' here and set that variable"
    ] == problems(tmp_path / "mcp.json", text)


def test_mistakes_are_told_in_the_words_of_the_file(tmp_path: Path) -> None:
    """Line and path are those of the client's file, not of what weir makes of it."""
    text = """\
{"mcpServers": {
  "A b": {"command": "x", "args": [1.5], "url": "https://a.example"},
  "a-B": {"serverUrl": "ftp://x"},
  "c": {},
  "d": "npx",
  "e": {"command": "x", "args": "-y", "env": [1], "envFile": "none"},
  "f": {"url": "https://f.example", "type": "ws", "headers": {"Host": "x"}},
  "???": {"command": "${NOPE}"},
  "g": {"command": ["npx", "-y"]}
}}
"""
    found = problems(tmp_path / "mcp.json", text)
    assert [
        "mcp.json:2: mcpServers.A b.args[0]: this must be in quotes to be text",
        "mcp.json:2: mcpServers.A b: needs exactly one of url and command",
        "mcp.json:3: mcpServers.a-B: becomes the name 'a-b', as 'A b' does; rename one",
        "mcp.json:3: mcpServers.a-B.serverUrl: this is not an http or https URL; "
        "write for example 'https://host.example/mcp'",
        "mcp.json:4: mcpServers.c: has neither command nor url",
        "mcp.json:5: mcpServers.d: must be a mapping: {command: ...} or {url: ...}",
        "mcp.json:6: mcpServers.e.args: must be a list: [...]",
        "mcp.json:6: mcpServers.e.envFile: cannot be read: No such file or directory; is the path right?",
        "mcp.json:6: mcpServers.e.env: must be a mapping: {NAME: value}",
        "mcp.json:7: mcpServers.f.type: is no transport of weir's for a url; write 'http' or 'sse'",
        "mcp.json:7: mcpServers.f.headers.Host: belongs to the connection, weir writes it itself; leave it out",
        "mcp.json:8: mcpServers.???.command: the variable NOPE is not set; set it, or write '${NOPE:-default}'",
        "mcp.json:8: mcpServers.???: has nothing to make a name of; use letters a-z",
        "mcp.json:9: mcpServers.g.command: must be text",
    ] == found


@pytest.mark.parametrize(
    ("problem", "tree"),
    [
        ("mcp.json:1: mcpServers: must be a mapping of servers by name", '{"mcpServers": []}'),
        ("mcp.json:1: mcpServers: holds no server that is not disabled", '{"mcpServers": {}}'),
        (
            "mcp.json:1: mcpServers: holds no server that is not disabled",
            '{"mcpServers": {"a": {"command": "x", "disabled": true}}}',
        ),
    ],
)
def test_a_file_without_servers_is_one_error(tmp_path: Path, problem: str, tree: str) -> None:
    """What follows from it is not told."""
    assert [problem] == problems(tmp_path / "mcp.json", tree)


def test_keys_of_others_may_be_odd(tmp_path: Path) -> None:
    """Only what is below mcpServers is weir's business."""
    text = '{"a": "${NOPE}", "a": 1, "mcpServers": {"x": {"command": "y"}}}'
    assert ("y",) == loaded(tmp_path / ".claude.json", text).upstreams[0].command


def test_weirs_own_shape_may_be_json(tmp_path: Path) -> None:
    """YAML holds JSON."""
    tree = {"upstreams": [{"name": "a", "command": ["b"]}], "listen": {"diagnostics": "off"}}
    assert loaded(tmp_path / "weir.json", tree).listen.diagnostics is None
