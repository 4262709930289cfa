"""What the operator asked each protection to do. Every section has `mode`; a section left out is off."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from weir.config.fields import (
    Count,
    CountOrZero,
    EmptyIsDefault,
    HeaderName,
    Mode,
    NumberOrZero,
    Seconds,
    SecondsOrZero,
    Section,
    Share,
    ShareOrZero,
    Switch,
    WholeNumber,
    default_duration,
)
from weir.config.problems import Path
from weir.config.quantities import duration_seconds

MAX_ATTEMPTS = 10
"""More tries than this is a retry storm, whatever the budget."""

MAX_BREAKER_CLIENTS = 8
"""The breaker counts the trouble of so many clients apart (`breaker_window.CLIENTS_KEPT`)."""

MODE_HELP = "enforce: do it; shadow: only count what it would have done; off: as if left out"


class Timeout(Section):
    """Limits on how long things may take."""

    mode: Mode = Field(default="enforce", description=MODE_HELP)
    connect_seconds: Seconds = default_duration("5s", alias="connect", description="To reach the upstream.")
    attempt_seconds: Seconds = default_duration("60s", alias="attempt", description="For one try.")
    total_seconds: Seconds = default_duration(
        "120s", alias="total", description="For the whole call, tries and waits included."
    )
    idle_seconds: Seconds = default_duration("300s", alias="idle", description="Without a byte from the upstream.")
    client_input_seconds: Seconds = default_duration(
        "10m", alias="client_input", description="For the client to answer what a server asks it; other clocks stand."
    )
    extend_on_progress: Switch = Field(
        default=True, description="Progress notifications start the attempt's clock again."
    )


class ToolTimeout(Timeout):
    """Limits for one tool; what is left out is as in `policies.timeout`.

    In shadow or off its calls keep the upstream's `connect` and `idle`, and nothing is counted of the tool's own.
    """


class Backoff(Section):
    """Waits between tries: full jitter below a ceiling that doubles. A server's Retry-After wins."""

    initial_seconds: Seconds = default_duration("50ms", alias="initial")
    max_seconds: Seconds = default_duration("2s", alias="max")


class RetryBudget(Section):
    """How many retries there may be for the calls there are."""

    ratio: ShareOrZero = Field(default=0.2, description="Retries as a share of calls.")
    min_per_second: NumberOrZero = Field(
        default=1.0, description="Retries a second that are allowed whatever the ratio."
    )


class Retry(Section):
    """Trying again where that is safe."""

    mode: Mode = Field(default="enforce", description=MODE_HELP)
    attempts: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS), WholeNumber] = Field(
        default=3, description="All tries, the first included."
    )
    backoff: Annotated[Backoff, EmptyIsDefault] = Field(default=Backoff())
    budget: Annotated[RetryBudget, EmptyIsDefault] = Field(default=RetryBudget())
    trust_annotations: Switch = Field(
        default=False, description="Tools that call themselves readOnlyHint or idempotentHint may be retried."
    )


def _as_safety(written: object) -> object:
    return {"safe": written} if isinstance(written, str) else written


