"""Faults: what servers and networks do wrong, done on purpose to a share of the attempts, for a limited time.

Right outside the upstream edge, so that everything else meets a fault as it would meet the real one. What stands in
for the answer (timeout, reset, error_status, jsonrpc_error, is_error, garbage) is made here, and the server is not
asked: nobody's data is changed by a call that is then said to have failed. What hurts an answer (latency, jitter,
slow_stream, drop_stream, duplicate) is done to the server's own. A kind that cannot befall a message (an `isError`
where no tool was called) is left out.

Actions told in `Decided` are the kinds, with the fault's id as detail: latency, jitter, slow_stream, drop_stream,
duplicate, timeout, reset, error_status, jsonrpc_error, is_error, garbage.
"""

import asyncio
import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from weir.core.call import Attempt, Call, Headers, Sink
from weir.core.events import Decided, Emit
from weir.core.layer import AttemptHandler
from weir.core.outcome import NO_ANSWER, Failed, FailureKind, Outcome, Replied, Sent, Verdict
from weir.protocol import sse
from weir.protocol.envelope import Kind, peek
from weir.protocol.media_types import EVENT_STREAM, JSON, PLAIN_TEXT, accepts, is_event_stream
from weir.protocol.methods import is_modern
from weir.protocol.verdicts import TOOL_ERROR

FAULTS_LIMIT = 100
"""Faults at once: each is looked at for every attempt."""

_JSON = (b"content-type", JSON)
_TEXT = (b"content-type", PLAIN_TEXT)
_EVENTS = (b"content-type", EVENT_STREAM)
_SAYS = "injected fault"


class Instead(enum.Enum):
    """What comes instead of the server's answer."""

    TIMEOUT = "timeout"
    RESET = "reset"
    STATUS = "error_status"
    ERROR = "jsonrpc_error"
    TOOL_ERROR = "is_error"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls `percent` of the attempts at one upstream, or only at calls of one of its tools.

    `latency_seconds`, give or take `jitter_seconds`, is how much later an answer (or the head of a stream) comes;
    `slow_stream_seconds` how much later each event; after `drop_stream_events` events a stream breaks; `duplicate`:
    each event comes twice, and so does a whole answer. `code` is that of an error status or a JSON-RPC error.
    """

    upstream: str
    tool: str = ""
    latency_seconds: float = 0.0
    jitter_seconds: float = 0.0
    slow_stream_seconds: float = 0.0
    drop_stream_events: int | None = None
    duplicate: bool = False
    instead: Instead | None = None
    code: int = 0
    percent: float = 100.0
    expires_seconds: float = 600.0


# the pure part


class Active(NamedTuple):
    """A fault that is being injected, until an instant."""

    id: str
    fault: Fault
    expires_at: float


class Registry:
    """The faults of all upstreams; each ends by itself."""

    def __init__(self, limit: int = FAULTS_LIMIT) -> None:
        self._limit = limit
        self._active: dict[str, Active] = {}
        self._last = 0

    @property
    def is_empty(self) -> bool:
        """There was nothing to inject when it was last looked at."""
        return not self._active

    def add(self, fault: Fault, now: float) -> Active | None:
        """Begin with a fault; None when there are too many."""
        if len(self.active(now)) >= self._limit:
            return None
        self._last += 1
        added = Active(f"f{self._last}", fault, now + fault.expires_seconds)
        self._active[added.id] = added
        return added

    def clear(self, fault_id: str = "") -> int:
        """End one fault, or all; returns how many there were to end."""
        ended = [fault_id] if fault_id else list(self._active)
        return sum(self._active.pop(each, None) is not None for each in ended)

    def active(self, now: float) -> list[Active]:
        """Those that have not expired, oldest first."""
        for each in [each for each in self._active.values() if each.expires_at <= now]:
            del self._active[each.id]
        return [*self._active.values()]

    def pick(self, now: float, draw: Callable[[], float], upstream: str, tool: str) -> Sequence[Active]:
        """Those that befall one attempt: each is drawn for by itself (`draw` gives a number from 0 up to 1)."""
        return [
            each
            for each in self.active(now)
            if each.fault.upstream == upstream and each.fault.tool in ("", tool) and draw() * 100 < each.fault.percent
        ]


class Plan:
    """What is done to one attempt, by all the faults that befall it: waits add up, of the rest the first counts."""

    def __init__(self, picked: Sequence[Active], call: Call, draw: Callable[[], float]) -> None:
        self.wait_seconds = 0.0
        self.slow_seconds = 0.0
        self.drop_after: int | None = None
        self.duplicates = False
        self.instead: Instead | None = None
        self.code = 0
        self.by: dict[str, str] = {}
        """The kinds, each with the id of the fault that it comes from."""
        for each in picked:
            self._add(each.id, each.fault, call, draw)

    def _add(self, fault_id: str, fault: Fault, call: Call, draw: Callable[[], float]) -> None:
        wait = fault.latency_seconds
        if fault.jitter_seconds:
            wait = max(0.0, wait + (2 * draw() - 1) * fault.jitter_seconds)
            self.by.setdefault("jitter", fault_id)
        if fault.latency_seconds:
            self.by.setdefault("latency", fault_id)
        self.wait_seconds += wait
        if fault.slow_stream_seconds:
            self.slow_seconds += fault.slow_stream_seconds
            self.by.setdefault("slow_stream", fault_id)
        if fault.drop_stream_events is not None and self.drop_after is None:
            self.drop_after = fault.drop_stream_events
            self.by["drop_stream"] = fault_id
        if fault.duplicate:
            self.duplicates = True
            self.by.setdefault("duplicate", fault_id)
        if fault.instead is not None and self.instead is None and _can_befall(fault.instead, call):
            self.instead, self.code = fault.instead, fault.code
            self.by[fault.instead.value] = fault_id


def _can_befall(instead: Instead, call: Call) -> bool:
    if instead is Instead.TOOL_ERROR:
        return call.is_request and call.message.method == "tools/call"
    return call.is_request or instead in (Instead.TIMEOUT, Instead.RESET, Instead.STATUS)


def stand_in(instead: Instead, code: int, call: Call) -> Outcome:
    """What comes instead of the server's answer; a timeout is what it looks like once the wait is over."""
    raw_id = call.message.id
    match instead:
        case Instead.STATUS:
            return Replied(code, [_TEXT], f"{_SAYS}\n".encode(), NO_ANSWER)
        case Instead.ERROR:
            error = b'{"code":%d,"message":"%b"}' % (code, _SAYS.encode())
            body = b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (raw_id, error)
            return Replied(200, [_JSON], body, Verdict(code, _SAYS))
        case Instead.TOOL_ERROR:
            kind = b'"resultType":"complete",' if is_modern(call.revision) else b""
            content = b'"content":[{"type":"text","text":"%b"}],"isError":true' % _SAYS.encode()
            body = b'{"jsonrpc":"2.0","id":%b,"result":{%b%b}}' % (raw_id, kind, content)
            return Replied(200, [_JSON], body, TOOL_ERROR)
        case Instead.GARBAGE:
            return Failed(FailureKind.PROTOCOL, f"{_SAYS}: answered with garbage instead of JSON", sent=Sent.ANSWERED)
        case Instead.RESET:
            return Failed(FailureKind.RESET, f"{_SAYS}: the connection was reset")
        case Instead.TIMEOUT:
            return Failed(FailureKind.TIMEOUT, f"{_SAYS}: no answer", timer="idle")


