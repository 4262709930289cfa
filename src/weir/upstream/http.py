"""The HTTP edge: asks an MCP server over HTTP, relays its reply, and says how it ended."""

import asyncio
import math
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from weir.core.call import Attempt, Call, Headers, Peer, Transport
from weir.core.events import ConnectionOpened, Decided, Emit, LimitReached, Listed
from weir.core.outcome import NO_ANSWER, PLAIN, Blame, Failed, FailureKind, Outcome, RefusalKind, Refused, Replied, Sent
from weir.core.shortage import SHORTAGE_RETRY_SECONDS
from weir.protocol.envelope import Kind
from weir.protocol.methods import LISTS, Repeat, facts
from weir.upstream.client_reading import ClientReader, unreadable
from weir.upstream.codings import decoded
from weir.upstream.composer import Composer
from weir.upstream.dialing import Dialer, Origin, Proxy, TlsSettings, client_context, origin_of, proxy_at, proxy_for
from weir.upstream.exchange import Exchange, Shortage, Unanswered
from weir.upstream.http1 import Client, Pool, PoolSettings, Request
from weir.upstream.judging import Restored, StreamJudge, judge_complete, undescribed
from weir.upstream.redirects import HOPS_LIMIT, PublicTarget, Redirects, serves_nothing
from weir.upstream.session_order import SessionOrder

TURN_BYTES: Final = 32 * 1024
"""What is looked at of an event stream in one turn of the loop: up to 10,000 events of three bytes."""

