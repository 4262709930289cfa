"""Rules for a request's head that HTTP/1.1 leaves to the recipient: where it goes, and how its body is framed.

A head that two recipients could read in two ways is refused, because weir's checks would hold for one reading and
the server could follow the other.
"""

from typing import Final

from weir.core.call import Headers
from weir.downstream.authority import LONGEST_AUTHORITY, is_host
from weir.protocol.numbers import whole_number

_SCHEMES: Final = (b"http", b"https")


class BadHeadError(Exception):
    """The head is refused with this HTTP status; `reason` is a word of a closed list."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Head:
    """A request's head as weir reads it. `body_length` in bytes: 0 when there is no body, or when it is chunked."""

    # no NamedTuple: made for each request, and compiled it costs a tenth of one
    __slots__ = ("body_length", "headers", "path", "query", "version")

    def __init__(self, path: bytes, query: bytes, version: str, headers: Headers, body_length: int) -> None:
        self.path: Final = path
        self.query: Final = query
        self.version: Final = version
        self.headers: Final = headers
        self.body_length: Final = body_length


def read_head(url: bytes, headers: Headers, version: str) -> Head:
    """Reads a head that the parser accepted. Header names are in lower case.

    Raises:
        BadHeadError: the target or the Host header is missing, doubled or malformed (RFC 9112, section 3.2); the body
            is framed in a way that weir does not read (section 6.1); or it is another version of HTTP.
    """
    if version not in ("1.0", "1.1"):
        raise BadHeadError(505, "http_version")
    length, hosts, host = 0, 0, b""
    for name, value in headers:
        if name == b"host":
            hosts, host = hosts + 1, value
        elif name == b"content-length" or name == b"transfer-encoding":
            length = _body_length(name, value, version)
    if hosts > 1 or (not hosts and version == "1.1"):
        raise BadHeadError(400, "host")
    if not url.startswith(b"/") and url != b"*":
        # the authority of the absolute form replaces Host (RFC 9112, section 3.2.2)
        host, url = _absolute(url)
        hosts = 1
        headers = [(b"host", host), *(each for each in headers if each[0] != b"host")]
    if hosts:
        _check_host(host)
    path, _, query = url.partition(b"?")
    return Head(path, query, version, headers, length)


def _check_host(host: bytes) -> None:
    if len(host) > LONGEST_AUTHORITY or not is_host(host):
        raise BadHeadError(400, "host")


def _body_length(name: bytes, value: bytes, version: str) -> int:
    """The parser refuses what is no number, what comes twice, and a length beside a coding."""
    if name == b"transfer-encoding":
        _check_coding(value, version)
        return 0
    # a number behind many zeros is refused here
    length = whole_number(value)
    if length is None:
        raise BadHeadError(400, "content_length")
    return length


def _check_coding(value: bytes, version: str) -> None:
    """The parser refuses `chunked` in front of another coding, and a coding beside Content-Length."""
    if version == "1.0":
        raise BadHeadError(400, "transfer_encoding")
    if value.strip(b" \t").lower() != b"chunked":
        raise BadHeadError(501, "transfer_encoding")


def _absolute(url: bytes) -> tuple[bytes, bytes]:
    scheme, separator, rest = url.partition(b"://")
    if not separator or scheme.lower() not in _SCHEMES:
        raise BadHeadError(400, "target")
    end = min((at for at in map(rest.find, (b"/", b"?", b"#")) if at >= 0), default=len(rest))
    below = rest[end:]
    return rest[:end], below if below.startswith(b"/") else b"/" + below


def without_upgrade(verb: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """Returns a head as it was sent, without its offer to upgrade."""
    lines = [b"%b %b HTTP/%b" % (verb, url, version.encode())]
    lines += [name + b": " + value for name, value in headers if name != b"upgrade"]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def refusal_text(reason: str) -> bytes:
    """Returns what follows the status line of a refusal that ends the connection."""
    text = b"weir refuses this request: %b\n" % reason.replace("_", " ").encode()
    return b"content-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(text), text)
