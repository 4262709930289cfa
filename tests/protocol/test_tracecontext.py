"""W3C Trace Context, its own examples and the traps of its test suite."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.protocol.tracecontext import SAMPLED, TraceContext, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("traceparent", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-01", SAMPLED),
        (f"00-{TRACE}-{SPAN}-03", 3),
        (f"00-{TRACE}-{SPAN}-ff", 3),
        (f"00-{TRACE}-{SPAN}-fe", 2),
        (f"cc-{TRACE}-{SPAN}-01", SAMPLED),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", SAMPLED),
        (f"cc-{TRACE}-{SPAN}-01-", SAMPLED),
    ],
)
def test_a_traceparent_is_read(traceparent: str, flags: int) -> None:
    """Higher versions as far as version 00 goes; flags that mean nothing yet are dropped."""
    assert TraceContext(TRACE, SPAN, flags, "a=1", "b=2") == parse(traceparent, "a=1", "b=2")


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01.",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.what",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"0X-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
    ],
)
def test_a_malformed_traceparent_is_ignored(traceparent: str) -> None:
    """A new trace begins then."""
    assert parse(traceparent) is None


@given(st.text())
def test_any_text_can_be_parsed(traceparent: str) -> None:
    """Nothing is raised."""
    assert parse(traceparent) is None or len(traceparent) >= 55


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 3))
def test_a_context_reads_as_it_was_written(trace: int, span: int, flags: int) -> None:
    """In version 00."""
    context = TraceContext(f"{trace:032x}", f"{span:016x}", flags)
    assert context == parse(context.traceparent)


def test_a_child_stays_in_the_trace() -> None:
    """Same trace, flags, state and baggage; a span of its own."""
    parent = TraceContext(TRACE, SPAN, 0, "a=1", "b=2")
    child = parent.child("1" * 16)
    assert TraceContext(TRACE, "1" * 16, 0, "a=1", "b=2") == child
    assert (False, True) == (child.is_sampled, TraceContext(TRACE, SPAN).is_sampled)
