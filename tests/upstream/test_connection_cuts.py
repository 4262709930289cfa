"""One connection without a socket: a reply may arrive in any pieces, and anything may arrive."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.pools import read_all
from weir.upstream.connection import Connection
from weir.upstream.exchange import Exchange, Unanswered

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
SSE_HEAD = OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport without a socket: keeps what is written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Owner:
    """Counts what a connection tells its pool."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def freed(self, connection: Connection) -> None:
        self.told.append("freed")

    def gone(self, connection: Connection) -> None:
        self.told.append("gone")

    def ended_early(self, unused_seconds: float) -> None: ...


def received(chunks: list[bytes], *, at_end: bool) -> tuple[Exchange, Owner]:
    """An exchange after these bytes have come, and after the end of the connection."""
    owner = Owner()
    connection = Connection(owner, lambda: 1.0, 300.0)
    connection.connection_made(Wire())
    exchange = connection.ask(b"", b"", 1000, 1.0)
    for chunk in chunks:
        connection.data_received(chunk)
    if at_end:
        connection.eof_received()
    connection.connection_lost(None)
    return exchange, owner


async def outcome_of(chunks: list[bytes], *, at_end: bool) -> tuple[object, ...]:
    """Everything that may be seen of an exchange."""
    exchange, owner = received(chunks, at_end=at_end)
    try:
        await exchange.arrived
        body = await read_all(exchange) if exchange.is_stream else exchange.body()
    except Unanswered as failure:
        return failure.kind, failure.sent, owner.told
    return exchange.status, exchange.headers, body, exchange.is_stream, owner.told


REPLIES = [
    OK + b"Content-Length: 5\r\nX: y\r\n\r\nhello",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n",
    OK + b"\r\nuntil the end",
    SSE_HEAD + b"9\r\ndata: x\n\n\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nhi",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz",
    OK + b"Content-Length: 5\r\n\r\nhel",
    OK + b"Content-Length: 1500\r\n\r\n" + b"x" * 1500,
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"nonsense\r\n\r\n",
]


@pytest.mark.parametrize("reply", REPLIES)
async def test_a_reply_may_be_cut_at_every_byte(reply: bytes) -> None:
    """In two at every place, and into single bytes: nothing changes."""
    whole = await outcome_of([reply], at_end=True)
    step = max(1, len(reply) // 300)
    for place in range(0, len(reply), step):
        assert whole == await outcome_of([reply[:place], reply[place:]], at_end=True)
    assert whole == await outcome_of([bytes((each,)) for each in reply], at_end=True)


@given(reply=st.sampled_from(REPLIES), cuts=st.lists(st.integers(0, 2000), max_size=8), at_end=st.booleans())
async def test_a_reply_may_be_cut_anywhere(reply: bytes, cuts: list[int], at_end: bool) -> None:
    """In any number of pieces."""
    places = sorted({cut % len(reply) for cut in cuts} | {0, len(reply)})
    pieces = [reply[begin:end] for begin, end in itertools.pairwise(places) if begin < end]
    assert await outcome_of([reply], at_end=at_end) == await outcome_of(pieces, at_end=at_end)


@given(noise=st.binary(max_size=200), head=st.sampled_from([b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"]))
async def test_noise_never_raises_and_always_ends(noise: bytes, head: bytes) -> None:
    """Whatever comes, the exchange has an outcome and the connection is gone once."""
    *_, told = await outcome_of([head + noise], at_end=True)
    assert isinstance(told, list)
    assert 1 == told.count("gone")
