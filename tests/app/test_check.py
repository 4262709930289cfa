"""What `weir check` says about a configuration that parses."""

import os
import sys
from pathlib import Path

import pytest

from weir.app.check import addresses, findings, served
from weir.config.load import Overrides, from_command, from_upstream
from weir.config.model import Config
from weir.telemetry import redact

LOCAL = {"name": "a", "url": "http://127.0.0.1:9000/mcp"}


def config(*upstreams: object, **sections: object) -> Config:
    return Config.model_validate({"upstreams": list(upstreams) or [LOCAL], **sections})


def found(of: Config, environ: dict[str, str] | None = None) -> list[str]:
    return [str(finding) for finding in findings(of, environ if environ is not None else dict(os.environ))]


@pytest.mark.parametrize(
    ("expected", "url"),
    [
        (["/mcp", "/servers/upstream/mcp"], "http://127.0.0.1:9000/mcp"),
        (["/mcp", " (the path of its URL)", "/servers/upstream/mcp"], "http://127.0.0.1:9000/s/SECRET/mcp"),
        (["/mcp", "/servers/upstream/mcp", "/ (every other path, as it is)"], "http://127.0.0.1:9000"),
    ],
)
def test_the_only_upstream_is_at_mcp_and_at_its_own_path(expected: list[str], url: str) -> None:
    """Without a path it mirrors."""
    only = from_upstream(url)
    assert [f"http://127.0.0.1:8931{path}" for path in expected] == addresses(only, only.upstreams[0])


def test_each_of_several_is_at_its_name() -> None:
    """Addresses begin where clients reach weir."""
    both = config(LOCAL, {"name": "b", "command": ["x"]}, listen={"public_url": "https://weir.example/"})
    assert [["https://weir.example/servers/a/mcp"], ["https://weir.example/servers/b/mcp"]] == [
        addresses(both, upstream) for upstream in both.upstreams
    ]


def test_what_is_served_is_shown_without_secrets() -> None:
    """Arguments, paths and queries may hold them."""
    both = config(
        {"name": "a", "url": "https://a.example/s/SECRET/mcp?key=SECRET", "headers": {"Authorization": "SECRET"}},
        {"name": "b", "command": ["/bin/b", "--token", "SECRET"], "env": {"A": "SECRET"}},
        listen={"diagnostics": "off"},
    )
    assert [
        "diagnostics: off",
        "a: https://a.example",
        "  http://127.0.0.1:8931/servers/a/mcp",
        "b: command b, 2 arguments",
        "  http://127.0.0.1:8931/servers/b/mcp",
    ] == served(both)
    assert "SECRET" not in "\n".join(found(both))


def test_a_client_on_stdin_has_no_address() -> None:
    """And nothing about ports is said."""
    piped = from_upstream("http://127.0.0.1:9000", Overrides(listen="0.0.0.0:1", stdio=True))
    assert ["diagnostics: off", "upstream: http://127.0.0.1:9000", "  stdin and stdout"] == served(piped)
    assert [] == found(piped)


def test_nothing_is_said_about_a_plain_local_setup() -> None:
    """A warning that is always there is never read."""
    assert [] == found(config())
    assert [] == found(from_command([sys.executable, "-m", "server"]))


@pytest.mark.parametrize(
    ("is_warned", "listen", "upstream"),
    [
        (True, {}, {}),
        (True, {"public_url": "https://weir.example"}, {}),
        (True, {}, {"preserve_host": True}),
        (False, {"public_url": "https://weir.example"}, {"preserve_host": True}),
        (False, {"public_url": "https://a.example:443"}, {}),
        (False, {}, {"headers": {"authorization": "Bearer x"}}),
    ],
)
def test_oauth_works_only_at_the_upstreams_public_name(
    is_warned: bool, listen: dict[str, object], upstream: dict[str, object]
) -> None:
    """Clients compare the protected resource with the address they dialled; a token of weir's own is the other way."""
    said = found(config({"name": "a", "url": "https://a.example/mcp", **upstream}, listen=listen))
    assert is_warned == any("clients will refuse" in line for line in said)


