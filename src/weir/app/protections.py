"""The policies of one upstream, made from the configuration: settings translated, layers built, means lent."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from weir.app.hinge import Hinge
from weir.app.means import Means, Service
from weir.config.merge import of_tools
from weir.config.model import Config, Upstream
from weir.config.policies import Breaker as BreakerSection
from weir.config.policies import Coalesce as CoalesceSection
from weir.config.policies import Concurrency, Policies
from weir.core.call import Attempt, Call, header
from weir.core.events import LevelChanged, ServerNotified
from weir.core.layer import AttemptHandler, AttemptLayer, CallHandler, CallLayer
from weir.core.origin import network_of
from weir.core.outcome import Mode, Outcome
from weir.downstream.identity import ClientKey
from weir.policies.admission import Admission, AdmissionSettings
from weir.policies.admission_queue import Places
from weir.policies.breaker import Breaker, BreakerSettings, Scope
from weir.policies.coalesce import Coalesce, CoalesceSettings
from weir.policies.deadline import Deadline, DeadlineSettings, Limits
from weir.policies.faults import Faults
from weir.policies.rate_limit import RateLimiter, RateLimitSettings
from weir.policies.retry import Budget
from weir.relay.withdrawal import Withdrawal


class Protections:
    """The layers of one upstream. What is not configured is not there."""

    def __init__(self, config: Config, one: Upstream, means: Means, upstream: AttemptHandler) -> None:
        self.name = one.name
        self._config = config
        self._one = one
        self._means = means
        self._policies = config.policies_for(one)
        self._withdrawal = Withdrawal(upstream, means.clock)
        self.services: list[Service] = [self._withdrawal.run]
        deadline = self._deadlines = self._deadline()
        self.total_deadline: CallLayer | None = deadline.total if deadline is not None else None
        self.attempt_deadline: AttemptLayer | None = deadline.attempt if deadline is not None else None
        self.rate_limit = self._rate_limiter(self._policies)
        self.admission = self._admission(self._policies.concurrency)
        self.coalesce = self._coalesce(self._policies)
        self.tool_breakers = self._tool_breakers()
        self.breaker = self._breaker(self._policies.breaker)
        self.faults = self._faults(config.idle_seconds(one))
        self._hinge = Hinge(config, one, means, self.admission, self._withdrawal)

    def tell_levels(self) -> None:
        """What changes with time alone is told when it is asked for: before each scrape."""
        if self.budget is not None:
            left = self.budget.remaining(self._means.clock())
            self._means.emit(LevelChanged("retry", self._one.name, "budget", left))

    def notified(self, event: ServerNotified) -> None:
        """The server sent a notification, on whatever stream."""
        if self.coalesce is not None:
            self.coalesce.notified(event)
        if self._deadlines is not None and event.message.method == "notifications/progress":
            self._deadlines.progressed(event.call, event.message)

    def hinge(self, attempt: AttemptHandler) -> CallHandler | None:
        """Where a call becomes attempts, when there may be more than one."""
        made = self._hinge.build(attempt)
        self.services += self._hinge.services
        return made

    @property
    def budget(self) -> Budget | None:
        """What retries and hedges are taken from; None: there are none."""
        return self._hinge.budget

    def _deadline(self) -> Deadline | None:
        tools = {tool: self._limits(tool) for tool, said in self._one.tools.items() if said.timeout is not None}
        settings = DeadlineSettings(self._limits(), tools)
        if settings.limits is None and not any(tools.values()):
            return None
        return Deadline(settings, self._means.emit, self._means.clock, self._withdrawal)

    def _limits(self, tool: str = "") -> Limits | None:
        """What the edges keep by themselves (silence, connecting) is set for calls of tools that have their own."""
        config, one = self._config, self._one
        said = config.timeout_for(one, tool)
        if said is None or said.mode == "off":
            return None
        idle, connect = config.idle_seconds(one, tool), config.connect_seconds(one, tool)
        return Limits(
            attempt_seconds=said.attempt_seconds,
            total_seconds=said.total_seconds,
            client_input_seconds=said.client_input_seconds,
            extend_on_progress=said.extend_on_progress,
            idle_seconds=idle if idle != config.idle_seconds(one) else None,
            connect_seconds=connect if connect != config.connect_seconds(one) else None,
            is_enforced=said.mode == "enforce",
        )

    def _rate_limiter(self, policies: Policies) -> RateLimiter | None:
        limits = [
            RateLimitSettings(tuple(one.per), one.limit, one.window_seconds, Mode(one.mode))
            for one in policies.rate_limits
            if one.mode != "off"
        ]
        limits += [
            RateLimitSettings(tuple(one.per), one.limit, one.window_seconds, Mode(one.mode), tool)
            for tool, said in self._one.tools.items()
            for one in said.rate_limits
            if one.mode != "off"
        ]
        if not limits:
            return None
        means, key = self._means, ClientKey((policies.client_key or "").encode())
        return RateLimiter(self._one.name, limits, means.ledger, key, means.emit, means.clock)

    def _admission(self, concurrency: Concurrency | None) -> Admission | None:
        named = {tool: said.concurrency for tool, said in self._one.tools.items()}
        apart = {tool: said for tool, said in named.items() if said is not None and said.mode != "off"}
        is_off = concurrency is not None and concurrency.mode == "off"
        # whether a server on a pipe serves one call at a time is told in any case
        watches_serial = self._one.is_stdio and not is_off
        if (concurrency is None or is_off) and not apart and not watches_serial:
            return None
        settings = AdmissionSettings(
            mode=Mode(concurrency.mode) if concurrency is not None else Mode.OFF,
            places=_places(concurrency) if concurrency is not None else None,
            tools={tool: _places(said) for tool, said in apart.items()},
            tool_modes={tool: Mode(said.mode) for tool, said in apart.items()},
            watches_serial=watches_serial,
        )
        return Admission(self._one.name, settings, self._means.emit, self._means.clock)

    def _coalesce(self, policies: Policies) -> Coalesce | None:
        general, means = policies.coalesce or CoalesceSection(), self._means
        said = of_tools(general, {tool: override.coalesce for tool, override in self._one.tools.items()})
        if all(one.mode == "off" for one in (general, *said.values())):
            return None
        tools = {tool: CoalesceSettings(Mode(own.mode), own.headers) for tool, own in said.items()}
        # below a mirrored upstream there are paths that the configured headers do not go to
        replaced = frozenset(name.lower().encode() for name in self._one.headers if self._one.path)
        settings = CoalesceSettings(Mode(general.mode), general.headers, tools, replaced)
        coalesce = Coalesce(self._one.name, settings, means.emit, means.clock, means.finished)
        self.services.append(coalesce.run)
        return coalesce

    def _breaker(self, said: BreakerSection | None) -> Breaker | None:
        if said is None or said.mode == "off":
            return None
        name, means, configured = self._one.name, self._means, self._one.tools
        settings = replace(
            _breaker_settings(said),
            apart=frozenset(self.tool_breakers),
            spared=frozenset(tool for tool, own in self._tool_breaker_sections().items() if own.mode == "off"),
        )
        return Breaker(
            name,
            settings,
            lambda tool: tool in configured or means.catalog.is_known(name, tool),
            means.emit,
            means.clock,
            self._client_of(),
        )

    def _client_of(self) -> Callable[[Call], str]:
        """A client for the breaker: its key where calls have one, else its network."""
        key = (self._policies.client_key or "").lower().encode()
        named = ClientKey(key)

        def client_of(call: Call) -> str:
            if key and header(call.headers, key):
                return named(call)
            return network_of(call.peer.address) or "stdio"

        return client_of

    def _tool_breaker_sections(self) -> dict[str, BreakerSection]:
        """What is said for single tools, over what is said for all."""
        base = self._policies.breaker or BreakerSection()
        return of_tools(base, {tool: override.breaker for tool, override in self._one.tools.items()})

    def _tool_breakers(self) -> dict[str, Breaker]:
        means = self._means
        return {
            tool: Breaker(
                self._one.name,
                replace(_breaker_settings(said), scope=Scope.UPSTREAM, tool=tool),
                lambda _: False,
                means.emit,
                means.clock,
                self._client_of(),
            )
            for tool, said in self._tool_breaker_sections().items()
            if said.mode != "off"
        }

    @property
    def tool_breaker(self) -> AttemptLayer | None:
        """The breakers of single tools, as one layer."""
        return self._of_tool if self.tool_breakers else None

    def _of_tool(self, attempt: Attempt, inner: AttemptHandler) -> Awaitable[Outcome]:
        message = attempt.call.message
        found = self.tool_breakers.get(message.name) if message.method == "tools/call" else None
        return found(attempt, inner) if found is not None else inner(attempt)

    def _faults(self, silence_seconds: float) -> Faults | None:
        registry, means = self._means.faults, self._means
        if registry is None:
            return None
        return Faults(self._one.name, registry, silence_seconds, means.emit, means.clock, random.random)


def _breaker_settings(said: BreakerSection) -> BreakerSettings:
    return BreakerSettings(
        mode=Mode(said.mode),
        scope=Scope(said.scope),
        consecutive_failures=said.consecutive_failures,
        failure_rate=said.failure_rate,
        slow_over_seconds=said.slow_call.over_seconds,
        slow_rate=said.slow_call.rate,
        counts_tool_errors=said.tool_errors.count,
        tool_error_rate=said.tool_errors.rate,
        window_seconds=said.window_seconds,
        min_calls=said.min_calls,
        open_seconds=said.open_seconds,
        half_open_probes=said.half_open_probes,
        clients=said.clients,
    )


def _places(said: Concurrency) -> Places:
    return Places(said.limit, said.queue, said.queue_timeout_seconds, said.adaptive)
