"""Writes the requests to one HTTP server."""

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from weir.core.call import Attempt, Headers, header
from weir.protocol.headers import HOP_BY_HOP, named_by
from weir.protocol.paths import carries_mcp
from weir.protocol.tracecontext import TraceContext
from weir.upstream.dialing import Origin, Proxy
from weir.upstream.http1 import Request

_OURS: Final = frozenset((b"host", b"content-length", b"accept-encoding", b"expect"))
"""Written by this edge itself; 100-continue is a matter of one hop."""
_TRACE: Final = frozenset((b"traceparent", b"tracestate", b"baggage"))
_WITH_BODY: Final = frozenset((b"POST", b"PUT", b"PATCH"))


class Composer:
    """Writes the requests to one server: the client's headers, cleaned, with what this hop has to add."""

    def __init__(
        self,
        url: str,
        headers: Sequence[tuple[bytes, bytes]],
        origin: Origin,
        proxy: Proxy | None,
        clock: Callable[[], float],
        *,
        preserve_host: bool,
    ) -> None:
        # without TLS a proxy is asked for the whole URL (RFC 9112, section 3.2.2)
        self._own_path = urlsplit(url).path.encode()
        self._prefix = f"{origin.scheme}://{origin.authority}".encode() if proxy is not None else b""
        self._preserve_host = preserve_host
        added: Headers = [(b"accept-encoding", b"identity")]
        if proxy is not None and proxy.authorization:
            added.append((b"proxy-authorization", proxy.authorization))
        self._plain_lines = [b"host: " + origin.authority.encode(), *(b": ".join(each) for each in added)]
        self._lines = self._plain_lines + [b": ".join(each) for each in headers]
        self._plain_dropped = HOP_BY_HOP | _OURS
        self._dropped = self._plain_dropped | {name for name, _ in headers}
        self._dropped_with_trace = self._dropped | _TRACE
        self._is_guarded = bool(headers)
        self._clock = clock

    def compose(self, attempt: Attempt) -> Request:
        """The request of one attempt."""
        call, trace, received, body = attempt.call, attempt.trace, attempt.headers, attempt.body
        target, dropped = attempt.target or b"/", self._dropped if trace is None else self._dropped_with_trace
        # a place that the MCP endpoint redirects to is the endpoint
        if self._is_guarded and not carries_mcp(call.target or b"/", self._own_path):
            # what the operator gave for the MCP endpoint is not for other parts of the server
            lines = self._plain_lines.copy()
            dropped = self._plain_dropped if trace is None else self._plain_dropped | _TRACE
        else:
            lines = self._lines.copy()
        if self._preserve_host and (host := header(received, b"host")):
            lines[0] = b"host: " + host
        _write_lines(lines, received, dropped)
        if call.cookies is not None and (cookie := call.cookies.header(target, self._clock())):
            _write_cookie(lines, cookie)
        if trace is not None:
            _write_trace(lines, trace)
        if body or call.verb in _WITH_BODY:
            lines.append(b"content-length: %d" % len(body))
        return Request(call.verb, self._prefix + target, lines, body, call.account, call.is_stream)


def _write_lines(lines: list[bytes], headers: Headers, dropped: frozenset[bytes]) -> None:
    """Add the headers that are not meant for one hop only: neither in the list, nor named by `Connection`."""
    begin = len(lines)
    for name, value in headers:
        if name not in dropped:
            lines.append(name + b": " + value)
        elif name == b"connection" and not named_by(value) <= dropped:
            del lines[begin:]
            _write_lines(lines, headers, dropped | named_by(value))
            return


def _write_cookie(lines: list[bytes], cookie: bytes) -> None:
    """Add the conversation's cookies to those that the operator gave: a request has one such line (RFC 6265, 5.4)."""
    for number, line in enumerate(lines):
        if line.startswith(b"cookie: "):
            lines[number] = line + b"; " + cookie
            return
    lines.append(b"cookie: " + cookie)


def _write_trace(lines: list[bytes], trace: TraceContext) -> None:
    """The context as headers; state or baggage that came in a message and cannot be a header stays behind."""
    lines.append(b"traceparent: " + trace.traceparent.encode())
    for name, value in ((b"tracestate", trace.tracestate), (b"baggage", trace.baggage)):
        if value and value.isascii() and value.isprintable():
            lines.append(name + b": " + value.encode())
