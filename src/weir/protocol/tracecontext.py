"""W3C Trace Context (https://www.w3.org/TR/trace-context/): parse, carry, format.

MCP carries it in `params._meta` under the unprefixed keys `traceparent`, `tracestate` and `baggage`
(SEP-414; MCP 2026-07-28, basic/index, `_meta`), HTTP in the headers of the same names.
"""

import re
from typing import Final, NamedTuple

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""The trace id's right half is random (Trace Context level 2): whoever keeps the trace id keeps this flag."""

# version ff is forbidden; a version above 00 may carry further fields after the flags
_TRACEPARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


class TraceContext(NamedTuple):
    """A position in a trace: ids in lower-case hex, `tracestate` and `baggage` as received ("" if none)."""

    trace_id: str
    span_id: str
    flags: int = SAMPLED
    tracestate: str = ""
    baggage: str = ""

    @property
    def traceparent(self) -> str:
        """The context in its header form, version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def is_sampled(self) -> bool:
        """True when whoever comes before recorded this trace, and asks the next one to."""
        return bool(self.flags & SAMPLED)

    def child(self, span_id: str) -> "TraceContext":
        """The context of a span started under this one: same trace, state and baggage."""
        return TraceContext(self.trace_id, span_id, self.flags, self.tracestate, self.baggage)


def parse(traceparent: str, tracestate: str = "", baggage: str = "") -> TraceContext | None:
    """The context a `traceparent` names, or None where the specification says to ignore it.

    Flags that have no meaning yet are dropped (section 3.2.2.5.2); state and baggage are not looked into.
    """
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if trace_id == _NO_TRACE or span_id == _NO_SPAN or (version == "00" and rest):
        return None
    return TraceContext(trace_id, span_id, int(flags, 16) & (SAMPLED | RANDOM), tracestate, baggage)
