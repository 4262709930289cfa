"""Which arguments of which tool are mirrored in `Mcp-Param-*` headers, learnt from tools/list replies that pass.

MCP 2026-07-28, basic/transports/streamable-http, custom headers from tool parameters. Pure.
"""

from collections import OrderedDict

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from weir.protocol import listing, scan
from weir.protocol.headers import ANNOTATION, ParamHeader, param_headers

TOOLS_LIMIT = 2000
"""Annotated tools remembered; those learnt longest ago are forgotten first."""
SCHEMAS_LIMIT_BYTES = 1024 * 1024
"""Annotated schemas that are read in one page, as each value in them becomes an object. Real ones have a few kB."""

# what makes an envelope, and where the caller's trace goes on; the rest of `_meta` belongs to the caller's request
_ENVELOPE = frozenset(
    (
        "io.modelcontextprotocol/protocolVersion",
        "io.modelcontextprotocol/clientCapabilities",
        "io.modelcontextprotocol/clientInfo",
        "traceparent",
        "tracestate",
        "baggage",
    )
)
_ANNOTATION = ANNOTATION.encode()


class _Tool(Struct, gc=False):
    name: str = ""
    input_schema: Raw | UnsetType = msgspec.field(default=UNSET, name="inputSchema")


class ToolHeaders:
    """The annotated parameters of the tools seen so far. A tool that is not here mirrors nothing."""

    def __init__(self) -> None:
        self._tools: OrderedDict[str, tuple[ParamHeader, ...]] = OrderedDict()

    def learn(self, body: bytes) -> bytes:
        """Take one page of a tools/list reply. Returns the raw JSON text of its cursor, b"" on the last page."""
        page = listing.page(body, "tools/list")
        left = SCHEMAS_LIMIT_BYTES if _ANNOTATION in body else 0
        for member in page.members:
            tool = listing.read(_Tool, member)
            if tool is not None and tool.name:
                left -= self._remember(tool, left)
        return page.cursor

    def params(self, tool: str) -> tuple[ParamHeader, ...]:
        """The annotated parameters of `tool`."""
        return self._tools.get(tool, ())

    def _remember(self, tool: _Tool, limit_bytes: int) -> int:
        """Returns the size of the schema that was read."""
        schema = b"" if tool.input_schema is UNSET else bytes(tool.input_schema)
        is_read = len(schema) <= limit_bytes and _ANNOTATION in schema
        params = _annotated(schema) if is_read else ()
        self._tools.pop(tool.name, None)
        if params:
            self._tools[tool.name] = params
        if len(self._tools) > TOOLS_LIMIT:
            self._tools.popitem(last=False)
        return len(schema) if is_read else 0


def list_request(caller: bytes, cursor: bytes, own_id: str) -> bytes:
    """A tools/list under the envelope of the request `caller`; `cursor` is raw JSON text, b"" for the first page.

    Raises:
        ValueError: the caller's request has no envelope to use.
    """
    _, params = scan.request(caller)
    meta = scan.single(params or [], "_meta")
    kept = [
        b'"%b":%b' % (member.key.encode(), caller[member.start : member.end])
        for member in scan.members(caller, meta.start, meta.end)
        if member.key in _ENVELOPE
    ]
    page = b',"cursor":' + cursor if cursor else b""
    return b'{"jsonrpc":"2.0","id":"%b","method":"tools/list","params":{"_meta":{%b}%b}}' % (
        own_id.encode(),
        b",".join(kept),
        page,
    )


def _annotated(schema: bytes) -> tuple[ParamHeader, ...]:
    try:
        return tuple(param_headers(schema))
    except ValueError:
        # a client must not offer such a tool; weir only leaves its arguments out of the headers
        return ()
