"""A model of what to serve becomes wired parts, not yet started."""

import os
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

from weir.app import rooms
from weir.app.census import Census
from weir.app.diagnostics import Clocks, Diagnostics, Subject
from weir.app.health import Health
from weir.app.stack import build_stack
from weir.config.model import Config, Upstream
from weir.core.layer import CallHandler
from weir.downstream.gate import Gate
from weir.downstream.http import HttpDownstream
from weir.downstream.stdio import StdioDownstream
from weir.relay.backchannel import Backchannel
from weir.relay.http_client import Wiring
from weir.relay.routes import Routes, Served
from weir.relay.stdio_server import StdioUpstream
from weir.telemetry import build as telemetry
from weir.telemetry.environment import UnknownExporterError
from weir.upstream.child import Child
from weir.upstream.http import HttpUpstream

Clock = Callable[[], float]
Service = Callable[[], Coroutine[Any, Any, None]]
"""Something that runs as long as weir serves."""


def _reason(one: Upstream, error: Exception) -> str:
    """Why an HTTP upstream cannot be set up. TLS files are the only ones that are read for it."""
    if not isinstance(error, OSError):
        return str(error)
    files = ", ".join(filter(None, (one.tls.ca, one.tls.cert, one.tls.key)))
    return f"tls: {error.strerror or error} ({files}); give PEM files that weir can read"


class Weir:
    """Everything that one process serves."""

    def __init__(self, config: Config, clock: Clock = time.monotonic) -> None:
        self.config = config
        self._clock = clock
        names = [one.name for one in config.upstreams]
        self.health, census = Health(names, clock), Census()
        try:
            self.telemetry = telemetry.build(rooms.telemetry(config), clock=clock, observers=(self.health, census))
        except UnknownExporterError as error:
            raise rooms.SetupError(str(error)) from None
        self.emit = self.telemetry.emit
        self.backchannels = {name: Backchannel(name, self.telemetry.tracing, self.emit, clock) for name in names}
        self.upstreams = {one.name: self._upstream(one) for one in config.upstreams}
        self.handlers = {name: self._handler(name) for name in names}
        self.downstream = self._http_downstream()
        self.subject = Subject(
            upstreams=config.upstreams,
            health=self.health,
            census=census,
            render=self.telemetry.metrics.render,
            clocks=Clocks(clock, time.time),
            pid=os.getpid(),
            started_at=clock(),
        )
        self.diagnostics = Diagnostics(self.subject)

    def services(self) -> list[Service]:
        """What has to run beside the ports."""
        return [one.run for one in self.upstreams.values() if isinstance(one, StdioUpstream)]

    async def aclose(self) -> None:
        """Close the upstream side."""
        for one in self.upstreams.values():
            await one.aclose()

    def stdio_downstream(self) -> StdioDownstream:
        """The client on stdin and stdout, before the only upstream."""
        only = self.config.upstreams[0]
        finish = self.telemetry.observe_call.finish
        wiring = Wiring(self.handlers[only.name], finish, self.emit, self._clock, self.backchannels[only.name])
        return StdioDownstream(rooms.stdio_downstream(only), wiring)

    def _upstream(self, one: Upstream) -> HttpUpstream | StdioUpstream:
        if not one.is_stdio:
            try:
                return HttpUpstream(rooms.http_upstream(self.config, one), self.emit, self._clock)
            except (OSError, ValueError) as error:
                raise rooms.SetupError(f"upstream '{one.name}': {_reason(one, error)}") from None
        settings = rooms.child(one)
        return StdioUpstream(
            rooms.stdio_upstream(self.config, one),
            lambda: Child(one.name, settings, self.emit),
            self.emit,
            self._clock,
            lambda: secrets.token_hex(16),
        )

    def _handler(self, name: str) -> CallHandler:
        watching = self.telemetry
        return build_stack(watching.observe_call, watching.observe_attempt, self.upstreams[name], self._clock)

    def _http_downstream(self) -> HttpDownstream:
        config = self.config
        served = [
            Served(one.name, self.handlers[one.name], one.path.encode(), not one.is_stdio, one.query.encode())
            for one in config.upstreams
        ]
        return HttpDownstream(
            rooms.http_downstream(config),
            Gate(rooms.gate(config)),
            Routes(served).match,
            dict(self.backchannels),
            self.telemetry.observe_call.finish,
            self.emit,
            self._clock,
        )
