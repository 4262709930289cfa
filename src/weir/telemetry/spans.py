"""Spans: built when a call has ended, from the instants it recorded, and only when they will be exported.

A call gives one SERVER span and, for each attempt, one CLIENT span below it; a server's question
gives the same with the roles reversed. Names, kinds, attributes and error rules are those of the MCP
conventions.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState

from weir.core.call import Attempt
from weir.core.events import Ask, AskFinished, Decided, Outlived
from weir.core.outcome import FailureKind, Verdict
from weir.protocol.envelope import Kind
from weir.protocol.tracecontext import TraceContext
from weir.telemetry import attributes, semconv
from weir.telemetry.batch import WATCHED
from weir.telemetry.instants import EpochClock
from weir.telemetry.reading import Judgement, Reading, judge, judge_verdict
from weir.telemetry.settings import TracesSettings
from weir.telemetry.tracing import from_meta

Submit = Callable[[ReadableSpan], bool]
"""Takes a finished span for export; False: there was no room."""

# retries, waits and limits of one call; more of them say nothing new
EVENTS_LIMIT: Final = 32
# calls in flight that a policy has touched
CALLS_LIMIT: Final = 10_000
# an exported span is a sampled one to those who receive it, whatever the caller decided
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_NO_STATE: Final = TraceState()
_NEVER_ANSWERED: Final = Judgement("failed", "unanswered", FailureKind.CANCELLED.value, FailureKind.CANCELLED.value, "")


class Spans:
    """The fold."""

    def __init__(
        self, settings: TracesSettings, resource: Resource, version: str, epoch: EpochClock, submit: Submit
    ) -> None:
        self._always_errors = "error" in settings.always
        self._always_retried = "retried" in settings.always
        self._always_slow = "slow" in settings.always
        self._slow_seconds = settings.slow_seconds
        self._parent = settings.parent
        self._with_uri = settings.resource_uris
        self._resource = resource
        self._scope = InstrumentationScope(semconv.SCOPE, version, semconv.SCHEMA_URL)
        self._epoch = epoch
        self._submit = submit
        # by the place in the trace: a call that goes upstream for several stands where its first caller does
        self._decisions: dict[TraceContext, list[Event]] = {}

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        return {Decided: self._decided, AskFinished: self._answered, Outlived: self._outlived}

    def read(self, reading: Reading) -> None:
        """Fold one finished request or notification."""
        trace = reading.call.trace
        events = self._decisions.pop(trace, ()) if self._decisions and trace is not None else ()
        if trace is None or not (trace.is_sampled or self._is_kept(reading)):
            return
        reading.is_exported = self._submit(self._call_span(reading, trace, events))
        for attempt in reading.call.attempts:
            if attempt.trace is not None:
                self._submit(self._attempt_span(reading, attempt, attempt.trace))

    def _is_kept(self, reading: Reading) -> bool:
        """Whether an unsampled call is exported all the same."""
        if self._always_slow and reading.seconds >= self._slow_seconds and not reading.call.is_stream:
            return True
        if self._always_errors and reading.judgement.server_error:
            return True
        return self._always_retried and len(reading.call.attempts) > 1

    def _call_span(self, reading: Reading, trace: TraceContext, events: Sequence[Event]) -> ReadableSpan:
        call = reading.call
        is_error = bool(reading.judgement.server_error)
        return ReadableSpan(
            name=attributes.span_name(call.message),
            context=_context(trace),
            parent=None if call.parent is None else _context(call.parent, is_remote=True),
            resource=self._resource,
            attributes=attributes.of_call(reading, with_uri=self._with_uri),
            events=events,
            links=() if call.link is None else (Link(_context(call.link, is_remote=True)),),
            kind=SpanKind.SERVER,
            status=attributes.status_of(reading.outcome) if is_error else attributes.UNSET,
            start_time=self._epoch(call.received_at),
            end_time=self._epoch(call.ended_at),
            instrumentation_scope=self._scope,
        )

    def _attempt_span(self, reading: Reading, attempt: Attempt, trace: TraceContext) -> ReadableSpan:
        call, judgement, outcome = reading.call, reading.judgement, attempt.outcome or reading.outcome
        if outcome is not reading.outcome:
            judgement = judge(outcome, is_request=call.message.kind is Kind.REQUEST)
        return ReadableSpan(
            name=attributes.span_name(call.message),
            context=_context(trace),
            parent=None if call.trace is None else _context(call.trace),
            resource=self._resource,
            attributes=attributes.of_attempt(attempt, judgement, outcome, with_uri=self._with_uri),
            kind=SpanKind.CLIENT,
            status=attributes.status_of(outcome) if judgement.client_error else attributes.UNSET,
            start_time=self._epoch(attempt.started_at),
            end_time=self._epoch(attempt.ended_at or call.ended_at),
            instrumentation_scope=self._scope,
        )

    def _decided(self, event: Decided) -> None:
        """What a policy did becomes an event of the call's span, with the time it is told of."""
        if event.call.trace is None or event.call.message.kind not in WATCHED:
            return
        if len(self._decisions) >= CALLS_LIMIT:
            self._decisions.pop(next(iter(self._decisions)))
        events = self._decisions.setdefault(event.call.trace, [])
        if len(events) < EVENTS_LIMIT:
            name = semconv.POLICY + event.policy
            events.append(Event(name, attributes.of_decision(event), self._epoch(self._epoch.clock())))

    def _outlived(self, event: Outlived) -> None:
        """They stand below the span of the caller who left."""
        reading = Reading(event.call, event.outcome)
        if event.call.trace is not None:
            # what was decided since is told nowhere: that span has been sent
            self._decisions.pop(event.call.trace, None)
        for attempt in event.call.attempts:
            if attempt.trace is not None and attempt.trace.is_sampled:
                self._submit(self._attempt_span(reading, attempt, attempt.trace))

    def _answered(self, event: AskFinished) -> None:
        ask, verdict = event.ask, event.verdict
        if ask.trace is None or ask.outbound is None:
            return
        judgement = _NEVER_ANSWERED if verdict is None else judge_verdict(verdict, 200, is_request=True)
        if ask.trace.is_sampled or (self._always_errors and judgement.server_error):
            self._submit(self._asked_span(ask, ask.trace, judgement, verdict))
            self._submit(self._asking_span(ask, ask.outbound, judgement, verdict))

    def _asked_span(self, ask: Ask, trace: TraceContext, judgement: Judgement, verdict: Verdict | None) -> ReadableSpan:
        link = self._ask_link(ask)
        return ReadableSpan(
            name=attributes.span_name(ask.message),
            context=_context(trace),
            parent=None if ask.parent is None else _context(ask.parent, is_remote=True),
            resource=self._resource,
            attributes=attributes.of_asked(ask, judgement),
            links=() if link is None else (link,),
            kind=SpanKind.SERVER,
            status=attributes.status_of_answer(verdict) if judgement.server_error else attributes.UNSET,
            start_time=self._epoch(ask.asked_at),
            end_time=self._epoch(ask.answered_at),
            instrumentation_scope=self._scope,
        )

    def _asking_span(
        self, ask: Ask, trace: TraceContext, judgement: Judgement, verdict: Verdict | None
    ) -> ReadableSpan:
        return ReadableSpan(
            name=attributes.span_name(ask.message),
            context=_context(trace),
            parent=None if ask.trace is None else _context(ask.trace),
            resource=self._resource,
            attributes=attributes.of_asking(ask, judgement),
            kind=SpanKind.CLIENT,
            status=attributes.status_of_answer(verdict) if judgement.client_error else attributes.UNSET,
            start_time=self._epoch(ask.asked_at),
            end_time=self._epoch(ask.answered_at),
            instrumentation_scope=self._scope,
        )

    def _ask_link(self, ask: Ask) -> Link | None:
        """What a question without a remote parent belongs to: the server's own span, else the stream it came on."""
        if ask.parent is not None:
            return None
        remote = from_meta(ask.message.meta) if self._parent == "link" else None
        if remote is not None and remote.trace_id:
            return Link(_context(remote, is_remote=True))
        stream = ask.call.trace if ask.call is not None else None
        return None if stream is None else Link(_context(stream))


def _context(context: TraceContext, *, is_remote: bool = False) -> SpanContext:
    state = TraceState.from_header([context.tracestate]) if context.tracestate else _NO_STATE
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote, _SAMPLED, state)
