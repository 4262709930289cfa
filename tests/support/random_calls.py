"""Random configurations, and random calls through them to a server that does what it likes, in virtual time."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from support.coalescing import EVENTS, read, result
from support.policed import ACCEPTED, RecordingSink, batch_of, body_of, call_of, call_with, status, tool_call
from support.protected import Protected
from support.virtual_loop import turns
from weir.core.call import Attempt, Call
from weir.core.outcome import PLAIN, Failed, FailureKind, Outcome, Replied, Sent, Verdict
from weir.policies.admission import DELIVERY_SECONDS
from weir.protocol import sse

CALLS = 40
"""Through one configuration: enough to fill queues, open circuits and meet in flight."""

MODES = ("enforce", "enforce", "enforce", "shadow", "off")
Draws = random.Random
Json = dict[str, Any]


def _timeout(draws: Draws) -> Json:
    times = {"connect": "500ms", "attempt": draws.choice(["1s", "3s", "9s"]), "total": draws.choice(["9s", "12s"])}
    return {**times, "client_input": draws.choice(["1s", "20s"])}


def _retry(draws: Draws) -> Json:
    budget = {"ratio": draws.choice([0, 0.5, 1]), "min_per_second": draws.choice([0, 1, 5])}
    return {"attempts": draws.choice([1, 2, 3]), "backoff": {"max": "1s"}, "budget": budget}


def _breaker(draws: Draws) -> Json:
    rates = {"slow_call": {"over": "1s", "rate": 0.7}, "min_calls": 4, "window": "10s"}
    return {**rates, "consecutive_failures": draws.choice([2, 4]), "open_for": "2s", "half_open_probes": 2}


def _concurrency(draws: Draws) -> Json:
    return {"limit": draws.choice([1, 2, 4]), "queue": draws.choice([0, 5, 20]), "queue_timeout": "2s"}


def _limit(draws: Draws) -> Json:
    return {"per": draws.choice(["client", "tool", "method_class"]), "limit": draws.choice([10, 30]), "window": "9s"}


_MAKERS: dict[str, Callable[[Draws], Json]] = {
    "timeout": _timeout,
    "retry": _retry,
    "breaker": _breaker,
    "concurrency": _concurrency,
    "coalesce": lambda draws: {},
    "hedge": lambda draws: {"after": draws.choice(["100ms", "500ms"])},
}


def _sections(draws: Draws, modes: tuple[str, ...], share: float, *left_out: str) -> Json:
    made = {name: {**make(draws), "mode": draws.choice(modes)} for name, make in _MAKERS.items()}
    return {name: each for name, each in made.items() if draws.random() < share and name not in left_out}


def configuration(draws: Draws, modes: tuple[str, ...] = MODES) -> tuple[Json, Json]:
    """Policies, and what is said for single tools. Nobody says of the tool `write` that it may be done twice."""
    policies = _sections(draws, modes, 0.7)
    policies["rate_limits"] = [{**_limit(draws), "mode": draws.choice(modes)} for _ in range(draws.randint(0, 2))]
    if "breaker" in policies:
        policies["breaker"]["scope"] = draws.choice(["upstream", "tool"])
    tools = {"write": _sections(draws, modes, 0.4, "retry", "hedge", "coalesce"), "look": _sections(draws, modes, 0.4)}
    for own in tools.values():
        own.get("retry", {}).pop("budget", None)
    return policies, tools


class Server:
    """Answers, fails, stalls, asks and streams: the same for the same attempt of the same call, whatever stands before
    it. `most`: how many calls it worked on at once, of each tool and ("") in all; `executed`: how often it did each.
    A call whose client holds up the reply is not worked on."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.running: dict[Attempt, list[str]] = {}
        self.most, self.executed = Counter[str](), Counter[bytes]()

    async def __call__(self, attempt: Attempt) -> Outcome:
        """One attempt."""
        call = attempt.call
        if not call.is_request:
            return ACCEPTED
        scopes = [] if call.is_exempt else ["", call.message.name][: 2 if call.message.method == "tools/call" else 1]
        self.running[attempt] = scopes
        now = asyncio.get_running_loop().time()
        working = [names for each, names in self.running.items() if not _is_only_delivered(each.call, now)]
        self.most |= Counter(name for names in working for name in names)
        try:
            return await self._do(attempt, Draws(f"{self.seed} {call.message.id!r} {attempt.number}"))
        finally:
            del self.running[attempt]

    async def _do(self, attempt: Attempt, draws: Draws) -> Outcome:
        call, now = attempt.call, asyncio.get_running_loop().time
        if draws.random() < 0.1:
            attempt.connect_seconds = 0.2
            await asyncio.sleep(0.2)
            return Failed(FailureKind.CONNECT, "refused", sent=Sent.NO)
        attempt.sent_at = now()
        kind = draws.choice(["result"] * 4 + ["stream"] * 3 + ["reset", "busy", "error", "asking"])
        self.executed[call.message.id] += kind != "busy"
        await asyncio.sleep(draws.choice([0.0, 0.02, 0.2, 0.6, 1.5, 4.0]))
        attempt.first_byte_at = now()
        if kind == "asking":
            call.ask_began(now(), "elicitation/create")
            try:
                await asyncio.sleep(draws.choice([0.5, 3.0, 25.0]))
            finally:
                call.ask_ended(now())
        return await self._stream(attempt, draws) if kind == "stream" else _whole(call, kind, draws)

    async def _stream(self, attempt: Attempt, draws: Draws) -> Outcome:
        call = attempt.call
        await attempt.sink.open(200, EVENTS)
        for _ in range(draws.randint(0, 2)):
            await asyncio.sleep(draws.choice([0.0, 0.1, 1.2]))
            call.committed = True
            await attempt.sink.write(sse.encode(body_of("notifications/message", {}, None)))
        if draws.random() < 0.2:
            return Failed(FailureKind.RESET, "the stream ended before the answer")
        call.committed = True
        call.answered(call.message.id, PLAIN)
        await attempt.sink.write(sse.encode(result(call.message.id)))
        await asyncio.sleep(draws.choice([0.0, 0.0, 3.0]))
        return Replied(200, EVENTS, None, PLAIN)


