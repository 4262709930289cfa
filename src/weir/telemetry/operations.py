"""The metrics of calls and attempts: the part of the fold that runs for every call."""

from collections.abc import Callable
from typing import Any, NamedTuple

from weir.core.call import Attempt, Call, Peer, Transport
from weir.core.events import CallFinished, CallStarted
from weir.core.outcome import Replied
from weir.core.phases import Phases
from weir.protocol.envelope import Kind
from weir.telemetry.batch import WATCHED
from weir.telemetry.families import MetricFamilies
from weir.telemetry.labels import LIST_METHODS, NAMING_METHODS, Labels
from weir.telemetry.reading import Judgement, Reading, judge
from weir.telemetry.semconv import EXECUTE_TOOL
from weir.telemetry.series import Histogram, Number

_COUNTED_IN_FLIGHT = (Kind.REQUEST, Kind.BATCH)
_STREAM_KINDS = {"subscriptions/listen": "listen", "tasks/result": "tasks_result"}
# error codes are a server's to invent and stand in the keys: beyond this the keys are looked up anew
_KEYS_LIMIT = 4096


class _Upstream:
    """What every call of one upstream touches."""

    __slots__ = ("in_flight", "overhead", "phases", "received", "sent")

    def __init__(self, families: MetricFamilies, name: str) -> None:
        self.in_flight = families.in_flight.child(name)
        self.phases = [families.phases.child(name, phase) for phase in Phases._fields]
        self.overhead = families.overhead.child(name)
        self.received = families.bytes.child(name, "request")
        self.sent = families.bytes.child(name, "reply")


class _Pair(NamedTuple):
    """What calls (or attempts) that share every label touch."""

    counter: Number
    duration: Histogram


class Operations:
    """Folds calls. In-flight counts are of requests and batches; long-lived streams have gauges of their own."""

    def __init__(self, families: MetricFamilies, labels: Labels, wall: Callable[[], float], *, exemplars: bool) -> None:
        self._families = families
        self._labels = labels
        self._wall = wall
        self._exemplars = exemplars
        self._upstreams: dict[str, _Upstream] = {}
        self._pairs: dict[tuple[object, ...], _Pair] = {}
        self._open: set[Call] = set()

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        return {CallStarted: self._started, CallFinished: self._finished, Reading: self._read}

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

    def _read(self, reading: Reading) -> None:
        call, judgement, seconds = reading.call, reading.judgement, reading.seconds
        pair = self._call_pair(call, judgement)
        pair.counter.value += 1
        for attempt in call.attempts:
            self._read_attempt(reading, attempt)
        if call.is_stream:
            self._observe_stream(call, seconds)
            return
        pair.duration.observe(seconds)
        if reading.is_exported:
            self._exemplify(pair.duration, seconds, call)
        message = call.message
        if message.kind is Kind.REQUEST:
            upstream, phases = self._upstream(call.upstream), reading.phases
            for histogram, spent in zip(upstream.phases, phases, strict=True):
                histogram.observe(spent)
            upstream.overhead.observe(phases.policy + phases.relay)
        if message.method in LIST_METHODS:
            self._learn(reading)

    def _read_attempt(self, reading: Reading, attempt: Attempt) -> None:
        call, outcome = reading.call, attempt.outcome
        if outcome is None:
            return
        judgement = reading.judgement
        if outcome is not reading.outcome:
            judgement = judge(outcome, is_request=call.message.kind is Kind.REQUEST)
        pair = self._attempt_pair(attempt, judgement)
        pair.counter.value += 1
        if call.is_stream:
            return
        seconds = attempt.ended_at - attempt.started_at
        pair.duration.observe(seconds)
        if reading.is_exported:
            self._exemplify(pair.duration, seconds, attempt)

    def _exemplify(self, histogram: Histogram, seconds: float, spanned: Call | Attempt) -> None:
        if self._exemplars and spanned.trace is not None:
            histogram.exemplify(seconds, spanned.trace.trace_id, spanned.trace.span_id, self._wall())

    def _call_pair(self, call: Call, judgement: Judgement) -> _Pair:
        labels, message, peer = self._labels, call.message, call.peer
        method = labels.method(message.method)
        name = labels.name(call.upstream, method, message.name) if method in NAMING_METHODS else ""
        revision = labels.revision(call.revision)
        # the client's address stays out of it: each would be a key
        is_http = peer.transport is Transport.HTTP
        key = (call.upstream, method, name, revision, judgement, is_http, peer.http_version)
        found = self._pairs.get(key)
        if found is None:
            count = self._families.requests.child(call.upstream, method, judgement.outcome, judgement.reason)
            error, code = labels.code(judgement.server_error), labels.code(judgement.status_code)
            values = (call.upstream, method, *_target(method, name), error, code, revision, *self._network(peer))
            found = self._remember(key, _Pair(count, self._families.server_operation.child(*values)))
        return found

    def _attempt_pair(self, attempt: Attempt, judgement: Judgement) -> _Pair:
        call, labels, peer = attempt.call, self._labels, attempt.peer
        method = labels.method(call.message.method)
        name = labels.name(call.upstream, method, call.message.name) if method in NAMING_METHODS else ""
        revision, is_first = labels.revision(call.revision), attempt.number == 1
        key = (call.upstream, method, name, revision, judgement, peer, is_first)
        found = self._pairs.get(key)
        if found is None:
            which = "first" if is_first else "retry"
            count = self._families.attempts.child(call.upstream, which, judgement.outcome, judgement.reason)
            error, code = labels.code(judgement.client_error), labels.code(judgement.status_code)
            values = (call.upstream, method, *_target(method, name), error, code, revision, *self._network(peer))
            server = (peer.address, str(peer.port or "")) if peer is not None else ("", "")
            found = self._remember(key, _Pair(count, self._families.client_operation.child(*values, *server)))
        return found

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
