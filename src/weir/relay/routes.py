"""Which upstream serves a path, and what path it is asked for.

One upstream is served at `/mcp` and at its own path, each at `/servers/<name>/mcp`. An upstream URL
without a path mirrors every path below it. The well-known documents of an HTTP upstream are reached
through the paths that clients derive from the address they dialled (RFC 9728 §3.1, RFC 8414 §3.1).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from weir.core.layer import CallHandler
from weir.protocol.paths import WELL_KNOWN, is_document

MCP_VERBS: Final = ("POST", "GET", "DELETE", "OPTIONS", "HEAD")
"""What Streamable HTTP uses, and what browsers ask about it. A call in another verb would escape the policies."""

DOCUMENT_VERBS: Final = ("GET", "HEAD", "OPTIONS")
"""Well-known documents are only ever read."""


class Served(NamedTuple):
    """One upstream as it is served. `path` is its own path, b"" when its URL has none (mirror); so `query`."""

    name: str
    handler: CallHandler
    path: bytes
    is_http: bool
    query: bytes = b""


class Route(NamedTuple):
    """Where a request goes: the upstream's name and handler, the path it is asked for, and a query to put first.

    `verbs` are those that may go there; empty: all.
    """

    upstream: str
    handler: CallHandler
    path: bytes
    query: bytes = b""
    verbs: tuple[str, ...] = ()


class Routes:
    """Paths to upstreams. Lookups are exact and remembered by construction: nothing grows with traffic."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._by_name = {one.name.encode(): one for one in served}
        self._only = served[0] if len(served) == 1 else None
        self._exact: dict[bytes, Route] = {}
        for one in served:
            self._serve(one, b"/servers/" + one.name.encode() + b"/mcp")
        if self._only is not None:
            if self._only.path:
                self._serve(self._only, self._only.path)
            self._serve(self._only, b"/mcp")

    def _serve(self, one: Served, path: bytes) -> None:
        """Serve an upstream at a path, with and without a slash at its end; a mirror has paths of its own there."""
        route = _own(one)
        self._exact[path] = route
        if one.path or not one.is_http:
            bare = path.rstrip(b"/")
            self._exact.setdefault(bare or path, route)
            self._exact.setdefault(bare + b"/", route)

    def match(self, path: bytes) -> Route | None:
        """The route of a raw path (no query), or None: nothing is served there."""
        return self._exact.get(path) or self._below(path)

    def public_target(self, name: str, asked: bytes, target: bytes) -> bytes:
        """Returns the target at which weir serves `target` of an upstream, for a client that asked the path `asked`.

        b"" when weir does not serve it. The query of the upstream's URL may be a secret, and weir adds it itself.
        """
        one = self._by_name.get(name.encode())
        if one is None or is_document(target):
            return b""
        path, mark, query = target.partition(b"?")
        public = _public_path(one, asked, path)
        route = self.match(public)
        if route is None or route.upstream != name:
            return b""
        if one.query and (query + b"&").startswith(one.query + b"&"):
            query = query[len(one.query) + 1 :]
            mark = b"?" if query else b""
        return public + mark + query

    def _below(self, path: bytes) -> Route | None:
        if path.startswith(b"/servers/"):
            name, _, rest = path[9:].partition(b"/")
            one = self._by_name.get(name)
            return _mirrored(one, b"/" + rest) if one is not None else None
        if path.startswith(WELL_KNOWN):
            return self._well_known(path)
        return _mirrored(self._only, path) if self._only is not None else None

    def _well_known(self, path: bytes) -> Route | None:
        """`/.well-known/<document><served path>` becomes `/.well-known/<document><upstream's path>`."""
        document, separator, rest = path[len(WELL_KNOWN) :].partition(b"/")
        suffix = separator + rest
        route = self._exact.get(suffix) if suffix else None
        if route is not None:
            one = self._by_name[route.upstream.encode()]
            suffix = route.path
        elif self._only is not None:
            one = self._only
        else:
            return None
        path = WELL_KNOWN + document + suffix
        return Route(one.name, one.handler, path, verbs=DOCUMENT_VERBS) if one.is_http else None


def _public_path(one: Served, asked: bytes, path: bytes) -> bytes:
    """The path for a client that asked one of the paths at which the upstream is served."""
    own = one.path.rstrip(b"/")
    if own and path.rstrip(b"/") == own:
        return asked.rstrip(b"/") + path[len(own) :]
    prefix = b"/servers/" + one.name.encode()
    return prefix + path if asked.startswith(prefix + b"/") else path


def _own(one: Served) -> Route:
    return Route(one.name, one.handler, one.path or b"/mcp", one.query, MCP_VERBS)


def _mirrored(one: Served | None, path: bytes) -> Route | None:
    if one is None or one.path or not one.is_http:
        return None
    return Route(one.name, one.handler, path, one.query, DOCUMENT_VERBS if is_document(path) else ())
