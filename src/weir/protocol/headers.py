"""HTTP header rules: what stays on one hop, how a value is made safe, what mirrors a 2026-07-28 message.

Names are in lower case, as everywhere in weir.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from weir.protocol import scan
from weir.protocol.decoding import FAILURES, decoded
from weir.protocol.envelope import Kind, Message
from weir.protocol.methods import facts
from weir.protocol.numbers import integer

Headers = list[tuple[bytes, bytes]]
"""Header lines, names in lower case, in the order they were received."""

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""What concerns one connection, or the proxy itself, and is never handed on (RFC 9110 §7.6.1, §11.7)."""

_PERSISTENCE = frozenset((b"close", b"keep-alive", b""))
_NONE: frozenset[bytes] = frozenset()

SEALS = frozenset(
    {
        b"content-encoding",
        b"content-digest",
        b"digest",
        b"repr-digest",
        b"content-md5",
        b"signature",
        b"signature-input",
    }
)
"""What guards or encodes a body: editing it would break it (RFC 9110 §8.4, RFC 9530, RFC 9421)."""

ANNOTATION = "x-mcp-header"
"""The member of a parameter's JSON Schema that asks for its value in a header (MCP 2026-07-28, server/tools)."""

SCHEMAS_LIMIT = 10_000
"""Schemas in one tool's `inputSchema` that are looked at; a large real one has some hundreds."""

