"""Every number of a JSON-RPC error that weir reads or writes, once."""

from typing import Final

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
"""JSON-RPC 2.0, section 5.1."""

RESOURCE_NOT_FOUND: Final = -32002
"""MCP up to 2025-11-25, server/resources."""

HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_REVISION: Final = -32022
"""MCP 2026-07-28, basic/index, error codes."""

CRASHED_HANDLER: Final = 0
"""The code by which the Python SDK reports an exception in a tool or handler."""

CALLER_FAULTS: Final = frozenset((PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, RESOURCE_NOT_FOUND))
"""Errors that are the caller's mistake and say nothing against the server."""

INTERNAL_ERRORS: Final = frozenset((INTERNAL_ERROR, CRASHED_HANDLER))
"""Errors that say the server itself failed."""

MODERN_STATUS: Final = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_REVISION: 400,
    METHOD_NOT_FOUND: 404,
}
"""The HTTP statuses of these errors (MCP 2026-07-28, basic/index and streamable-http)."""

WEIR_BASE: Final = -33000
"""weir's own errors are this number minus the HTTP status: readable, and outside -32768..-32000."""
