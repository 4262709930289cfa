"""Names for upstreams that were given none."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.config.fields import NAME_PATTERN
from weir.config.names import of_command, of_url, slug


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("search", "https://search.internal.example/mcp"),
        ("my-host", "http://My_Host:9000"),
        ("upstream", "http://127.0.0.1:9000"),
        ("upstream", "http://[::1]:9000"),
        ("upstream", "http://localhost"),
        ("upstream", "http://["),
    ],
)
def test_a_url_is_named_for_its_host(name: str, url: str) -> None:
    """Addresses say nothing."""
    assert name == of_url(url)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("server-filesystem", "npx -y @modelcontextprotocol/server-filesystem@1.2.3 /data"),
        ("mcp-server-git", "uvx mcp-server-git --repository ."),
        ("mcp-server-time", "uv tool run mcp-server-time"),
        ("mcp-server-fetch", "python3 -m mcp_server_fetch"),
        ("server", "node /opt/thing/server.js"),
        ("my-server", "/usr/local/bin/my-server --flag"),
        ("npx", "npx"),
        ("upstream", ""),
    ],
)
def test_a_command_is_named_for_what_it_starts(name: str, command: str) -> None:
    """Launchers say nothing."""
    assert name == of_command(command.split())


@given(st.text(max_size=200))
def test_a_slug_is_a_name_or_nothing(text: str) -> None:
    """Whatever it is made of."""
    name = slug(text)
    assert name == "" or (re.fullmatch(NAME_PATTERN, name) and len(name) <= 63)
