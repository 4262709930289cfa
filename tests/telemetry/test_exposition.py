"""weir's own rendering, judged by prometheus_client's parsers."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from weir.telemetry import exposition
from weir.telemetry.families import MetricFamilies
from weir.telemetry.series import Family, counter, gauge, histogram

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(' \\"\n{}=,#'), max_size=12)
VALUES = st.floats(0, 1e9)
BOUNDS = (0.00005, 1.0, 300.0)


@given(st.dictionaries(st.tuples(NAMES, NAMES), st.lists(VALUES, min_size=1, max_size=5), max_size=4))
def test_what_is_rendered_reads_back_in_both_formats(children: dict[tuple[str, str], list[float]]) -> None:
    """Whatever the labels hold, and however many children."""
    totals, levels = counter("weir_a", "A.", "one", "two"), gauge("weir_b", "B.", "one", "two")
    spread = histogram("weir_c", "C.", BOUNDS, "one", "two")
    made: list[Family[Any]] = [totals, levels, spread]
    for labels, values in children.items():
        totals.child(*labels).value = levels.child(*labels).value = sum(values)
        for value in values:
            spread.child(*labels).observe(value)
    for parse, is_openmetrics in ((parse_openmetrics, True), (parse_plain, False)):
        text = exposition.render(made, is_openmetrics=is_openmetrics) + (b"# EOF\n" if is_openmetrics else b"")
        samples = [sample for family in parse(text.decode()) for sample in family.samples]
        for (one, two), values in children.items():
            wanted = {name: value for name, value in (("one", one), ("two", two)) if value}
            found = {sample.name: sample.value for sample in samples if sample.labels == wanted}
            assert {
                "weir_a_total": sum(values),
                "weir_b": sum(values),
                "weir_c_sum": sum(values),
                "weir_c_count": len(values),
            } == found
            buckets = [sample.value for sample in samples if {**wanted, "le": sample.labels.get("le")} == sample.labels]
            assert [sum(value <= bound for value in values) for bound in (*BOUNDS, float("inf"))] == buckets


def test_an_exemplar_stands_at_its_bucket_in_openmetrics_only() -> None:
    """The newest of each bucket."""
    family = histogram("weir_c", "C.", BOUNDS)
    family.child().observe(0.5)
    family.child().exemplify(0.5, "0af7", "b7ad", 1_700_000_000.0)
    family.child().exemplify(0.75, "0af8", "b7ae", 1_700_000_001.0)
    line = b'weir_c_bucket{le="1.0"} 1 # {trace_id="0af8",span_id="b7ae"} 0.75 1700000001.000\n'
    assert line in exposition.render([family], is_openmetrics=True)
    assert b"#" not in exposition.render([family], is_openmetrics=False).split(b"histogram\n")[1]


def test_every_family_has_help_and_a_name_of_its_own() -> None:
    """Conventional names, or weir's."""
    families = MetricFamilies().all()
    assert len(families) == len({family.name for family in families})
    assert all(family.help_text.endswith(".") or "always 1" in family.help_text for family in families)
    assert all(family.name.startswith(("weir_", "mcp_server_", "mcp_client_")) for family in families)
