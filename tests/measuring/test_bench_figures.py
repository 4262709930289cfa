"""From what was measured to what is printed."""

import os
import time
from dataclasses import replace

from bench import measure
from bench.hotspots import LOOP, Frame, parse, place
from bench.report import Goal, Table
from bench.rounds import Row, Run, added, ratio
from bench.sink import spans_in
from bench.targets import DIRECT
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def run(cpu_us: float, p50: float = 1.0) -> Run:
    """One round."""
    return Run(calls=10, per_second=1.0, p50=p50, p95=1, p99=1, cpu_us=cpu_us, server_cpu_us=0)


def test_a_ratio_compares_within_each_round() -> None:
    """A round in which all were slow does not move it."""
    base, row = Row(DIRECT, [run(10), run(50), run(10)]), Row(DIRECT, [run(30), run(150), run(31)])
    assert 3.0 == ratio(row, base)


def test_added_latency_is_the_difference_within_each_round() -> None:
    """Over the direct figure of the same round."""
    base, row = Row(DIRECT, [run(1, 1.0), run(1, 5.0)]), Row(DIRECT, [run(1, 1.5), run(1, 5.5)])
    assert 0.5 == added(row, base, "p50")


def test_a_goal_says_whether_it_is_met() -> None:
    """The target stands beside the figure."""
    assert "weir ÷ nginx: target ≤ 3.5×: 3.10× ✓" == str(Goal("weir ÷ nginx", 3.5, 3.1, "×"))
    assert str(Goal("weir ÷ nginx", 3.5, 3.51, "×")).endswith("✗")


def test_a_figure_of_something_else_meets_no_goal() -> None:
    """A row that says it is traced, and whose spans did not arrive, is cheap for the wrong reason."""
    row = Row(replace(DIRECT, sampled=1.0), [run(30)])
    assert "0 of 20 spans arrived" == row.doubt()
    goal = Goal("traced", 9.0, 3.0, "×", row.doubt())
    assert not goal.met
    assert str(goal).endswith("✗ (void: 0 of 20 spans arrived)")


def test_what_is_missing_is_printed_once_with_its_reason() -> None:
    """Rows that share a reason share a line."""
    table = Table("t", "A table", ("", "figure"), rows=[("row", "1.0")], missing={"a": "no npm", "b": "no npm"})
    assert "  not measured: a; b: no npm" in table.text().splitlines()


def test_cpu_time_of_a_process_grows_while_it_works() -> None:
    """And by no more than the time that passed."""
    began, before = time.perf_counter(), measure.cpu_seconds([os.getpid()])
    sum(range(2_000_000))
    used = measure.cpu_seconds([os.getpid()]) - before
    assert 0 < used <= time.perf_counter() - began + 0.1


def test_a_tree_has_the_process_itself() -> None:
    """With no stdio server below it."""
    tree = measure.tree(os.getpid())
    assert os.getpid() in tree.own
    assert () == tree.servers
    assert measure.peak_rss_bytes(tree.own) >= measure.rss_bytes(tree.own) > 0


def test_the_sink_counts_spans() -> None:
    """Over all resources and scopes of one request."""
    request = ExportTraceServiceRequest()
    for spans in (2, 3):
        scope = request.resource_spans.add().scope_spans.add()
        for _ in range(spans):
            scope.spans.add(name="x")
    assert 5 == spans_in(request.SerializeToString())


def test_samples_are_counted_by_innermost_function_and_by_all_around_it() -> None:
    """Those without a Python function are the event loop's."""
    outer, inner = "serve (/x/src/weir/downstream/http.py:9)", "peek (/x/src/weir/protocol/envelope.py:7)"
    profile = parse([f"{outer};{inner} 3", f"{outer} 2", "(event loop, in C) 1", "rubbish"])
    serve, peek = Frame("serve", "/x/src/weir/downstream/http.py"), Frame("peek", "/x/src/weir/protocol/envelope.py")
    assert (6, 2, 3, 1) == (profile.samples, profile.own[serve], profile.own[peek], profile.own[LOOP])
    assert (5, 3) == (profile.within[serve], profile.lines["weir/protocol/envelope.py:7"])
    assert "weir/downstream" == place(serve)