# the doing

Tell = Callable[[str, float], None]
"""Told of a kind when it takes effect, and of the seconds it costs."""


class _Hurt:
    """The sink of an attempt whose stream is slowed, broken off, or repeats itself."""

    def __init__(self, attempt: Attempt, plan: Plan, tell: Tell) -> None:
        self.head: tuple[int, Headers] | None = None
        self.scope = asyncio.timeout(None)
        self._call = attempt.call
        self._sink: Sink = attempt.sink
        self._plan = plan
        self._tell = tell
        self._splitter: sse.Splitter | None = None
        self._passed = 0
        self._saw_id = False
        self._was_committed = attempt.call.committed
        self._answer = attempt.call.answer

    async def open(self, status: int, headers: Headers) -> None:
        self.head = (status, headers)
        if is_event_stream(headers):
            self._splitter = sse.Splitter()
        await asyncio.sleep(self._plan.wait_seconds)
        await self._sink.open(status, headers)

    async def write(self, chunk: bytes) -> None:
        for event in self._splitter.feed(chunk) if self._splitter is not None else [sse.Event(chunk)]:
            if event.is_comment:
                await self._sink.write(event.raw)
            else:
                await self._pass(event)

    async def flush(self) -> None:
        """The stream ended inside an event."""
        rest = self._splitter.rest() if self._splitter is not None else b""
        if rest:
            await self._sink.write(rest)

    async def _pass(self, event: sse.Event) -> None:
        plan = self._plan
        if plan.drop_after is not None and self._passed >= plan.drop_after:
            await self._drop()
        if plan.slow_seconds:
            self._tell("slow_stream", plan.slow_seconds)
            await asyncio.sleep(plan.slow_seconds)
        await self._sink.write(event.raw)
        if plan.duplicates and event.is_message:
            self._tell("duplicate", 0.0)
            await self._sink.write(event.raw)
        self._passed += 1
        self._saw_id |= bool(event.id)
        if plan.drop_after is not None and event.data and peek(event.data).kind is Kind.RESPONSE:
            self._answer = self._call.answer

    async def _drop(self) -> None:
        """End the attempt here, as if the connection had broken: nothing of this event was ever seen."""
        self._tell("drop_stream", 0.0)
        # the edge has read on, and noted what never passed
        self._call.committed = self._was_committed or self._passed > 0
        self._call.answer = self._answer
        loop = asyncio.get_running_loop()
        self.scope.reschedule(loop.time())
        await loop.create_future()

    def dropped(self) -> Outcome:
        """What the edge would have made of it."""
        status, headers = self.head or (200, [])
        if self._call.answer is not None:
            return Replied(status, headers, None, self._call.answer)
        if self._call.is_request and self._saw_id and not is_modern(self._call.revision):
            # the client will come back for the rest, with the id
            return Replied(status, headers, None, NO_ANSWER)
        return Failed(FailureKind.RESET, f"{_SAYS}: the stream was dropped")


