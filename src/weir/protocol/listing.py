"""What a list reply (`tools/list`, `prompts/list`) names, member by member: one that cannot be read hides no other."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from weir.protocol import lenient
from weir.protocol.decoding import decoded

LISTED_LIMIT = 4096
"""Members of one list that are read; the largest servers known have some hundreds of tools."""


class _Listed(Struct, gc=False):
    tools: Raw | UnsetType = UNSET
    prompts: Raw | UnsetType = UNSET
    next_cursor: Raw | UnsetType = msgspec.field(default=UNSET, name="nextCursor")


class _Reply(Struct, gc=False):
    result: _Listed | UnsetType = UNSET


class Page(NamedTuple):
    """One reply. `members` are the raw JSON texts of what it lists, `cursor` that of the next page's, b"" if none."""

    members: tuple[Raw, ...] = ()
    cursor: bytes = b""


Shape = TypeVar("Shape", bound=Struct)
_decode_reply: Callable[[bytes | Raw], _Reply] = msgspec.json.Decoder(_Reply).decode


@cache
def _decode_array() -> Callable[[bytes | Raw], Any]:
    """Decodes an array of which the first LISTED_LIMIT members are kept; the rest is stepped over."""
    fields = [(f"member_{number}", Raw | UnsetType, UNSET) for number in range(LISTED_LIMIT)]
    return msgspec.json.Decoder(msgspec.defstruct("Members", fields, array_like=True, gc=False)).decode


def page(body: bytes, method: str) -> Page:
    """The members that a reply to `method` lists; none when it cannot be read."""
    reply = decoded(_decode_reply, body)
    if reply is None or reply.result is UNSET:
        return Page()
    listed = reply.result
    raw = listed.tools if method == "tools/list" else listed.prompts
    found = None if raw is UNSET else decoded(_decode_array(), raw)
    members = () if found is None else msgspec.structs.astuple(found)
    cursor = b"" if listed.next_cursor is UNSET else bytes(listed.next_cursor)
    return Page(tuple(each for each in members if each is not UNSET), b"" if cursor == b"null" else cursor)


def read(shape: type[Shape], member: Raw) -> Shape | None:
    """What a shape takes of one member, the parts that can be read; None when it is no object."""
    found = decoded(_decoder(shape), member)
    return found if found is not None else lenient.read(shape, member)


@cache
def _decoder(shape: type[Shape]) -> Callable[[bytes | Raw], Shape]:
    return msgspec.json.Decoder(shape).decode
