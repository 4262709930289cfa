"""The configuration, wired: every room gets its own settings and nothing else."""

import os
import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from weir.app.stack import build_stack
from weir.config.model import ClientTls, Config, Upstream
from weir.core.events import Emit, Observer
from weir.core.layer import AttemptHandler, CallHandler
from weir.downstream.gate import Gate, GateSettings
from weir.downstream.http import HttpDownstream, HttpSettings
from weir.relay.backchannel import Backchannel
from weir.relay.routes import Routes, Served
from weir.telemetry import build as telemetry_build
from weir.telemetry.build import Telemetry
from weir.telemetry.settings import LogsSettings, MetricsSettings, TelemetrySettings, TracesSettings
from weir.upstream import http as upstream_http

Clock = Callable[[], float]


class Weir:
    """Everything that one process serves, wired but not started."""

    def __init__(self, config: Config, observers: tuple[Observer, ...] = (), clock: Clock = time.monotonic) -> None:
        self.config = config
        self.telemetry: Telemetry = telemetry_build.build(telemetry_settings(config), clock=clock, observers=observers)
        emit, tracing = self.telemetry.emit, self.telemetry.tracing
        self.backchannels = {one.name: Backchannel(one.name, tracing, emit, clock) for one in config.upstreams}
        self.upstreams = {one.name: build_upstream(config, one, emit, clock) for one in config.upstreams}
        observe_call, observe_attempt = self.telemetry.observe_call, self.telemetry.observe_attempt
        self.handlers: dict[str, CallHandler] = {
            name: build_stack(observe_call, observe_attempt, upstream, clock)
            for name, upstream in self.upstreams.items()
        }
        self.routes = Routes(
            [Served(one.name, self.handlers[one.name], one.path.encode(), not one.is_stdio) for one in config.upstreams]
        )
        self.downstream = HttpDownstream(
            HttpSettings(config.listen.max_body_bytes, config.refusals.http_200),
            Gate(_gate_settings(config)),
            self.routes.match,
            dict(self.backchannels),
            observe_call.finish,
            emit,
            clock,
        )


def build_upstream(config: Config, one: Upstream, emit: Emit, clock: Clock) -> AttemptHandler:
    """The innermost handler of one upstream."""
    if one.is_stdio:
        raise NotImplementedError
    return upstream_http.HttpUpstream(
        upstream_http.HttpSettings(
            name=one.name,
            url=one.url or "",
            headers=tuple((name.lower().encode(), value.encode()) for name, value in one.headers.items()),
            preserve_host=one.preserve_host,
            tls=client_tls(one.tls) if (one.url or "").startswith("https:") else None,
            connections=one.connections,
            connect_seconds=config.connect_seconds(one),
            idle_seconds=config.idle_seconds(one),
            reply_buffer_bytes=config.listen.max_reply_buffer_bytes,
        ),
        emit,
        clock,
    )


def client_tls(settings: ClientTls) -> ssl.SSLContext:
    """How weir proves itself to an upstream, and whom it trusts."""
    context = ssl.create_default_context(cafile=settings.ca)
    if settings.cert is not None:
        context.load_cert_chain(settings.cert, settings.key)
    return context


def server_tls(config: Config) -> ssl.SSLContext | None:
    """How weir proves itself to clients; None: plain HTTP."""
    tls = config.listen.tls
    if tls.cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.cert, tls.key)
    return context


def telemetry_settings(config: Config) -> TelemetrySettings:
    """Traces are off when neither the configuration nor the standard variables ask for them."""
    telemetry = config.telemetry
    traces = telemetry.traces
    logs = telemetry.logs
    if traces is not None:
        spans = TracesSettings(
            exporter=traces.exporter,
            sample_ratio=traces.sample,
            always=frozenset(traces.always),
            parent=traces.parent,
        )
    else:
        spans = TracesSettings(exporter="otlp" if _is_asked_for_by_environment() else "none")
    return TelemetrySettings(
        traces=spans,
        metrics=MetricsSettings(telemetry.metrics.exemplars, telemetry.metrics.max_label_values),
        logs=LogsSettings(logs.format, logs.level, logs.access),
        tool_names={one.name: frozenset(one.tools) for one in config.upstreams},
    )


def _is_asked_for_by_environment() -> bool:
    wanted = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")
    return any(os.environ.get(name) for name in wanted)


def _gate_settings(config: Config) -> GateSettings:
    listen = config.listen
    return GateSettings(
        allowed_origins=frozenset(listen.allowed_origins),
        allowed_hosts=frozenset(listen.allowed_hosts),
        public_url_host=urlsplit(listen.public_url).hostname or "" if listen.public_url else "",
        listen_host=listen.http.host,
    )
