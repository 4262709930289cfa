"""The configuration translated: each room's own settings, made from what the operator wrote."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from weir.app.diagnostics_access import AccessSettings
from weir.config.model import ClientTls, Config, Upstream
from weir.core.budget import Budget
from weir.downstream.gate import GateSettings
from weir.downstream.http import HttpSettings as HttpDownstreamSettings
from weir.downstream.identity import Forwarded
from weir.downstream.server import ServerSettings
from weir.downstream.stdio import StdioSettings as StdioDownstreamSettings
from weir.relay.http_client import HttpClientSettings
from weir.relay.stdio_restarts import RestartSettings
from weir.relay.stdio_server import StdioSettings
from weir.relay.stdio_sweep import WaitSettings
from weir.telemetry.settings import LogsSettings, MetricsSettings, TelemetrySettings, TracesSettings
from weir.upstream.child import ChildSettings
from weir.upstream.dialing import TlsSettings
from weir.upstream.http import HttpSettings, WatchedLimits
from weir.upstream.redirects import PublicTarget, serves_nothing
from weir.upstream.tls import load_certificate

_TRACES_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")


class SetupError(Exception):
    """The configuration is valid and yet cannot be served. The text names the place and the mend."""


def http_upstream(config: Config, one: Upstream, public_target: PublicTarget = serves_nothing) -> HttpSettings:
    """How an HTTP server is reached."""
    url = one.url or ""
    return HttpSettings(
        name=one.name,
        url=url,
        headers=tuple((name.lower().encode(), value.encode()) for name, value in one.headers.items()),
        preserve_host=one.preserve_host,
        tls=_client_tls(one.tls),
        connections=one.connections,
        streams=one.streams,
        connect_seconds=config.connect_seconds(one),
        idle_seconds=config.idle_seconds(one),
        reply_buffer_bytes=config.listen.max_reply_buffer_bytes,
        has_own_silences=any(config.idle_seconds(one, tool) != config.idle_seconds(one) for tool in one.tools),
        watched=_watched(config, one),
        public_target=public_target,
    )


def _watched(config: Config, one: Upstream) -> WatchedLimits | None:
    timeout = config.timeout_for(one)
    if timeout is None or timeout.mode != "shadow":
        return None
    return WatchedLimits(timeout.connect_seconds, timeout.idle_seconds)


def child(one: Upstream) -> ChildSettings:
    """How a stdio server is started."""
    return ChildSettings(command=tuple(one.command or ()), env=one.env, cwd=one.cwd)


def stdio_upstream(config: Config, one: Upstream) -> StdioSettings:
    """How stdio servers are shared out. With the client on stdio too, one child is the client's own."""
    tools = ("", *one.tools)
    watched = _watched(config, one)
    waits = WaitSettings(
        session_idle_seconds=config.session_idle_seconds,
        silence_seconds=config.idle_seconds(one),
        shortest_silence_seconds=min(config.idle_seconds(one, tool) for tool in tools),
        watched_silence_seconds=watched.idle_seconds if watched is not None else None,
        client_read_seconds=config.listen.client_read_seconds,
        client_input_seconds=max(config.client_input_seconds(one, tool) for tool in tools),
    )
    return StdioSettings(
        upstream=one.name,
        is_dedicated=config.stdio,
        sessions_max=config.max_sessions,
        connect_seconds=config.connect_seconds(one),
        waits=waits,
        restarts=_restarts(config, one),
    )


def _restarts(config: Config, one: Upstream) -> RestartSettings:
    """Where a breaker says how long a failing server is left alone, it is not left alone for longer."""
    breaker, restarts = config.policies_for(one).breaker, RestartSettings()
    if breaker is None or breaker.mode != "enforce":
        return restarts
    return replace(restarts, max_seconds=min(restarts.max_seconds, breaker.open_seconds))


