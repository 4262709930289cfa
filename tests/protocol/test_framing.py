"""One message a line, however the bytes arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.jsontext import messages, read
from weir.protocol.framing import Lines, encode

LIMIT = 8
streams = st.lists(st.sampled_from([b"a", b"{}", b"1234567", b"12345678", b"123456789", b"\r", b"\n", b"\r\n"])).map(
    b"".join
)


def feed(data: bytes, cuts: list[int], limit: int = LIMIT) -> tuple[list[bytes], int, bytes]:
    """The lines of `data` when it arrives in pieces of these sizes, how many were oversized, and the rest."""
    lines, found, at = Lines(limit), list[bytes](), 0
    for size in cuts:
        found += lines.feed(data[at : at + size])
        at += size
    found += lines.feed(data[at:])
    rest = lines.flush()
    return found, lines.oversized, rest


@given(streams, st.lists(st.integers(0, 12)))
def test_lines_are_the_same_however_they_arrive(data: bytes, cuts: list[int]) -> None:
    """In one piece, byte by byte, or cut anywhere."""
    assert feed(data, []) == feed(data, cuts)
    assert feed(data, []) == feed(data, [1] * len(data))


@given(streams)
def test_lines_are_what_splitting_the_whole_would_give(data: bytes) -> None:
    """Without their ends, without blank ones, without those above the limit."""
    *whole, rest = data.split(b"\n")
    kept = [line.removesuffix(b"\r") for line in whole if len(line) <= LIMIT]
    too_long = sum(len(line) > LIMIT for line in (*whole, rest))
    last = rest.removesuffix(b"\r") if len(rest) <= LIMIT else b""
    assert ([line for line in kept if line], too_long, last) == feed(data, [])


def test_an_oversized_line_is_counted_at_once_and_skipped_to_its_end() -> None:
    """What follows it is read."""
    lines = Lines(LIMIT)
    assert [] == lines.feed(b"12345")
    assert [] == lines.feed(b"6789")
    assert 1 == lines.oversized
    assert [] == lines.feed(b"more of it" * 10)
    assert [b"next"] == lines.feed(b"end\nnext\n")
    assert 1 == lines.oversized


def test_a_line_of_exactly_the_limit_is_whole() -> None:
    """A CR before the end counts."""
    assert ([b"12345678"], 0, b"") == feed(b"12345678\n", [])
    assert ([], 1, b"") == feed(b"12345678\r\n", [])


def test_what_has_no_end_is_given_when_asked_for() -> None:
    """Some writers end without a line end; afterwards the reader is as new."""
    lines = Lines(LIMIT)
    lines.feed(b"ab")
    assert b"ab" == lines.flush()
    assert b"" == lines.flush()
    assert [b"cd"] == lines.feed(b"cd\n")


def test_what_is_left_of_an_oversized_line_is_nothing() -> None:
    """And the next line is read."""
    lines = Lines(LIMIT)
    lines.feed(b"123456789")
    assert b"" == lines.flush()
    assert [b"cd"] == lines.feed(b"cd\n")


def test_a_megabyte_in_pieces_is_one_line() -> None:
    """Nothing of it is lost."""
    line = bytes(range(32, 127)) * 11_000
    pieces = [line[at : at + 65536] for at in range(0, len(line), 65536)]
    lines = Lines(len(line))
    assert [] == [found for piece in pieces for found in lines.feed(piece)]
    assert [line] == lines.feed(b"\n")


@given(messages)
def test_a_message_becomes_one_line_that_says_the_same(body: bytes) -> None:
    """Only its line ends change, and only to spaces."""
    line = encode(body)
    assert body.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n" == line
    assert read(body) == read(line)


@pytest.mark.parametrize("body", [b"{}", b'{"a":"\\n"}', b"\x85\xe2\x80\xa8\x0b\x0c", b""])
def test_a_body_without_line_ends_stays_as_it_is(body: bytes) -> None:
    """Other characters that break lines elsewhere do not here."""
    assert body + b"\n" == encode(body)
