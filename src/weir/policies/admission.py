"""Admission: how many calls an upstream, or one of its tools, has at once, and how many wait for a place.

A call that finds no place waits in a bounded queue: control traffic before interactive calls before lists, each in the
order they came, and whoever already ran and only paused (a retry's back-off) before all. A class that was passed over
four times has the next turn, and its first waiter has room in a full queue: no class starves. A call is refused when
the queue is full, when it has waited for `queue_timeout_seconds`, or when somebody more urgent takes its place in the
queue. In adaptive mode the number of places is found from latency (admission_limit), and in an overload that lasts the
queue is kept short: waiting longer would not get more calls through.

A call that needs a place of its tool's waits for that first, so that a slow tool keeps nobody else from a place.
Exempt calls and long-lived streams take no place. A call whose reply waits for its client gives its place back: at once
when the answer has been relayed, else when the client has held up the reply for `DELIVERY_SECONDS` in all.

Actions told in `Decided`: queued, refused, would_queue, would_refuse; `detail` is the scope, upstream or tool. Levels
told in `LevelChanged`: limit, queue, serial (1: the server works on one call at a time); a tool's have `tool:` and its
name before them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from weir.core.call import Call, Slot
from weir.core.events import Decided, Emit, LevelChanged
from weir.core.layer import CallHandler
from weir.core.outcome import Blame, Failed, Mode, Outcome, RefusalKind, Refused, Replied
from weir.policies.admission_limit import Phase
from weir.policies.admission_queue import Bulkhead, Places, Rank, Waiter
from weir.policies.admission_serial import SerialWatch
from weir.protocol.methods import Traffic, traffic_class

DELIVERY_SECONDS: Final = 1.0
"""A client that has kept its reply waiting for longer, all waits together, is the bottleneck: the server waits for it.
A client that reads as fast as its network allows pauses for milliseconds."""


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """`places`: the upstream's, None: as many as come. `tools`: what calls of the tool with that name need in addition,
    in a mode of its own where `tool_modes` has one. `watches_serial`: for a server on a pipe, whatever else is set."""

    mode: Mode = Mode.ENFORCE
    places: Places | None = field(default_factory=Places)
    tools: Mapping[str, Places] = field(default_factory=dict)
    tool_modes: Mapping[str, Mode] = field(default_factory=dict)
    watches_serial: bool = False


# the pure part

_WAITED: Final = frozenset({"attempt", "total", "idle"})
_RANKS: Final = {Traffic.CONTROL: Rank.CONTROL, Traffic.INTERACTIVE: Rank.INTERACTIVE, Traffic.LIST: Rank.LIST}


def rank_of(call: Call) -> Rank:
    """A call's rank. A batch, and what cannot be read, is somebody's who waits."""
    return _RANKS[traffic_class(call.message.method)] if call.is_request else Rank.INTERACTIVE


def answer_seconds(call: Call, outcome: Outcome | None, seconds: float) -> float | None:
    """How long the server took for a call that ended after `seconds`; None: that says nothing of the server.

    An answer does, and so does having waited for one in vain. A call of several attempts does not.
    """
    if len(call.attempts) != 1:
        return None
    own = seconds - call.client_seconds
    if isinstance(outcome, Replied):
        return own if outcome.verdict.answered else None
    if isinstance(outcome, Failed) and outcome.timer in _WAITED and outcome.blame is Blame.UPSTREAM:
        return own
    return None


class Way(NamedTuple):
    """What a call needs a place of, in that order; and what only counts it."""

    enforced: tuple[Bulkhead, ...] = ()
    watched: tuple[Bulkhead, ...] = ()

    def behind(self, bulkhead: Bulkhead, mode: Mode) -> "Way":
        """The same, with one more before it."""
        if mode is Mode.ENFORCE:
            return Way((bulkhead, *self.enforced), self.watched)
        return Way(self.enforced, (bulkhead, *self.watched)) if mode is Mode.SHADOW else self


# the doing


class Place:
    """The places that a call holds: core's `Slot` and `Delivery`. Whatever happens, each is given back once."""

    __slots__ = ("_admission", "_began_at", "_call", "_delivering", "_phases", "_turn", "_wanted")

    def __init__(self, admission: "Admission", call: Call, wanted: Sequence[Bulkhead]) -> None:
        self._admission = admission
        self._call = call
        self._wanted = wanted
        self._phases: list[Phase | None] = []
        """One for each place that is held now, in the order of `wanted`."""
        self._began_at = 0.0
        self._turn = 0
        self._delivering: asyncio.TimerHandle | None = None

    def take_now(self) -> bool:
        """Take a place in each bulkhead if all have one free. It says nothing of how long calls take."""
        for bulkhead in self._wanted:
            if not bulkhead.enter():
                self.end(None)
                return False
            self._phases.append(None)
        return True

    async def take(self, rank: Rank, now: float) -> Refused | None:
        """Take a place in each bulkhead, waiting where none is free."""
        admission, began = self._admission, now
        for bulkhead in self._wanted:
            if not bulkhead.enter():
                try:
                    refused = await admission.wait(self._call, bulkhead, rank, began + bulkhead.timeout_seconds)
                except BaseException:
                    self.end(None)
                    raise
                if refused is not None:
                    self.end(None)
                    return refused
                now = admission.now()
            self._phases.append(bulkhead.began())
        self._began_at, self._turn = now, admission.began(now)
        return None

    def release(self) -> None:
        """See Slot."""
        self.end(None)

    async def acquire(self) -> bool:
        """See Slot."""
        return bool(self._phases) or await self.take(Rank.RETURNING, self._admission.now()) is None

    def hand_over(self, heir: Slot) -> None:
        """See Slot."""
        assert isinstance(heir, Place), "places of one upstream are of one kind"
        heir.end(None)
        heir._wanted, heir._began_at, heir._turn = self._wanted, self._began_at, self._turn
        heir._phases, self._phases, self._turn = self._phases, heir._phases, 0

    def held_up(self, call: Call, seconds: float) -> None:
        """See Delivery."""
        if not self._phases:
            return
        if seconds >= DELIVERY_SECONDS or _is_answered(call):
            self._deliver(call)
        else:
            loop = asyncio.get_running_loop()
            self._delivering = loop.call_later(DELIVERY_SECONDS - seconds, self._deliver, call)

    def goes_on(self) -> None:
        """See Delivery."""
        if self._delivering is not None:
            self._delivering.cancel()
            self._delivering = None

    def _deliver(self, call: Call) -> None:
        """Only delivery is left. What the server took is known when its answer has come."""
        now = self._admission.now()
        is_known = len(call.attempts) == 1 and _is_answered(call)
        self._give_back(now - self._began_at - call.asked_seconds(now) if is_known else None, now)

    def end(self, outcome: Outcome | None) -> None:
        """Give the places back, if they are held. `outcome` is the call's; None: it has none."""
        now = self._admission.now()
        self._give_back(answer_seconds(self._call, outcome, now - self._began_at), now)

    def _give_back(self, seconds: float | None, now: float) -> None:
        """`seconds`: how long the server took; None: that is not known."""
        admission = self._admission
        self.goes_on()
        if self._turn:
            admission.ended(self._turn, seconds is not None, now)
            self._turn = 0
        for bulkhead, phase in zip(self._wanted, self._phases, strict=False):
            if bulkhead.ended(phase, seconds):
                admission.tell_level(bulkhead, "limit", bulkhead.capacity)
            bulkhead.leave(now)
        self._phases.clear()


