"""One Telemetry out of its settings: what the application wires into the stack and the edges."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping

from weir.core.events import Emit, Observer, fan_out
from weir.telemetry.observe import ObserveAttempt, ObserveCall
from weir.telemetry.settings import TelemetrySettings
from weir.telemetry.tracing import RandomBits, Tracing

Clock = Callable[[], float]


class Telemetry:
    """Everything that watches. `run` while serving, then `aclose`."""

    def __init__(self, tracing: Tracing, emit: Emit, clock: Clock) -> None:
        self.tracing = tracing
        self.emit = emit
        self.observe_call = ObserveCall(tracing, emit, clock)
        self.observe_attempt = ObserveAttempt(tracing, emit, clock)

    async def run(self) -> None:
        """Flush what is buffered, again and again. Ends by being cancelled."""
        await asyncio.Event().wait()

    async def aclose(self, deadline_seconds: float = 5.0) -> None:
        """Write and export what is left, as far as the deadline allows."""


def build(
    settings: TelemetrySettings,
    *,
    clock: Clock = time.monotonic,
    random_bits: RandomBits | None = None,
    environ: Mapping[str, str] = os.environ,
    observers: tuple[Observer, ...] = (),
) -> Telemetry:
    """Telemetry as configured. `observers` are further folds (the journal, readiness)."""
    tracing = Tracing(
        settings.traces, random_bits or random.Random().getrandbits, enabled=settings.traces.exporter != "none"
    )
    emit = fan_out(observers, lambda error: None)
    return Telemetry(tracing, emit, clock)
