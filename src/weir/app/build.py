"""A model of what to serve becomes wired parts, not yet started."""

import os
import secrets
import time
from collections.abc import Callable
from typing import Any

from weir.app import rooms
from weir.app.census import Census
from weir.app.diagnostics import Clocks, Diagnostics, Subject
from weir.app.faults import FaultPages, fault_of
from weir.app.health import Health
from weir.app.means import Means, Service
from weir.app.protections import Protections
from weir.app.stack import build_stack
from weir.app.standing import Clock, standing
from weir.app.version import installed_version
from weir.config.model import Config, Upstream
from weir.core.budget import Budget
from weir.core.call import Call
from weir.core.events import ServerNotified
from weir.core.layer import CallHandler
from weir.downstream.gate import Gate
from weir.downstream.http import HttpDownstream
from weir.downstream.stdio import StdioDownstream
from weir.policies.faults import Registry
from weir.policies.rate_limit import Ledger
from weir.relay.backchannel import Backchannel
from weir.relay.catalog import Catalog
from weir.relay.http_client import Wiring
from weir.relay.routes import Routes, Served
from weir.relay.stdio_server import StdioUpstream
from weir.telemetry import build as telemetry
from weir.telemetry.environment import UnknownExporterError
from weir.upstream.child import Child
from weir.upstream.guarded import launcher
from weir.upstream.http import HttpUpstream


def _reason(one: Upstream, error: Exception) -> str:
    """Why an HTTP upstream cannot be set up. TLS files are the only ones that are read for it."""
    if not isinstance(error, OSError):
        return str(error)
    return f"tls: {rooms.tls_objection(error, one.tls.ca, one.tls.cert, one.tls.key)}"


class Weir:
    """Everything that one process serves."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._clock = clock
        names = [one.name for one in config.upstreams]
        self.health, census = Health(names, clock), Census()
        self.catalog = Catalog(self._tell)
        try:
            self.telemetry = telemetry.build(
                rooms.telemetry(config), installed_version(), clock, (self.health, census, self.catalog, self)
            )
        except UnknownExporterError as error:
            raise rooms.SetupError(str(error)) from None
        self.emit = self.telemetry.emit
        self.budget = Budget(config.listen.max_buffered_bytes)
        self._launcher = launcher(self.emit)
        self.backchannels = {name: Backchannel(name, self.telemetry.tracing, self.emit, clock) for name in names}
        self.upstreams = {one.name: self._upstream(one) for one in config.upstreams}
        faults = self._allowed_faults()
        means = Means(self.catalog, Ledger(), self.emit, clock, self._finished, faults)
        self.protections = {
            one.name: Protections(config, one, means, self.upstreams[one.name]) for one in config.upstreams
        }
        self.call_handlers = {name: self._handler(name) for name in names}
        self.telemetry.metrics.refreshers += [one.tell_levels for one in self.protections.values()]
        self.downstream = self._http_downstream()
        clocks = Clocks(clock, time.time)
        shown = Clock(clock, clocks.shown)
        self.subject = Subject(
            upstreams=config.upstreams,
            health=self.health,
            census=census,
            render=self.telemetry.metrics.render,
            clocks=clocks,
            pid=os.getpid(),
            started_at=clock(),
            standing=lambda name: standing(self.protections[name], faults, shown),
        )
        self.diagnostics = Diagnostics(
            self.subject,
            FaultPages(faults, names, clock) if faults is not None else None,
            rooms.diagnostics_access(config),
        )

    def services(self) -> list[Service]:
        """What has to run beside the ports."""
        children = [one.run for one in self.upstreams.values() if isinstance(one, StdioUpstream)]
        return [*children, *(service for one in self.protections.values() for service in one.services)]

    async def aclose(self) -> None:
        """Close the upstream side."""
        for one in self.upstreams.values():
            await one.aclose()
        await self._launcher.aclose()

    def stdio_downstream(self) -> StdioDownstream:
        """The client on stdin and stdout, before the only upstream."""
        only = self.config.upstreams[0]
        finish = self.telemetry.observe_call.finish
        wiring = Wiring(self.call_handlers[only.name], finish, self.emit, self._clock, self.backchannels[only.name])
        return StdioDownstream(rooms.stdio_downstream(only), wiring)

    def _upstream(self, one: Upstream) -> HttpUpstream | StdioUpstream:
        if not one.is_stdio:
            try:
                return HttpUpstream(rooms.http_upstream(self.config, one, self._public_target), self.emit, self._clock)
            except (OSError, ValueError) as error:
                raise rooms.SetupError(f"upstream '{one.name}': {_reason(one, error)}") from None
        settings = rooms.child(one)
        return StdioUpstream(
            rooms.stdio_upstream(self.config, one),
            lambda: Child(one.name, settings, self._launcher, self.emit, self.telemetry.stderr_of(one.name)),
            self.emit,
            self._clock,
            lambda: secrets.token_hex(16),
        )

    def _handler(self, name: str) -> CallHandler:
        observe_call, observe_attempt = self.telemetry.observe_call, self.telemetry.observe_attempt
        layers, upstream = self.protections[name], self.upstreams[name]
        return build_stack(observe_call, observe_attempt, layers, upstream, self._clock)

    def _allowed_faults(self) -> Registry | None:
        said = self.config.faults
        if said is None or not said.allow:
            return None
        registry = Registry()
        for fault in said.inject:
            registry.add(fault_of(fault), self._clock())
        return registry

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        """What policies hear of notifications: it comes on streams that are not theirs."""
        return {ServerNotified: self._notified}

    def _notified(self, event: ServerNotified) -> None:
        self.protections[event.call.upstream].notified(event)

    def _public_target(self, name: str, asked: bytes, target: bytes) -> bytes:
        return self._routes.public_target(name, asked, target)

    def _tell(self, event: object) -> None:
        self.emit(event)

    def _finished(self, call: Call) -> None:
        self.backchannels[call.upstream].finished(call)

    def _http_downstream(self) -> HttpDownstream:
        config = self.config
        served = [
            Served(one.name, self.call_handlers[one.name], one.path.encode(), not one.is_stdio, one.query.encode())
            for one in config.upstreams
        ]
        self._routes = Routes(served)
        return HttpDownstream(
            rooms.http_downstream(config),
            Gate(rooms.gate(config)),
            self._routes.match,
            dict(self.backchannels),
            self.telemetry.observe_call.finish,
            self.emit,
            self._clock,
        )
