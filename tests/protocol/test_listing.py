"""What a list reply names."""

import pytest
from msgspec import Struct

from weir.protocol import listing


class Named(Struct):
    name: str = ""


def names(body: bytes) -> list[str | None]:
    found = [listing.read(Named, member) for member in listing.page(body, "tools/list").members]
    return [None if each is None else each.name for each in found]


def test_one_name_that_cannot_be_read_hides_no_other() -> None:
    """Bad UTF-8, another type, no object."""
    tools = b'{"name":"a"},{"name":"\xff"},{"name":7},8,{"name":"b","description":"\xff"}'
    assert ["a", "", "", None, "b"] == names(b'{"id":1,"result":{"tools":[%b]}}' % tools)


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b'{"result":7}', b'{"result":{"tools":7}}', b'{"result":{}}'])
def test_what_is_no_list_names_nothing(body: bytes) -> None:
    """Whatever a server sends."""
    assert [] == names(body)


def test_a_hostile_number_of_members_is_read_up_to_the_limit() -> None:
    """The rest is stepped over."""
    body = b'{"result":{"tools":[%b],"nextCursor":"c"}}' % b",".join([b"{}"] * (listing.LISTED_LIMIT + 1))
    assert (listing.LISTED_LIMIT, b'"c"') == (len(names(body)), listing.page(body, "tools/list").cursor)
