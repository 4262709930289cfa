"""Coalesce: identical safe reads in flight share one call, retries included.

The shared call runs in a task of its own, so that whoever leaves leaves alone; the last one to leave cancels it. The
first caller leads: it is relayed the reply as it arrives. A follower gets the answer alone, under its own id, in the
form in which it came (a JSON body, or an event stream of one event); progress and log messages of a stream are the
leader's. What cannot be shared (a stream that ended without an answer, an answer that asks for input or names a task, a
body that cannot be given another id, a new cookie) leaves each follower a call of its own.

Calls of a tool are shared where the operator says of that tool that it only reads.

A follower never learns less than anybody knew when it came: nobody joins a call that began before a request which may
have changed something was answered, or before the server announced a change. What a change that is still under way has
already done it may not see.

Actions told in `Decided`: joined, would_join, alone (what was joined could not be shared).
"""

import asyncio
import functools
import hashlib
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from weir.core.call import Call, Transport
from weir.core.events import Decided, Emit, LimitReached, Outlived, ServerNotified
from weir.core.layer import CallHandler
from weir.core.outcome import NO_ANSWER, Blame, Failed, FailureKind, Mode, Outcome, RefusalKind, Refused, Replied
from weir.policies.coalesce_flight import Flight
from weir.protocol import edit
from weir.protocol.envelope import Kind, peek
from weir.protocol.headers import without_named
from weir.protocol.methods import Repeat, facts
from weir.protocol.question import asks_for_task, question

CALLS_LIMIT = 1000
"""Shared calls that can be joined: each costs a task, and up to a reply in memory. Beyond it calls go by themselves."""

_ALWAYS = frozenset((b"authorization", b"accept"))
_NEUTRAL = frozenset(
    (
        *(b"traceparent", b"tracestate", b"baggage", b"x-request-id", b"x-correlation-id", b"weir-deadline-ms"),
        *(b"content-length", b"connection", b"keep-alive", b"accept-encoding"),
    )
)
"""Headers that say neither who asks nor what is answered; a length differs with the id alone."""

_CHANGES = ("list_changed", "notifications/resources/updated")


@dataclass(frozen=True, slots=True)
class CoalesceSettings:
    """`headers`: whose values must be equal, beside Authorization and Accept; names in lower case.

    None: those of every header but the few that never tell callers apart. To name them shares more, and is right
    only where none but these (and Authorization) decide what a caller may read. `tools`: what holds for the calls of
    the tools that only read; of others none are shared. `replaced`: the headers that the upstream gets from weir,
    whatever the caller sends.
    """

    mode: Mode = Mode.OFF
    headers: tuple[str, ...] | None = None
    tools: Mapping[str, "CoalesceSettings"] = field(default_factory=dict)
    replaced: frozenset[bytes] = frozenset()


# the pure part


def is_shareable(call: Call, reading: Container[str] = ()) -> bool:
    """Whether its answer may answer an equal call: a request that only reads, and is no part of a dialogue.

    `reading`: the tools that only read.
    """
    message = call.message
    if message.kind is not Kind.REQUEST or not _only_reads(call, reading):
        return False
    known = facts(message.method)
    if known.is_exempt or known.is_long_lived:
        return False
    if known.repeat is Repeat.ASK and asks_for_task(call.body):
        return False
    return not message.is_continuation and not call.is_ambiguous


def may_change(call: Call, reading: Container[str] = ()) -> bool:
    """Whether what other calls would read may be different after this one."""
    kind = call.message.kind
    if kind is Kind.REQUEST:
        return not call.is_stream and not _only_reads(call, reading)
    return kind is Kind.BATCH or kind is Kind.OPAQUE


def _only_reads(call: Call, reading: Container[str]) -> bool:
    repeat = facts(call.message.method).repeat
    return repeat is Repeat.READ or (repeat is Repeat.ASK and call.message.name in reading)


def key_of(call: Call, headers: frozenset[bytes] | None, replaced: frozenset[bytes] = frozenset()) -> bytes | None:
    """What two calls that share must have in common, as a hash; None: nobody can tell. `headers` as in the settings.

    It is made of what goes upstream: a header that `Connection` names does not, nor does one that weir replaces.
    """
    asked = question(call.body)
    if asked is None:
        return None
    texts = (call.upstream, call.revision, call.session, call.message.method)
    parts = [*(text.encode(errors="surrogatepass") for text in texts), call.verb, call.target, asked]
    for name, value in without_named(call.headers):
        if name not in replaced and (name not in _NEUTRAL if headers is None else name in headers):
            parts += (name, value)
    lengths = b",".join([b"%d" % len(part) for part in parts])
    return hashlib.blake2b(b"".join((lengths, b";", *parts)), digest_size=16).digest()


