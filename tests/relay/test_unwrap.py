"""A reply taken apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.core.call import Headers
from weir.protocol import sse
from weir.relay.unwrap import Unwrap

pytestmark = pytest.mark.anyio

EVENTS: Headers = [(b"content-type", b"text/event-stream")]


class Taker:
    """An Unwrap and what it handed out."""

    def __init__(self, limit_bytes: int = 1000, resumed: Unwrap | None = None) -> None:
        self.heads: list[int] = []
        self.taken: list[bytes] = []
        self.unwrap = Unwrap(lambda status, headers: self.heads.append(status), self._take, limit_bytes, resumed)

    async def _take(self, data: bytes) -> None:
        self.taken.append(data)


@given(
    st.lists(st.binary(min_size=1).filter(lambda data: not {10, 13} & set(data)), max_size=5),
    st.lists(st.integers(1, 40), min_size=1),
)
async def test_messages_come_out_whole_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    """The bytes of each event's data, in order, whatever pieces the network makes."""
    taker = Taker(10_000)
    await taker.unwrap.open(200, EVENTS)
    stream = b"".join(map(sse.encode, messages))
    at = 0
    while stream[at:]:
        size = cuts[at % len(cuts)]
        await taker.unwrap.write(stream[at : at + size])
        at += size
    assert messages == taker.taken
    assert len(messages) == taker.unwrap.messages


async def test_what_a_stream_says_of_its_resumption_is_kept() -> None:
    """The last id and the time to wait; an empty id takes the id back."""
    taker = Taker()
    await taker.unwrap.open(200, EVENTS)
    await taker.unwrap.write(b"id: 1\nretry: 1500\ndata:\n\nid: 2\ndata: x\n\n")
    assert (b"2", 1.5) == (taker.unwrap.last_event_id, taker.unwrap.retry_seconds)
    following = Taker(resumed=taker.unwrap)
    assert (b"2", 1.5) == (following.unwrap.last_event_id, following.unwrap.retry_seconds)
    await following.unwrap.open(200, EVENTS)
    await following.unwrap.write(b"id:\ndata: y\n\n")
    assert b"" == following.unwrap.last_event_id


async def test_another_body_is_kept_to_the_end() -> None:
    """JSON that came in pieces is one message."""
    taker = Taker()
    await taker.unwrap.open(200, [(b"content-type", b"application/json")])
    for piece in (b'{"a"', b":1}"):
        await taker.unwrap.write(piece)
    assert ([200], [], b'{"a":1}') == (taker.heads, taker.taken, taker.unwrap.body)


@pytest.mark.parametrize("headers", [EVENTS, []])
async def test_what_is_over_the_limit_is_not_held(headers: Headers) -> None:
    """Neither an event nor a body grows without end."""
    taker = Taker(limit_bytes=100)
    await taker.unwrap.open(200, headers)
    for _ in range(10):
        await taker.unwrap.write(b"data: " + b"x" * 50)
    assert taker.unwrap.is_over_limit
    assert ([], b"") == (taker.taken, taker.unwrap.body)
