"""What is never written down: credentials, session ids, and whatever may hold them.

Telemetry writes names, ids of messages, sizes and times; it never writes headers, arguments, results
or `requestState`. This is for the free text that is left: details of failures, a child's last words.
"""

import json
import re

REDACTED = "[redacted]"
# nobody reads more of one detail; it also bounds what a hostile text costs
TEXT_LIMIT_CHARACTERS = 1000

_DELETE = b"\x7f"
# Every expression is linear in its text: it starts where a word or an address does, and possessive repeats (`*+`) never
# give back what they took, so no character is looked at once for each that came before it.
_USERINFO = re.compile(r"://[^/\s]*@")
_QUERY = re.compile(r"(://[^\s?#\"']*+)(?:[?#][^\s\"']*+)?")
_SCHEME = re.compile(r"\b(bearer|basic|digest|negotiate)\s++[\w.~+/=-]{6,}+", re.IGNORECASE)
_SECRET = r"""(?:authorization|cookie|session[_-]?id|request_?state|token|secret|passw(?:or)?d|passphrase
    |pwd|api[ _-]?key|auth[_-]?key|access[_-]?key|private[_-]?key|credentials?)"""
# quotes may themselves stand in a quoted text: \"token\": \"x\"
_VALUE = r"""(?:(?:bearer|basic|digest|token)\s++)?(?:\\*+(?:"[^"\\]*+"?|'[^'\\]*+'?)|[^\s"',;&\\]++)"""
_COOKIE = re.compile(r"(?<![\w-])((?:set-)?cookie[\"']?\s*+[:=]\s*+)[^\r\n]*+", re.IGNORECASE)
_NAMED = re.compile(
    rf"""(?<![\w-])(?=[\w-]*{_SECRET})([\w-]++(?:[ ]key)?+\\*+["']?\s*+(?:[:=]|%3d)\s*+){_VALUE}""",
    re.IGNORECASE | re.VERBOSE,
)
# words that say something about a secret, and are none
_ABOUT = r"""(?:a|an|the|no|not|too|only|in|for|from|of|invalid|valid|missing|expired|required|unknown|wrong|empty|set
    |unset|incorrect|malformed|rejected|revoked|refused|denied|absent|needed|used|gone)\b"""
_SPOKEN = re.compile(
    rf"""(?<![\w-])(--?[\w-]*{_SECRET}[\w-]*+\s++|{_SECRET}\s++(?:is|was)\s++)(?!{_ABOUT}){_VALUE}""",
    re.IGNORECASE | re.VERBOSE,
)
# keys that say by their beginning whose they are, and JSON web tokens
_KEY = re.compile(
    r"\b(?:(?:sk|pk|rk|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abeprs]|hf|npm)[-_][\w-]{8,}+|AKIA[A-Z0-9]{12,}+"
    r"|eyJ[\w-]{8,}+\.[\w.-]++)"
)


def text(value: str) -> str:
    """Free text without what looks like a credential, and not endlessly long."""
    value = value[:TEXT_LIMIT_CHARACTERS]
    value = _COOKIE.sub(rf"\1{REDACTED}", value)
    value = _NAMED.sub(rf"\1{REDACTED}", value)
    value = _SPOKEN.sub(rf"\1{REDACTED}", value)
    value = _SCHEME.sub(rf"\1 {REDACTED}", value)
    return url(_KEY.sub(REDACTED, value))


def url(value: str) -> str:
    """A URL (or text that holds some) without user name, password, query and fragment."""
    return _QUERY.sub(r"\1", _USERINFO.sub("://", value))


def cut(value: str, limit_bytes: int) -> str:
    """At most so many bytes of a text that the wire sent."""
    if len(value) * 4 <= limit_bytes:
        return value
    return value[:limit_bytes].encode("utf-8", "replace")[:limit_bytes].decode(errors="ignore")


def printable(value: str) -> str:
    """A text that can neither move a terminal's cursor nor change how the text around it reads.

    Escaped are control characters (C0 and C1), marks of writing direction, characters without width, separators of
    lines and paragraphs, and lone surrogates. A line of the JSON log is valid UTF-8 afterwards.
    """
    return value if value.isprintable() else "".join([_escaped(character) for character in value])


def printable_json(line: bytes) -> bytes:
    """JSON text with the same characters escaped, as JSON escapes them: a reader gets the text as it was."""
    if line.isascii() and _DELETE not in line:
        return line
    text = line.decode("utf-8", "replace")
    if text.isprintable():
        return line
    return "".join([_escaped_in_json(character) for character in text]).encode()


def without_surrogates(value: str) -> str:
    """A text that can be written as UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode()


def _escaped_in_json(character: str) -> str:
    if character.isprintable() or character == "\n":
        # a line feed that JSON text holds stands between its members, or ends the line
        return character
    # json escapes what is no ASCII, which leaves one control character
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
