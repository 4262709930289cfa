"""A server of so many places behind a bulkhead, and an open-loop load on it, as a simulation of events."""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from weir.policies.admission_limit import Phase
from weir.policies.admission_queue import Bulkhead, Places, Rank, Waiter

Draw = Callable[[random.Random], float]


def steady(seconds: float) -> Draw:
    """Each call takes the same."""
    return lambda _: seconds


def jittered(seconds: float, share: float) -> Draw:
    """Each call takes that, more or less by up to `share`."""
    return lambda draws: seconds * draws.uniform(1 - share, 1 + share)


@dataclass
class Load:
    """What is offered, and what the server can do: `slots` at an instant, each call for `service` seconds."""

    slots: Callable[[float], int]
    service: Draw
    per_second: float
    seed: int = 1


@dataclass
class Figures:
    """What came of it: answers as (instant, latency), and each second's estimate."""

    answers: list[tuple[float, float]] = field(default_factory=list)
    estimates: list[float] = field(default_factory=list)
    refused: int = 0

    def goodput(self, since: float, until: float) -> float:
        """Answers a second."""
        return sum(since <= at < until for at, _ in self.answers) / (until - since)

    def latency(self, share: float, since: float, until: float) -> float:
        """A quantile of the latencies."""
        found = sorted(seconds for at, seconds in self.answers if since <= at < until)
        return found[min(len(found) - 1, int(share * len(found)))]


@dataclass
class _Call:
    arrived_at: float
    began_at: float = 0.0
    phase: Phase | None = None


class Simulation:
    """The server works on its calls in the order they came; those beyond its places wait inside it."""

    def __init__(self, places: Places, load: Load) -> None:
        self.bulkhead = Bulkhead(places, "")
        self.figures = Figures()
        self._load = load
        self._draws = random.Random(load.seed)
        self._now = 0.0
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, _Call | None]] = []
        self._inside: deque[_Call] = deque()
        self._working = 0

    def run(self, seconds: float) -> Figures:
        """From the start until then."""
        self._at(0.0, None)
        while self._events[0][0] < seconds:
            self._now, _, call = heapq.heappop(self._events)
            while len(self.figures.estimates) <= self._now:
                self.figures.estimates.append(float(self.bulkhead.capacity))
            if call is None:
                self._arrive()
            else:
                self._end(call)
        return self.figures

    def _at(self, instant: float, call: _Call | None) -> None:
        heapq.heappush(self._events, (instant, next(self._numbers), call))

    def _arrive(self) -> None:
        self._at(self._now + self._draws.expovariate(self._load.per_second), None)
        call = _Call(self._now)
        if self.bulkhead.enter():
            self._begin(call)
        elif not self.bulkhead.join(Waiter(Rank.INTERACTIVE, lambda: self._begin(call)), self._now):
            self.figures.refused += 1

    def _begin(self, call: _Call) -> None:
        call.began_at = self._now
        call.phase = self.bulkhead.began()
        self._inside.append(call)
        self._work()

    def _work(self) -> None:
        while self._inside and self._working < self._load.slots(self._now):
            self._working += 1
            self._at(self._now + self._load.service(self._draws), self._inside.popleft())

    def _end(self, call: _Call) -> None:
        self._working -= 1
        self.figures.answers.append((self._now, self._now - call.arrived_at))
        self.bulkhead.ended(call.phase, self._now - call.began_at)
        self._work()
        self.bulkhead.leave(self._now)
