"""What weir saw of the demo: figures out of its own access log and its own metrics, nothing else."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from weir.telemetry.line import Line

TOOL_CALL = "tools/call"
OWN_PHASES = ("policy", "relay")
"""The phases that weir itself takes, as in `weir_overhead_seconds`. In `receive` it waits for the client to send."""


class _Any(msgspec.Struct):
    msg: str = ""
    port: str = ""
    address: str = ""


_decode_any = msgspec.json.Decoder(_Any).decode
_decode_call = msgspec.json.Decoder(Line).decode


class Row(NamedTuple):
    """The calls of one tool, by how they ended. Milliseconds."""

    tool: str
    calls: int
    ok: int
    tool_errors: int
    failed: int
    p50_ms: float
    p95_ms: float


class Share(NamedTuple):
    """A typical and a bad value, in milliseconds."""

    p50_ms: float
    p95_ms: float


def addresses(log: bytes) -> dict[str, str]:
    """Where weir listens, as far as its log says so: by port, `mcp` and `diagnostics`."""
    lines = map(_decode_any, _complete_lines(log))
    return {line.port: line.address for line in lines if line.msg == "listening"}


def tool_calls(log: bytes) -> list[Line]:
    """The lines of an access log that are about tool calls."""
    calls = [_decode_call(line) for line in _complete_lines(log) if _decode_any(line).msg == "call"]
    return [line for line in calls if line.mcp_method == TOOL_CALL]


def _complete_lines(log: bytes) -> Iterable[bytes]:
    # what does not begin like JSON is a traceback; a line without its end is still being written
    return (line for line in log.splitlines(keepends=True) if line.startswith(b"{") and line.endswith(b"\n"))


def rows(calls: Sequence[Line]) -> list[Row]:
    """One row a tool, the busiest first."""
    tools: dict[str, list[Line]] = {}
    for line in calls:
        tools.setdefault(line.tool, []).append(line)
    return [row(tool, lines) for tool, lines in sorted(tools.items(), key=lambda item: -len(item[1]))]


def row(tool: str, calls: Sequence[Line]) -> Row:
    """Some calls in one row."""
    durations = [line.duration_ms for line in calls]
    return Row(
        tool,
        len(calls),
        sum(line.reason == "ok" for line in calls),
        sum(line.reason == "tool_error" for line in calls),
        sum(line.outcome != "replied" for line in calls),
        percentile(durations, 50),
        percentile(durations, 95),
    )


def overhead(calls: Sequence[Line]) -> Share:
    """What weir itself took of each call."""
    own = [sum(line.phases.get(phase, 0.0) for phase in OWN_PHASES) for line in calls]
    return Share(percentile(own, 50), percentile(own, 95))


def slowest(calls: Sequence[Line]) -> Line | None:
    """The slowest call that was answered."""
    return max((line for line in calls if line.reason == "ok"), key=lambda line: line.duration_ms, default=None)


def failures(calls: Sequence[Line]) -> list[Line]:
    """The calls that got weir's answer instead of the server's, in order."""
    return [line for line in calls if line.outcome != "replied"]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed; 0 of none."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def counted_calls(metrics: str) -> int:
    """How many tool calls /metrics says there were."""
    return int(
        sum(
            sample.value
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
            if sample.name == "weir_requests_total" and sample.labels["mcp_method_name"] == TOOL_CALL
        )
    )
