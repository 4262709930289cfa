"""Which messages of callers may reach a server that they share (2026-07-28 and later)."""

from weir.core.call import Call, header
from weir.core.outcome import Replied
from weir.protocol import scan
from weir.protocol.envelope import Kind, has_escaped_letters, is_ambiguous
from weir.protocol.error_codes import HEADER_MISMATCH, INVALID_REQUEST
from weir.protocol.headers import decode_value, mcp_headers, unlike
from weir.relay.stdio_reply import refused_as_server
from weir.relay.tool_headers import ToolHeaders

_TOKEN = b"progresstoken"
# letters that are no ASCII and become one of the token's where case is folded (the Kelvin sign and the long s)
_FOLDING = (b"\xe2\x84\xaa", b"\xc5\xbf")
ADDRESSED = frozenset({"notifications/cancelled", "notifications/progress"})
"""Notifications that name a request by an id which another caller may have chosen too.

2026-07-28 has neither from clients over HTTP: a caller cancels by closing the response stream.
"""


def unfit(call: Call) -> Replied | None:
    """The refusal of a message that the server could read in another way than weir; None when there is one reading."""
    message = call.message
    if message.kind is Kind.BATCH:
        return refused_as_server(400, INVALID_REQUEST, "The body must be a single JSON-RPC message")
    if is_ambiguous(call.body) or (message.kind is Kind.REQUEST and _has_odd_token(call)):
        text = "The message can be read in two ways: a member stands there twice, or differs from another in case only"
        return refused_as_server(400, INVALID_REQUEST, text, _exact_id(call))
    if message.kind is Kind.REQUEST and message.method.startswith("notifications/"):
        # a lenient server would cancel by it, under an id that another caller has there
        return refused_as_server(400, INVALID_REQUEST, "A notification has no id", message.id)
    return None


def _has_odd_token(call: Call) -> bool:
    """True when a reader that does not mind case could see another progress token than the one that weir renames.

    Ids and tokens of other callers can be guessed: progress of this call would reach one of them.
    """
    body, has_token = call.body, bool(call.message.progress_token)
    is_plain = not has_escaped_letters(body) and not any(letter in body for letter in _FOLDING)
    if is_plain and body.lower().count(_TOKEN) <= has_token:
        return False
    try:
        _, params = scan.request(body)
        meta = [member for member in params or [] if member.key == "_meta"]
        found = [each.key for member in meta for each in scan.members(body, member.start, member.end)]
    except ValueError:
        return True
    alike = [key for key in found if key.upper().casefold() == _TOKEN.decode()]
    return alike != ["progressToken"] * has_token


def _exact_id(call: Call) -> bytes:
    """The id as its caller wrote it; null where there are two, or none."""
    try:
        member = scan.single(scan.members(call.body), "id")
    except ValueError:
        return b"null"
    return call.body[member.start : member.end]


def mismatch(call: Call, tools: ToolHeaders) -> Replied | None:
    """What a 2026-07-28 server says when the headers that mirror the body differ from it; None when they agree.

    Whoever processes the body must check (basic/transports/streamable-http). A server on a pipe cannot: weir is
    the one that reads the headers. Those of arguments it knows from the tools that were listed; of a tool that no
    list has named yet it knows none, and lets the call pass.
    """
    message = call.message
    for name, value in mcp_headers(message):
        given = decode_value(header(call.headers, name).strip())
        if given is None or given != decode_value(value):
            return _mismatched(call, name)
    params = tools.params(message.name) if message.method == "tools/call" else ()
    name = unlike(call.headers, call.body, params) if params else b""
    return _mismatched(call, name) if name else None


def _mismatched(call: Call, name: bytes) -> Replied:
    text = f"Header mismatch: {name.decode()} is missing, or is not what the body says"
    return refused_as_server(400, HEADER_MISMATCH, text, call.message.id)
