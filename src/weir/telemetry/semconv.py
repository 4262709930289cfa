"""Names of OpenTelemetry's semantic conventions for MCP, and weir's own beside them.

The MCP part is in development and lives in open-telemetry/semantic-conventions-genai; the constants
of the Python package are deprecated there, so they are written out here once. Names of our own
start with `weir.`: a convention's namespace is not ours to extend.
"""

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SCOPE = "weir"

METHOD_NAME = "mcp.method.name"
PROTOCOL_VERSION = "mcp.protocol.version"
RESOURCE_URI = "mcp.resource.uri"
ERROR_TYPE = "error.type"
TOOL_NAME = "gen_ai.tool.name"
PROMPT_NAME = "gen_ai.prompt.name"
OPERATION_NAME = "gen_ai.operation.name"
EXECUTE_TOOL = "execute_tool"
REQUEST_ID = "jsonrpc.request.id"
STATUS_CODE = "rpc.response.status_code"
NETWORK_TRANSPORT = "network.transport"
NETWORK_PROTOCOL_NAME = "network.protocol.name"
NETWORK_PROTOCOL_VERSION = "network.protocol.version"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
CLIENT_ADDRESS = "client.address"
CLIENT_PORT = "client.port"
RESEND_COUNT = "http.request.resend_count"
HTTP_STATUS = "http.response.status_code"

UPSTREAM = "weir.upstream"
ATTEMPT = "weir.attempt"
ATTEMPTS = "weir.attempts"
OUTCOME = "weir.outcome"
REASON = "weir.reason"
BLAME = "weir.blame"
TIMER = "weir.timer"
PHASE = "weir.phase."
POLICY = "weir.policy."
"""Begins the name of a span event: what that policy did."""
ACTION = "weir.action"
MODE = "weir.mode"
SECONDS = "weir.seconds"
DETAIL = "weir.detail"

TOOL_ERROR = "tool_error"
OTHER = "_OTHER"

# advised for all four MCP histograms; seconds
OPERATION_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
