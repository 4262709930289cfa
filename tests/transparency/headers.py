"""The `Mcp-*` headers that a Streamable HTTP client derives from what it sends (2026-07-28 basic/transports/
streamable-http, "Standard Request Headers"), and which headers end at each hop."""

import base64
import json
from typing import Any

from support.rawhttp import Headers

HOP_BY_HOP = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    b"content-length",  # of the framing: the bodies themselves are compared
}
_NAMED_BY = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    **dict.fromkeys(("tasks/get", "tasks/update", "tasks/cancel"), "taskId"),
}
_VERSION = "io.modelcontextprotocol/protocolVersion"


def end_to_end(headers: Headers) -> list[tuple[bytes, bytes]]:
    """What both ends must see alike: names in lower case, nothing that belongs to one hop."""
    listed = b",".join(value for name, value in headers if name.lower() == b"connection").lower().split(b",")
    dropped = HOP_BY_HOP | {name.strip() for name in listed}
    return [(name.lower(), value) for name, value in headers if name.lower() not in dropped]


def field_value(text: str) -> bytes:
    """A header value for any text: as it is when safe, else in the base64 form."""
    is_plain = text.isascii() and text.isprintable() and text == text.strip() and not text.startswith("=?base64?")
    return text.encode() if is_plain else b"=?base64?%b?=" % base64.b64encode(text.encode())


def routing_headers(body: bytes, negotiated: bytes) -> list[tuple[bytes, bytes]]:
    """The headers that must stand beside this body."""
    try:
        message: Any = json.loads(body)
        params = message.get("params") or {}
        revision = params.get("_meta", {}).get(_VERSION, "").encode()
    except (ValueError, AttributeError):
        return [(b"MCP-Protocol-Version", negotiated)] if negotiated else []
    if not revision:
        return [(b"MCP-Protocol-Version", negotiated)] if negotiated else []
    headers = [(b"MCP-Protocol-Version", revision), (b"Mcp-Method", message["method"].encode())]
    if named_by := _NAMED_BY.get(message["method"]):
        headers.append((b"Mcp-Name", field_value(params[named_by])))
    return headers
