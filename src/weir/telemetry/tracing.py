"""Where each call, attempt and server's question stands in its trace, and what the next hop is told.

Contexts only: nothing here records or exports a span. `params._meta` is the carrier of MCP, the HTTP
headers of the transport; inbound the first decides, outbound both say the same.
"""

import re
from collections.abc import Callable
from typing import Final

from weir.core.call import Attempt, Call, Headers
from weir.core.events import Ask
from weir.protocol import edit, scan, tracecontext
from weir.protocol.envelope import Message
from weir.protocol.headers import SEALS
from weir.protocol.shapes import Meta
from weir.protocol.tracecontext import SAMPLED, TraceContext
from weir.telemetry.batch import WATCHED
from weir.telemetry.settings import TracesSettings

# a header above this is refused by many servers; W3C baggage asks for 8,192 bytes to be carried
CARRIED_LIMIT_BYTES: Final = 8192
_HEADER_TEXT: Final = re.compile(r"[\t\x20-\x7e]*")
_LOW_64_BITS: Final = (1 << 64) - 1
_CARRIERS: Final = frozenset({b"traceparent", b"tracestate", b"baggage"})

_new: Final = tuple.__new__

RandomBits = Callable[[int], int]
"""An integer of that many random bits."""


class Tracing:
    """Gives contexts. When not enabled it touches nothing."""

    def __init__(self, settings: TracesSettings, random_bits: RandomBits, *, enabled: bool) -> None:
        self.enabled = enabled
        self._parent = settings.parent
        self._random_bits = random_bits
        # as the SDK's TraceIdRatioBased: the low 64 bits of the trace id decide
        self._bound = round(settings.sample_ratio * (1 << 64))

    def begin(self, call: Call) -> None:
        """Set parent, link and own context of a call (of each member of a batch).

        An exchange that gets no span (GET, DELETE, a client's answer, what cannot be peeked) keeps the
        context it came with: a position that no span will ever take is never handed on.
        """
        if not self.enabled:
            return
        http = _from_headers(call.headers)
        if call.message.kind in WATCHED:
            self._place(call, http)
        elif call.members:
            for member in call.members:
                self._place(member, http)
            call.trace = next((member.trace for member in call.members if member.trace is not None), None)
        elif http is not None and http.trace_id:
            call.trace = http

    def begin_attempt(self, attempt: Attempt) -> None:
        """Set the attempt's context and put it in the body, where that can be done; the edge puts it in the headers.

        None is set where no span will be: those headers pass as they came.
        """
        call = attempt.call
        if call.trace is None:
            return
        if call.message.kind in WATCHED:
            attempt.trace = context = self._child(call.trace)
            if not _is_sealed(attempt.headers):
                attempt.body = _inject(attempt.body, call.message, context)
        elif call.members:
            attempt.trace = self._begin_members(attempt)

    def begin_ask(self, ask: Ask, body: bytes) -> bytes:
        """Set the contexts of a server's question; returns the body with the outbound one in `params._meta`."""
        if not self.enabled:
            return body
        remote = from_meta(ask.message.meta)
        stream = ask.call.trace if ask.call is not None else None
        if remote is not None and remote.trace_id and self._parent == "remote":
            ask.parent = remote
            ask.trace = self._child(remote)
        else:
            baggage = remote.baggage if remote is not None else ""
            ask.trace = self._root(baggage, stream.flags if stream is not None else None)
        ask.outbound = self._child(ask.trace)
        return _inject(body, ask.message, ask.outbound)

    def _place(self, call: Call, http: TraceContext | None) -> None:
        """Parent on `_meta`, else on the HTTP headers; the other one, when it differs, is linked."""
        if call.message.kind not in WATCHED:
            return
        meta = from_meta(call.message.meta)
        chosen = meta if meta is not None and meta.trace_id else None
        ambient = http if http is not None and http.trace_id else None
        if chosen is None:
            chosen, ambient = ambient, None
        if chosen is not None and self._parent == "remote":
            call.parent = chosen
            if ambient is not None and ambient[:2] != chosen[:2]:
                call.link = ambient
            call.trace = self._child(chosen)
        else:
            if self._parent == "link":
                call.link = chosen
            call.trace = self._root(meta.baggage if meta is not None else "", None)
        if http is not None and http.baggage and not call.trace.baggage:
            # baggage belongs to nobody's trace: the caller's is carried on whichever way it came
            call.trace = call.trace._replace(baggage=http.baggage)

    def _begin_members(self, attempt: Attempt) -> TraceContext:
        """A batch: every member that is traced has its own attempt; the headers follow the first."""
        contexts: list[TraceContext | None] = []
        for member in attempt.call.members:
            context = self._child(member.trace) if member.trace is not None else None
            if context is not None:
                member.attempts[-1].trace = context
            contexts.append(context)
        if not _is_sealed(attempt.headers):
            attempt.body = _inject_members(attempt.body, attempt.call.message.members, contexts)
        return next(context for context in contexts if context is not None)

    def _root(self, baggage: str, flags: int | None) -> TraceContext:
        trace = self._random_bits(128) or 1
        if flags is None:
            flags = SAMPLED if (trace & _LOW_64_BITS) < self._bound else 0
        return TraceContext(f"{trace:032x}", f"{self._random_bits(64) or 1:016x}", flags, "", baggage)

    def _child(self, context: TraceContext) -> TraceContext:
        # context.child() at half its cost: this runs twice for every call
        trace_id, _, flags, tracestate, baggage = context
        return _new(TraceContext, (trace_id, f"{self._random_bits(64) or 1:016x}", flags, tracestate, baggage))


