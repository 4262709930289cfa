"""What is never written down: credentials, session ids, and whatever may hold them.

Telemetry writes names, ids of messages, sizes and times; it never writes headers, arguments, results
or `requestState`. This is for the free text that is left: details of failures, a child's last words.
"""

import json
import re
from typing import Final

REDACTED: Final = "[redacted]"
# nobody reads more of one detail; it also bounds what a hostile text costs
TEXT_LIMIT_CHARACTERS: Final = 1000

_DELETE: Final = 0x7F
# Every expression is linear in its text: it starts where a word or an address does, and possessive repeats (`*+`) never
# give back what they took, so no character is looked at once for each that came before it.
_USERINFO: Final = re.compile(r"://[^/\s]*@")
_QUERY: Final = re.compile(r"(://[^\s?#\"']*+)(?:[?#][^\s\"']*+)?")
_SCHEME: Final = re.compile(r"\b(bearer|basic|digest|negotiate)\s++[\w.~+/=-]{6,}+", re.IGNORECASE)
_SECRET: Final = r"""(?:authorization|cookie|session[ _-]?id|request_?state|token|secret|passw(?:or)?d|passphrase
    |pwd|api[ _-]?key|auth[_-]?key|access[_-]?key|private[_-]?key|account[_-]?key|credentials?|signature)"""
# a name that is short, or the end of a longer one: OPENAI_KEY, jwt
_SHORT: Final = r"(?:key|otp|jwt|pat|sig)"
# quotes may themselves stand in a quoted text, or be escaped: \"token\": \"x\", \u0022token\u0022, %22token%22
_QUOTE: Final = r"""(?:\\*+["']|\\++u0022|%22)"""
_VALUE: Final = r"""(?:(?:bearer|basic|digest|token)\s++)?
    (?:\\*+(?:"[^"\\]*+"?|'[^'\\]*+'?)|\\++u0022[^\s"'\\]*+|[^\s"',;&\\]++)"""
# values with blanks and commas of their own
_COOKIE: Final = re.compile(
    rf"""(?<![\w-])((?:(?:set-)?cookie|(?:proxy-)?authorization){_QUOTE}?+\s*+[:=]\s*+)[^\r\n"'\\]++""",
    re.IGNORECASE,
)
_NAMED: Final = re.compile(
    rf"""(?<![\w-])((?:(?=[\w-]*{_SECRET})[\w-]++(?:[ ](?:key|id))?+|(?:[\w-]*[_-])?{_SHORT}(?![\w-]))
        {_QUOTE}?+\s*+(?:=>|[:=]|%3d|%3a)\s*+(?:%22)?+){_VALUE}""",
    re.IGNORECASE | re.VERBOSE,
)
_ELEMENT: Final = re.compile(rf"<([\w-]*{_SECRET}[\w-]*+)>[^<]++", re.IGNORECASE | re.VERBOSE)
# words that say something about a secret, and are none
_ABOUT: Final = r"""(?:a|an|the|no|not|too|only|in|for|from|of|invalid|valid|missing|expired|required|unknown|wrong
    |empty|set|unset|incorrect|malformed|rejected|revoked|refused|denied|absent|needed|used|gone)\b"""
_SPOKEN: Final = re.compile(
    rf"""(?<![\w-])(--?[\w-]*{_SECRET}[\w-]*+\s++|{_SECRET}(?:[ ]key)?\s++(?:is|was):?\s++)(?!{_ABOUT}){_VALUE}""",
    re.IGNORECASE | re.VERBOSE,
)
# behind the name of a secret: a quoted word, or one with a digit in it, which no sentence has there
_BESIDE: Final = re.compile(
    rf"""(?<![\w])([\w-]{{0,40}}{_SECRET}(?:[ ]key)?\s++)
        (?:"[^"]{{6,}}+"?|'[^']{{6,}}+'?|(?=[^\s\d]{{0,64}}\d)[^\s,;]{{8,}}+)""",
    re.IGNORECASE | re.VERBOSE,
)
_USER: Final = re.compile(r"((?<!\S)(?:-u|--user)[ =]\s*+[^\s:]{1,64}+:)\S++")
# keys that say by their beginning whose they are, and JSON web tokens
_KEY: Final = re.compile(
    r"\b(?:(?:sk|pk|rk|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[abeprs]|hf|npm|whsec|dop_v1|doo_v1|shpat|pypi)[-_]"
    r"[\w-]{8,}+|(?:AKIA|ASIA)[A-Z0-9]{12,}+|AIza[\w-]{30,}+|ya29\.[\w.-]{8,}+|SG\.[\w-]{8,}+\.[\w-]++"
    r"|eyJ[\w-]{5,}+\.[\w.-]++)"
)
_BLOCK_EDGE: Final = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]{0,60}PRIVATE KEY[A-Z0-9 ]{0,20}-----")


def text(value: str) -> str:
    """Free text without what looks like a credential, and not endlessly long."""
    value, _ = without_key_blocks(value[:TEXT_LIMIT_CHARACTERS])
    value = _COOKIE.sub(rf"\1{REDACTED}", value)
    value = _NAMED.sub(rf"\1{REDACTED}", value)
    value = _ELEMENT.sub(rf"<\1>{REDACTED}", value)
    value = _SPOKEN.sub(rf"\1{REDACTED}", value)
    value = _BESIDE.sub(rf"\1{REDACTED}", value)
    value = _USER.sub(rf"\1{REDACTED}", value)
    value = _SCHEME.sub(rf"\1 {REDACTED}", value)
    return url(_KEY.sub(REDACTED, value))


def last_words(value: str) -> str:
    """The last whole lines of a text, as `text` shows them: the end of it says why a process ended."""
    value, _ = without_key_blocks(value)
    if len(value) > TEXT_LIMIT_CHARACTERS:
        # the first line that is left may have lost the name of a secret
        value = value[-TEXT_LIMIT_CHARACTERS:].partition("\n")[2] or REDACTED
    return text(value.strip())


def without_key_blocks(value: str, *, is_inside: bool = False) -> tuple[str, bool]:
    """A text without private keys in PEM form, and whether it ends within one.

    `is_inside`: it begins within one. An end without a beginning takes away all before it.
    """
    if not is_inside and "PRIVATE KEY-----" not in value:
        return value, False
    left: list[str] = []
    start = 0
    for edge in _BLOCK_EDGE.finditer(value):
        is_begin = edge[1] == "BEGIN"
        if is_begin and not is_inside:
            left.append(value[start : edge.start()])
        if not is_inside:
            left.append(REDACTED)
        is_inside, start = is_begin, edge.end()
    if not is_inside:
        left.append(value[start:])
    return "".join(left), is_inside


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
