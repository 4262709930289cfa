"""Which paths of a server carry MCP, and which are its sign-in and its public documents."""

from urllib.parse import unquote_to_bytes

_WELL_KNOWN = b".well-known"
_SIGN_IN = frozenset((b"authorize", b"token", b"register"))
"""The default OAuth endpoints of a server that publishes no metadata (MCP 2025-03-26, basic/authorization)."""


def carries_mcp(target: bytes, own_path: bytes) -> bool:
    """Whether a request for `target` (path and query) is one of MCP, or of what runs beside it.

    `own_path` is the server's one MCP path. It is b"" or b"/" when all paths are served: then all carry MCP but the
    well-known documents and the sign-in, in whatever spelling a lenient server might take for theirs.
    """
    path = target.partition(b"?")[0]
    if own_path not in (b"", b"/"):
        return path == own_path
    plain = unquote_to_bytes(unquote_to_bytes(path)).lower().replace(b"\\", b"/")
    names = [segment.partition(b";")[0] for segment in plain.split(b"/") if segment]
    return _WELL_KNOWN not in names and not (names and names[0] in _SIGN_IN)