S = TypeVar("S")


class Joinable(Generic[S]):
    """The shared calls that a later call may join, by key; bounded."""

    def __init__(self, limit: int = CALLS_LIMIT) -> None:
        self._limit = limit
        self._shared: dict[bytes, S] = {}
        self._changing: set[Call] = set()

    @property
    def is_full(self) -> bool:
        """No other call can be offered."""
        return len(self._shared) >= self._limit

    def find(self, key: bytes | None) -> S | None:
        """The call to join, if there is one and nothing may have changed since it began."""
        found = self._shared.get(key) if key is not None else None
        if found is not None and any(call.committed or call.answer is not None for call in self._changing):
            # a change may have been answered, inside a stream that has not ended yet
            return None
        return found

    def offer(self, key: bytes, shared: S) -> None:
        """Let equal calls join."""
        self._shared[key] = shared

    def close(self, key: bytes, shared: S) -> None:
        """Nobody joins it any more."""
        if self._shared.get(key) is shared:
            del self._shared[key]

    def outdate(self) -> None:
        """What is in flight may answer with what is no longer so."""
        self._shared.clear()

    def change_began(self, call: Call) -> None:
        """A request that may change something goes upstream."""
        self._changing.add(call)

    def change_ended(self, call: Call) -> None:
        """It has its outcome, whatever that is."""
        self._changing.discard(call)
        self.outdate()


# the doing


class _Way(NamedTuple):
    """How calls are shared. `headers`: as `key_of` takes them."""

    is_shadow: bool
    headers: frozenset[bytes] | None


def _way(settings: CoalesceSettings) -> _Way | None:
    named = settings.headers
    headers = None if named is None else _ALWAYS | {name.encode() for name in named}
    return None if settings.mode is Mode.OFF else _Way(settings.mode is Mode.SHADOW, headers)


