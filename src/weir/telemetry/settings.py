"""What the operator may choose about telemetry."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TracesSettings:
    """Spans. `exporter` none leaves every message untouched: the caller's trace context passes as it came."""

    exporter: str = "otlp"
    """otlp | console | none. At `otlp` the variable OTEL_TRACES_EXPORTER may still say something else."""
    sample_ratio: float = 1.0
    """Share of the traces that begin at weir which are recorded; a caller's own decision is kept."""
    always: frozenset[str] = frozenset({"error", "slow", "retried"})
    """Calls whose spans are exported even when their trace is not sampled."""
    slow_seconds: float = 10.0
    """From which duration on a call counts as slow."""
    parent: str = "remote"
    """remote: the caller's span is the parent; link: a trace of our own, linked to it; ignore: of our own."""
    resource_uris: bool = True
    """Whether spans carry `mcp.resource.uri`; it is never in a span name, a metric or a log."""


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Metrics."""

    exemplars: bool = True
    max_label_values: int = 500
    """Tool and prompt names per upstream that get series of their own; further ones are `_OTHER`."""


@dataclass(frozen=True, slots=True)
class LogsSettings:
    """What goes to stderr."""

    format: str = "auto"
    """auto: text on a terminal, else json."""
    level: str = "info"
    """debug | info | warning | error. Notifications are logged at debug."""
    access: bool = True
    """One line for each finished request."""
    stderr: bool = True
    """The lines that stdio servers write to stderr, at level info."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """All of it."""

    traces: TracesSettings = field(default_factory=TracesSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    logs: LogsSettings = field(default_factory=LogsSettings)
    session_idle_seconds: float = 1800.0
    """A session over HTTP that nobody has used for so long counts as ended."""
    tool_names: dict[str, frozenset[str]] = field(default_factory=dict)
    """Tool names that the configuration mentions, by upstream: they get labels before any list reply."""
