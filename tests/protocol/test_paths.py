"""Which paths carry MCP, and which somebody could read as another path."""

import pytest

from weir.protocol.paths import carries_mcp, is_document, is_plain_document, is_unsafe


@pytest.mark.parametrize(
    "path",
    [
        b"/..", b"/.", b"/a/../b", b"/a/./b", b"/a/..", b"/%2e%2e/a", b"/.%2e/a", b"/%2E./a", b"/a/%2e", b"/a%2f..%2fb",
        b"/a/..%2Fb", b"/a\\..\\b", b"/a%5c..%5Cb", b"/a/..;/b", b"/a/.;x=1/b", b"/a/..%3bx/b", b"/%252e%252e/a",
        b"/%25252e%25252e/a", b"/%2525252525252e/a", b"/a%00", b"/a%0d%0aX: y", b"/a%7f", b"/a\x00", b"/%c0%ae%c0%ae/a",
        b"/..%c0%afa", b"/%e0%80%ae./a", b"/..%c1%9ca", b"/%u002e%u002e/a", b"/%zz", b"/a%", b"//evil.example/a", b"*",
        b"a", b"/a#b", b"/..%20/a", b"/a/..%09/b",
    ],
    ids=repr,
)  # fmt: skip
def test_a_path_with_another_reading_is_unsafe(path: bytes) -> None:
    """In whatever spelling."""
    assert is_unsafe(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/", b"/mcp", b"/a/b%20c", b"/any%2Fthing/%C3%A9", b"/.well-known/x", b"/a..b/..c/d..", b"/...", b"/a;v=1/b",
        b"/100%25", b"/a//b", b"/%E2%82%AC", b"/a%3Bb", b"/~user/@x:y", b"/.hidden", b"/%C0", b"/a/",
    ],
    ids=repr,
)  # fmt: skip
def test_an_ordinary_path_is_safe(path: bytes) -> None:
    """A mirrored server has such paths."""
    assert not is_unsafe(path)


@pytest.mark.parametrize("path", [b"/.well-known/x", b"/%2ewell-known/x", b"/.WELL-KNOWN%2fx", b"/%252ewell-known/x"])
def test_a_document_is_known_in_any_spelling(path: bytes) -> None:
    """The rules for documents hold for what a server takes for one."""
    assert (True, False) == (is_document(path), is_document(b"/mcp/.well-known/x"))


@pytest.mark.parametrize(
    "path", [b"/.well-known/a%2fb", b"/.well-known/a;b", b"/.well-known/a\\b", b"/.well-known/%252f"]
)
def test_a_document_has_the_segments_that_stand_there(path: bytes) -> None:
    """A path below `/.well-known/` is put together from two, so its slashes count."""
    assert (False, True) == (is_plain_document(path), is_plain_document(b"/.well-known/a/b%20c"))


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
