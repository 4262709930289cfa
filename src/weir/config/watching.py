"""What the operator asked to be told: traces, metrics, logs, journal, objectives."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from weir.config.fields import (
    Count,
    EmptyIsDefault,
    Name,
    Seconds,
    Section,
    Share,
    ShareOrZero,
    Switch,
)
from weir.config.problems import Path


class Traces(Section):
    """Spans."""

    exporter: Literal["otlp", "console", "none"] = Field(
        default="otlp", description="none: no spans, and the caller's trace context passes untouched."
    )
    sample: ShareOrZero = Field(default=1.0, description="Share of the traces that begin here.")
    always: tuple[Literal["error", "slow", "retried"], ...] = Field(
        default=("error", "slow", "retried"), description="Marked so that a collector keeps them."
    )
    parent: Literal["remote", "link", "ignore"] = Field(
        default="remote", description="What the caller's context becomes: the parent, a link, nothing."
    )


class Metrics(Section):
    """Prometheus metrics."""

    exemplars: Switch = True
    max_label_values: Count = Field(default=500, description="Tools and prompts beyond this many are `_OTHER`.")


class Logs(Section):
    """The access log and weir's own."""

    format: Literal["auto", "text", "json"] = Field(default="auto", description="auto: text on a terminal, else json.")
    level: Literal["debug", "info", "warning", "error"] = "info"
    access: Switch = Field(default=True, description="One line a call.")
    stderr: Switch = Field(default=True, description="What servers that weir starts write to stderr, at level info.")


class Journal(Section):
    """The last calls, kept in memory. Not applied yet."""

    calls: Count = 1000
    bodies: Switch = False


class Telemetry(Section):
    """Who watches."""

    traces: Annotated[Traces | None, EmptyIsDefault] = None
    metrics: Annotated[Metrics, EmptyIsDefault] = Field(default=Metrics())
    logs: Annotated[Logs, EmptyIsDefault] = Field(default=Logs())
    journal: Annotated[Journal | None, EmptyIsDefault] = None


class Objective(Section):
    """A service level objective: availability, or latency (`under` and `ratio`). Not applied yet."""

    name: Name
    upstream: Name
    availability: Share | None = Field(default=None, description="Share of calls that must not fail.", examples=[0.995])
    under_seconds: Seconds | None = Field(default=None, alias="under")
    ratio: Share | None = Field(
        default=None, description="Share of calls that must end within `under`.", examples=[0.95]
    )

    @classmethod
    def contradictions(cls, named: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
        """One objective says one thing."""
        availability, under, ratio = (named.get(key) is not None for key in ("availability", "under", "ratio"))
        if under != ratio:
            yield (), "under and ratio go together; add the other one"
        elif availability == under:
            yield (), "needs exactly one of availability, and under with ratio"
