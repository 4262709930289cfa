"""Which upstream serves a path, and what path it is asked for."""

import pytest

from weir.core.call import Call
from weir.core.outcome import Outcome, Replied
from weir.relay.routes import Routes, Served


async def handler(call: Call) -> Outcome:
    return Replied(200, [], b"")


def routes(*served: tuple[str, bytes, bool]) -> Routes:
    return Routes([Served(name, handler, path, is_http) for name, path, is_http in served])


def where(table: Routes, path: bytes) -> tuple[str, bytes] | None:
    route = table.match(path)
    return None if route is None else (route.upstream, route.path)


@pytest.mark.parametrize("path", [b"/mcp", b"/api/v1", b"/servers/one/mcp"])
def test_the_only_upstream_is_served_at_mcp_its_own_path_and_its_name(path: bytes) -> None:
    """All three lead to the path in its URL."""
    assert ("one", b"/api/v1") == where(routes(("one", b"/api/v1", True)), path)


@pytest.mark.parametrize("path", [b"/", b"/other", b"/mcp/deeper", b"/servers/two/mcp", b"/servers/one"])
def test_an_upstream_with_a_path_serves_nothing_else(path: bytes) -> None:
    """Only what the operator named is reachable."""
    assert where(routes(("one", b"/api/v1", True)), path) is None


@pytest.mark.parametrize("path", [b"/", b"/mcp", b"/token", b"/a/b%20c", b"/.well-known/oauth-authorization-server"])
def test_an_upstream_without_a_path_mirrors_every_path(path: bytes) -> None:
    """Any server can be fronted, its OAuth endpoints included."""
    assert ("one", path) == where(routes(("one", b"", True)), path)


def test_several_upstreams_are_served_by_name_only() -> None:
    """`/mcp` would be a guess."""
    table = routes(("a", b"/x", True), ("b", b"", True), ("c", b"", False))
    assert [("a", b"/x"), ("b", b"/mcp"), ("b", b"/token"), ("c", b"/mcp"), None, None] == [
        where(table, path)
        for path in (
            b"/servers/a/mcp",
            b"/servers/b/mcp",
            b"/servers/b/token",
            b"/servers/c/mcp",
            b"/servers/c/token",
            b"/mcp",
        )
    ]


def test_well_known_documents_follow_the_path_the_client_dialled() -> None:
    """RFC 9728 §3.1 inserts the well-known part before the resource's path."""
    table = routes(("a", b"/x", True), ("b", b"/y/mcp", True))
    assert ("b", b"/.well-known/oauth-protected-resource/y/mcp") == where(
        table, b"/.well-known/oauth-protected-resource/servers/b/mcp"
    )


def test_a_lone_well_known_document_belongs_to_the_only_upstream() -> None:
    """Clients try it where the path-specific one is missing."""
    table = routes(("a", b"/x", True))
    assert ("a", b"/.well-known/oauth-protected-resource") == where(table, b"/.well-known/oauth-protected-resource")
    assert ("a", b"/.well-known/oauth-protected-resource/x") == where(
        table, b"/.well-known/oauth-protected-resource/mcp"
    )


def test_a_stdio_upstream_has_no_other_paths() -> None:
    """A child process serves no documents."""
    table = routes(("a", b"", False))
    assert [None, None] == [where(table, b"/token"), where(table, b"/.well-known/oauth-protected-resource")]
