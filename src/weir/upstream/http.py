"""The HTTP edge: asks an MCP server over HTTP, and judges what comes back."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from weir.core.call import Attempt, Headers, Peer, Transport
from weir.core.events import ConnectionOpened, Emit
from weir.core.outcome import NO_ANSWER, Failed, FailureKind, Outcome, Replied, Sent
from weir.upstream.connection import Exchange, Unanswered
from weir.upstream.http1 import Pool, PoolSettings
from weir.upstream.judging import StreamJudge, judge_complete

REPLY_BUFFER_BYTES = 4 * 1024 * 1024
"""A reply body up to this size is judged before it is relayed."""

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# written by this edge itself, or not to be promised for the server
_OURS = frozenset((b"host", b"content-length", b"accept-encoding", b"expect"))
_TRACE = frozenset((b"traceparent", b"tracestate", b"baggage"))
_WITH_BODY = frozenset((b"POST", b"PUT", b"PATCH"))


@dataclass(slots=True, frozen=True)
class HttpSettings:
    """One HTTP upstream. `headers` are added to every request and replace incoming ones of the same name."""

    name: str
    url: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    preserve_host: bool = False
    tls: ssl.SSLContext | None = None
    connections: int = 100
    connect_seconds: float = 5.0
    idle_seconds: float = 300.0
    reply_buffer_bytes: int = REPLY_BUFFER_BYTES
    base: tuple[str, str, int] = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        object.__setattr__(self, "base", (parts.scheme, parts.hostname or "", port))


class HttpUpstream:
    """The innermost handler of an attempt: one HTTP exchange with one server."""

    def __init__(self, settings: HttpSettings, emit: Emit, clock: Callable[[], float]) -> None:
        self.name = settings.name
        self._settings = settings
        self._emit = emit
        self._clock = clock
        scheme, host, port = settings.base
        tls = settings.tls
        if tls is None and scheme == "https":
            tls = ssl.create_default_context()
        self._peer = Peer(Transport.HTTP, host, port, "1.1")
        self._authority = urlsplit(settings.url).netloc.rpartition("@")[2].encode()
        self._fixed = b"".join(b"%b: %b\r\n" % each for each in settings.headers) + b"accept-encoding: identity\r\n"
        self._dropped = _HOP_BY_HOP | _OURS | {name.lower() for name, _ in settings.headers}
        self._pool = Pool(
            PoolSettings(
                host=host,
                port=port,
                tls=tls,
                connections=settings.connections,
                connect_seconds=settings.connect_seconds,
                idle_seconds=settings.idle_seconds,
            ),
            clock,
            lambda seconds: emit(ConnectionOpened(settings.name, seconds)),
        )

    async def __call__(self, attempt: Attempt) -> Outcome:
        """Ask. Never raises for what a server or a network can do; a cancelled attempt closes its connection."""
        attempt.peer = self._peer
        head = self._head(attempt)
        try:
            connection = self._pool.idle_connection()
            if connection is None:
                began = self._clock()
                try:
                    connection = await self._pool.connect()
                finally:
                    attempt.connect_seconds = self._clock() - began
            exchange = connection.ask(
                head, attempt.body, self._settings.reply_buffer_bytes, is_bodiless=attempt.call.verb == b"HEAD"
            )
        except Unanswered as error:
            return _failed(error)
        attempt.sent_at = self._clock()
        try:
            return await self._receive(attempt, exchange)
        except Unanswered as error:
            return _failed(error)
        finally:
            attempt.first_byte_at = exchange.first_byte_at
            exchange.close()

    async def aclose(self) -> None:
        """Close every connection to the server."""
        await self._pool.aclose()

    def _head(self, attempt: Attempt) -> bytes:
        call, trace = attempt.call, attempt.trace
        host, dropped = self._authority, self._dropped
        if trace is not None:
            dropped = dropped | _TRACE
        lines = []
        for name, value in attempt.headers:
            if name not in dropped:
                lines.append(b"%b: %b\r\n" % (name, value))
            elif name == b"host" and self._settings.preserve_host:
                host = value
        if trace is not None:
            lines.append(b"traceparent: %b\r\n" % trace.traceparent.encode())
            if trace.tracestate:
                lines.append(b"tracestate: %b\r\n" % trace.tracestate.encode())
            if trace.baggage:
                lines.append(b"baggage: %b\r\n" % trace.baggage.encode())
        if attempt.body or call.verb in _WITH_BODY:
            lines.append(b"content-length: %d\r\n" % len(attempt.body))
        start = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b" % (call.verb, attempt.target, host, self._fixed)
        return start + b"".join(lines) + b"\r\n"

    async def _receive(self, attempt: Attempt, exchange: Exchange) -> Outcome:
        await exchange.arrived
        attempt.first_byte_at = exchange.first_byte_at
        headers = _end_to_end(exchange.headers)
        if not exchange.is_stream:
            return judge_complete(attempt.call, exchange.status, headers, exchange.body())
        await attempt.call.sink.open(exchange.status, headers)
        if _is_event_stream(headers):
            return await self._relay_events(attempt, exchange, headers)
        return await self._relay_opaque(attempt, exchange, headers)

    async def _relay_events(self, attempt: Attempt, exchange: Exchange, headers: Headers) -> Outcome:
        call = attempt.call
        judge = StreamJudge(call)
        broken: Unanswered | None = None
        while True:
            try:
                data = await exchange.read()
            except Unanswered as error:
                broken = error
                break
            if not data:
                break
            raw = judge.feed(data)
            if raw:
                call.committed = call.committed or judge.commits
                await call.sink.write(raw)
        rest = judge.rest()
        if rest:
            await call.sink.write(rest)
        return judge.outcome(exchange.status, headers, _failed(broken) if broken is not None else None)

    async def _relay_opaque(self, attempt: Attempt, exchange: Exchange, headers: Headers) -> Outcome:
        call = attempt.call
        while True:
            data = await exchange.read()
            if not data:
                return Replied(exchange.status, headers, None, NO_ANSWER)
            call.committed = True
            await call.sink.write(data)


def _failed(error: Unanswered) -> Failed:
    return Failed(error.kind, error.detail, sent=error.sent, timer=error.timer, after_seconds=error.after_seconds)


def _end_to_end(headers: Headers) -> Headers:
    return [each for each in headers if each[0] not in _HOP_BY_HOP]


def _is_event_stream(headers: Headers) -> bool:
    return any(name == b"content-type" and value.lower().startswith(b"text/event-stream") for name, value in headers)


__all__ = ["FailureKind", "HttpSettings", "HttpUpstream", "Sent"]
