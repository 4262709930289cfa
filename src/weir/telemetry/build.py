"""One Telemetry out of its settings: what the application wires into the stack, the edges and `/metrics`."""

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace.export import SpanExporter

from weir.core.observer import Observer, fan_out
from weir.telemetry import access_log, environment, exporters, log
from weir.telemetry.access_log import AccessLog
from weir.telemetry.families import MetricFamilies
from weir.telemetry.instants import REFRESH_SECONDS, EpochClock
from weir.telemetry.labels import Labels
from weir.telemetry.log import Log
from weir.telemetry.loop_lag import INTERVAL_SECONDS, LoopLag
from weir.telemetry.metrics import Metrics
from weir.telemetry.observe import ObserveAttempt, ObserveCall
from weir.telemetry.operations import Operations
from weir.telemetry.other_loggers import OtherLoggers
from weir.telemetry.pipeline import Pipeline
from weir.telemetry.reading import Fold, Reader
from weir.telemetry.server_stderr import ServerStderr
from weir.telemetry.sessions import Sessions
from weir.telemetry.settings import LogsSettings, TelemetrySettings
from weir.telemetry.span_losses import SpanLosses
from weir.telemetry.spans import Spans
from weir.telemetry.tracing import RandomBits, Tracing
from weir.telemetry.writer import Write, Writer, to_stderr

FLUSH_SECONDS = 0.1
# of the time to end in: a collector that hangs must leave the log its turn
_SPANS_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What telemetry takes from the world."""

    clock: Callable[[], float] = time.monotonic
    """Monotonic seconds: the clock of every instant in calls and events."""
    wall: Callable[[], float] = time.time
    """Unix time."""
    random_bits: RandomBits = random.Random().getrandbits
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    write: Write = to_stderr
    is_terminal: bool = False
    version: str = "unknown"
    """weir's own."""


class Telemetry:
    """Everything that watches. `run` it while serving, then `aclose`."""

    def __init__(
        self,
        settings: TelemetrySettings,
        world: Surroundings,
        observers: tuple[Observer, ...] = (),
        exporter: SpanExporter | None = None,
    ) -> None:
        version = world.version
        chosen = environment.chosen(settings.traces.exporter, world.environ)
        self._world = world
        self._writer = Writer(world.write)
        self._log = Log(self._writer, _log_format(settings.logs, world), settings.logs.level, world.wall)
        self._others = OtherLoggers(self._log)
        self._epoch = EpochClock(world.clock, world.wall)
        self._pipeline = _pipeline(chosen, exporter, world, self._writer)
        self._span_losses = SpanLosses(self._tell, world.clock, environment.shown_endpoint(world.environ))
        labels = Labels(settings.metrics.max_label_values, settings.tool_names)
        families = MetricFamilies()
        self._lag = LoopLag(families.loop_lag.child(), world.clock, INTERVAL_SECONDS)
        self.metrics = Metrics(families, labels, version)
        """`render` it for a scrape."""
        self.metrics.refreshers.append(self._refresh_metrics)
        operations = Operations(families, labels, self._epoch, exemplars=settings.metrics.exemplars)
        self._sessions = Sessions(self._tell, world.clock, settings.session_idle_seconds, operations.streaming)
        folds: list[Observer] = [operations, self.metrics, self._log, self._epoch]
        readers: list[Fold] = [operations.read, self._sessions.read]
        exchanged = [self._sessions.exchanged]
        if self._pipeline is not None:
            resource = _resource(world, version)
            spans = Spans(settings.traces, resource, version, self._epoch, self._pipeline.submit)
            folds.append(spans)
            # before the metrics: whether a span is exported decides whether it is an exemplar
            readers.insert(0, spans.read)
        if settings.logs.access:
            render = _access_format(settings.logs, world)
            access = AccessLog(self._writer, render, settings.logs.level, self._epoch, world.clock)
            folds.append(access)
            readers.append(access.read)
            exchanged.append(access.exchanged)
        self._reader = Reader(readers, self._observer_failed, exchanged)
        # the reader last: it lets go of what the others may still look at
        self.emit = fan_out((*folds, *observers, self._reader), self._observer_failed)
        ratio = environment.sample_ratio(settings.traces.sample_ratio, world.environ)
        traces = replace(settings.traces, sample_ratio=ratio)
        self.tracing = Tracing(traces, world.random_bits, enabled=chosen != environment.NONE)
        self._stderr_is_told = settings.logs.stderr and log.LEVELS[settings.logs.level] <= log.LEVELS["info"]
        self._stderr: dict[str, ServerStderr] = {}
        self.observe_call = ObserveCall(self.tracing, self.emit, world.clock)
        self.observe_attempt = ObserveAttempt(self.tracing, self.emit, world.clock)

    def stderr_of(self, upstream: str) -> Callable[[bytes], None] | None:
        """Who is to get what one process of this server writes to stderr; None: nobody asked for it."""
        if not self._stderr_is_told:
            return None
        if upstream not in self._stderr:
            self._stderr[upstream] = ServerStderr(upstream, self._log, self.emit, self._world.clock)
        return self._stderr[upstream].reader()

    async def run(self) -> None:
        """Write lines, sample the loop, watch the exporter. Ends by being cancelled."""
        self._others.install()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._lag.run())
                tasks.create_task(self._flush())
        finally:
            self._others.remove()

    def flush(self) -> None:
        """Read the calls that ended, and write the lines that are buffered; `run` does so by itself."""
        self._reader.flush()
        self._sessions.sweep()
        self._writer.flush()

    async def aclose(self, deadline_seconds: float = 5.0) -> None:
        """Export and write what is left, as far as the deadline allows."""
        due = self._world.clock() + deadline_seconds
        self._reader.flush()
        self._sessions.close()
        if self._pipeline is not None:
            await asyncio.to_thread(self._pipeline.close, deadline_seconds * _SPANS_SHARE)
            self._span_losses.report_last(self._pipeline)
        await asyncio.to_thread(self._writer.close, max(0.0, due - self._world.clock()))

    async def _flush(self) -> None:
        refresh_at = self._world.clock() + REFRESH_SECONDS
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            if self._pipeline is not None:
                self._span_losses.report(self._pipeline)
                if self._world.clock() >= refresh_at:
                    self._epoch.refresh()
                    refresh_at += REFRESH_SECONDS
            self.flush()

    def _tell(self, event: object) -> None:
        self.emit(event)

    def _refresh_metrics(self) -> None:
        self._reader.flush()
        families = self.metrics.families
        families.logs_dropped.child().value = self._writer.dropped
        if self._pipeline is None:
            return
        families.spans_exported.child().value = self._pipeline.exported
        for reason, count in self._pipeline.lost.items():
            families.spans_dropped.child(reason).value = count
        families.span_queue.child().value = self._pipeline.in_hand

    def _observer_failed(self, error: Exception) -> None:
        self.metrics.families.observer_failures.child().value += 1
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        at = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where is not None else ""
        self._log.write_once("error", "an observer failed, a bug in weir", {"error": repr(error), "at": at}, at)