def test_plain_text_before_and_behind_weir_is_warned_of() -> None:
    """Loopback is not."""
    said = found(
        config(
            {"name": "a", "url": "http://a.example/mcp", "headers": {"Authorization": "Bearer x"}},
            listen={"http": "0.0.0.0:8931", "diagnostics": "0.0.0.0:8932", "allowed_origins": ["*"]},
        )
    )
    assert [
        "warning: listen.http: others can reach it, in plain text; set listen.tls, or put a TLS proxy before it",
        "warning: listen.allowed_hosts: empty, so requests by any name but the listening address are refused (421); "
        "name the hosts",
        "warning: listen.allowed_origins: '*' lets every web page call the servers behind weir",
        "warning: listen.diagnostics: others can read /metrics and /readyz; /status and /faults refuse everyone (403) "
        "until listen.diagnostics_token is set",
        "warning: a: its Authorization goes over the network in plain text; use https",
    ] == said


@pytest.mark.parametrize(
    ("is_warned", "diagnostics", "allow"),
    [
        (True, "0.0.0.0:8932", True),
        (False, "0.0.0.0:8932", False),
        (False, "127.0.0.1:8932", True),
        (False, "off", True),
    ],
)
def test_faults_that_others_could_inject_are_warned_of(is_warned: bool, diagnostics: str, allow: bool) -> None:
    """Where, why, and what to do."""
    said = found(
        config(
            LOCAL, listen={"diagnostics": diagnostics, "diagnostics_token": "0123456789abcdef"}, faults={"allow": allow}
        )
    )
    (warning,) = [line for line in said if line.startswith("warning: faults.allow: ")] or [""]
    assert is_warned == bool(warning)
    assert is_warned == ("whoever has its token can make servers fail" in warning)
    assert is_warned == warning.endswith("bind listen.diagnostics to 127.0.0.1, or set allow: false")


@pytest.mark.parametrize(
    ("expected", "policies", "tool"),
    [
        (["a.tools.t.retry: nothing is tried again, as retry is off; add policies.retry"], {}, {"retry": "always"}),
        ([], {"retry": {}}, {"retry": "always"}),
        ([], {"retry": {"mode": "shadow"}}, {"retry": "always"}),
        ([], {}, {"retry": {"safe": "always", "attempts": 2}}),
        ([], {}, {"retry": "never", "timeout": {"attempt": "1s"}, "concurrency": {}, "rate_limits": []}),
        (
            [
                "a.tools.t.timeout: has no effect beside 'mode: off'; take that out of policies.timeout,"
                " or name a mode for the tool"
            ],
            {"timeout": {"mode": "off"}},
            {"timeout": {"attempt": "1s"}},
        ),
        ([], {"timeout": {"mode": "off"}}, {"timeout": {"mode": "shadow", "attempt": "1s"}}),
        ([], {"timeout": {}}, {"timeout": {"mode": "off"}}),
    ],
)
def test_what_is_said_for_a_tool_and_does_nothing_is_told(
    expected: list[str], policies: dict[str, object], tool: dict[str, object]
) -> None:
    """A protection that one believes in, and that is not there."""
    said = found(config({**LOCAL, "tools": {"t": tool}}, policies=policies))
    assert [f"warning: {line}" for line in expected] == said


@pytest.mark.parametrize(
    ("named", "sections"),
    [
        (["telemetry.journal"], {"telemetry": {"journal": {}}}),
        (["sessions.resurrect"], {"sessions": {"resurrect": "auto"}}),
        (["sessions.resurrect"], {"sessions": {"resurrect": True}}),
        (["slo"], {"slo": [{"name": "s", "upstream": "a", "availability": 0.9}]}),
        ([], {"sessions": {"resurrect": False, "idle": "1m"}, "telemetry": {"logs": {}}}),
        (
            ["sessions.resurrect, slo"],
            {"sessions": {"resurrect": "auto"}, "slo": [{"name": "s", "upstream": "a", "availability": 1}]},
        ),
    ],
)
def test_what_is_not_applied_yet_is_told(named: list[str], sections: dict[str, object]) -> None:
    """Where it is asked for, in one line; its absence is no promise."""
    assert [f"warning: {each}: without effect in this version of weir" for each in named] == found(config(**sections))


