"""Writes grafana/dashboards/weir.json. `python grafana/dashboard.py` after a change here; a test compares the two.

Each panel is one line of meaning: title, what it tells, unit, and the queries with their legends.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "dashboards" / "weir.json"
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
WHICH = 'job=~"$job",upstream=~"$upstream"'
PROCESS = 'job=~"$job"'
WIDTH = 24
SECONDS, RATE, COUNT, BYTES = "s", "reqps", "short", "Bps"

# whose fault each reason usually is, as core/outcome.py decides it for refusals
BLAME = {
    "upstream": "upstream_.*|outcome_unknown|server_error|http_5xx|tool_error|circuit_open",
    "weir": "internal_error|overloaded|sessions_full|draining",
    "caller": "cancelled|caller_error|http_4xx|unknown_session|bad_message|rate_limited",
}


@dataclass
class Query:
    """One PromQL expression and what its lines are called."""

    expr: str
    legend: str
    exemplars: bool = False


@dataclass
class Panel:
    """A graph."""

    title: str
    tells: str
    unit: str
    queries: list[Query]
    width: int = 8
    kind: str = "timeseries"
    is_stacked: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def rate(metric: str, by: str, which: str = WHICH) -> str:
    """How often a second."""
    return f"sum by ({by}) (rate({metric}{{{which}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "", which: str = WHICH) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(metric + '_bucket', 'le' + (', ' + by if by else ''), which)})"


def quantiles(metric: str, which: str = WHICH, *, exemplars: bool = False) -> list[Query]:
    """The usual three."""
    return [
        Query(quantile(share, metric, which=which), name, exemplars)
        for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]


def blamed(expr: str) -> str:
    """The same series with a label `blame`, made from their reason."""
    for blame, reasons in BLAME.items():
        expr = f'label_replace({expr}, "blame", "{blame}", "reason", "{reasons}")'
    return expr


SERVER = "mcp_server_operation_duration_seconds"
CLIENT = "mcp_client_operation_duration_seconds"
NOT_WELL = WHICH + ',reason!~"ok|unanswered"'

MEAN_PHASES = (
    "sum by (phase) (rate(weir_phase_seconds_sum{" + WHICH + "}[$__rate_interval])) / ignoring (phase) group_left () "
    'sum (rate(weir_phase_seconds_count{phase="relay",' + WHICH + "}[$__rate_interval]))"
)
OWN_SHARE = (
    "sum (rate(weir_overhead_seconds_sum{" + WHICH + "}[$__rate_interval])) / "
    "sum (rate(weir_phase_seconds_sum{" + WHICH + "}[$__rate_interval]))"
)

ROWS: list[tuple[str, list[Panel]]] = [
    (
        "Where did the time go",
        [
            Panel(
                "weir's own time",
                "What weir added to a call: deciding and relaying, the client's reading included.",
                SECONDS,
                quantiles("weir_overhead_seconds"),
            ),
            Panel(
                "Where an average call's time went",
                "The phases of a call add up to its duration. policy and relay are weir's; connect and upstream_* the "
                "server's and the network's; receive and client the client's.",
                SECONDS,
                [Query(MEAN_PHASES, "{{phase}}")],
                is_stacked=True,
            ),
            Panel(
                "weir's share of the time",
                "weir's own time as a share of all time that calls took.",
                "percentunit",
                [Query(OWN_SHARE, "weir")],
                width=4,
            ),
            Panel(
                "In flight",
                "Requests that have no outcome yet, and long-lived streams that are open.",
                COUNT,
                [
                    Query(f"sum by (upstream) (weir_requests_in_flight{{{WHICH}}})", "{{upstream}}"),
                    Query(f"sum by (upstream, kind) (weir_streams_open{{{WHICH}}})", "{{upstream}} {{kind}} streams"),
                ],
                width=4,
            ),
        ],
    ),
    (
        "Calls",
        [
            Panel(
                "Calls by outcome",
                "Requests and notifications. replied: the server answered, errors included; failed: nobody did; "
                "refused: weir said no.",
                RATE,
                [Query(rate("weir_requests_total", "outcome, reason"), "{{outcome}} {{reason}}")],
                is_stacked=True,
            ),
            Panel(
                "How long calls took, as clients see it",
                "Points are traces: click one.",
                SECONDS,
                quantiles(SERVER, exemplars=True),
            ),
            Panel(
                "How long attempts took, as weir sees the server",
                "The same without weir. Points are traces.",
                SECONDS,
                quantiles(CLIENT, exemplars=True),
            ),
            Panel(
                "Tool calls",
                "By tool. _OTHER: tools that no tools/list has named yet.",
                RATE,
                [
                    Query(
                        rate(SERVER + "_count", "gen_ai_tool_name", WHICH + ',gen_ai_tool_name!=""'),
                        "{{gen_ai_tool_name}}",
                    )
                ],
                width=12,
            ),
            Panel(
                "Tool calls, p95",
                "The slowest of twenty calls of a tool takes this long.",
                SECONDS,
                [
                    Query(
                        quantile(0.95, SERVER, "gen_ai_tool_name", WHICH + ',gen_ai_tool_name!=""'),
                        "{{gen_ai_tool_name}}",
                    )
                ],
                width=12,
            ),
        ],
    ),
    (
        "What went wrong",
        [
            Panel(
                "Failures, by reason and blame",
                "A second. A reason's very first time does not show here, only in the count beside it.",
                RATE,
                [Query(blamed(rate("weir_requests_total", "reason", NOT_WELL)), "{{reason}} ({{blame}})")],
            ),
            Panel(
                "Failures since weir started",
                "Exact counts.",
                COUNT,
                [Query(blamed(f"sum by (reason) (weir_requests_total{{{NOT_WELL}}})"), "{{reason}} ({{blame}})")],
                kind="bargauge",
            ),
            Panel(
                "Limits reached",
                "Bounds that were hit, since weir started. An empty upstream is weir's own port.",
                COUNT,
                [Query(f"sum by (upstream, limit) (weir_limit_reached_total{{{PROCESS}}})", "{{limit}} {{upstream}}")],
                kind="bargauge",
            ),
        ],
    ),
    (
        "Sessions, children, connections",
        [
            Panel(
                "Sessions",
                "client: towards clients; server: towards the upstream.",
                COUNT,
                [Query(f"sum by (upstream, side) (weir_sessions_open{{{WHICH}}})", "{{upstream}} {{side}}")],
            ),
            Panel(
                "Children",
                "stdio servers started and ended since weir began; expected=no: one ended by itself.",
                COUNT,
                [
                    Query(f"sum by (upstream) (weir_child_starts_total{{{WHICH}}})", "{{upstream}} started"),
                    Query(
                        f"sum by (upstream, expected) (weir_child_exits_total{{{WHICH}}})",
                        "{{upstream}} ended, expected={{expected}}",
                    ),
                ],
            ),
            Panel(
                "New upstream connections, p95",
                "How long connecting took.",
                SECONDS,
                [Query(quantile(0.95, "weir_upstream_connect_seconds", "upstream"), "{{upstream}}")],
            ),
        ],
    ),
    (
        "weir itself",
        [
            Panel(
                "Event loop lag, p99",
                "How late a timer fired: what every call in flight waits for when something blocks the loop.",
                SECONDS,
                [Query(quantile(0.99, "weir_event_loop_lag_seconds", which=PROCESS), "p99")],
            ),
            Panel(
                "Spans",
                "Exported and lost, a second; waiting.",
                COUNT,
                [
                    Query(f"sum (rate(weir_spans_exported_total{{{PROCESS}}}[$__rate_interval]))", "exported"),
                    Query(rate("weir_spans_dropped_total", "reason", PROCESS), "lost: {{reason}}"),
                    Query(f"sum (weir_span_queue_size{{{PROCESS}}})", "waiting"),
                ],
            ),
            Panel(
                "Message bytes",
                "Bodies only.",
                BYTES,
                [Query(rate("weir_bytes_total", "direction"), "{{direction}}")],
            ),
            Panel(
                "CPU",
                "Of one core.",
                "percentunit",
                [
                    Query(
                        f"sum by (instance) (rate(process_cpu_seconds_total{{{PROCESS}}}[$__rate_interval]))",
                        "{{instance}}",
                    )
                ],
            ),
            Panel(
                "Memory",
                "Resident.",
                "bytes",
                [Query(f"sum by (instance) (process_resident_memory_bytes{{{PROCESS}}})", "{{instance}}")],
            ),
            Panel(
                "Versions",
                "What runs.",
                COUNT,
                [
                    Query(
                        f"count by (version, python) (weir_build_info{{{PROCESS}}})",
                        "weir {{version}}, Python {{python}}",
                    )
                ],
                kind="bargauge",
            ),
        ],
    ),
]


def variable(name: str, label: str, metric: str, of: str) -> dict[str, Any]:
    """A choice of label values, all of them at first."""
    query = f"label_values({metric}, {of})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": PROMETHEUS,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def rendered(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """A panel as Grafana wants it."""
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "noValue": "none"}
    options: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal"}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.is_stacked else "none"}
        defaults["custom"] = {"fillOpacity": 40 if panel.is_stacked else 8, "stacking": stacking, "showPoints": "never"}
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.tells,
        "datasource": PROMETHEUS,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": 8},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": PROMETHEUS,
                "expr": query.expr,
                "legendFormat": query.legend,
                "exemplar": query.exemplars,
                "instant": panel.kind != "timeseries",
                "range": panel.kind == "timeseries",
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def panels() -> list[dict[str, Any]]:
    """Rows, and below each its panels from left to right."""
    made: list[dict[str, Any]] = []
    y = 0
    for title, members in ROWS:
        row = {"id": len(made) + 1, "type": "row", "title": title, "collapsed": False, "panels": []}
        made.append({**row, "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})
        x, y = 0, y + 1
        for panel in members:
            if x + panel.width > WIDTH:
                x, y = 0, y + 8
            made.append(rendered(panel, len(made) + 1, x, y))
            x += panel.width
        y += 8
    return made


def dashboard() -> dict[str, Any]:
    """The whole of it."""
    return {
        "uid": "weir",
        "title": "weir: where did the time go",
        "description": "What a weir sees of its MCP traffic.",
        "tags": ["weir", "mcp"],
        "schemaVersion": 41,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-15m", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                    "refresh": 1,
                },
                variable("job", "job", "weir_build_info", "job"),
                variable("upstream", "upstream", 'weir_requests_total{job=~"$job"}', "upstream"),
            ]
        },
        "annotations": {"list": []},
        "panels": panels(),
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    sys.stderr.write(f"{TARGET} written\n")