def _whole(call: Call, kind: str, draws: Draws) -> Outcome:
    if kind == "reset":
        return Failed(FailureKind.RESET, "reset")
    if kind == "busy":
        return status(503, (b"retry-after", draws.choice([b"0", b"1", b"100"])))
    if kind == "error":
        text = b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32603,"message":"x"}}' % call.message.id
        return Replied(200, [], text, Verdict(-32603, "x"))
    return Replied(200, [], result(call.message.id), PLAIN)


def _is_only_delivered(call: Call, now: float) -> bool:
    """One of its clients holds up the answer, or has held up the reply for as long as admission allows."""
    for each in {call, *getattr(call, "callers", ())}:
        seconds = each._unread_before + max(0.0, now - each._unread_since)
        if seconds >= DELIVERY_SECONDS or (each.answer is not None and (seconds or each.is_standing)):
            return True
    return False


class SlowSink(RecordingSink):
    """A client that stops reading now and then."""

    def __init__(self, call: Call, draws: Draws) -> None:
        super().__init__()
        self._call, self._draws = call, draws

    async def write(self, chunk: bytes) -> None:
        """Note the bytes, in time."""
        if self._draws.random() < 0.2:
            now = asyncio.get_running_loop().time
            self._call.unread_began(now())
            try:
                await asyncio.sleep(self._draws.choice([0.001, 0.01, 0.3, 5.0]))
            finally:
                self._call.unread_ended(now())
        await super().write(chunk)


def _call(number: int, draws: Draws) -> Call:
    session = draws.choice(["", "s"])
    kind = draws.choice(["read"] * 5 + ["write", "look", "look", "list", "ping", "batch", "cancel"])
    made = {
        "read": read(number, uri=draws.choice("ab")),
        "write": tool_call("write", number),
        "look": tool_call("look", number),
        "list": call_of("tools/list", number),
        "ping": call_of("ping", number),
        "batch": batch_of(body_of("tools/list", None, number), body_of("tools/call", {"name": "write"}, number + 1000)),
        "cancel": call_with(body_of("notifications/cancelled", {"requestId": draws.randint(1, number)}, None)),
    }[kind]
    made.session, made.sink = session, SlowSink(made, Draws(f"sink {number} {session}"))
    if draws.random() < 0.15:
        made.headers = [(b"weir-deadline-ms", draws.choice([b"0", b"700", b"3000"]))]
    return made


class Run:
    """Calls that came at random, some of which left; and how each ended, with its instant (None: it had left)."""

    def __init__(self, seed: int, protected: Protected, server: Server) -> None:
        self.layers, self.told, self.server = protected.layers, protected.told, server
        self.calls: list[Call] = []
        self.ends: list[tuple[Outcome | None, float]] = []
        self._serve = protected.serve
        self._draws = Draws(seed)

    async def go(self) -> None:
        """From the first call to the last end."""
        draws, loop = self._draws, asyncio.get_running_loop()
        tasks: list[asyncio.Task[tuple[Outcome | None, float]]] = []
        for number in range(1, CALLS + 1):
            self.calls.append(_call(number, draws))
            tasks.append(loop.create_task(self._end_of(self.calls[-1])))
            if draws.random() < 0.3:
                loop.call_later(draws.choice([0.0, 0.01, 0.1, 0.5, 1.0, 2.0]), tasks[-1].cancel)
            await asyncio.sleep(draws.choice([0.0, 0.0, 0.0, 0.01, 0.1, 0.7]))
        for task in tasks:
            self.ends.append(await task if not task.cancelled() else (None, 0.0))
        await turns(30)

    async def _end_of(self, call: Call) -> tuple[Outcome | None, float]:
        now = asyncio.get_running_loop().time
        try:
            return await self._serve(call), round(now(), 6)
        except asyncio.CancelledError:
            return None, round(now(), 6)


@asynccontextmanager
async def _serving(protected: Protected) -> AsyncIterator[None]:
    async def run(service: Callable[[], Awaitable[Any]]) -> None:
        await service()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(each)) for each in protected.layers.services]
        await turns(3)
        yield
        for task in tasks:
            task.cancel()


async def run(seed: int, policies: Json, tools: Json) -> Run:
    """So many random calls through a configuration; the same calls for the same seed."""
    server = Server(seed)
    protected = Protected(policies, server, tools=tools)
    made = Run(seed, protected, server)
    async with _serving(protected):
        await made.go()
    return made