def test_a_transport_that_is_not_spoken_is_told() -> None:
    """It would be asked in the other one."""
    said = found(config({**LOCAL, "transport": "sse"}))
    assert ["warning: transport: sse: without effect in this version of weir"] == said


def test_no_finding_looks_like_a_credential() -> None:
    """They are lines of the log too, which would redact the mend."""
    said = [finding.text for finding in findings(config({"name": "a", "url": "https://a.example/mcp"}))]
    assert [text for text in said if "token" in text] == [redact.text(text) for text in said]


def test_files_that_are_not_there_are_errors(tmp_path: Path) -> None:
    """weir could not start with them."""
    there = tmp_path / "cert.pem"
    there.write_text("")
    tls = {"cert": str(there), "key": str(tmp_path / "none")}
    said = found(config({**LOCAL, "tls": {"ca": str(tmp_path / "ca")}}, listen={"tls": tls}))
    assert [
        "error: listen.tls.key: there is no such file, or it may not be read",
        "error: a.tls.ca: there is no such file, or it may not be read",
    ] == said


@pytest.mark.parametrize(
    ("finding", "upstream"),
    [
        ("error: a: the program no-such-program is not there", {"command": ["no-such-program"]}),
        ("error: a: the program none is not there", {"command": ["./none"]}),
        ("error: a: its cwd is no directory", {"command": ["tool"], "cwd": "/no/such/folder"}),
        ("error: a: the program tool is not there", {"command": ["tool"], "env": {"PATH": "/nowhere"}}),
        ("warning: a: npx without -y asks", {"command": ["npx", "server"]}),
        ("warning: a: docker run without -i", {"command": ["docker", "run", "--rm", "image"]}),
    ],
)
def test_a_command_that_will_not_work_is_told(tmp_path: Path, finding: str, upstream: dict[str, object]) -> None:
    """Each alone."""
    for name in ("npx", "docker", "tool"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    said = found(config({"name": "a", **upstream}), {"PATH": str(tmp_path)})
    assert [True] == [line.startswith(finding) for line in said], said


@pytest.mark.parametrize(
    "command", [["npx", "-y", "x"], ["npx", "--yes", "x"], ["docker", "run", "-i", "x"], ["docker", "run", "-it", "x"]]
)
def test_a_command_that_works_is_left_alone(tmp_path: Path, command: list[str]) -> None:
    """No false alarm."""
    (tmp_path / command[0]).write_text("#!/bin/sh\n")
    (tmp_path / command[0]).chmod(0o755)
    assert [] == found(config({"name": "a", "command": command}), {"PATH": str(tmp_path)})


def test_a_program_is_looked_for_where_it_will_run(tmp_path: Path) -> None:
    """A relative path counts from cwd."""
    program = tmp_path / "bin" / "server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert [] == found(config({"name": "a", "command": ["bin/server"], "cwd": str(tmp_path)}))


@pytest.mark.parametrize(("platform", "count"), [("linux", 0), ("darwin", 1)])
def test_where_servers_may_outlive_a_killed_weir_it_is_said(platform: str, count: int) -> None:
    """Only Linux has a child subreaper."""
    piped = config({"name": "a", "command": ["sh"]})
    texts = [str(finding) for finding in findings(piped, dict(os.environ), platform)]
    assert count == len([text for text in texts if "can outlive a weir that is killed" in text])


def test_room_that_can_never_be_used_is_said() -> None:
    """More connections than descriptors do not start; a body over one client's share is always refused."""
    many = config(listen={"max_connections": 2**31 - 1})
    assert any(text.startswith("error: listen.max_connections: ") for text in found(many))
    small = config(listen={"max_buffered": "32MiB"})
    assert any(text.startswith("warning: listen.max_buffered: one client may hold a quarter") for text in found(small))
    assert not any("max_buffered" in text or "max_connections" in text for text in found(config()))
