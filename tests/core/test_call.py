"""What a call knows of itself."""

import pytest

from weir.core.call import Call, Peer, Transport
from weir.protocol.envelope import NOTHING, peek


class _Nowhere:
    async def open(self, status: int, headers: object) -> None: ...
    async def write(self, chunk: bytes) -> None: ...


def call(body: bytes = b"", verb: bytes = b"POST") -> Call:
    return Call(
        upstream="demo",
        peer=Peer(Transport.HTTP),
        sink=_Nowhere(),
        received_at=0.0,
        verb=verb,
        body=body,
        message=peek(body) if body else NOTHING,
    )


def request(method: bytes, rest: bytes = b"") -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"%b"%b}' % (method, rest)


NOTIFICATION = b'{"jsonrpc":"2.0","method":"notifications/cancelled"}'


@pytest.mark.parametrize("verb", [b"GET", b"DELETE", b"OPTIONS"])
def test_an_exchange_without_a_message_is_exempt(verb: bytes) -> None:
    """Streams, the end of a session, well-known documents."""
    assert call(verb=verb).is_exempt


@pytest.mark.parametrize(
    "body",
    [
        NOTIFICATION,
        b'{"jsonrpc":"2.0","method":"acme/changed"}',
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        request(b"initialize"),
        request(b"server/discover"),
        request(b"ping"),
        request(b"tasks/cancel"),
        request(b"subscriptions/listen"),
        request(b"tasks/result"),
        b"[%b,%b]" % (NOTIFICATION, request(b"ping")),
    ],
)
def test_what_others_wait_for_is_exempt(body: bytes) -> None:
    """Refusing it makes a client downgrade in silence, or blocks the call that waits."""
    assert call(body).is_exempt


@pytest.mark.parametrize(
    "body",
    [
        request(b"tools/call"),
        request(b"tools/list"),
        request(b"anything/else"),
        b'{"jsonrpc":"2.0","method":"tools/call"}',
        b'[{"jsonrpc":"2.0","method":"tools/call"}]',
        b"[%b,%b]" % (NOTIFICATION, request(b"tools/call")),
        b"[1]",
        b"\xef\xbb\xbf" + request(b"ping"),
        request(b"ping", b',"method":"tools/call"'),
        request(b"tools/call", b',"method":"ping"'),
        b"[%b]" % request(b"tools/call", b',"method":"ping"'),
        request(b"ping", b',"Method":"tools/call"'),
        request(b"ping", b',"meth\\u004fd":"tools/call"'),
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","Method":"tools/call","ID":1}',
        b'{"jsonrpc":"2.0","id":1,"result":{},"METHOD":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"result":{},"id":2}',
    ],
)
def test_work_is_not_exempt_however_it_is_dressed(body: bytes) -> None:
    """What cannot be read, or can be read in two ways, may be work."""
    assert not call(body).is_exempt


def test_the_time_a_client_was_asked_counts_an_open_question_too() -> None:
    """Questions that overlap count once."""
    asking = call()
    assert 0.0 == asking.asked_seconds(5.0)
    asking.ask_began(10.0)
    asking.ask_began(11.0)
    assert 3.0 == asking.asked_seconds(13.0)
    asking.ask_ended(13.0)
    asking.ask_ended(14.0)
    assert (4.0, 4.0) == (asking.client_seconds, asking.asked_seconds(99.0))
    asking.ask_began(100.0)
    assert 5.0 == asking.asked_seconds(101.0)