class Coalesce:
    """The layer of one upstream. `finished` is told when a shared call has ended, as the edge tells of its calls.

    Nothing is shared unless `run` runs, which owns the shared calls.
    """

    def __init__(
        self,
        upstream: str,
        settings: CoalesceSettings,
        emit: Emit,
        clock: Callable[[], float],
        finished: Callable[[Call], None] = lambda call: None,
    ) -> None:
        self._upstream = upstream
        self._replaced = settings.replaced
        self._general = _way(settings)
        made = {tool: _way(own) for tool, own in settings.tools.items()}
        self._of_tools = {tool: way for tool, way in made.items() if way is not None}
        self._emit = emit
        self._clock = clock
        self._finished = finished
        self._joinable: Joinable[Flight] = Joinable()
        self._would_be_joinable: Joinable[Call] = Joinable()
        self._all: tuple[Joinable[Any], ...] = (self._joinable, self._would_be_joinable)
        self._flights: set[Flight] = set()
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Own the shared calls; runs as long as the policy is used."""
        try:
            async with asyncio.TaskGroup() as self._group:
                await asyncio.get_running_loop().create_future()
        finally:
            self._group = None

    def notified(self, event: ServerNotified) -> None:
        """A server announced something: after a change nobody joins what began before it."""
        if event.call.upstream == self._upstream and event.message.method.endswith(_CHANGES):
            for joinable in self._all:
                joinable.outdate()

    def __call__(self, call: Call, inner: CallHandler) -> Awaitable[Outcome]:
        """Share the call, or let it pass."""
        if is_shareable(call, self._of_tools):
            is_tool = call.message.method == "tools/call"
            way = self._of_tools[call.message.name] if is_tool else self._general
            if way is None:
                return inner(call)
            return self._pretend(call, inner, way) if way.is_shadow else self._share(call, inner, way)
        if may_change(call, self._of_tools):
            return _outdating(self._all, inner, call)
        if call.message.method == "notifications/cancelled" and self._flights:
            return self._withdraw(call, inner)
        return inner(call)

    async def _share(self, call: Call, inner: CallHandler, way: _Way) -> Outcome:
        key = key_of(call, way.headers, self._replaced)
        found = self._joinable.find(key)
        if found is not None:
            return await self._follow(found, call, inner)
        if key is None or self._is_full(self._joinable):
            return await inner(call)
        return await self._lead(key, call, inner)

    async def _pretend(self, call: Call, inner: CallHandler, way: _Way) -> Outcome:
        if may_change(call):
            # a tool that is said to read only, in shadow: to the calls that are shared nothing is said of it
            inner = functools.partial(_outdating, (self._joinable,), inner)
        key = key_of(call, way.headers, self._replaced)
        if self._would_be_joinable.find(key) is not None:
            self._emit(Decided("coalesce", "would_join", call, True))
            return await inner(call)
        if key is None or self._is_full(self._would_be_joinable):
            return await inner(call)
        self._would_be_joinable.offer(key, call)
        try:
            return await inner(call)
        finally:
            self._would_be_joinable.close(key, call)

    def _is_full(self, joinable: Joinable[Any]) -> bool:
        if joinable.is_full:
            self._emit(LimitReached(self._upstream, "coalesced_calls"))
        return joinable.is_full

    async def _lead(self, key: bytes, call: Call, inner: CallHandler) -> Outcome:
        if self._group is None:
            return await inner(call)
        flight = Flight(call, lambda: self._joinable.close(key, flight), self._clock)
        flight.task = self._group.create_task(self._fly(flight, inner))
        flight.task.add_done_callback(lambda _: self._landed(flight))
        self._flights.add(flight)
        self._joinable.offer(key, flight)
        try:
            return await flight.lead(call)
        finally:
            await self._leave(flight, call)

    async def _fly(self, flight: Flight, inner: CallHandler) -> None:
        try:
            flight.outcome = await inner(flight.call)
        except Exception as error:  # noqa: BLE001 - a bug is the callers', whose edges make it clear answers
            flight.error = error

    def _landed(self, flight: Flight) -> None:
        """Also when it was cancelled before it began."""
        self._flights.discard(flight)
        self._finished(flight.call)
        made_since = flight.made_since()
        if made_since:
            flight.call.attempts = made_since
            self._emit(Outlived(flight.call, flight.outcome or _LEFT))
        flight.end()

    async def _follow(self, flight: Flight, call: Call, inner: CallHandler) -> Outcome:
        began = self._clock()
        flight.join(call, began)
        self._emit(Decided("coalesce", "joined", call))
        if call.slot is not None:
            # what waits for another call's answer needs no place of its own
            call.slot.release()
        try:
            await flight.settled.wait()
            call.queued_seconds += self._clock() - began
            outcome = await flight.copy(call)
        finally:
            await self._leave(flight, call)
        return outcome if outcome is not None else await self._go_alone(call, inner)

    async def _leave(self, flight: Flight, call: Call) -> None:
        ending = flight.leave(call, self._clock())
        if ending is not None:
            # its place is free, and its attempts are told of, only when the exchange with the server is over
            await asyncio.wait((ending,))

    async def _go_alone(self, call: Call, inner: CallHandler) -> Outcome:
        self._emit(Decided("coalesce", "alone", call))
        call.joined = None
        if call.slot is not None and not await call.slot.acquire():
            text = (
                f"MCP server '{self._upstream}' is busy, and the call that this one had joined gave no answer to share."
            )
            return Refused(RefusalKind.OVERLOADED, text, "upstream")
        return await inner(call)

    def _withdraw(self, call: Call, inner: CallHandler) -> Awaitable[Outcome]:
        """A client cancels a request. Of a shared call the server hears when nobody waits any more, by the id it knows.

        Without a session nobody can tell whose id it is, but on a pipe, where there is one client.
        """
        session, raw = call.session, call.message.request_id
        flight = next((each for each in self._flights if each.has(session, raw)), None)
        if flight is None or not (session or call.peer.transport is Transport.STDIO):
            return inner(call)
        if flight.withdraw(session, raw):
            return _accept()
        known = flight.call.message.id
        if raw != known:
            try:
                call.body = edit.set_param(call.body, b"requestId", known)
            except ValueError:
                # it names two: the server may choose, as it would without weir
                return inner(call)
            call.message = peek(call.body)
        return inner(call)


async def _outdating(joinables: Iterable[Joinable[Any]], inner: CallHandler, call: Call) -> Outcome:
    """A call that may change what is shared, or would be."""
    for joinable in joinables:
        joinable.change_began(call)
    try:
        return await inner(call)
    finally:
        for joinable in joinables:
            joinable.change_ended(call)


_LEFT = Failed(FailureKind.CANCELLED, "all callers went away", Blame.DOWNSTREAM)


async def _accept() -> Outcome:
    return Replied(202, [], b"", NO_ANSWER)
