"""The one reader of media types."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.protocol import media_types
from weir.protocol.media_types import EVENT_STREAM, JSON, accepts, foreign_charset, is_event_stream, is_json, media_type

TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789.+-", min_size=1, max_size=12).map(str.encode)
BLANKS = st.sampled_from([b"", b" ", b"\t", b"  "])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"text/event-stream", EVENT_STREAM),
        (b"Text/Event-Stream; Charset=UTF-8", EVENT_STREAM),
        (b" TEXT/EVENT-STREAM ;x=y", EVENT_STREAM),
        (b"text/event-streams", b"text/event-streams"),
        (b"application/json, application/json", JSON),
        (b"", b""),
        (b";charset=utf-8", b""),
    ],
)
def test_a_media_type_is_read_in_any_case_and_without_parameters(value: bytes, expected: bytes) -> None:
    assert expected == media_type(value)


@given(TOKENS, TOKENS, st.lists(st.tuples(TOKENS, TOKENS), max_size=3), BLANKS, st.data())
def test_case_blanks_and_parameters_change_no_media_type(
    kind: bytes, subtype: bytes, parameters: list[tuple[bytes, bytes]], blank: bytes, data: st.DataObject
) -> None:
    written = kind + b"/" + subtype
    spelled = bytes(data.draw(st.sampled_from([each, ord(chr(each).upper())])) for each in written)
    tail = b"".join(blank + b";" + blank + name + b"=" + value for name, value in parameters)
    assert written == media_type(blank + spelled + tail)


@given(TOKENS, st.booleans(), st.lists(st.tuples(TOKENS, TOKENS), max_size=3), BLANKS)
def test_a_charset_is_found_quoted_or_not_behind_any_other_parameter(
    name: bytes, is_quoted: bool, others: list[tuple[bytes, bytes]], blank: bytes
) -> None:
    others = [each for each in others if each[0] != b"charset"]
    before = b"".join(b';%b="; charset=%b"' % each for each in others)
    spelled = b'"%b"' % name if is_quoted else name
    headers = [(b"content-type", b"text/plain" + before + b";" + blank + b"CharSet=" + spelled.upper())]
    assert name == foreign_charset(headers)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'text/plain; charset="UTF\\-16"', b"utf-16"),
        (b"text/plain; charset=UTF-8", b""),
        (b'text/plain; charset="us-ascii"', b""),
        (b"text/plain", b""),
        (b"text/plain; charset", b""),
    ],
)
def test_a_charset_is_read_as_it_is_meant(value: bytes, expected: bytes) -> None:
    assert expected == foreign_charset([(b"content-type", value)])
    assert b"" == foreign_charset([])


def test_the_headers_of_a_body_say_what_it_is() -> None:
    headers = [(b"date", b"now"), (b"content-type", b"TEXT/Event-stream;charset=utf-8")]
    assert (EVENT_STREAM, True) == (media_types.of(headers), is_event_stream(headers))
    assert (b"", False) == (media_types.of([]), is_event_stream([]))


@pytest.mark.parametrize(
    ("found", "expected"),
    [(JSON, True), (b"application/problem+json", True), (b"text/json5", False), (b"application/jsonl", False)],
)
def test_formats_that_are_written_in_json_are_json(found: bytes, expected: bool) -> None:
    assert expected == is_json(found)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([b"application/json, text/event-stream"], True),
        ([b"application/json", b"Text/Event-Stream;q=0.5"], True),
        ([b"text/event-stream;q=0"], False),
        ([b"text/event-stream; q=0.000"], False),
        ([b"text/event-stream;q=0.001"], True),
        ([b"*/*"], False),
        ([b"text/event-streams"], False),
        ([], False),
    ],
)
def test_accept_names_a_type_or_does_not(accept: list[bytes], expected: bool) -> None:
    assert expected == accepts([(b"accept", each) for each in accept], EVENT_STREAM)
