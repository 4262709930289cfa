"""Metrics: what is rendered at `/metrics`, and the part of the fold that is about sessions, streams and children.

There are no `_created` series, and exemplars name exported spans only. A scrape is rendered in a thread
beside the event loop: weir's own series by `exposition`, those of the process and of Python's garbage
collector by prometheus_client.
"""

import asyncio
import platform
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from weir.core.events import (
    AskFinished,
    AskStarted,
    BreakerMoved,
    ChildExited,
    ChildStarted,
    ConnectionOpened,
    Decided,
    LevelChanged,
    LimitReached,
    LineSkipped,
    Listed,
    RequestRefused,
    ServerNotified,
    SessionClosed,
    SessionOpened,
    StoodStill,
)
from weir.telemetry import exposition
from weir.telemetry.families import MetricFamilies
from weir.telemetry.labels import Labels
from weir.telemetry.reading import judge_verdict

_OPENMETRICS = "application/openmetrics-text"


class Metrics:
    """The registry of one process, and the rare events of its fold."""

    def __init__(self, families: MetricFamilies, labels: Labels, version: str) -> None:
        self.families = families
        self._labels = labels
        self.refreshers: list[Callable[[], None]] = []
        """Called in the event loop before each scrape: where numbers that live elsewhere are copied."""
        families.build_info.child(version, platform.python_version()).value = 1
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            AskStarted: self._asked,
            AskFinished: self._answered,
            ServerNotified: self._notified,
            SessionOpened: self._session_opened,
            SessionClosed: self._session_closed,
            ConnectionOpened: self._connected,
            ChildStarted: self._child_started,
            ChildExited: self._child_exited,
            LineSkipped: self._line_skipped,
            LimitReached: self._limit_reached,
            RequestRefused: self._request_refused,
            Listed: self._listed,
            Decided: self._decided,
            LevelChanged: self._level_changed,
            BreakerMoved: self._breaker_moved,
            StoodStill: self._stood_still,
        }

    async def render(self, accept: str) -> tuple[str, bytes]:
        """Content type and body for one scrape, in the format that `accept` asks for."""
        for refresh in self.refreshers:
            refresh()
        self.families.labels_refused.child().value = self._labels.refused
        encode, content_type = choose_encoder(accept)
        return content_type, await asyncio.to_thread(self._expose, encode, content_type.startswith(_OPENMETRICS))

    def _expose(self, encode: Callable[[Collector], bytes], is_openmetrics: bool) -> bytes:
        own = exposition.render(self.families.all(), is_openmetrics=is_openmetrics)
        # comes last: in OpenMetrics it ends with the mark of the end
        return own + encode(self._registry)

    def _asked(self, event: AskStarted) -> None:
        method = self._labels.method(event.ask.message.method)
        self.families.server_messages.child(event.ask.upstream, method).value += 1

    def _answered(self, event: AskFinished) -> None:
        ask, method = event.ask, self._labels.method(event.ask.message.method)
        reason = "unanswered" if event.verdict is None else judge_verdict(event.verdict, 200, is_request=True).reason
        self.families.asks.child(ask.upstream, method, reason).value += 1
        self.families.ask_seconds.child(ask.upstream, method).observe(ask.answered_at - ask.asked_at)

    def _notified(self, event: ServerNotified) -> None:
        method = self._labels.method(event.message.method)
        self.families.server_messages.child(event.call.upstream, method).value += 1

    def _session_opened(self, event: SessionOpened) -> None:
        self.families.sessions_open.child(event.upstream, event.side).value += 1

    def _session_closed(self, event: SessionClosed) -> None:
        families = self.families
        families.sessions_open.child(event.upstream, event.side).value -= 1
        families.sessions_closed.child(event.upstream, event.side, event.reason).value += 1
        # towards a client weir is the server, towards a server the client
        family = families.server_session if event.side == "client" else families.client_session
        error = event.reason if event.reason == "exited" else ""
        family.child(event.upstream, self._labels.revision(event.revision), error).observe(event.seconds)

    def _connected(self, event: ConnectionOpened) -> None:
        self.families.connect_seconds.child(event.upstream).observe(event.seconds)

    def _child_started(self, event: ChildStarted) -> None:
        self.families.child_starts.child(event.upstream).value += 1

    def _child_exited(self, event: ChildExited) -> None:
        self.families.child_exits.child(event.upstream, "yes" if event.expected else "no").value += 1

    def _line_skipped(self, event: LineSkipped) -> None:
        self.families.child_skipped.child(event.upstream).value += 1

    def _limit_reached(self, event: LimitReached) -> None:
        self.families.limits.child(event.upstream, event.limit).value += 1

    def _stood_still(self, event: StoodStill) -> None:
        self.families.stood_still.child().value += event.seconds

    def _request_refused(self, event: RequestRefused) -> None:
        self.families.refused.child(event.upstream, str(event.status), event.reason).value += 1

    def _listed(self, event: Listed) -> None:
        self._labels.learn_from_reply(event.upstream, event.method, event.body)

    def _decided(self, event: Decided) -> None:
        upstream = event.call.upstream
        self.families.decisions.child(upstream, event.policy, event.action, _mode(event.is_shadow)).value += 1
        if event.seconds:
            self.families.decision_seconds.child(upstream, event.policy).observe(event.seconds)

    def _level_changed(self, event: LevelChanged) -> None:
        self.families.levels.child(event.upstream, event.policy, event.scope).value = event.value

    def _breaker_moved(self, event: BreakerMoved) -> None:
        moves = self.families.breaker_moves
        mode = _mode(event.is_shadow)
        moves.child(event.upstream, event.scope, event.before, event.after, event.reason, mode).value += 1


def _mode(is_shadow: bool) -> str:
    return "shadow" if is_shadow else "enforce"
