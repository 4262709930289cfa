"""Content codings undone, whole and bit by bit."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.upstream.codings import PIECE_BYTES, CodingError, Inflater, decoded, is_readable


def raw_deflate(text: bytes) -> bytes:
    machine = zlib.compressobj(wbits=-15)
    return machine.compress(text) + machine.flush()


CODINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress,
    b"X-GZip": gzip.compress,
    b"deflate": zlib.compress,
    b" Deflate ": raw_deflate,
}


@given(st.sampled_from(sorted(CODINGS)), st.binary(max_size=3 * PIECE_BYTES), st.lists(st.integers(1, 5000)))
def test_every_way_to_cut_a_body_gives_its_text(coding: bytes, text: bytes, sizes: list[int]) -> None:
    body, inflater = CODINGS[coding](text), Inflater(coding)
    found: list[bytes] = []
    for size in [*sizes, len(body)]:
        found += inflater.feed(body[:size])
        body = body[size:]
    assert text == b"".join(found)
    assert all(len(piece) <= PIECE_BYTES for piece in found)
    assert inflater.is_complete


def test_a_few_bytes_that_stand_for_many_come_in_pieces() -> None:
    pieces = Inflater(b"gzip").feed(gzip.compress(bytes(100 * PIECE_BYTES)))
    assert [PIECE_BYTES] * 100 == [len(piece) for piece in pieces]


def test_what_is_flushed_is_there_at_once() -> None:
    """A server flushes behind each event; nobody waits for the next one."""
    machine, inflater = zlib.compressobj(wbits=31), Inflater(b"gzip")
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        sent = machine.compress(event) + machine.flush(zlib.Z_SYNC_FLUSH)
        assert event == b"".join(inflater.feed(sent))
    assert not inflater.is_complete


def test_members_are_read_on_and_padding_is_not() -> None:
    body = gzip.compress(b"one") + gzip.compress(b"two")
    headers = [(b"content-encoding", b"gzip")]
    assert b"onetwo" == decoded(headers, body, 1000)
    assert b"onetwo" == decoded(headers, body + bytes(10), 1000)
    assert b"one" == decoded([(b"content-encoding", b"deflate")], zlib.compress(b"one") + b"rest", 1000)


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
def test_what_is_not_of_its_coding_is_an_error(coding: bytes) -> None:
    with pytest.raises(CodingError):
        list(Inflater(coding).feed(b"\xff\xffplain text"))
    assert decoded([(b"content-encoding", coding)], b"\xff\xffplain text", 1000) is None


@pytest.mark.parametrize(
    ("coding", "expected"), [(b"GZIP", True), (b"x-gzip", True), (b" deflate", True), (b"br", False), (b"", False)]
)
def test_the_codings_that_are_readable(coding: bytes, expected: bool) -> None:
    assert expected == is_readable(coding)