REPLY_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""A reply body up to this size is judged before it is relayed."""

CLIENT_REPLY_BYTES: Final = 64 * 1024 * 1024
"""An encoded reply to a client on a pipe may have so many bytes once it is decoded: there it is held whole anyway."""

_UNANSWERED: Final = frozenset((Kind.NOTIFICATION, Kind.RESPONSE))


@dataclass(slots=True, frozen=True)
class HttpSettings:
    """One HTTP upstream.

    `url`: scheme, host and port are used; the path is the caller's matter. `headers` are added to every request
    and replace those of the same name; names in lower case. `preserve_host`: the client's `Host` goes on to the
    server. `connections`, `streams`, `connect_seconds`, `idle_seconds`: see PoolSettings. `proxy`: None for what the
    environment names, "" for none, else an http:// URL.
    """

    name: str
    url: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    preserve_host: bool = False
    tls: TlsSettings | None = None
    proxy: str | None = None
    connections: int = 100
    streams: int = 1000
    connect_seconds: float = 5.0
    idle_seconds: float = 300.0
    reply_buffer_bytes: int = REPLY_BUFFER_BYTES
    has_own_silences: bool = False
    """Calls may come with `idle_seconds` of their own."""
    watched: "WatchedLimits | None" = None
    public_target: PublicTarget = serves_nothing
    """Where weir serves what the server has at a place of its own."""


@dataclass(slots=True, frozen=True)
class WatchedLimits:
    """Limits that end nothing: it is only told when they would have (`Decided` deadline would_time_out)."""

    connect_seconds: float
    idle_seconds: float


class HttpUpstream:
    """The innermost handler of an attempt: one HTTP exchange with one server.

    Raises (when made):
        ValueError: the URL or the proxy's URL cannot be used.
        OSError: a file that TLS needs cannot be read.
    """

    def __init__(self, settings: HttpSettings, emit: Emit, clock: Callable[[], float]) -> None:
        origin = origin_of(settings.url)
        proxy = _proxy(settings, origin)
        tls = client_context(settings.tls or TlsSettings()) if origin.scheme == "https" else None
        pool = PoolSettings(
            settings.connections,
            settings.streams,
            settings.connect_seconds,
            settings.idle_seconds,
            settings.reply_buffer_bytes,
        )
        self.name = settings.name
        self._settings = settings
        self._emit = emit
        self._clock = clock
        self._client: Client = Pool(Dialer(origin, tls, proxy), pool, clock, self)
        self._minds_silence = settings.has_own_silences or settings.watched is not None
        self._peer = Peer(Transport.HTTP, origin.host, origin.port, "1.1")
        self._composer = Composer(
            settings.url,
            settings.headers,
            origin,
            proxy if tls is None else None,
            clock,
            preserve_host=settings.preserve_host,
        )
        self._order = SessionOrder()
        self._redirects = Redirects(settings.name, origin, settings.public_target, emit)

    def __call__(self, attempt: Attempt) -> Coroutine[Any, Any, Outcome]:
        """Ask, relay, judge. Whatever the server and the network do is an outcome; cancelling closes the connection."""
        attempt.peer = self._peer
        # not a coroutine itself: one frame less to resume
        if self._order.opening and attempt.call.verb == b"POST":
            return self._ask_behind(attempt)
        return self._ask(attempt, self._composer.compose(attempt), is_first=True)

    async def _ask_behind(self, attempt: Attempt) -> Outcome:
        await self._order.behind(attempt.call.session)
        return await self._ask(attempt, self._composer.compose(attempt), is_first=True)

    async def _ask(self, attempt: Attempt, request: Request, *, is_first: bool, hops: int = 0) -> Outcome:
        try:
            exchange = self._client.send(request) or await self._connect_and_send(attempt, request)
        except Unanswered as error:
            return self._unsent(error)
        attempt.sent_at = exchange.sent_at
        exchange.account = attempt.call.account
        # a message without an answer was accepted by its head; a server may forget to end the reply
        exchange.needs_head_only = attempt.call.cookies is not None and attempt.call.message.kind in _UNANSWERED
        if attempt.call.is_stream or self._minds_silence:
            self._mind_silence(attempt.call, exchange)
        is_moved = False
        try:
            await exchange.arrived
            is_moved = exchange.is_for_clients and self._act_as_client(attempt, exchange)
            if not is_moved:
                return await self._relay(attempt, exchange) if exchange.is_stream else self._judge(attempt, exchange)
        except Unanswered as error:
            if not is_first or not error.is_stale or not _is_read(attempt.call):
                return _failed(error)
        finally:
            attempt.first_byte_at = exchange.first_byte_at
            exchange.close()
        if is_moved:
            return await self._follow(attempt, hops + 1)
        # the server had closed the unused connection; one opened by the client for this read would have stood
        self._emit(LimitReached(self.name, "stale_connection"))
        return await self._ask(attempt, request, is_first=False, hops=hops)

    def _act_as_client(self, attempt: Attempt, exchange: Exchange) -> bool:
        """Do what HTTP clients do without being asked. Returns whether the attempt goes on at another target."""
        headers, cookies, is_client = exchange.headers, attempt.call.cookies, _is_client(attempt)
        if cookies is not None:
            cookies.take(headers, attempt.target, self._clock())
            if cookies.has_overflowed:
                cookies.has_overflowed = False
                self._emit(LimitReached(self.name, "cookies"))
        target = self._redirects.followed(attempt, exchange.status, headers, is_client=is_client)
        if target:
            attempt.target = target
        elif not is_client:
            exchange.headers = self._redirects.mapped(attempt, headers)
        return bool(target)

    async def _follow(self, attempt: Attempt, hops: int) -> Outcome:
        if hops > HOPS_LIMIT:
            text = f"redirects to itself more than {HOPS_LIMIT} times; correct the path of its url"
            return Failed(FailureKind.PROTOCOL, text, sent=Sent.ANSWERED)
        # the hops belong to the server's time
        sent_at, connect_seconds = attempt.sent_at, attempt.connect_seconds
        try:
            outcome = await self._ask(attempt, self._composer.compose(attempt), is_first=True, hops=hops)
        finally:
            attempt.sent_at, attempt.connect_seconds = sent_at, connect_seconds
        if isinstance(outcome, Failed) and outcome.sent is Sent.NO:
            # it was sent, and the redirect proves that nothing was done
            outcome.sent, outcome.is_undone = Sent.YES, True
        return outcome

    async def aclose(self) -> None:
        """Close every connection to the server; exchanges under way fail."""
        await self._client.aclose()

    def connected(self, seconds: float) -> None:
        """The pool has a new connection."""
        self._emit(ConnectionOpened(self.name, seconds))

    def crowded(self, limit: str) -> None:
        """No place is free."""
        self._emit(LimitReached(self.name, limit))

    def _unsent(self, error: Unanswered) -> Failed | Refused:
        if not isinstance(error, Shortage):
            return _failed(error)
        if error.limit:
            self._emit(LimitReached(self.name, error.limit))
        text = f"MCP server '{self.name}' was not asked. {error.detail}"
        return Refused(RefusalKind.OVERLOADED, text, "upstream", SHORTAGE_RETRY_SECONDS, error.caused_by)

    async def _connect_and_send(self, attempt: Attempt, request: Request) -> Exchange:
        began, until, call = self._clock(), 0.0, attempt.call
        left = call.may_connect_for(self._settings.connect_seconds)
        if call.verb == b"GET" and call.session:
            request.opening = partial(self._order.begin, call.session)
        try:
            exchange = await self._client.connect_and_send(request, left)
            # up to the sending: what comes after is the server's time
            until = exchange.sent_at
            if request.opening is not None:
                self._order.sent(call.session, exchange.arrived)
            return exchange
        finally:
            if not until and request.opening is not None:
                self._order.end(call.session)
            attempt.connect_seconds = (until or self._clock()) - began
            call.connect_left_seconds -= attempt.connect_seconds
            watched = self._settings.watched
            if watched is not None and attempt.connect_seconds >= watched.connect_seconds:
                self._would_time_out(call, watched.connect_seconds, "connect")

    def _mind_silence(self, call: Call, exchange: Exchange) -> None:
        watched = self._settings.watched
        if call.is_stream:
            exchange.limit_silence(math.inf)
        elif call.idle_seconds is not None:
            exchange.limit_silence(call.idle_seconds)
        elif watched is not None:
            seconds = watched.idle_seconds
            exchange.limit_silence(seconds, lambda: self._would_time_out(call, seconds, "idle"))

    def _would_time_out(self, call: Call, seconds: float, timer: str) -> None:
        self._emit(Decided("deadline", "would_time_out", call, True, seconds, timer))

    def _judge(self, attempt: Attempt, exchange: Exchange) -> Outcome:
        headers, body = _end_to_end(exchange), exchange.body()
        text: bytes | None = body
        if exchange.coding:
            limit = CLIENT_REPLY_BYTES if _is_client(attempt) else self._settings.reply_buffer_bytes
            text = decoded(headers, body, limit)
        if _is_client(attempt):
            is_error = not 200 <= exchange.status < 300
            if not (is_error and text is None) and (why := unreadable(headers, text)):
                return Failed(FailureKind.PROTOCOL, why, sent=Sent.ANSWERED)
            if text is not None and exchange.coding:
                headers, body = undescribed(headers, is_decoded=True), text
        if text is None:
            self._emit(LimitReached(self.name, "encoded_reply"))
        elif attempt.call.message.method in LISTS:
            self._emit(Listed(self.name, attempt.call.message.method, text))
        return judge_complete(attempt, exchange.status, headers, body, text)

    def _relay(self, attempt: Attempt, exchange: Exchange) -> Coroutine[Any, Any, Outcome]:
        # not a coroutine itself: one frame less to resume
        attempt.first_byte_at = exchange.first_byte_at
        reader: Exchange | ClientReader = exchange
        headers, is_readable = _end_to_end(exchange), not exchange.coding
        if _is_client(attempt):
            reader = ClientReader(exchange)
            is_readable = not reader.is_encoded
            headers = undescribed(headers, is_decoded=True) if exchange.coding and is_readable else headers
        if exchange.is_events and is_readable:
            return self._relay_events(attempt, exchange, reader, headers)
        return self._relay_opaque(attempt, exchange, reader, headers)

    async def _relay_events(
        self, attempt: Attempt, exchange: Exchange, reader: Exchange | ClientReader, headers: Headers
    ) -> Outcome:
        call, sink, judge = attempt.call, attempt.sink, StreamJudge(attempt)
        # events are edited, dropped and added on the way: by a question's trace, a retry, an error of weir's
        headers = undescribed(headers)
        await sink.open(exchange.status, headers)
        # it may be silent for as long as the client thinks about its question
        exchange.excuse = lambda: call.pending_asks > 0
        broken: Failed | None = None
        try:
            while not reader.is_read and (data := await reader.read()):
                if len(data) > TURN_BYTES:
                    data = await self._relay_in_turns(attempt, judge, data)
                if raw := judge.feed(data):
                    call.committed |= judge.has_events
                    await sink.write(raw)
        except Unanswered as error:
            broken = _failed(error)
        finally:
            judge.let_go()
            if judge.has_oversized:
                self._emit(LimitReached(self.name, "sse_event"))
        outcome = judge.outcome(exchange.status, headers, broken)
        rest = judge.rest()
        # no client reads an event that has not ended, but it would swallow the error that comes after a failure
        if rest and isinstance(outcome, Replied):
            call.committed = True
            await sink.write(rest)
        if judge.listing:
            self._emit(Listed(self.name, call.message.method, judge.listing))
        return outcome

    async def _relay_in_turns(self, attempt: Attempt, judge: StreamJudge, data: bytes) -> bytes:
        """Relay a large piece of a stream bit by bit; between two bits others have their turn. Returns the last bit."""
        while len(data) > TURN_BYTES:
            if raw := judge.feed(data[:TURN_BYTES]):
                attempt.call.committed |= judge.has_events
                await attempt.sink.write(raw)
            await asyncio.sleep(0)
            data = data[TURN_BYTES:]
        return data

    async def _relay_opaque(
        self, attempt: Attempt, exchange: Exchange, reader: Exchange | ClientReader, headers: Headers
    ) -> Outcome:
        call, sink = attempt.call, attempt.sink
        restored = Restored(attempt, headers, is_events=exchange.is_events)
        headers = restored.headers
        await sink.open(exchange.status, headers)
        if not exchange.needs_head_only:
            self._emit(LimitReached(self.name, "encoded_reply" if exchange.is_events else "reply_buffer"))
        while data := await reader.read():
            call.committed = True
            if text := restored.feed(data):
                await sink.write(text)
        if rest := restored.rest():
            await sink.write(rest)
        is_answer = call.is_request and 200 <= exchange.status < 300
        return Replied(exchange.status, headers, None, PLAIN if is_answer else NO_ANSWER)


def _is_client(attempt: Attempt) -> bool:
    """Whether weir is the HTTP client: its own client is on a pipe and knows nothing of HTTP."""
    return attempt.call.peer.transport is Transport.STDIO


def _end_to_end(exchange: Exchange) -> Headers:
    """The same of a reply's headers."""
    local = exchange.local
    return [each for each in exchange.headers if each[0] not in local] if local else exchange.headers


def _proxy(settings: HttpSettings, origin: Origin) -> Proxy | None:
    if settings.proxy is None:
        return proxy_for(origin, os.environ)
    return proxy_at(settings.proxy) if settings.proxy else None


def _failed(error: Unanswered) -> Failed:
    is_weirs = error.kind in (FailureKind.INTERNAL, FailureKind.CANCELLED)
    blame = Blame.WEIR if is_weirs else Blame.UPSTREAM
    return Failed(error.kind, error.detail, blame, error.sent, error.timer, error.after_seconds, error.is_undone)


def _is_read(call: Call) -> bool:
    """Whether it changes nothing at the server, however often it is asked."""
    if call.verb != b"POST":
        return call.verb in (b"GET", b"HEAD", b"OPTIONS")
    known, message = facts(call.message.method), call.message
    if message.kind is not Kind.REQUEST or known.repeat is not Repeat.READ or known.is_handshake:
        return False
    return not message.is_continuation and not call.is_ambiguous and not call.committed
