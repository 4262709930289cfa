"""Retry and hedge: where a call of one upstream becomes several attempts. As said for all, and for single tools."""

import random
import secrets
from collections.abc import Awaitable, Callable, Mapping

from weir.app.means import Means, Service
from weir.app.stack import once, paying
from weir.config.merge import of_tools
from weir.config.model import Config, Upstream
from weir.config.policies import Hedge as HedgeSection
from weir.config.policies import Retry as RetrySection
from weir.core.call import Attempt, Call, Slot
from weir.core.layer import AttemptHandler, CallHandler
from weir.core.outcome import Mode, Outcome
from weir.policies.admission import Admission
from weir.policies.hedge import Hedge, HedgeMeans, HedgeSettings
from weir.policies.retry import Budget, Retry, RetryMeans, RetrySettings
from weir.relay.withdrawal import Withdrawal


class Hinge:
    """Of one upstream. `budget`: what retries and hedges are taken from; None: there are none."""

    def __init__(
        self, config: Config, one: Upstream, means: Means, admission: Admission | None, withdrawal: Withdrawal
    ) -> None:
        self._config = config
        self._one = one
        self._policies = config.policies_for(one)
        self._means = means
        self._admission = admission
        self._withdrawal = withdrawal
        self._is_trusting = _is_trusting(self._policies.retry)
        # what is not safe one after the other is not safe at once, whatever the tool says
        self._trusted = {
            tool: said.retry.safe != "never" and _is_trusting(config.retry_for(one, tool))
            for tool, said in one.tools.items()
        }
        self.budget: Budget | None = None
        self.services: list[Service] = []

    def build(self, attempt: AttemptHandler) -> CallHandler | None:
        """None: one call is one attempt."""
        hedged = self._hedge(attempt)
        general, apart = self._policies.retry, self._retried_apart()
        if any(said is not None and said.mode != "off" for said in (general, *apart.values())):
            return self._retry(hedged, general or RetrySection(mode="off"), apart)
        if hedged is attempt:
            return None
        share = (general or RetrySection()).budget
        self.budget = Budget(share.ratio, share.min_per_second, self._means.clock())
        return paying(self.budget.deposit, once(hedged, self._means.clock))

    def _retried_apart(self) -> dict[str, RetrySection]:
        """Those that are tried again in another way than the others."""
        said = {tool: self._config.retry_for(self._one, tool) for tool in self._one.tools}
        return {tool: own for tool, own in said.items() if own is not None and own != self._policies.retry}

    def _retry(self, attempt: AttemptHandler, said: RetrySection, tools: Mapping[str, RetrySection]) -> CallHandler:
        name, means = self._one.name, self._retry_means()
        general = Retry(name, self._retry_settings(said), attempt, means)
        apart = {tool: Retry(name, self._retry_settings(own), attempt, means, general) for tool, own in tools.items()}
        self.budget = general.budget
        self.services += [each.run for each in (general, *apart.values())]
        if not apart:
            return paying(general.budget.deposit, general)

        def handle(call: Call) -> Awaitable[Outcome]:
            return apart.get(_tool_of(call), general)(call)

        return paying(general.budget.deposit, handle)

    def _retry_settings(self, said: RetrySection) -> RetrySettings:
        words = {tool: override.retry.safe for tool, override in self._one.tools.items()}
        return RetrySettings(
            mode=Mode(said.mode),
            attempts=said.attempts,
            initial_seconds=said.backoff.initial_seconds,
            max_seconds=said.backoff.max_seconds,
            budget_ratio=said.budget.ratio,
            budget_min_per_second=said.budget.min_per_second,
            trust_annotations=said.trust_annotations,
            tools={tool: word for tool, word in words.items() if word != "auto"},
        )

    def _retry_means(self) -> RetryMeans:
        name, means = self._one.name, self._means
        return RetryMeans(
            is_hinted=lambda call: means.catalog.is_repeatable(name, call.message.name),
            emit=means.emit,
            clock=means.clock,
            draw=random.random,
            mint=_fresh_id,
        )

    def _hedge(self, attempt: AttemptHandler) -> AttemptHandler:
        """Hedges spend the budget of retries. For single tools the operator's word is above the server's."""
        base = self._policies.hedge or HedgeSection()
        general = self._hedged(base, attempt, self._is_read)
        said = of_tools(base, {tool: override.hedge for tool, override in self._one.tools.items()})
        apart = {tool: self._hedged(own, attempt, lambda call: True) for tool, own in said.items()}
        hedges = [each for each in (general, *apart.values()) if isinstance(each, Hedge)]
        if not apart or not hedges:
            return general

        def handle(attempt: Attempt) -> Awaitable[Outcome]:
            call = attempt.call
            if call.message.method == "notifications/cancelled":
                for each in hedges:
                    each.abandon(call)
            return apart.get(_tool_of(call), general)(attempt)

        return handle

    def _hedged(self, said: HedgeSection, attempt: AttemptHandler, is_read: Callable[[Call], bool]) -> AttemptHandler:
        if said.mode == "off":
            return attempt
        means, admission = self._means, self._admission

        def withdraw() -> bool:
            return self.budget is not None and self.budget.withdraw(means.clock())

        def refund() -> None:
            if self.budget is not None:
                self.budget.refund()

        lent = HedgeMeans(
            withdraw=withdraw,
            take_slot=admission.spare_place if admission is not None else lambda call: FREE,
            mint=_fresh_id,
            is_read=is_read,
            give_up=self._withdrawal,
            refund=refund,
        )
        settings = HedgeSettings(Mode(said.mode), said.percentile, said.after_seconds)
        return Hedge(self._one.name, settings, lent, attempt, means.emit, means.clock)

    def _is_read(self, call: Call) -> bool:
        """A trusted server says that the tool only reads. Safe to repeat is not enough for two tries at once."""
        name = call.message.name
        is_trusted = self._trusted.get(name, self._is_trusting)
        return is_trusted and self._means.catalog.is_read_only(self._one.name, name)


def _is_trusting(said: RetrySection | None) -> bool:
    return said is not None and said.trust_annotations


def _tool_of(call: Call) -> str:
    """The tool whose call it is, "" for none: a prompt may have a tool's name."""
    message = call.message
    return message.name if message.method == "tools/call" else ""


class _Free:
    """A place where places are not counted."""

    def release(self) -> None: ...
    async def acquire(self) -> bool:
        return True

    def hand_over(self, heir: Slot) -> None: ...


FREE: Slot = _Free()


def _fresh_id() -> bytes:
    """A JSON-RPC id that no client can have chosen by chance."""
    return b'"weir-%b"' % secrets.token_hex(12).encode()
