"""Server-sent events: what is cut, what is read, and that no byte is lost on the way."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.protocol.sse import Event, Splitter, encode, replace_data

LINE_END = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINE = st.one_of(
    st.sampled_from(
        [b"", b":", b": ping", b"data", b"data:", b"id: 7", b"id", b"retry: 100", b"retry: x", b"unknown: 1"]
    ),
    st.binary(max_size=12).map(lambda text: b"data: " + text.translate(None, b"\r\n")),
    st.binary(max_size=6).map(lambda text: b"event:" + text.translate(None, b"\r\n")),
    st.binary(max_size=8).map(lambda text: text.translate(None, b"\r\n")),
)
STREAM = st.lists(st.tuples(LINE, LINE_END).map(b"".join), max_size=20).map(b"".join)
WITH_BOM = st.tuples(st.sampled_from([b"", b"\xef\xbb\xbf"]), STREAM).map(b"".join)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at some of its places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


def fed(data: list[bytes], limit_bytes: int = 1_000_000) -> tuple[list[Event], bytes]:
    """All events of a stream that arrives in these chunks, and what is still held."""
    splitter = Splitter(limit_bytes)
    found = [event for chunk in data for event in splitter.feed(chunk)]
    return found, splitter.rest()


def said(events: list[Event]) -> list[tuple[bytes | None, bytes, bytes | None, int | None]]:
    """What the events say, without their bytes and without those that say nothing."""
    return [(each.data, each.event, each.id, each.retry) for each in events if not each.is_comment]


@given(WITH_BOM, st.lists(st.integers(0, 500), max_size=12))
def test_no_byte_is_lost_however_a_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    """The raw pieces and the rest are the input."""
    found, rest = fed(pieces(stream, cuts))
    assert stream == b"".join(event.raw for event in found) + rest


@given(WITH_BOM, st.lists(st.integers(0, 500), max_size=12))
def test_cutting_a_stream_changes_nothing_in_what_it_says(stream: bytes, cuts: list[int]) -> None:
    """The events of a stream do not depend on the chunks it comes in."""
    whole, _ = fed([stream])
    found, _ = fed(pieces(stream, cuts))
    assert said(whole) == said(found)


@given(WITH_BOM)
def test_a_stream_may_come_byte_by_byte(stream: bytes) -> None:
    """The smallest chunks there are."""
    whole, _ = fed([stream])
    found, _ = fed([bytes((each,)) for each in stream])
    assert said(whole) == said(found)


@given(WITH_BOM, st.lists(st.integers(0, 500), max_size=12), st.integers(1, 40))
def test_no_byte_is_lost_of_events_beyond_the_limit(stream: bytes, cuts: list[int], limit: int) -> None:
    """Opaque pieces are bytes too; and no more than the limit is ever held."""
    splitter, out = Splitter(limit), b""
    for chunk in pieces(stream, cuts):
        out += b"".join(event.raw for event in splitter.feed(chunk))
        assert len(splitter.rest()) <= limit
    assert stream == out + splitter.rest()


@given(STREAM, st.lists(st.integers(0, 500), max_size=12))
def test_an_event_behind_one_beyond_the_limit_is_read(stream: bytes, cuts: list[int]) -> None:
    """An opaque event ends at its blank line, wherever the chunks end."""
    opaque = b"data: " + b"x" * 5000 + b"\r\n\r\n"
    found, _ = fed(pieces(opaque + b"data: small\n\n" + stream, cuts), 4000)
    assert b"small" in [event.data for event in found]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_opaque_event_ends_at_its_blank_line_byte_by_byte(end: bytes) -> None:
    """The blank line is found when each of its bytes comes alone."""
    stream = b"data: " + b"x" * 50 + end + end + b"data: y" + end + end
    found, _ = fed([bytes((each,)) for each in stream], 20)
    assert [b"y"] == [event.data for event in found if event.data is not None]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_opaque_event_takes_its_blank_line_with_it_and_nothing_else(end: bytes) -> None:
    """Wherever the chunks end."""
    opaque, small = b"data: " + b"x" * 40 + end + end, b"data: y" + end + end
    stream = opaque + small
    for first in range(30, len(opaque) - len(end) + 1):
        for second in range(first + 1, len(stream)):
            *before, last = fed([stream[:first], stream[first:second], stream[second:]], 20)[0]
            if last.is_comment:
                last = before.pop()
            assert (b"y", small) == (last.data, last.raw.ljust(len(small), b"\n")), (first, second)
            assert opaque == b"".join(event.raw for event in before), (first, second)
            assert all(event.is_opaque or event.raw == b"\n" for event in before), (first, second)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_opaque_event_is_one_piece_in_one_chunk(end: bytes) -> None:
    """Its blank line is not handed out by itself when it is all there."""
    splitter = Splitter(20)
    (begun,) = splitter.feed(b"data: " + b"x" * 40)
    ended, small = splitter.feed(b"z" + end + end + b"data: y" + end + end)
    assert (True, b"z" + end + end) == (ended.is_opaque, ended.raw)
    assert (True, b"data: y" + end + end) == (begun.is_opaque, small.raw)


@pytest.mark.parametrize("first", [encode(b"x"), b"data: x\n\n", b": ping\n"])
def test_behind_anything_a_byte_order_mark_is_none(first: bytes) -> None:
    """That was the start of the stream."""
    found, _ = fed([first, b"\xef\xbb\xbfdata: y\n\n", b"\xef\xbb\xbf: ping\n"])
    assert [(None, False)] == [(event.data, event.has_bom) for event in found[1:]]


@pytest.mark.parametrize("raw", [encode(b"x"), b"data: x\n\n", b": ping\n"])
def test_without_a_byte_order_mark_there_is_none(raw: bytes) -> None:
    """However the event was read: in the usual form, line by line, or not at all."""
    (event,), _ = fed([raw])
    assert event.has_bom is False
    if event.data is not None:
        assert raw.replace(b"x", b"y") == replace_data(event, b"y")
    opaque = Splitter(4).feed(b"data: xxxx")[0]
    assert (True, False) == (opaque.is_opaque, opaque.has_bom)


def test_a_blank_line_behind_a_byte_order_mark_says_nothing() -> None:
    """And what follows is read and can be replaced."""
    stream = b"\xef\xbb\xbf\ndata: x\n\n"
    found, rest = fed([stream])
    assert [b"x"] == [event.data for event in found if not event.is_comment]
    assert stream == b"".join(event.raw for event in found) + rest
    assert stream.replace(b"x", b"y").endswith(replace_data(found[-1], b"y"))


def test_behind_an_opaque_event_a_byte_order_mark_is_none() -> None:
    """That was no start of a stream."""
    found, _ = fed([b"data: " + b"x" * 40, b"\n\n", b"\xef\xbb\xbfdata: y\n\n"], 20)
    assert [None] * 3 == [event.data for event in found]


def test_the_common_event_is_read() -> None:
    """What SDK servers send: one data line, CR LF."""
    found, rest = fed([b'event: message\r\ndata: {"a":1}\r\n\r\n'])
    assert [(b'{"a":1}', b"message", None, None)] == said(found)
    assert b"" == rest


def test_two_common_events_in_one_chunk_are_two() -> None:
    """The short cut for one event does not swallow the next."""
    found, _ = fed([encode(b"1") + encode(b"2")])
    assert [b"1", b"2"] == [event.data for event in found]


def test_data_lines_are_joined_with_line_feeds() -> None:
    """As the format says, whatever the line ends are."""
    found, _ = fed([b"event: message\r\ndata: a\r\ndata:b\r\ndata\r\n\r\n"])
    assert [b"a\nb\n"] == [event.data for event in found]


def test_a_priming_event_says_its_id() -> None:
    """An id and empty data: what 2025-11-25 servers begin a stream with."""
    found, _ = fed([b"id: 0-1\r\nretry: 3000\r\ndata:\r\n\r\n"])
    assert [(b"", b"", b"0-1", 3000)] == said(found)


def test_an_id_with_a_nul_is_none() -> None:
    """The format ignores such an id."""
    found, _ = fed([b"id: a\0b\ndata: x\n\n"])
    assert [None] == [event.id for event in found]


def test_a_byte_order_mark_belongs_to_no_field() -> None:
    """At the start of the stream only."""
    found, _ = fed([b"\xef\xbb\xbfdata: x\n\n\xef\xbb\xbfdata: y\n\n"])
    assert [b"x", None] == [event.data for event in found]


@pytest.mark.parametrize("comment", [b": ping\n", b": ping\r\n", b":\n", b"\xef\xbb\xbf: ping\n"])
def test_a_comment_passes_at_once(comment: bytes) -> None:
    """It keeps the connection alive, so it does not wait for the blank line."""
    found, rest = fed([comment])
    assert [comment] == [event.raw for event in found]
    assert all(event.is_comment for event in found)
    assert b"" == rest


def test_a_comment_block_says_nothing() -> None:
    """A block of comments is no event."""
    found, _ = fed([b": ping - 1970-01-01\r\n\r\n"])
    assert [True] == [event.is_comment for event in found]


def test_a_comment_inside_an_event_stays_there() -> None:
    """It is part of the event's raw bytes."""
    raw = b"event: message\n: thinking\ndata: x\n\n"
    found, _ = fed([raw])
    assert [raw] == [event.raw for event in found]
    assert [b"x"] == [event.data for event in found]


