"""The demo's figures: read out of an access log and a scrape."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.app import demo_seen as seen
from weir.telemetry.line import Line


def call(tool: str = "search", ms: float = 1.0, outcome: str = "replied", reason: str = "ok", **phases: float) -> Line:
    """One line of the access log."""
    return Line(
        "2026-11-21T10:00:00.000Z", "info", "call", "demo", "tools/call", outcome, ms, tool, reason, phases=phases
    )


def log(*lines: Line | dict[str, str]) -> bytes:
    """An access log."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def test_only_finished_lines_of_tool_calls_count() -> None:
    """Notices, other methods, tracebacks and a line that is still being written do not."""
    other = msgspec.structs.replace(call(), mcp_method="tools/list")
    text = log({"msg": "listening"}, call("search"), other) + b"Traceback\n" + log(call("book"))[:-1]
    assert ["search"] == [line.tool for line in seen.tool_calls(text)]


def test_addresses_are_those_weir_says_it_listens_on() -> None:
    """By the port's name."""
    notice = {"msg": "listening", "port": "mcp", "address": "127.0.0.1:1234"}
    assert {"mcp": "127.0.0.1:1234"} == seen.addresses(log(notice, call()))


def test_a_row_counts_each_call_once() -> None:
    """As answered, as a tool's error, or as failed."""
    calls = [
        call(ms=1),
        call(ms=3, reason="tool_error"),
        call(ms=2, outcome="failed", reason="upstream_reset"),
        call(ms=4, outcome="refused", reason="overloaded"),
    ]
    assert [seen.Row("search", 4, 1, 1, 2, 2, 4)] == seen.rows(calls)


def test_the_busiest_tool_comes_first() -> None:
    """Whatever their names."""
    assert ["b", "a"] == [row.tool for row in seen.rows([call("a"), call("b"), call("b")])]


def test_overhead_is_what_weir_itself_took() -> None:
    """Neither the server's time nor the client's."""
    assert (3, 3) == seen.overhead([call(receive=9, policy=1, upstream_first_byte=9, relay=2)])


def test_the_slowest_call_is_one_that_was_answered() -> None:
    """A failure is told elsewhere; of nothing there is none."""
    slow = call(ms=5)
    assert slow is seen.slowest([call(ms=1), slow, call(ms=9, outcome="failed", reason="upstream_timeout")])
    assert seen.slowest([]) is None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([50, 95]))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], percent: int) -> None:
    """And the smallest such."""
    found = seen.percentile(values, percent)
    assert found in values
    assert percent * len(values) <= 100 * sum(value <= found for value in values)
    assert percent * len(values) > 100 * sum(value < found for value in values)


def test_no_values_have_no_percentile() -> None:
    """0, not an error."""
    assert 0 == seen.percentile([], 95)


@pytest.mark.parametrize("tail", ["", 'weir_bytes_total{direction="reply",upstream="demo"} 7.0\n'])
def test_a_scrape_is_asked_for_tool_calls_only(tail: str) -> None:
    """Every outcome of them."""
    text = "# TYPE weir_requests_total counter\n"
    for method, reason, count in [("tools/call", "ok", 3), ("tools/call", "tool_error", 2), ("tools/list", "ok", 5)]:
        labels = f'mcp_method_name="{method}",outcome="replied",reason="{reason}",upstream="demo"'
        text += f"weir_requests_total{{{labels}}} {count}\n"
    assert 5 == seen.counted_calls(text + tail)
