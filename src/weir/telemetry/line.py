"""What one line of the access log holds."""

from msgspec import Struct


class Line(Struct, gc=False, omit_defaults=True):
    """The fields, in order. What is empty or 0 is left out."""

    ts: str
    level: str
    msg: str
    upstream: str
    mcp_method: str
    outcome: str
    duration_ms: float
    tool: str = ""
    reason: str = ""
    error: str = ""
    status: int = 0
    attempts: int = 0
    phases: dict[str, float] = {}
    bytes_in: int = 0
    bytes_out: int = 0
    client: str = ""
    revision: str = ""
    trace_id: str = ""
    span_id: str = ""
    detail: str = ""
    verb: str = ""
    blame: str = ""