def stdio_downstream(one: Upstream) -> StdioDownstreamSettings:
    """How a client on a pipe is served."""
    path = one.path.encode() or b"/mcp"
    if one.query:
        path += b"?" + one.query.encode()
    return StdioDownstreamSettings(HttpClientSettings(one.name, path, one.url or ""), eager_stream=one.is_stdio)


def server(config: Config, budget: Budget, connections: int, of_one_client: int) -> ServerSettings:
    """The MCP port."""
    listen = config.listen
    forwarded = Forwarded(listen.trusted_proxies)
    return ServerSettings(
        listen.http.host,
        listen.http.port,
        _server_tls(config),
        client_read_seconds=listen.client_read_seconds,
        body_silence_seconds=listen.body_silence_seconds,
        least_bytes_per_second=listen.min_rate_bytes,
        connections=connections,
        connections_of_one_client=of_one_client,
        spares=forwarded.is_proxy,
        budget=budget,
        drain_seconds=config.drain_seconds,
    )


def http_downstream(config: Config) -> HttpDownstreamSettings:
    """What one request may be."""
    listen = config.listen
    forwarded = Forwarded(listen.trusted_proxies) if listen.trusted_proxies else None
    served_at = "it is at /mcp" if len(config.upstreams) == 1 else "each is at /servers/<name>/mcp"
    return HttpDownstreamSettings(listen.max_body_bytes, config.refusals.http_200, forwarded, served_at)


def gate(config: Config) -> GateSettings:
    """Who may speak to the MCP port."""
    listen = config.listen
    return GateSettings(
        allowed_origins=frozenset(listen.allowed_origins),
        allowed_hosts=frozenset(listen.allowed_hosts),
        public_url_host=urlsplit(listen.public_url).hostname or "" if listen.public_url else "",
        listen_host=listen.http.host,
    )


def diagnostics_access(config: Config) -> AccessSettings:
    """Who may read the diagnostics port. Web pages that may call servers are not among them."""
    listen, address = config.listen, config.listen.diagnostics
    token = listen.diagnostics_token or ""
    # without a token the Host is all that stops a page whose name was rebound to this machine
    hosts = frozenset(listen.allowed_hosts) if token else frozenset(listen.allowed_hosts) - {"*"}
    names = replace(
        gate(config), allowed_origins=frozenset(), allowed_hosts=hosts, listen_host=address.host if address else ""
    )
    return AccessSettings(names, token, is_loopback=address is None or address.is_loopback)


def telemetry(config: Config, environ: Mapping[str, str] = os.environ) -> TelemetrySettings:
    """Traces are off unless the configuration or the standard OTEL_* variables ask for them."""
    traces, metrics, logs = config.telemetry.traces, config.telemetry.metrics, config.telemetry.logs
    if traces is not None:
        spans = TracesSettings(traces.exporter, traces.sample, frozenset(traces.always), parent=traces.parent)
    else:
        is_asked_for = any(environ.get(name) for name in _TRACES_VARIABLES)
        spans = TracesSettings(exporter="otlp" if is_asked_for else "none")
    return TelemetrySettings(
        traces=spans,
        metrics=MetricsSettings(metrics.exemplars, metrics.max_label_values),
        logs=LogsSettings(logs.format, logs.level, logs.access, logs.stderr),
        session_idle_seconds=config.session_idle_seconds,
        tool_names={one.name: frozenset(one.tools) for one in config.upstreams},
    )


def _client_tls(settings: ClientTls) -> TlsSettings:
    return TlsSettings(settings.ca or "", settings.cert or "", settings.key or "")


def _server_tls(config: Config) -> ssl.SSLContext | None:
    tls = config.listen.tls
    if tls.cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        load_certificate(context, tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise SetupError(f"listen.tls: {tls_objection(error, tls.cert, tls.key)}") from None
    return context


def tls_objection(error: OSError, *files: str | None) -> str:
    """Why TLS cannot be set up with these files; Python does not say which of them it is."""
    return f"{error.strerror or error} ({', '.join(filter(None, files))}); give PEM files that weir can read"