_ENCODED = re.compile(r"=\?base64\?(.*)\?=")
_SAFE = re.compile(r"[\x20-\x7e]*")
_DECIMAL = re.compile(r"(-?[0-9]+)(?:\.0+)?")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MIRRORED_TYPES = frozenset({"string", "integer", "boolean"})
# the keywords of JSON Schema 2020-12 below which a schema stands that does not always apply
_ONE_SCHEMA = frozenset(
    {
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_PARAM_FIELDS = {"name": "name", "uri": "uri", "taskId": "task_id"}
_SCHEMA_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SCHEMA_MAPS = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties"})


class ParamHeader(NamedTuple):
    """One annotated parameter of a tool: where its value is in `arguments`, and the header that mirrors it."""

    path: tuple[str, ...]
    header: bytes
    is_integer: bool = False
    """Its schema says so: `42` and `42.0` are the same."""


def named_by(value: bytes) -> frozenset[bytes]:
    """The headers that a value of `Connection` names besides, in lower case: they stay on this hop."""
    if value in _PERSISTENCE:
        return _NONE
    return frozenset([token.strip().lower() for token in value.split(b",")]) - _PERSISTENCE


def without_named(headers: Headers) -> Headers:
    """The headers without those that `Connection` names: what is decided by a header goes upstream with it."""
    named = _NONE.union(*[named_by(value) for name, value in headers if name == b"connection"])
    return [each for each in headers if each[0] not in named] if named else headers


def encode_value(text: str) -> bytes:
    """`text` as a header value: as it is when that is safe, else `=?base64?…?=` of its UTF-8.

    Raises:
        UnicodeEncodeError: it holds a lone surrogate.
    """
    if _SAFE.fullmatch(text) and text == text.strip() and not _ENCODED.fullmatch(text):
        return text.encode("ascii")
    return b"=?base64?%b?=" % base64.b64encode(text.encode())


def decode_value(value: bytes) -> str | None:
    """The text a header value stands for. None when it is marked as base64 and is none: it then equals no text."""
    text = value.decode("latin-1")
    found = _ENCODED.fullmatch(text)
    if found is None:
        return text
    try:
        decoded = base64.b64decode(found[1], validate=True)
        # two spellings of one text would pass a comparison of headers and fail one of texts
        return decoded.decode() if base64.b64encode(decoded).decode() == found[1] else None
    except (binascii.Error, ValueError):
        return None


def mcp_headers(message: Message, body: bytes = b"", params: Sequence[ParamHeader] = ()) -> Headers:
    """The headers that MCP 2026-07-28 (basic/transports, streamable HTTP) asks of the client that sends `body`.

    `message` is what `peek` found in `body`; `params` are the annotated parameters of the tool it calls
    (`body` is read for them only).
    A message that states no revision in `_meta`, and a response, has none of these headers.
    """
    if message.kind not in (Kind.REQUEST, Kind.NOTIFICATION) or not message.revision:
        return []
    found = [(b"mcp-protocol-version", encode_value(message.revision)), (b"mcp-method", encode_value(message.method))]
    name = mirrored_name(message)
    if name is not None:
        found.append((b"mcp-name", encode_value(name)))
    if params and message.method == "tools/call":
        found += _mirrored_arguments(body, params)
    return found


def unlike(headers: Headers, body: bytes, params: Sequence[ParamHeader]) -> bytes:
    """The first header of `params` that is not what the call in `body` says, b"" when none is.

    Each is there exactly once if its argument is there, and absent if that is absent, null, or nothing that a header
    can say (MCP 2026-07-28, basic/transports/streamable-http, server validation of custom headers).
    """
    said = dict(_mirrored_arguments(body, params))
    for param in params:
        given = [value for name, value in headers if name == param.header]
        wanted = said.get(param.header)
        if wanted is None and not given:
            continue
        if wanted is None or len(given) != 1 or not _is_same(given[0].strip(), wanted, param):
            return param.header
    return b""


def _is_same(given: bytes, wanted: bytes, param: ParamHeader) -> bool:
    text, expected = decode_value(given), decode_value(wanted)
    if text is None or text == expected:
        return text is not None
    found = _DECIMAL.fullmatch(text) if param.is_integer else None
    given_number = integer(found[1]) if found is not None else None
    return given_number is not None and given_number == integer(expected or "")


def mirrored_name(message: Message) -> str | None:
    """What `Mcp-Name` says of this message; None when it names nothing, or its method has no such header."""
    key = facts(message.method).header_param
    if not key or message.params is None:
        return None
    value = getattr(message.params, _PARAM_FIELDS[key])
    return value if isinstance(value, str) else None


def param_headers(input_schema: bytes) -> list[ParamHeader]:
    """The annotated parameters of a tool, from its `inputSchema` (JSON text).

    Raises:
        ValueError: an annotation is invalid, says why; a client must not offer such a tool. Or it is not JSON.
    """
    try:
        schema = msgspec.json.decode(input_schema)
    except FAILURES as error:
        raise ValueError(f"inputSchema cannot be read: {error}") from None
    found: dict[bytes, ParamHeader] = {}
    for number, (path, position) in enumerate(_positions(schema)):
        if number == SCHEMAS_LIMIT:
            raise ValueError(f"inputSchema holds more than {SCHEMAS_LIMIT} schemas")
        if ANNOTATION in position:
            param = _annotated(path, position)
            if param.header in found:
                raise ValueError(f"{_where(param.path)}: {ANNOTATION} is that of {_where(found[param.header].path)}")
            found[param.header] = param
    return list(found.values())


def _annotated(path: tuple[str, ...] | None, schema: dict[str, Any]) -> ParamHeader:
    """The header that an annotated schema asks for."""
    if not path:
        raise ValueError(f"{ANNOTATION} stands where no chain of `properties` leads")
    token, kind = schema[ANNOTATION], schema.get("type")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise ValueError(f"{_where(path)}: {ANNOTATION} is no RFC 9110 token")
    if not isinstance(kind, str) or kind not in _MIRRORED_TYPES:
        raise ValueError(f"{_where(path)}: {ANNOTATION} is for a string, an integer or a boolean")
    return ParamHeader(path, b"mcp-param-" + token.lower().encode(), kind == "integer")


def _where(path: tuple[str, ...]) -> str:
    return f"property {'.'.join(path)!r}"


def _positions(root: Any) -> Iterator[tuple[tuple[str, ...] | None, dict[str, Any]]]:
    """Every schema in a schema, in order, with its chain of property names: None once anything else led there.

    Neither data (`default`, `enum`) nor references are followed.
    """
    waiting: list[tuple[tuple[str, ...] | None, Any]] = [((), root)]
    while waiting:
        path, schema = waiting.pop()
        if isinstance(schema, dict):
            yield path, schema
            waiting += reversed(list(_below(path, schema)))


def _below(path: tuple[str, ...] | None, schema: dict[str, Any]) -> Iterator[tuple[tuple[str, ...] | None, Any]]:
    for keyword, value in schema.items():
        if keyword == "properties" and isinstance(value, dict):
            yield from ((None if path is None else (*path, name), each) for name, each in value.items())
        elif keyword in _ONE_SCHEMA:
            yield None, value
        elif keyword in _SCHEMA_LISTS and isinstance(value, list):
            yield from ((None, each) for each in value)
        elif keyword in _SCHEMA_MAPS and isinstance(value, dict):
            yield from ((None, each) for each in value.values())


class _Arguments(Struct, gc=False):
    arguments: Raw | UnsetType = UNSET


class _Call(Struct, gc=False):
    params: _Arguments | UnsetType = UNSET


_Object = dict[str, Raw]
_decode_call: Callable[[bytes | Raw], _Call] = msgspec.json.Decoder(_Call).decode


def _mirrored_arguments(body: bytes, params: Iterable[ParamHeader]) -> Iterator[tuple[bytes, bytes]]:
    call = decoded(_decode_call, body)
    arguments = call.params.arguments if call is not None and call.params is not UNSET else UNSET
    objects: dict[tuple[str, ...], _Object] = {(): _as_object(arguments)}
    for param in params:
        value = _mirrored(_value_at(objects, param.path))
        if value is not None:
            yield param.header, value


def _value_at(objects: dict[tuple[str, ...], _Object], path: tuple[str, ...]) -> Raw | UnsetType:
    """The value at the end of `path`; the objects on the way are remembered in `objects`."""
    for length in range(1, len(path)):
        if path[:length] not in objects:
            objects[path[:length]] = _as_object(objects[path[: length - 1]].get(path[length - 1], UNSET))
    return objects[path[:-1]].get(path[-1], UNSET)


def _as_object(value: Raw | UnsetType) -> _Object:
    """The members of an object; none where there is none, or more than are looked at. Of twins the last counts."""
    text = b"" if value is UNSET else bytes(value)
    try:
        return {member.key: Raw(text[member.start : member.end]) for member in scan.members(text)}
    except ValueError:
        return {}


def _mirrored(value: Raw | UnsetType) -> bytes | None:
    """A scalar as a header value; None for null, for what is absent and for what no header can say."""
    text = b"" if value is UNSET else bytes(value)
    if text[:1] in (b"", b"n", b"{", b"["):
        return None
    try:
        scalar = json.loads(text)
        return encode_value(str(scalar).lower() if isinstance(scalar, bool) else str(scalar))
    except ValueError:
        # bad UTF-8, or an integer of thousands of digits
        return None
