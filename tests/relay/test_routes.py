"""Which upstream serves a path, and what path it is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize("path", [b"/mcp", b"/api/v1", b"/servers/one/mcp"])
@pytest.mark.parametrize("own", [b"/api/v1", b"/api/v1/"])
def test_a_slash_at_the_end_changes_nothing(path: bytes, own: bytes) -> None:
    assert ("one", own) == where(routes(("one", own, True)), path)
    assert ("one", own) == where(routes(("one", own, True)), path + b"/")


def test_a_mirror_has_paths_with_a_slash_of_its_own() -> None:
    table = routes(("one", b"", True))
    assert ("one", b"/mcp/") == where(table, b"/mcp/")
    assert ("one", b"/mcp/") == where(table, b"/servers/one/mcp/")


@pytest.mark.parametrize(
    ("own", "asked", "target", "public"),
    [
        (b"/mcp", b"/mcp", b"/mcp/", b"/mcp/"),
        (b"/mcp", b"/servers/one/mcp/", b"/mcp?x=1", b"/servers/one/mcp?x=1"),
        (b"/api", b"/mcp", b"/api/", b"/mcp/"),
        (b"/api", b"/api", b"/api/", b"/api/"),
        (b"/api", b"/mcp", b"/login", b""),
        (b"/api", b"/mcp", b"/api/deeper", b""),
        (b"/api", b"/mcp", b"/.well-known/x", b""),
        (b"", b"/mcp", b"/login?x", b"/login?x"),
        (b"", b"/servers/one/mcp", b"/login", b"/servers/one/login"),
        (b"/mcp?key=1", b"/mcp", b"/mcp/?key=1", b"/mcp/"),
        (b"/mcp?key=1", b"/mcp", b"/mcp/?key=1&a=2", b"/mcp/?a=2"),
        (b"/mcp?key=1", b"/mcp", b"/mcp/?key=11", b"/mcp/?key=11"),
    ],
)
def test_a_place_of_the_upstream_is_named_as_weir_serves_it(
    own: bytes, asked: bytes, target: bytes, public: bytes
) -> None:
    path, _, query = own.partition(b"?")
    assert public == Routes([Served("one", handler, path, True, query)]).public_target("one", asked, target)
    assert b"" == Routes([Served("two", handler, path, True, query)]).public_target("one", asked, target)


@given(st.sampled_from([b"/mcp", b"/api/v1", b"/a/b/"]), st.booleans(), st.text("ab=&?/", max_size=6).map(str.encode))
def test_what_a_place_is_named_leads_back_to_it(own: bytes, is_named: bool, query: bytes) -> None:
    """A client that asks for the public path makes weir ask the upstream for its own."""
    table = Routes([Served("one", handler, own, True)])
    asked = b"/servers/one/mcp" if is_named else b"/mcp"
    public = table.public_target("one", asked, own.rstrip(b"/") + b"/?" + query)
    path, _, rest = public.partition(b"?")
    assert (("one", own), query) == (where(table, path), rest)
