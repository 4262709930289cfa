"""Which paths carry MCP."""

import pytest

from weir.protocol.paths import carries_mcp


@pytest.mark.parametrize(
    "target",
    [
        *("/.well-known/oauth-protected-resource", "/.well-known/x?y", "/authorize", "/token?a=/mcp", "/register"),
        *(
            "/tenant/.well-known/x",
            "/%2ewell-known/x",
            "/%252ewell-known/x",
            "//token",
            "/Token",
            "/token/",
            "/token;x",
        ),
        *("/%74oken", "\\token", "/authorize/deeper"),
    ],
)
def test_sign_in_and_documents_carry_none_in_any_spelling(target: str) -> None:
    """Of a mirrored server."""
    assert not carries_mcp(target.encode(), b"")


@pytest.mark.parametrize("target", ["/mcp", "/mcp?x=/token", "/", "/tokens", "/a/token", "/api/mcp/"])
def test_all_other_paths_of_a_mirrored_server_do(target: str) -> None:
    """weir does not know where its endpoint is."""
    assert carries_mcp(target.encode(), b"")


@pytest.mark.parametrize(
    ("expected", "target"),
    [(True, "/mcp"), (True, "/mcp?key=1"), (False, "/mcp/"), (False, "/.well-known/x/mcp"), (False, "/mcp/../admin")],
)
def test_a_configured_path_is_the_only_one(expected: bool, target: str) -> None:
    """Byte for byte: weir sends it as configured."""
    assert expected == carries_mcp(target.encode(), b"/mcp")