def from_meta(meta: Meta | None) -> TraceContext | None:
    """The context in `_meta`; without a valid traceparent at most its baggage, under an empty trace id."""
    if meta is None:
        return None
    return _context(meta.traceparent or "", meta.tracestate or "", meta.baggage or "")


def _from_headers(headers: Headers) -> TraceContext | None:
    traceparent = tracestate = baggage = b""
    for name, value in headers:
        if name not in _CARRIERS:
            continue
        if name == b"traceparent":
            # two of them are malformed, which a comma makes sure of
            traceparent = traceparent + b"," + value if traceparent else value
        elif name == b"tracestate":
            tracestate = tracestate + b"," + value if tracestate else value
        else:
            baggage = baggage + b"," + value if baggage else value
    if not traceparent and not baggage:
        return None
    return _context(traceparent.decode("latin-1").strip(" \t"), tracestate.decode("latin-1"), baggage.decode("latin-1"))


def _context(traceparent: str, tracestate: str, baggage: str) -> TraceContext | None:
    if tracestate and not _can_be_carried(tracestate):
        tracestate = ""
    if baggage and not _can_be_carried(baggage):
        baggage = ""
    found = tracecontext.parse(traceparent, tracestate, baggage) if traceparent else None
    if found is None and baggage:
        return TraceContext("", "", 0, "", baggage)
    return found


def _can_be_carried(text: str) -> bool:
    """Whether `text` may stand in an HTTP header: what came in JSON may hold a line break."""
    return len(text) <= CARRIED_LIMIT_BYTES and _HEADER_TEXT.fullmatch(text) is not None


def _is_sealed(headers: Headers) -> bool:
    for name, _ in headers:  # noqa: SIM110 - half the cost of any(), for every call
        if name in SEALS:
            return True
    return False


def _inject(body: bytes, message: Message, context: TraceContext) -> bytes:
    edited = edit.set_meta(body, message, _values(message.meta, context))
    return body if edited is None else edited


def _values(meta: Meta | None, context: TraceContext) -> dict[bytes, bytes]:
    """The members of `_meta` that must change, as JSON text. A traceparent needs no escaping."""
    values = {b"traceparent": f'"{context.traceparent}"'.encode()}
    tracestate = (meta.tracestate or "") if meta is not None else ""
    if tracestate != context.tracestate:
        # an empty one stands for none: a state never stays beside another trace's parent
        values[b"tracestate"] = edit.quote(context.tracestate)
    if context.baggage and (meta is None or meta.baggage != context.baggage):
        values[b"baggage"] = edit.quote(context.baggage)
    return values


def _inject_members(body: bytes, members: tuple[Message, ...], contexts: list[TraceContext | None]) -> bytes:
    try:
        parts = [body[start:end] for start, end in scan.elements(body)]
        edited = [
            part if context is None else _inject(part, message, context)
            for part, message, context in zip(parts, members, contexts, strict=True)
        ]
        return edit.set_elements(body, edited)
    except ValueError:
        return body