class Admission:
    """The layer of one upstream."""

    def __init__(self, upstream: str, settings: AdmissionSettings, emit: Emit, clock: Callable[[], float]) -> None:
        self._upstream = upstream
        self._emit = emit
        self.now = clock
        mode, modes = settings.mode, settings.tool_modes
        self._own = Way().behind(Bulkhead(settings.places, ""), mode) if settings.places is not None else Way()
        self._of_tool = {
            name: self._own.behind(Bulkhead(places, name), modes.get(name, mode))
            for name, places in settings.tools.items()
        }
        self._of_any_tool = Way(tuple(self._of_tools()) + self._own.enforced, self._own.watched)
        self._serial = SerialWatch() if settings.watches_serial else None
        for bulkhead, _ in self.bulkheads():
            self.tell_level(bulkhead, "limit", bulkhead.capacity)

    def _of_tools(self) -> Iterator[Bulkhead]:
        """Those of single tools that are enforced."""
        for way in self._of_tool.values():
            yield from (each for each in way.enforced if each not in self._own.enforced)

    def bulkheads(self) -> list[tuple[Bulkhead, Mode]]:
        """All there are, the upstream's first."""
        found: dict[Bulkhead, Mode] = {}
        for way in (self._own, *self._of_tool.values()):
            found.update(dict.fromkeys(way.enforced, Mode.ENFORCE))
            found.update(dict.fromkeys(way.watched, Mode.SHADOW))
        return list(found.items())

    def __call__(self, call: Call, inner: CallHandler) -> Awaitable[Outcome]:
        """Let the call in, now or later, or refuse it."""
        if call.is_exempt:
            return inner(call)
        way = self._wanted(call)
        if way.watched:
            return self._watch(call, way, inner)
        if way.enforced:
            return self._enforce(call, way.enforced, inner)
        return self._pass(call, inner) if self._serial is not None else inner(call)

    async def _enforce(self, call: Call, wanted: Sequence[Bulkhead], inner: CallHandler) -> Outcome:
        place = Place(self, call, wanted)
        refused = await place.take(rank_of(call), self.now())
        if refused is not None:
            return refused
        call.slot = call.delivery = place
        try:
            outcome = await inner(call)
        except BaseException:
            self._leave(call, place, None)
            raise
        self._leave(call, place, outcome)
        return outcome

    @staticmethod
    def _leave(call: Call, place: Place, outcome: Outcome | None) -> None:
        call.slot = call.delivery = None
        place.end(outcome)

    def spare_place(self, call: Call) -> Place | None:
        """A second place for a call that has one, for another try beside the first; None: all are in use."""
        place = Place(self, call, self._wanted(call).enforced)
        return place if place.take_now() else None

    async def wait(self, call: Call, bulkhead: Bulkhead, rank: Rank, until: float) -> Refused | None:
        """Wait for a place of one bulkhead until then. A place that is given is never lost."""
        began = self.now()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        waiter = Waiter(rank, wake)
        if until <= began or not bulkhead.join(waiter, began):
            return self._refuse(call, bulkhead, f"is busy: {bulkhead.in_use} calls run, {bulkhead.waiting} wait")
        self.tell_level(bulkhead, "queue", bulkhead.waiting)
        is_settled = False
        try:
            async with asyncio.timeout(until - began):
                await future
            is_settled = True
        except TimeoutError:
            # given in the same moment: it is not refused what it has
            is_settled = waiter.is_admitted
        finally:
            if not is_settled:
                bulkhead.withdraw(waiter, self.now())
            self._waited(call, bulkhead, self.now() - began)
        if waiter.is_admitted:
            return None
        late = f"had no place within {bulkhead.timeout_seconds:g} s"
        why = "let more urgent calls go first" if waiter.is_displaced else late
        return self._refuse(call, bulkhead, f"is busy: this call {why}")

    def began(self, now: float) -> int:
        """A call begins. Returns what to tell its end with."""
        return self._serial.began(now) if self._serial is not None else 0

    def ended(self, turn: int, is_answered: bool, now: float) -> None:
        """It is over."""
        serial = self._serial
        if serial is None:
            return
        if not is_answered:
            serial.forgotten(turn)
        elif serial.ended(turn, now):
            self._emit(LevelChanged("admission", self._upstream, "serial", float(serial.is_serial)))

    def tell_level(self, bulkhead: Bulkhead, what: str, value: int) -> None:
        """A bulkhead's queue or limit is another one now."""
        scope = f"tool:{bulkhead.name}:{what}" if bulkhead.name else what
        self._emit(LevelChanged("admission", self._upstream, scope, float(value)))

    async def _watch(self, call: Call, way: Way, inner: CallHandler) -> Outcome:
        for bulkhead in way.watched:
            action = bulkhead.shadow_enter()
            if action:
                self._emit(Decided("admission", action, call, True, detail=_scope(bulkhead)))
        try:
            return await (self._enforce(call, way.enforced, inner) if way.enforced else self._pass(call, inner))
        finally:
            for bulkhead in way.watched:
                bulkhead.shadow_leave()

    async def _pass(self, call: Call, inner: CallHandler) -> Outcome:
        began_at = self.now()
        turn = self.began(began_at)
        try:
            outcome = await inner(call)
        except BaseException:
            self.ended(turn, is_answered=False, now=self.now())
            raise
        now = self.now()
        self.ended(turn, answer_seconds(call, outcome, now - began_at) is not None, now)
        return outcome

    def _wanted(self, call: Call) -> Way:
        if not self._of_tool:
            return self._own
        if call.is_ambiguous:
            # the server may read another tool's name
            return self._of_any_tool
        return self._of_tool.get(call.message.name, self._own) if call.message.method == "tools/call" else self._own

    def _waited(self, call: Call, bulkhead: Bulkhead, seconds: float) -> None:
        call.queued_seconds += seconds
        self._emit(Decided("admission", "queued", call, seconds=seconds, detail=_scope(bulkhead)))
        self.tell_level(bulkhead, "queue", bulkhead.waiting)

    def _refuse(self, call: Call, bulkhead: Bulkhead, why: str) -> Refused:
        scope, what = _scope(bulkhead), f"MCP server '{self._upstream}'"
        if bulkhead.name:
            what = f"Tool '{bulkhead.name}' of {what}"
        self._emit(Decided("admission", "refused", call, detail=scope))
        return Refused(RefusalKind.OVERLOADED, f"{what} {why}.", scope, bulkhead.retry_after(self.now()))


def _is_answered(call: Call) -> bool:
    """Its one answer has been relayed; a batch has several."""
    return call.is_request and call.answer is not None


def _scope(bulkhead: Bulkhead) -> str:
    return "tool" if bulkhead.name else "upstream"