def test_an_event_that_ends_in_carriage_returns_is_handed_out_at_once() -> None:
    """A line feed that may follow is not waited for, and is handed out when it comes."""
    splitter = Splitter()
    assert [b"data: x\r\n\r"] == [event.raw for event in splitter.feed(b"data: x\r\n\r")]
    assert [(b"\n", True), (b"data: y\n\n", False)] == [
        (event.raw, event.is_comment) for event in splitter.feed(b"\ndata: y\n\n")
    ]


def test_an_event_without_its_blank_line_is_held() -> None:
    """Until it ends it may still change."""
    found, rest = fed([b"data: x\n"])
    assert [] == found
    assert b"data: x\n" == rest


def test_an_event_beyond_the_limit_streams_through() -> None:
    """Nothing of it is held once it is known to be too large."""
    splitter = Splitter(100)
    assert [] == splitter.feed(b"data: " + b"x" * 50)
    assert [(b"data: " + b"x" * 100, True)] == [(e.raw, e.is_opaque) for e in splitter.feed(b"x" * 50)]
    assert [(b"y" * 50, True)] == [(e.raw, e.is_opaque) for e in splitter.feed(b"y" * 50)]
    assert [(b"z\n\n", True), (b"data: s\n\n", False)] == [
        (e.raw, e.is_opaque) for e in splitter.feed(b"z\n\ndata: s\n\n")
    ]


