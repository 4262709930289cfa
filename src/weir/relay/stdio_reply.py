"""The HTTP reply made of what a stdio server says: JSON when the answer comes first, else an event stream."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from weir.core.call import Attempt, Headers
from weir.core.outcome import NO_ANSWER, Outcome, Replied, Verdict
from weir.protocol import sse
from weir.protocol.envelope import NOTHING, Kind, Message
from weir.protocol.error_codes import MODERN_STATUS
from weir.protocol.media_types import EVENT_STREAM, JSON
from weir.protocol.verdicts import verdict_of
from weir.relay.stdio_mailbox import Exchange, Letter, Mailbox
from weir.relay.stdio_routing import Router

_JSON = (b"content-type", JSON)
# no-transform and x-accel-buffering keep intermediaries from holding events back (2026-07-28, streamable-http)
_STREAM: Headers = [
    (b"content-type", EVENT_STREAM),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]

KEEPALIVE = Letter(NOTHING, b"")
"""Says nothing: a comment for intermediaries that close silent streams, and to notice a client that has gone."""
_COMMENT = b": keep-alive\n\n"


class Head:
    """The headers of one session's replies."""

    __slots__ = ("_json", "_stream")

    def __init__(self, session: str = "") -> None:
        own = [(b"mcp-session-id", session.encode())] if session else []
        self._json: Headers = [_JSON, *own]
        self._stream: Headers = [*_STREAM, *own]

    def json(self) -> Headers:
        """For one complete message."""
        return self._json.copy()

    def stream(self) -> Headers:
        """For an event stream."""
        return self._stream.copy()


async def reply(
    exchange: Exchange, attempt: Attempt, router: Router, head: Head, clock: Callable[[], float]
) -> Outcome:
    """Wait for the answer to a POST and relay what comes before it."""
    letter = await exchange.take()
    attempt.first_byte_at = clock()
    if letter is None:
        return exchange.over or accepted()
    if letter.is_last:
        return Replied(_status(exchange, letter.message), head.json(), letter.body, verdict_of(letter.message))
    return await stream(exchange, router, head, clock, letter)


async def stream(
    box: Mailbox, router: Router, head: Head, clock: Callable[[], float], first: Letter | None = None
) -> Outcome:
    """Relay messages as events until the last one, or until the mailbox is over."""
    headers = head.stream()
    box.is_streaming = True
    await box.sink.open(200, headers)
    letter = first or await box.take()
    while letter is not None:
        await _write(box, letter)
        box.written_at = clock()
        if letter.is_last:
            return Replied(200, headers, None, verdict_of(letter.message))
        router.taken(box)
        letter = await box.take()
    return box.over or Replied(200, headers, None, NO_ANSWER)


async def unless_aborted(box: Mailbox, outcome: Awaitable[Outcome]) -> Outcome:
    """The outcome, or what `abort` said when that came first, wherever the reply was waiting then."""
    try:
        async with asyncio.timeout(None) as box.scope:
            return await outcome
    except TimeoutError:
        if box.over is None:
            raise
        return box.over
    finally:
        box.scope = None


async def _write(box: Mailbox, letter: Letter) -> None:
    call, message, body = box.call, letter.message, letter.body
    if letter is KEEPALIVE:
        await box.sink.write(_COMMENT)
        return
    if call.asker is not None:
        if message.kind is Kind.REQUEST:
            body = call.asker.asked(call, message, body)
        elif message.kind is Kind.NOTIFICATION:
            call.asker.told(call, message)
    if message.kind is Kind.RESPONSE:
        call.answered(message.id, verdict_of(message))
    await box.sink.write(sse.encode(body))
    call.committed = True


def accepted() -> Replied:
    """The reply to messages that have no answer."""
    return Replied(202, [], b"", NO_ANSWER)


def refused_as_server(status: int, code: int, text: str, raw_id: bytes = b"null") -> Replied:
    """What a Streamable HTTP server itself says to an exchange that it cannot serve."""
    error = msgspec.json.encode({"code": code, "message": text})
    body = b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (raw_id, error)
    return Replied(status, Head().json(), body, Verdict(code, text))


def _status(exchange: Exchange, message: Message) -> int:
    if message.error is None or not exchange.call.message.revision:
        return 200
    return MODERN_STATUS.get(message.error.code or 0, 200)
