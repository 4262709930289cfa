"""The scanner finds every member of an object at its exact place."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.jsontext import Object, json_texts, messages, read, short
from weir.protocol import scan


def said(text: bytes, found: list[scan.Member]) -> list[tuple[str, Any]]:
    return [(member.key, read(text[member.start : member.end])) for member in found]


def outer(text: bytes) -> bytes:
    """The text without the white space around it."""
    return text.strip(b" \t\r\n")


@given(messages)
def test_every_member_is_found_where_it_stands(body: bytes) -> None:
    """In order, duplicates included, as a reader of its own sees them."""
    top = read(body)
    if isinstance(top, Object):
        found = scan.members(body)
        assert list(top.members) == said(body, found)
        assert all(body[member.start : member.end] == outer(body[member.start : member.end]) for member in found)
    else:
        with pytest.raises(ValueError, match=r"."):
            scan.members(body)


@given(messages)
def test_a_message_and_its_params_are_found(body: bytes) -> None:
    """And params only when there is exactly one, and it is an object."""
    top = read(body)
    if not isinstance(top, Object):
        return
    found, inner = scan.request(body)
    assert list(top.members) == said(body, found)
    params = top.values("params")
    if len(params) == 1 and isinstance(params[0], Object):
        assert inner is not None
        assert list(params[0].members) == said(body, inner)
    else:
        assert inner is None


@pytest.mark.parametrize(
    ("body", "inner"),
    [
        (b'{"id":1,"params":{"a":2}}', [("a", 22, 23)]),
        (b'{"id":1,"params":{"a":2},"more":{}}', [("a", 22, 23)]),
        (b'{"id":1,"params":{}}', []),
        (b'{"id":1}', None),
        (b'{"id":1,"params":[{"a":2}]}', None),
        (b'{"params":{"a":1},"params":{"a":1}}', None),
        (b'{"params":{"a":1},"more":{},"params":{"a":1}}', None),
    ],
)
def test_params_are_walked_when_there_is_one_that_is_an_object(
    body: bytes, inner: list[tuple[str, int, int]] | None
) -> None:
    """Whether or not the message has members that requests do not have."""
    top, found = scan.request(body)
    assert scan.members(body) == top
    assert inner == (None if found is None else [tuple(member) for member in found])


@given(messages)
def test_an_object_inside_is_found(body: bytes) -> None:
    """By the range that it has in the text around it."""
    top = read(body)
    for member in scan.members(body) if isinstance(top, Object) else []:
        if body[member.start : member.start + 1] == b"{":
            inner = scan.members(body, member.start, member.end)
            assert list(read(body[member.start : member.end]).members) == said(body, inner)


@given(st.lists(json_texts.map(str.encode), max_size=4), st.sampled_from([b"", b" ", b"\r\n"]))
def test_every_element_of_an_array_is_found(elements: list[bytes], space: bytes) -> None:
    """Exactly its own bytes."""
    text = space + b"[" + (space + b"," + space).join(elements) + space + b"]" + space
    assert elements == [text[start:end] for start, end in scan.elements(text)]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (b"{}", []),
        (b" {\r\n} ", []),
        (b'{"a":1}', [("a", 5, 6)]),
        (b'{"a" : {"a":[1,{"a":2}]} , "b":"}"}', [("a", 7, 24), ("b", 31, 34)]),
        (b'{"a":1,"a":12,"a":1}', [("a", 5, 6), ("a", 11, 13), ("a", 18, 19)]),
        (b'{"a":"x","a":{"a":[]},"\\u0061":1}', [("a", 5, 8), ("a", 13, 21), ("a", 31, 32)]),
        (b'{"\\"\\\\":1,"\xc3\xa9":2}', [('"\\', 8, 9), ("é", 15, 16)]),
    ],
)
def test_places_are_byte_ranges_of_values(text: bytes, places: list[tuple[str, int, int]]) -> None:
    """Without the white space around them."""
    assert places == [tuple(member) for member in scan.members(text)]


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"1", b'{"a":1', b'{"a":NaN}', b'{"a":1} x', b'{"\xff":1}', b'{"a":' + b"[" * 10**5],
    ids=short,
)
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    """With the one error that callers know."""
    with pytest.raises(ValueError, match=r"."):
        scan.members(text)


def test_a_hostile_number_of_members_is_refused() -> None:
    """Different ones and twins alike."""
    many = b"{%b}" % b",".join(b'"k%d":0' % number for number in range(scan.MEMBERS_LIMIT + 1))
    twins = b"{%b}" % b",".join(b'"k":%d' % number for number in range(scan.MEMBERS_LIMIT + 1))
    for text in (many, twins):
        with pytest.raises(ValueError, match="more than"):
            scan.members(text)


def test_as_many_members_as_are_allowed_are_found() -> None:
    """The limit itself is within it."""
    text = b"{%b}" % b",".join(b'"k%d":0' % number for number in range(scan.MEMBERS_LIMIT))
    assert scan.MEMBERS_LIMIT == len(scan.members(text))


def test_twins_that_are_deep_are_refused_and_not_a_crash() -> None:
    """The decoder steps over a value to a depth of its own."""
    deep = b"[" * 900 + b"]" * 900
    try:
        found = scan.members(b'{"a":%b,"a":1}' % deep)
    except ValueError:
        return
    assert ["a", "a"] == [member.key for member in found]


def test_a_single_member_is_the_only_one_of_its_name() -> None:
    """None, or two, is an error that says how many."""
    found = scan.members(b'{"a":1,"b":2,"b":3}')
    assert found[0] == scan.single(found, "a")
    for name, count in (("b", "2"), ("c", "0")):
        with pytest.raises(ValueError, match=f"{count} members '{name}'"):
            scan.single(found, name)
