"""Paths that mean another path to whoever decodes, cleans or maps them.

A path is handed on as it came. Servers and proxies differ in how they read `..`, `%2e`, `\\`, `;` and bytes that are
encoded twice, so a path that any of them could read as one outside its own place is refused.
"""

import re

DECODINGS_LIMIT = 3
"""Rounds of percent-encoding that are undone: one for each of a proxy, a server and a framework behind weir."""

_SUSPICIOUS = re.compile(rb"[%\\;#\x00-\x20\x7f]|/\.|^//|^[^/]")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_SEPARATOR = re.compile(rb"[/\\]")
# UTF-8 of more bytes than the character needs, which old decoders take for it (RFC 3629, section 10)
_OVERLONG = {
    b".": re.compile(rb"\xc0\xae|\xe0\x80\xae|\xf0\x80\x80\xae"),
    b"/": re.compile(rb"\xc0\xaf|\xe0\x80\xaf|\xf0\x80\x80\xaf"),
    b"\\": re.compile(rb"\xc1\x9c|\xe0\x81\x9c|\xf0\x80\x81\x9c"),
}
_OPAQUE_IN_DOCUMENTS = re.compile(rb"[\\;]|%(?:2[fF]|5[cC]|25|3[bB])")
WELL_KNOWN = b"/.well-known/"
_SIGN_IN = frozenset((b"authorize", b"token", b"register"))
"""The default OAuth endpoints of a server that publishes no metadata (MCP 2025-03-26, basic/authorization)."""


def is_unsafe(path: bytes) -> bool:
    """Whether a path has a dot segment in any spelling, a control character or a broken escape.

    Neither is a path safe that does not begin with one slash, or that carries a fragment.
    """
    if not _SUSPICIOUS.search(path):
        return False
    if not path.startswith(b"/") or path.startswith(b"//") or b"#" in path or _BROKEN_ESCAPE.search(path):
        return True
    text = _decoded(path)
    return text is None or _CONTROL.search(text) is not None or any(map(_is_dots, _SEPARATOR.split(text)))


def is_document(path: bytes) -> bool:
    """Whether a server could take the path for one below `/.well-known/` (RFC 8615)."""
    text = _decoded(path)
    return text is None or text.lower().startswith(WELL_KNOWN)


def is_plain_document(path: bytes) -> bool:
    """Whether nobody could read other segments in the path than stand there."""
    return _OPAQUE_IN_DOCUMENTS.search(path) is None


def carries_mcp(target: bytes, own_path: bytes) -> bool:
    """Whether a request for `target` (path and query) is one of MCP, or of what runs beside it.

    `own_path` is the server's one MCP path. It is b"" or b"/" when all paths are served: then all carry MCP but the
    well-known documents and the sign-in, in whatever spelling a lenient server might take for theirs.
    """
    path = target.partition(b"?")[0]
    if own_path not in (b"", b"/"):
        return path == own_path
    text = _decoded(path)
    if text is None:
        return False
    names = [segment.partition(b";")[0].lower() for segment in _SEPARATOR.split(text) if segment]
    return WELL_KNOWN.strip(b"/") not in names and not (names and names[0] in _SIGN_IN)


def _decoded(path: bytes) -> bytes | None:
    """Returns the path without percent-encoding and overlong UTF-8; None when it is encoded deeper than the limit."""
    text = path
    for _ in range(DECODINGS_LIMIT):
        if b"%" not in text:
            break
        text = _ESCAPE.sub(_byte, text)
    if _ESCAPE.search(text):
        return None
    for character, spellings in _OVERLONG.items():
        text = spellings.sub(character.replace(b"\\", b"\\\\"), text)
    return text


def _byte(escape: re.Match[bytes]) -> bytes:
    return bytes((int(escape[1], 16),))


def _is_dots(segment: bytes) -> bool:
    # some servers cut parameters off (`..;x`), others blanks at the end
    return segment.partition(b";")[0].rstrip(b" ") in (b".", b"..")
