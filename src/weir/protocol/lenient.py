"""Read into a Struct what has the expected type, member by member, where the whole does not fit.

One odd member (a null, a number where text belongs) must not hide the others from weir. Slower than the
decoder, and used only for messages that it refuses.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar, get_args

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from weir.protocol.decoding import FAILURES

Shape = TypeVar("Shape", bound=Struct)


class _Field(NamedTuple):
    name: str
    decode: Callable[[Raw], Any]
    struct: type[Struct] | None


def read(shape: type[Shape], text: bytes | Raw) -> Shape | None:
    """`shape` with the members of the JSON object `text` that can be read; None when it is no object."""
    return _read(shape, text, FAILURES)


def read_clean(shape: type[Shape], text: bytes | Raw) -> Shape | None:
    """As `read`, but only a member of another type is left out.

    Raises:
        ValueError: a member that is read is not UTF-8. Some readers drop such bytes, and see a name that weir does not.
    """
    return _read(shape, text, (msgspec.ValidationError,))


def _read(shape: type[Shape], text: bytes | Raw, left_out: tuple[type[Exception], ...]) -> Shape | None:
    decode, fields = _plan(shape)
    try:
        raw = decode(text)
    except left_out:
        return None
    found = shape()
    for field in fields:
        value = getattr(raw, field.name)
        if value is not UNSET:
            _set(found, field, value, left_out)
    return found


def _set(found: Struct, field: _Field, value: Raw, left_out: tuple[type[Exception], ...]) -> None:
    try:
        fitting = field.decode(value)
    except left_out:
        fitting = _read(field.struct, value, left_out) if field.struct is not None else None
        if fitting is None:
            return
    setattr(found, field.name, fitting)


@cache
def _plan(shape: type[Struct]) -> tuple[Callable[[bytes | Raw], Any], tuple[_Field, ...]]:
    """A decoder of the same members as raw text, so that members nobody reads are skipped; and what to make of them."""
    members = msgspec.structs.fields(shape)
    raw = msgspec.defstruct(
        f"Raw{shape.__name__}",
        [(each.name, Raw | UnsetType, msgspec.field(default=UNSET, name=each.encode_name)) for each in members],
        gc=False,
    )
    fields = tuple(_Field(each.name, _decoder(each.type), _struct(each.type)) for each in members)
    return msgspec.json.Decoder(raw).decode, fields


def _decoder(kind: Any) -> Callable[[Raw], Any]:
    # not strict: a code of -32603.0 is a code, and "true" is how some servers spell true
    return msgspec.json.Decoder(kind, strict=False).decode


def _struct(kind: Any) -> type[Struct] | None:
    found = (each for each in (kind, *get_args(kind)) if isinstance(each, type) and issubclass(each, Struct))
    return next(found, None)