class ToolRetry(Retry):
    """Trying the calls of one tool again; what is left out is as in `policies.retry`. One word stands for `safe`."""

    safe: Literal["auto", "always", "never"] = Field(
        default="auto", description="always: its calls are safe to repeat; never: they are not, whatever the tool says."
    )

    @classmethod
    def contradictions(cls, named: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
        """One budget for all that an upstream gets."""
        if named.get("budget") is not None:
            yield ("budget",), "is one for all tools of an upstream; leave it out"


class SlowCalls(Section):
    """Slow calls count against an upstream too."""

    over_seconds: Seconds = default_duration("10s", alias="over")
    rate: Share = Field(default=0.9, description="Share of slow calls that opens the breaker.")


class ToolErrors(Section):
    """`isError` results: a tool's own failures."""

    count: Switch = Field(default=False, description="Whether they count at all.")
    rate: Share = Field(default=0.9, description="Share of them that opens the breaker.")


class Breaker(Section):
    """Stops asking an upstream that fails."""

    mode: Mode = Field(default="enforce", description=MODE_HELP)
    scope: Literal["upstream", "tool"] = Field(
        default="upstream", description="tool: one breaker for each tool that is listed or configured."
    )
    consecutive_failures: Count = 5
    failure_rate: Share = 0.5
    slow_call: Annotated[SlowCalls, EmptyIsDefault] = Field(default=SlowCalls())
    tool_errors: Annotated[ToolErrors, EmptyIsDefault] = Field(default=ToolErrors())
    window_seconds: Seconds = default_duration("30s", alias="window")
    min_calls: Count = Field(default=10, description="Rates are judged from this many calls in the window on.")
    open_seconds: Seconds = default_duration("60s", alias="open_for")
    half_open_probes: Count = Field(default=3, description="That many must succeed to close.")
    clients: Annotated[int, Field(ge=1, le=MAX_BREAKER_CLIENTS), WholeNumber] = Field(
        default=2,
        description="Fewer clients than this open the circuit only while no other client's call succeeds. Failures "
        "that no client can cause (connect, TLS, DNS, a process that does not start) count in any case. 1: any client.",
    )


class ToolBreaker(Breaker):
    """A breaker for the calls of one tool; what is left out is as in `policies.breaker`."""

    @classmethod
    def contradictions(cls, named: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
        """It is the tool's."""
        if named.get("scope") is not None:
            yield ("scope",), "has no meaning for one tool; leave it out"


Dimension = Literal["client", "tool", "upstream", "method_class", "global"]


def _as_list(written: object) -> object:
    if written == []:
        raise ValueError("must not be empty; name client, tool, upstream, method_class or global")
    return [written] if isinstance(written, str) else written


Dimensions = Annotated[
    tuple[Dimension, ...],
    BeforeValidator(_as_list, json_schema_input_type=Dimension | list[Dimension]),
]


class RateLimit(Section):
    """A sliding window. Of several, all must pass."""

    mode: Mode = Field(default="enforce", description=MODE_HELP)
    per: Dimensions = Field(
        description="What is counted apart: client, tool, method_class (lists, other calls), upstream, or a list of "
        "them; global counts over all upstreams.",
        examples=["client", ["client", "tool"]],
    )
    limit: Count
    window_seconds: Seconds = Field(alias="window")

    @classmethod
    def contradictions(cls, named: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
        """What is counted apart is named once."""
        per = named.get("per")
        if isinstance(per, list) and any(per.count(one) > 1 for one in per):
            yield ("per",), "names the same thing twice; keep one"


class ToolRateLimit(RateLimit):
    """A sliding window for calls of one tool, beside those that hold for all calls."""

    per: Dimensions = Field(
        default=("tool",), description="tool: one window for all its calls; client: one for each client; and so on."
    )


class Concurrency(Section):
    """How many calls an upstream gets at once, and how many may wait."""

    mode: Mode = Field(default="enforce", description=MODE_HELP)
    limit: Count = 64
    queue: CountOrZero = 32
    queue_timeout_seconds: SecondsOrZero = default_duration("5s", alias="queue_timeout")
    adaptive: Switch = Field(default=False, description="Find the limit from latency; `limit` is then the ceiling.")


class Coalesce(Section):
    """Equal reads that are under way at the same time become one."""

    mode: Mode = Field(default="off", description=MODE_HELP)
    headers: tuple[HeaderName, ...] | None = Field(
        default=None,
        description="Only calls share whose values of these headers are equal, and those of Authorization and Accept; "
        "null: of every header but a few that never tell callers apart.",
    )


_PERCENTILE = re.compile(r"p[0-9]{1,2}(?:\.[0-9]+)?")


def _lateness(written: str) -> str:
    if _PERCENTILE.fullmatch(written):
        return written
    try:
        duration_seconds(written)
    except ValueError:
        raise ValueError(
            "{written} is neither a percentile nor a duration; write for example 'p95' or '500ms'"
        ) from None
    return written


Lateness = Annotated[str, AfterValidator(_lateness), Field(json_schema_extra={"examples": ["p95", "500ms"]})]


class Hedge(Section):
    """A second try of a safe call that is late."""

    mode: Mode = Field(default="off", description=MODE_HELP)
    after: Lateness = Field(default="p95", description="A percentile of the tool's own latency, or a duration.")

    @property
    def percentile(self) -> float:
        """The percentile, where `after` is none: any."""
        return float(self.after[1:]) if self.after.startswith("p") else 95.0

    @property
    def after_seconds(self) -> float | None:
        """The duration; None: `after` is a percentile."""
        return None if self.after.startswith("p") else duration_seconds(self.after)


class Policies(Section):
    """What is done to calls. A policy left out is off."""

    timeout: Annotated[Timeout | None, EmptyIsDefault] = None
    retry: Annotated[Retry | None, EmptyIsDefault] = None
    breaker: Annotated[Breaker | None, EmptyIsDefault] = None
    client_key: HeaderName | None = Field(
        default=None, description="A header whose hash names the client; null: the peer's address."
    )
    rate_limits: tuple[RateLimit, ...] = ()
    concurrency: Annotated[Concurrency | None, EmptyIsDefault] = None
    coalesce: Annotated[Coalesce | None, EmptyIsDefault] = None
    hedge: Annotated[Hedge | None, EmptyIsDefault] = None


class ToolOverride(Section):
    """What is different for one tool."""

    retry: Annotated[
        ToolRetry,
        BeforeValidator(_as_safety, json_schema_input_type=Literal["auto", "always", "never"] | ToolRetry),
        EmptyIsDefault,
    ] = Field(default=ToolRetry(), description="auto, always or never, or a section with `safe` and what else differs.")
    timeout: Annotated[ToolTimeout | None, EmptyIsDefault] = None
    breaker: Annotated[ToolBreaker | None, EmptyIsDefault] = Field(
        default=None, description="A circuit of its own; off: no breaker looks at its calls."
    )
    hedge: Annotated[Hedge | None, EmptyIsDefault] = Field(
        default=None,
        description="enforce: its calls are safe to make twice at once; off: they are not, whatever it says.",
    )
    coalesce: Annotated[Coalesce | None, EmptyIsDefault] = Field(
        default=None,
        description="enforce: it only reads, and equal calls that are under way at the same time become one.",
    )
    rate_limits: tuple[ToolRateLimit, ...] = Field(default=(), description="Beside those that hold for all calls.")
    concurrency: Annotated[Concurrency | None, EmptyIsDefault] = Field(
        default=None, description="Places for its calls alone, which they need beside one of the upstream's."
    )
