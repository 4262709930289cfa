"""What is never written down: credentials, session ids, and whatever may hold them.

Telemetry writes names, ids of messages, sizes and times; it never writes headers, arguments, results
or `requestState`. This is for the free text that is left: details of failures, a child's last words.
"""

import re

REDACTED = "[redacted]"
# nobody reads more of one detail; it also bounds what a hostile text costs
TEXT_LIMIT_CHARACTERS = 1000

_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@]*@", re.IGNORECASE)
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?#\"']*)[?#][^\s\"']*", re.IGNORECASE)
_SCHEME = re.compile(r"\b(bearer|basic|digest|negotiate)\s+[\w.~+/=-]{6,}", re.IGNORECASE)
_NAMED = re.compile(
    r"""([\w-]*(?:authorization|cookie|session[_-]?id|request_?state|token|secret|passw(?:or)?d|api[_-]?key)[\w-]*
        ["']?\s*[:=]\s*["']?)(?:(?:bearer|basic)\s+)?[^\s"',;&]+""",
    re.IGNORECASE | re.VERBOSE,
)


def text(value: str) -> str:
    """Free text without what looks like a credential, and not endlessly long."""
    value = value[:TEXT_LIMIT_CHARACTERS]
    value = _NAMED.sub(rf"\1{REDACTED}", value)
    value = _SCHEME.sub(rf"\1 {REDACTED}", value)
    return url(value)


def url(value: str) -> str:
    """A URL (or text that holds some) without user name, password, query and fragment."""
    return _QUERY.sub(r"\1", _USERINFO.sub(r"\1", value))


def cut(value: str, limit_bytes: int) -> str:
    """At most so many bytes of a text that the wire sent."""
    if len(value) * 4 <= limit_bytes:
        return value
    return value.encode()[:limit_bytes].decode(errors="ignore")


def printable(value: str) -> str:
    """A text that cannot move a terminal's cursor."""
    return value if value.isprintable() else value.encode("unicode_escape").decode()