def build(
    settings: TelemetrySettings,
    version: str,
    clock: Callable[[], float] = time.monotonic,
    observers: tuple[Observer, ...] = (),
) -> Telemetry:
    """Telemetry as configured. `observers` are further folds (health, the census).

    Raises:
        environment.UnknownExporterError: a variable names an exporter or a protocol that weir does not have.
    """
    world = Surroundings(clock=clock, is_terminal=sys.stderr.isatty(), version=version)
    return Telemetry(settings, world, observers)


def _pipeline(chosen: str, exporter: SpanExporter | None, world: Surroundings, writer: Writer) -> Pipeline | None:
    if chosen == environment.NONE:
        return None
    if exporter is None:
        is_console = chosen == environment.CONSOLE
        exporter = exporters.ConsoleExporter(writer.add) if is_console else exporters.otlp_exporter(world.environ)
    return Pipeline(exporter, world.environ)


def _resource(world: Surroundings, version: str) -> Resource:
    """Who exports: what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, and weir's own where they are silent."""
    attributes = dict(Resource.create().attributes)
    if str(attributes[SERVICE_NAME]).startswith("unknown_service"):
        attributes[SERVICE_NAME] = "weir"
    attributes.setdefault(SERVICE_VERSION, version)
    attributes.setdefault(SERVICE_INSTANCE_ID, f"{world.random_bits(128):032x}")
    return Resource(attributes)


def _is_text(settings: LogsSettings, world: Surroundings) -> bool:
    return settings.format == "text" or (settings.format == "auto" and world.is_terminal)


def _log_format(settings: LogsSettings, world: Surroundings) -> log.Format:
    return log.text_format(colours=world.is_terminal) if _is_text(settings, world) else log.json_format()


def _access_format(settings: LogsSettings, world: Surroundings) -> access_log.Render:
    if not _is_text(settings, world):
        return access_log.json_line
    return access_log.coloured_line if world.is_terminal else access_log.text_line