class Faults:
    """The attempt layer of one upstream. `silence_seconds`: how long an upstream that never answers is waited for, by
    calls that have no `idle_seconds` of their own."""

    def __init__(
        self,
        upstream: str,
        registry: Registry,
        silence_seconds: float,
        emit: Emit,
        clock: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._registry = registry
        self._silence_seconds = silence_seconds
        self._emit = emit
        self._clock = clock
        self._draw = draw

    def __call__(self, attempt: Attempt, inner: AttemptHandler) -> Awaitable[Outcome]:
        """Let the attempt pass, or do to it what was drawn."""
        if self._registry.is_empty:
            return inner(attempt)
        message = attempt.call.message
        tool = message.name if message.method == "tools/call" else ""
        picked = self._registry.pick(self._clock(), self._draw, self._upstream, tool)
        if not picked:
            return inner(attempt)
        return self._inject(attempt, inner, Plan(picked, attempt.call, self._draw))

    async def _inject(self, attempt: Attempt, inner: AttemptHandler, plan: Plan) -> Outcome:
        told: set[str] = set()

        def tell(kind: str, seconds: float) -> None:
            if kind not in told:
                told.add(kind)
                self._emit(Decided("fault", kind, attempt.call, seconds=seconds, detail=plan.by[kind]))

        for kind in ("latency", "jitter"):
            if kind in plan.by:
                tell(kind, plan.wait_seconds)
        if plan.instead is not None:
            tell(plan.instead.value, 0.0)
            return await self._stand_in(attempt, plan, plan.instead)
        return await self._hurt(attempt, inner, plan, tell)

    async def _stand_in(self, attempt: Attempt, plan: Plan, instead: Instead) -> Outcome:
        attempt.sent_at = self._clock()
        outcome = stand_in(instead, plan.code, attempt.call)
        if instead is Instead.TIMEOUT and isinstance(outcome, Failed):
            own = attempt.call.idle_seconds
            outcome.after_seconds = own if own is not None else self._silence_seconds
            await asyncio.sleep(outcome.after_seconds)
            return outcome
        await asyncio.sleep(plan.wait_seconds)
        if isinstance(outcome, Replied):
            attempt.first_byte_at = self._clock()
        return outcome

    async def _hurt(self, attempt: Attempt, inner: AttemptHandler, plan: Plan, tell: Tell) -> Outcome:
        outer = attempt.sink
        attempt.sink = hurt = _Hurt(attempt, plan, tell)
        try:
            async with hurt.scope:
                outcome = await inner(attempt)
        except TimeoutError:
            if not hurt.scope.expired():
                raise
            return hurt.dropped()
        if hurt.head is not None:
            await hurt.flush()
            return outcome
        await asyncio.sleep(plan.wait_seconds)
        if plan.duplicates and isinstance(outcome, Replied) and _can_come_twice(outcome, attempt.call):
            tell("duplicate", 0.0)
            return await _twice(outcome, attempt.call, outer)
        return outcome


def _can_come_twice(reply: Replied, call: Call) -> bool:
    takes_events = accepts(call.headers, EVENT_STREAM)
    return call.is_request and takes_events and reply.status == 200 and bool(reply.body) and reply.verdict.answered


async def _twice(reply: Replied, call: Call, sink: Sink) -> Replied:
    """A whole answer can come twice only in a stream."""
    headers = [_EVENTS, *(each for each in reply.headers if each[0] not in (b"content-type", b"content-length"))]
    await sink.open(reply.status, headers)
    call.committed = True
    call.answered(call.message.id, reply.verdict)
    await sink.write(2 * sse.encode(reply.body or b""))
    return Replied(reply.status, headers, None, reply.verdict)
