"""The section `faults`: what goes wrong on purpose."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from weir.config.fields import (
    CountOrZero,
    Name,
    Percent,
    Seconds,
    SecondsOrZero,
    Section,
    Switch,
    WholeNumber,
    default_duration,
)
from weir.config.problems import Path
from weir.protocol.error_codes import INTERNAL_ERROR

MAX_FAULTS = 100
"""At once: each is looked at for every attempt."""

_INSTEAD = ("timeout", "reset", "status", "error", "is_error", "garbage")
_BESIDE = ("latency", "jitter", "slow_stream", "drop_stream", "duplicate")


def _is_named(written: object) -> bool:
    """0 is a code and a count; `false` is as good as left out."""
    return written is not None and written is not False and written != "false"


class Fault(Section):
    """A fault to inject: what comes instead of the server's answer, or what is done to it."""

    upstream: Name
    tool: str | None = Field(default=None, description="Only calls of this tool; left out: everything.")
    percent: Percent = Field(default=100.0, description="The share of attempts that it befalls.")
    expires_seconds: Seconds = default_duration(
        "10m", alias="expires", description="A fault nobody remembers must end by itself."
    )
    latency_seconds: SecondsOrZero = default_duration("0s", alias="latency", description="Answers come later by this.")
    jitter_seconds: SecondsOrZero = default_duration("0s", alias="jitter", description="Give or take this.")
    slow_stream_seconds: SecondsOrZero = default_duration(
        "0s", alias="slow_stream", description="Each event of a stream comes later by this."
    )
    drop_stream_events: CountOrZero | None = Field(
        default=None, alias="drop_stream", description="A stream breaks after this many events."
    )
    duplicate: Switch = Field(default=False, description="Events come twice, and so do answers.")
    timeout: Switch = Field(default=False, description="No answer comes.")
    reset: Switch = Field(default=False, description="The connection breaks before the answer.")
    status: Annotated[int, Field(ge=400, le=599), WholeNumber] | None = Field(
        default=None, description="An HTTP error instead of an answer."
    )
    error: Annotated[int, WholeNumber] | None = Field(
        default=None, description="The code of a JSON-RPC error as the answer.", examples=[INTERNAL_ERROR]
    )
    is_error: Switch = Field(default=False, description="A tool answers that it failed.")
    garbage: Switch = Field(default=False, description="What comes is no JSON.")

    @classmethod
    def contradictions(cls, named: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
        """It does something, and only one thing comes instead of an answer."""
        instead = [key for key in _INSTEAD if _is_named(named.get(key))]
        beside = [key for key in _BESIDE if _is_named(named.get(key))]
        if not instead and not beside:
            yield (), f"injects nothing; add one of {', '.join((*_BESIDE, *_INSTEAD))}"
        for key in instead[1:]:
            yield (key,), f"comes instead of the answer, and so does {instead[0]}; keep one"


class Faults(Section):
    """Faults on purpose."""

    allow: Switch = Field(default=False, description="true: `weir fault` and the list below may be used.")
    inject: Annotated[tuple[Fault, ...], Field(max_length=MAX_FAULTS)] = ()

    @classmethod
    def contradictions(cls, named: Mapping[str, object]) -> Iterator[tuple[Path, str]]:
        """A fault is injected only where that was allowed."""
        if named.get("inject") and named.get("allow") in (None, False):
            yield ("inject",), "has no effect without 'allow: true'"
