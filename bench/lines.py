"""The server at the far end: what it answers (over HTTP too, see origin.py), and its stdio form, a line in, a line out.

Run as a file (python bench/lines.py) it starts in milliseconds. It does next to nothing, so that the
server is never the bottleneck: a `tools/call` is recognised by its bytes and answered from a template with the
request's own id put in.
"""

import json
import re
import sys

TEXT = "Forecast for Turin: 21 degrees, light wind from the west, no rain before the evening."
BIG_TEXT_BYTES = 1_000_000
BIG_TEXT = ("All work and no play makes Jack a dull boy. " * (BIG_TEXT_BYTES // 44 + 1))[:BIG_TEXT_BYTES]

_ID = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?[0-9]+)')
_METHOD = re.compile(rb'"method"\s*:\s*"([^"]*)"')
_BIG = re.compile(rb'"name"\s*:\s*"big"')
_VERSION = re.compile(rb'"protocolVersion"\s*:\s*("[^"]*")')

TOOLS = ("echo", "sse", "big")


def _result(text: str) -> bytes:
    return json.dumps({"content": [{"type": "text", "text": text}], "isError": False}, separators=(",", ":")).encode()


def _listing() -> bytes:
    tools = [{"name": name, "description": f"{name} of the bench", "inputSchema": {"type": "object"}} for name in TOOLS]
    return json.dumps({"tools": tools}, separators=(",", ":")).encode()


_SMALL, _LARGE, _TOOLS = _result(TEXT), _result(BIG_TEXT), _listing()
_SERVER = b'"capabilities":{"tools":{}},"serverInfo":{"name":"bench-origin","version":"1"}}'
_DISCOVER = b'{"resultType":"complete","supportedVersions":["2026-07-28"],' + _SERVER


def call_result(request_id: bytes, *, big: bool = False) -> bytes:
    """The whole reply to a `tools/call`, as it leaves the server. `request_id` is its JSON text."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request_id, _LARGE if big else _SMALL)


def answer(body: bytes) -> bytes | None:
    """The reply to one message; None for a notification or a response, which get none."""
    identity, method = _ID.search(body), _METHOD.search(body)
    if identity is None or method is None:
        return None
    request_id, name = identity.group(1), method.group(1)
    if name == b"tools/call":
        return call_result(request_id, big=_BIG.search(body) is not None)
    return _other(request_id, name, body)


def _other(request_id: bytes, method: bytes, body: bytes) -> bytes:
    if method == b"initialize":
        version = _VERSION.search(body)
        asked = version.group(1) if version else b'"2025-06-18"'
        return b'{"jsonrpc":"2.0","id":%b,"result":{"protocolVersion":%b,%b}' % (request_id, asked, _SERVER)
    if method == b"tools/list":
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request_id, _TOOLS)
    if method == b"server/discover":
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request_id, _DISCOVER)
    if method == b"ping":
        return b'{"jsonrpc":"2.0","id":%b,"result":{}}' % request_id
    return b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32601,"message":"Method not found"}}' % request_id


def main() -> None:
    """Answer on stdout what comes on stdin, until it ends."""
    reader, writer = sys.stdin.buffer, sys.stdout.buffer
    for line in reader:
        reply = answer(line)
        if reply is not None:
            writer.write(reply + b"\n")
            writer.flush()


if __name__ == "__main__":
    main()
