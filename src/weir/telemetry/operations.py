"""The metrics of calls and attempts: the part of the fold that runs for every call."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from weir.core.call import Attempt, Call, Peer, Transport
from weir.core.events import CallFinished, CallStarted, Outlived
from weir.core.outcome import Replied
from weir.core.phases import Phases
from weir.protocol.envelope import Kind
from weir.telemetry.batch import WATCHED
from weir.telemetry.families import MetricFamilies
from weir.telemetry.instants import EpochClock
from weir.telemetry.labels import LIST_METHODS, NAMING_METHODS, Labels
from weir.telemetry.reading import Judgement, Reading, judge
from weir.telemetry.semconv import EXECUTE_TOOL
from weir.telemetry.series import Histogram, Number, observe_each

_COUNTED_IN_FLIGHT: Final = (Kind.REQUEST, Kind.BATCH)
_STREAM_KINDS: Final = {"subscriptions/listen": "listen", "tasks/result": "tasks_result"}
# error codes are a server's to invent and stand in the keys: beyond this the keys are looked up anew
_KEYS_LIMIT: Final = 4096


class _Upstream:
    """What every call of one upstream touches."""

    __slots__ = ("in_flight", "overhead", "phases", "received", "sent")

    def __init__(self, families: MetricFamilies, name: str) -> None:
        self.in_flight = families.in_flight.child(name)
        self.phases = [families.phases.child(name, phase) for phase in Phases._fields]
        self.overhead = families.overhead.child(name)
        self.received = families.bytes.child(name, "request")
        self.sent = families.bytes.child(name, "reply")


_Labelled = tuple[str, str, str, str]
"""Upstream, and the labels of method, tool or prompt, and revision."""


class _Pair(NamedTuple):
    """What calls (or attempts) that share every label touch."""

    counter: Number
    duration: Histogram


class Operations:
    """Folds calls. In-flight counts are of requests and batches; long-lived streams have gauges of their own."""

    def __init__(self, families: MetricFamilies, labels: Labels, epoch: EpochClock, *, exemplars: bool) -> None:
        self._families = families
        self._labels = labels
        self._epoch = epoch
        self._exemplars = exemplars
        self._upstreams: dict[str, _Upstream] = {}
        self._pairs: dict[tuple[object, ...], _Pair] = {}
        self._open: set[Call] = set()

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        return {CallStarted: self._started, CallFinished: self._finished, Outlived: self._outlived}

    def streaming(self) -> set[tuple[str, str]]:
        """Upstream and session of every stream that is open now."""
        return {(call.upstream, call.session) for call in self._open if call.is_stream}

    def _upstream(self, name: str) -> _Upstream:
        found = self._upstreams.get(name)
        if found is None:
            found = self._upstreams[name] = _Upstream(self._families, name)
        return found

    def _started(self, event: CallStarted) -> None:
        call = event.call
        if call.is_stream:
            self._families.streams_open.child(call.upstream, _stream_kind(call)).value += 1
        elif call.message.kind in _COUNTED_IN_FLIGHT:
            self._upstream(call.upstream).in_flight.value += 1
        else:
            return
        self._open.add(call)

    def _finished(self, event: CallFinished) -> None:
        call = event.call
        upstream = self._upstream(call.upstream)
        upstream.received.value += len(call.body)
        upstream.sent.value += call.bytes_sent
        if call in self._open:
            # asked of the set: a call that is ended without having begun must not make a gauge negative
            self._open.discard(call)
            if call.is_stream:
                self._families.streams_open.child(call.upstream, _stream_kind(call)).value -= 1
            else:
                upstream.in_flight.value -= 1
        if call.message.kind not in WATCHED and not call.members:
            self._count_exchange(call, judge(event.outcome, is_request=False))

    def _count_exchange(self, call: Call, judgement: Judgement) -> None:
        verb = self._labels.verb(call.verb)
        self._families.exchanges.child(call.upstream, verb, judgement.outcome, judgement.reason).value += 1
        if call.is_stream:
            self._observe_stream(call, call.ended_at - call.received_at)

    def _observe_stream(self, call: Call, seconds: float) -> None:
        self._families.stream_seconds.child(call.upstream, _stream_kind(call)).observe(seconds)

    def read(self, reading: Reading) -> None:
        """Fold one finished request or notification."""
        call, judgement, seconds = reading.call, reading.judgement, reading.seconds
        message, labelled = call.message, self._labelled(call)
        pair = self._call_pair(labelled, judgement, call.peer)
        pair.counter.value += 1
        for attempt in call.attempts:
            self._read_attempt(reading, attempt, labelled)
        if call.is_stream:
            self._observe_stream(call, seconds)
            return
        pair.duration.observe(seconds)
        if reading.is_exported:
            self._exemplify(pair.duration, seconds, call)
        if message.kind is Kind.REQUEST:
            upstream, phases = self._upstream(call.upstream), reading.phases
            observe_each(upstream.phases, phases)
            upstream.overhead.observe(phases.policy + phases.relay)
        if labelled[1] in LIST_METHODS:
            self._learn(reading)

    def _labelled(self, call: Call) -> _Labelled:
        message, labels = call.message, self._labels
        method = labels.method(message.method)
        name = labels.name(call.upstream, method, message.name) if method in NAMING_METHODS else ""
        return call.upstream, method, name, labels.revision(call.revision)

    def _outlived(self, event: Outlived) -> None:
        """Attempts of no caller's: they count as any others, and the calls they were made for as their own."""
        reading, labelled = Reading(event.call, event.outcome), self._labelled(event.call)
        for attempt in event.call.attempts:
            self._read_attempt(reading, attempt, labelled)

    def _read_attempt(self, reading: Reading, attempt: Attempt, labelled: _Labelled) -> None:
        # without one it goes on for others that share it: for this call it ended with the call
        outcome, judgement = attempt.outcome or reading.outcome, reading.judgement
        if outcome is not reading.outcome:
            judgement = judge(outcome, is_request=reading.call.message.kind is Kind.REQUEST)
        pair = self._attempt_pair(labelled, judgement, attempt.peer, "first" if attempt.number == 1 else "retry")
        pair.counter.value += 1
        if reading.call.is_stream:
            return
        seconds = (attempt.ended_at or reading.call.ended_at) - attempt.started_at
        pair.duration.observe(seconds)
        if reading.is_exported:
            self._exemplify(pair.duration, seconds, attempt)

    def _exemplify(self, histogram: Histogram, seconds: float, spanned: Call | Attempt) -> None:
        if self._exemplars and spanned.trace is not None:
            at = self._epoch.seconds(spanned.ended_at)
            histogram.exemplify(seconds, spanned.trace.trace_id, spanned.trace.span_id, at)

    def _call_pair(self, labelled: _Labelled, judgement: Judgement, peer: Peer) -> _Pair:
        # the client's address stays out of the key: each would be one
        key = (labelled, judgement, peer.transport is Transport.HTTP, peer.http_version)
        found = self._pairs.get(key)
        if found is None:
            upstream, method, _, _ = labelled
            count = self._families.requests.child(upstream, method, judgement.outcome, judgement.reason)
            values = self._values(labelled, judgement.server_error, judgement.status_code, peer)
            found = self._remember(key, _Pair(count, self._families.server_operation.child(*values)))
        return found

    def _attempt_pair(self, labelled: _Labelled, judgement: Judgement, peer: Peer | None, which: str) -> _Pair:
        address, port, version = (peer.address, peer.port, peer.http_version) if peer is not None else ("", 0, "")
        key = (labelled, judgement, which, address, port, version)
        found = self._pairs.get(key)
        if found is None:
            count = self._families.attempts.child(labelled[0], which, judgement.outcome, judgement.reason)
            values = self._values(labelled, judgement.client_error, judgement.status_code, peer)
            duration = self._families.client_operation.child(*values, address, str(port or ""))
            found = self._remember(key, _Pair(count, duration))
        return found

    def _values(self, labelled: _Labelled, error: str, status_code: str, peer: Peer | None) -> tuple[str, ...]:
        """The label values that both operation histograms share, in their order."""
        upstream, method, name, revision = labelled
        code = self._labels.code
        network = self._network(peer)
        return (upstream, method, *_target(method, name), code(error), code(status_code), revision, *network)

    def _remember(self, key: tuple[object, ...], pair: _Pair) -> _Pair:
        if len(self._pairs) >= _KEYS_LIMIT:
            self._pairs.clear()
        self._pairs[key] = pair
        return pair

    def _network(self, peer: Peer | None) -> tuple[str, str, str]:
        """transport, protocol name, protocol version."""
        if peer is None:
            return "", "", ""
        if peer.transport is Transport.STDIO:
            return "pipe", "", ""
        return "tcp", "http", self._labels.http_version(peer.http_version)

    def _learn(self, reading: Reading) -> None:
        """A complete list reply names its tools or prompts."""
        outcome = reading.outcome
        if isinstance(outcome, Replied) and outcome.body:
            self._labels.learn_from_reply(reading.call.upstream, reading.call.message.method, outcome.body)


def _target(method: str, name: str) -> tuple[str, str, str]:
    """gen_ai_tool_name, gen_ai_prompt_name, gen_ai_operation_name."""
    if method == "tools/call":
        return name, "", EXECUTE_TOOL
    return "", name, ""


def _stream_kind(call: Call) -> str:
    return _STREAM_KINDS.get(call.message.method, "get")