def test_a_large_event_in_many_chunks_is_read_in_linear_time() -> None:
    """Each byte is searched once, not once for every chunk."""
    chunk = b"x" * 100
    splitter = Splitter(8_000_000)
    splitter.feed(b"data: ")
    for _ in range(40_000):
        assert [] == splitter.feed(chunk)
    (event,) = splitter.feed(b"\n\n")
    assert 4_000_000 == len(event.data or b"")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_many_events_in_one_chunk_are_read_in_linear_time(end: bytes) -> None:
    """The end of one is not searched for in all that follow, whichever line ends the sender uses."""
    chunk = (b"id: 1" + end + b"data: x" + end + end) * 40_000
    events = Splitter().feed(chunk)
    assert [b"x"] * 40_000 == [event.data for event in events]
    assert chunk == b"".join(event.raw for event in events)


@given(st.binary(max_size=60), st.sampled_from([b"", b"message", b"endpoint"]), st.sampled_from([None, b"1"]))
def test_what_is_encoded_is_read_again(data: bytes, event: bytes, id: bytes | None) -> None:  # noqa: A002
    """Line ends inside the data become line feeds, the rest stays."""
    (found,), rest = fed([encode(data, event, id)])
    assert b"\n".join(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")) == found.data
    assert (event, id, b"") == (found.event, found.id, rest)


def test_what_is_encoded_names_no_more_than_is_given() -> None:
    """An event without a name has no line for it."""
    assert b"data: x\r\n\r\n" == encode(b"x", b"")
    assert b"event: message\r\nid: 1\r\ndata: x\r\ndata: y\r\n\r\n" == encode(b"x\ny", id=b"1")


@given(STREAM, st.binary(max_size=20).map(lambda text: text.translate(None, b"\r\n")))
def test_replacing_data_keeps_everything_else(stream: bytes, data: bytes) -> None:
    """The other fields, comments and line ends of an event are as they were."""
    for event in fed([stream])[0]:
        if event.data is None:
            continue
        raw = replace_data(event, data)
        (found, *more) = fed([raw])[0]
        assert (data, event.event, event.id, event.retry) == (found.data, found.event, found.id, found.retry)
        assert [] == [each for each in more if not each.is_comment]
        others = [line for line in event.raw.splitlines(keepends=True) if not line.startswith(b"data")]
        assert others == [line for line in raw.splitlines(keepends=True) if not line.startswith(b"data")]


@pytest.mark.parametrize(
    ("raw", "data", "expected"),
    [
        (b"data: a:b\nid: 1\n\n", b"y", b"data: y\nid: 1\n\n"),
        (b"data: a\ndata \nid: 1\n\n", b"y", b"data: y\ndata \nid: 1\n\n"),
        (b"id: 1\ndata\n\n", b"y", b"id: 1\ndata: y\n\n"),
        (b"data: a\r\ndata: b\r\n\r\n", b"y\nz", b"data: y\r\ndata: z\r\n\r\n"),
    ],
)
def test_only_lines_of_data_are_replaced(raw: bytes, data: bytes, expected: bytes) -> None:
    """Colons in a value, names that begin like it, data of no value, of several lines."""
    (event,), _ = fed([raw])
    assert expected == replace_data(event, data)


def test_replacing_data_keeps_a_byte_order_mark() -> None:
    """Also when it stands in front of the data itself."""
    (event,), _ = fed([b"\xef\xbb\xbfdata: x\n\n"])
    assert b"\xef\xbb\xbfdata: y\n\n" == replace_data(event, b"y")


def test_random_streams_of_many_events_stay_whole() -> None:
    """Ten thousand events in arbitrary chunks."""
    draw = random.Random(1)
    stream = b"".join(encode(b"%d" % number) for number in range(10_000))
    found, rest = fed(pieces(stream, [draw.randrange(len(stream)) for _ in range(3_000)]))
    assert [b"%d" % number for number in range(10_000)] == [event.data for event in found if event.data is not None]
    assert b"" == rest
