"""Where one request may end in the bytes that arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.downstream.message_ends import MessageEnds

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@given(st.lists(st.sampled_from([1, 2, 3, 4, 5, 7, 30, 100]), min_size=1, max_size=40))
def test_every_end_of_a_head_is_a_cut_however_the_bytes_arrive(sizes: list[int]) -> None:
    """Also where the blank line comes in pieces. The pieces are the bytes, in order."""
    data, ends, at, cuts, index = HEAD * 5, MessageEnds(), 0, set(), 0
    while at < len(data):
        piece = data[at : at + sizes[index % len(sizes)]]
        index += 1
        within = 0
        while within < len(piece):
            cut = ends.next_cut(piece, within)
            assert within < cut <= len(piece)
            within = cut
            cuts.add(at + within)
        at += len(piece)
    assert {len(HEAD) * number for number in range(1, 6)} <= cuts


def test_a_body_of_known_length_ends_with_its_last_byte() -> None:
    """Blank lines in it are no ends."""
    ends = MessageEnds()
    ends.body_left = 6
    assert [3, 3, 7] == [
        ends.next_cut(b"a\r\n", 0),
        ends.next_cut(b"\r\nb" + HEAD, 0),
        ends.next_cut(b"xyz\r\n\r\nq", 0),
    ]
    assert 0 == ends.body_left


POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "length"),
    [(HEAD, len(HEAD)), (POST + b"hello", len(POST)), (HEAD + HEAD, len(HEAD)), (HEAD[:-1], 0), (b"", 0)],
    ids=["no body", "a body", "two heads", "no end", "nothing"],
)
def test_a_head_that_comes_whole_is_cut_off(data: bytes, length: int) -> None:
    """What stands behind it is not looked at."""
    assert length == MessageEnds().head_of(data)


def test_a_head_whose_blank_line_began_earlier_is_not_cut_off_at_the_next() -> None:
    """The cut would be one too late."""
    ends = MessageEnds()
    ends.next_cut(HEAD[:-1], 0)
    assert ends.head_of(HEAD[-1:] + HEAD) == 0
