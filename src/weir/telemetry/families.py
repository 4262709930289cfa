"""Every metric weir has, with its labels and buckets, in one place.

The conventional ones have the names that OpenTelemetry's MCP conventions get in Prometheus, so that
existing dashboards work; `upstream` is added to their labels. All others start with `weir_`.
"""

from typing import Any

from weir.telemetry.semconv import OPERATION_BUCKETS
from weir.telemetry.series import Family, counter, gauge, histogram

# what weir itself takes is far below the convention's first bucket of 10 ms
FINE_BUCKETS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_NETWORK = ("network_transport", "network_protocol_name", "network_protocol_version")
_OPERATION = (
    "upstream",
    "mcp_method_name",
    "gen_ai_tool_name",
    "gen_ai_prompt_name",
    "gen_ai_operation_name",
    "error_type",
    "rpc_response_status_code",
    "mcp_protocol_version",
    *_NETWORK,
)
_SESSION = ("upstream", "mcp_protocol_version", "error_type")


class MetricFamilies:
    """The families of one process."""

    def __init__(self) -> None:
        self._name_operations()
        self._name_calls()
        self._name_streams()
        self._name_lives()
        self._name_policies()
        self._name_weir_itself()

    def _name_operations(self) -> None:
        self.server_operation = histogram(
            "mcp_server_operation_duration_seconds",
            "How long MCP requests and notifications took, as the client sees weir. Long-lived streams are not in it.",
            OPERATION_BUCKETS,
            *_OPERATION,
        )
        self.client_operation = histogram(
            "mcp_client_operation_duration_seconds",
            "How long single attempts took, as weir sees the upstream. Long-lived streams are not in it.",
            OPERATION_BUCKETS,
            *_OPERATION,
            "server_address",
            "server_port",
        )
        self.server_session = histogram(
            "mcp_server_session_duration_seconds", "How long clients' sessions lasted.", OPERATION_BUCKETS, *_SESSION
        )
        self.client_session = histogram(
            "mcp_client_session_duration_seconds",
            "How long sessions with upstreams lasted.",
            OPERATION_BUCKETS,
            *_SESSION,
        )

    def _name_calls(self) -> None:
        self.requests = counter(
            "weir_requests",
            "Requests and notifications by outcome; members of a batch each.",
            *("upstream", "mcp_method_name", "outcome", "reason"),
        )
        self.exchanges = counter(
            "weir_exchanges",
            "HTTP exchanges that are neither request nor notification, by verb and outcome.",
            *("upstream", "verb", "outcome", "reason"),
        )
        self.refused = counter(
            "weir_requests_refused",
            "HTTP requests that were refused before they became calls.",
            *("upstream", "status", "reason"),
        )
        self.attempts = counter("weir_attempts", "Attempts by outcome.", *("upstream", "try", "outcome", "reason"))
        self.in_flight = gauge("weir_requests_in_flight", "Requests that have no outcome yet.", "upstream")
        self.phases = histogram(
            "weir_phase_seconds",
            "Where the time of requests went; the phases of a request add up to its duration.",
            FINE_BUCKETS,
            *("upstream", "phase"),
        )
        self.overhead = histogram(
            "weir_overhead_seconds",
            "What weir added to requests: deciding and relaying, the client's reading included.",
            FINE_BUCKETS,
            "upstream",
        )
        self.bytes = counter("weir_bytes", "Bytes of message bodies.", "upstream", "direction")

    def _name_streams(self) -> None:
        self.streams_open = gauge("weir_streams_open", "Long-lived streams that are open.", "upstream", "kind")
        self.stream_seconds = histogram(
            "weir_stream_seconds", "How long long-lived streams lasted.", OPERATION_BUCKETS, "upstream", "kind"
        )
        self.asks = counter(
            "weir_asks", "Servers' requests to clients, by outcome.", "upstream", "mcp_method_name", "outcome"
        )
        self.ask_seconds = histogram(
            "weir_ask_seconds",
            "How long clients took to answer servers' requests.",
            OPERATION_BUCKETS,
            *("upstream", "mcp_method_name"),
        )
        self.server_messages = counter(
            "weir_server_messages", "Servers' requests and notifications.", "upstream", "mcp_method_name"
        )

    def _name_lives(self) -> None:
        self.sessions_open = gauge("weir_sessions_open", "Sessions that are open.", "upstream", "side")
        self.sessions_closed = counter("weir_sessions_closed", "Sessions that ended.", "upstream", "side", "reason")
        self.connect_seconds = histogram(
            "weir_upstream_connect_seconds", "How long new upstream connections took.", FINE_BUCKETS, "upstream"
        )
        self.child_starts = counter("weir_child_starts", "stdio servers started.", "upstream")
        self.child_exits = counter("weir_child_exits", "stdio servers that ended.", "upstream", "expected")
        self.child_skipped = counter(
            "weir_child_skipped_lines", "Lines on a stdio server's stdout that are no message.", "upstream"
        )
        self.limits = counter("weir_limit_reached", "Bounds that were hit.", "upstream", "limit")

    def _name_policies(self) -> None:
        self.decisions = counter(
            "weir_policy_decisions",
            "What policies did, or in shadow mode would have done.",
            *("upstream", "policy", "action", "mode"),
        )
        self.decision_seconds = histogram(
            "weir_policy_wait_seconds", "How long policies made calls wait.", FINE_BUCKETS, *("upstream", "policy")
        )
        self.levels = gauge(
            "weir_policy_level",
            "Quantities that policies keep; a breaker: 0 closed, 1 half open, 2 open.",
            "upstream",
            "policy",
            "scope",
        )
        self.breaker_moves = counter(
            "weir_breaker_moves",
            "Breakers that changed their state.",
            *("upstream", "scope", "before", "after", "reason", "mode"),
        )

    def _name_weir_itself(self) -> None:
        self.stood_still = counter(
            "weir_stood_still_seconds",
            "How long weir could not run (stopped, or its event loop blocked), over 1 s each.",
        )
        self.loop_lag = histogram(
            "weir_event_loop_lag_seconds", "How late the event loop was for a timer.", FINE_BUCKETS
        )
        self.spans_exported = counter("weir_spans_exported", "Spans the collector took.")
        self.spans_dropped = counter("weir_spans_dropped", "Spans that were lost.", "reason")
        self.span_queue = gauge("weir_span_queue_size", "Spans in hand: waiting, or on their way to the collector.")
        self.logs_dropped = counter("weir_log_lines_dropped", "Log lines lost because stderr did not take them.")
        self.labels_refused = counter("weir_label_values_refused", "Listed names that found no room as labels.")
        self.observer_failures = counter("weir_observer_failures", "Events that an observer failed to handle.")
        self.build_info = gauge("weir_build_info", "Versions; always 1.", "version", "python")

    def all(self) -> list[Family[Any]]:
        """Every family, in the order above."""
        return [family for family in vars(self).values() if isinstance(family, Family)]
