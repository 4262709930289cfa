"""How many calls a server can work on at once, found from how long they take. Part of `admission`. Pure.

Of more calls than a server of c places can work on, each waits for the others, and what a call takes grows in
proportion to their number. So the limit is put up and down in turn, and the mean times in the two phases are compared:
equal, and there was room for more; in proportion to the two limits, and there was none even at the lower one; in
between, and c is the upper limit divided by the ratio. Nothing is compared with the past: a server that becomes slower,
or is asked for other tools, moves both means.

Nothing is learnt, and nobody waits, while there are fewer calls than the limit allows.
"""

import math
from typing import Final

SEARCHING: Final = 0.25
FOUND: Final = 0.95
"""The lower limit as a share of the estimate: at first, and once there is one (it costs 5 % of a part of the time)."""

WIDENING: Final = 0.75
"""The share is multiplied by this each time that the server had no room even at the lower limit."""

UPPER: Final = 1.2
"""The upper limit as a multiple of the estimate."""

FEWEST_CALLS: Final = 16
MOST_CALLS: Final = 300
"""Calls in a phase. Between the two, as many as make the error of the mean a sixth of what is to be seen."""

UPPER_TIMES: Final = 1.5
RESTING_TIMES: Final = 8.0
COST_TIMES: Final = 10.0
"""How many times more calls an upper phase has: at least; at the ceiling, with room to spare, where there is little to
learn; and in addition, times the share of places that a lower phase leaves empty."""

TRIMMED_SHARE: Final = 0.1
"""The slowest of a phase's calls are not waited for: what hangs must not stop the search."""

ROOM: Final = 0.06
BEYOND: Final = 0.93
"""Below which growth of the mean there is room at the upper limit (no more than a quarter of the greatest growth), and
from which share of the greatest growth on there is none even at the lower."""

BELIEF: Final = 0.1
DAMPING: Final = 0.5
"""How far off an estimate that was found is taken to be, against the error of what is measured; and the weight of one
such measurement: the next comes soon."""

FASTER: Final = 1.2
FASTEST: Final = 2.0
"""Room several times in a row: how far the estimate goes beyond the upper limit."""

_FIRST_JITTER: Final = 0.3
_LEAST_JITTER: Final = 0.1
_MOST_JITTER: Final = 1.5
"""Standard deviation over mean, of what single calls take: before anything is known, and what is believed of it."""


class Phase:
    """Some calls under one limit. Only those count that took its last place: they saw the server as full as it gets."""

    __slots__ = ("began", "limit", "passed", "spare", "times", "unfilled", "wanted")

    def __init__(self, limit: int, wanted: int) -> None:
        self.limit = limit
        self.wanted = wanted
        self.passed = limit // 2
        """Calls to let pass first: the server still feels the limit before."""
        self.began = 0
        self.spare = 0
        self.unfilled = 0
        self.times: list[float] = []

    @property
    def is_complete(self) -> bool:
        return len(self.times) >= self.wanted * (1 - TRIMMED_SHARE)

    @property
    def is_void(self) -> bool:
        """Too few calls fill the limit, or too many of those that do never end."""
        return self.unfilled > self.began + FEWEST_CALLS or self.spare > 3 * self.wanted + self.limit

    def take(self, is_filled: bool) -> bool:
        """A call begins. True: what it takes is wanted."""
        if not is_filled:
            self.unfilled += 1
        elif self.passed:
            self.passed -= 1
        elif self.began < self.wanted:
            self.began += 1
            return True
        else:
            self.spare += 1
        return False

    def mean_and_error(self) -> tuple[float, float]:
        """The mean of the times, and its standard error as a share of it."""
        count = len(self.times)
        mean = sum(self.times) / count
        if count < 2 or not mean:
            return mean, 1.0
        variance = sum((each - mean) ** 2 for each in self.times) / (count - 1)
        return mean, math.sqrt(variance / count) / mean


class AdaptiveLimit:
    """The limit of one server, at most `ceiling`, where it also begins: it is lowered for a reason only.

    `estimate` is how many calls the server can work on at once, as far as is known; `limit` how many may be with it
    now; `typical_seconds` what a call took in the last phase (0.0: nothing is known).
    """

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self.estimate = float(ceiling)
        self.typical_seconds = 0.0
        self._share = SEARCHING
        self._growth = 1.0
        self._jitter = _FIRST_JITTER
        self._is_resting = False
        self._upper: Phase | None = None
        self._phase = self._next_upper()
        self.limit = self._phase.limit

    def began(self, is_filled: bool) -> Phase | None:
        """A call begins. `is_filled`: it takes the last place. Returns what to tell its end with, None for nothing."""
        phase = self._phase
        if phase.take(is_filled):
            return phase
        if phase.is_void:
            self._upper = None
            self._enter(self._next_upper())
        return None

    def ended(self, phase: Phase | None, seconds: float) -> None:
        """A call was answered after `seconds`. What began in an earlier phase says nothing any more."""
        if phase is self._phase and phase is not None:
            phase.times.append(seconds)
            if phase.is_complete:
                self._advance(phase)

    def forgotten(self, phase: Phase | None) -> None:
        """A call ended without an answer, which says nothing of the time that one takes."""
        if phase is self._phase and phase is not None:
            phase.began -= 1

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self.limit = phase.limit

    def _advance(self, phase: Phase) -> None:
        self.typical_seconds, error = phase.mean_and_error()
        jitter = min(max(error * math.sqrt(len(phase.times)), _LEAST_JITTER), _MOST_JITTER)
        self._jitter += 0.3 * (jitter - self._jitter)
        upper, self._upper = self._upper, None
        if upper is None:
            lower = self._lower(phase.limit)
            if lower < phase.limit:
                self._upper = phase
                self._enter(self._sized(lower, phase.limit / lower, 1.0))
                return
        elif self.typical_seconds:
            self._judge(upper, phase)
        self._enter(self._next_upper())

    def _judge(self, upper: Phase, lower: Phase) -> None:
        """Compare two phases. `greatest` is what the ratio of their means is when there was no room in either."""
        upper_mean, upper_error = upper.mean_and_error()
        lower_mean, lower_error = lower.mean_and_error()
        greatest = upper.limit / lower.limit
        ratio = upper_mean / lower_mean
        has_room = ratio <= 1 + min(ROOM, (greatest - 1) / 4)
        is_beyond = ratio >= 1 + BEYOND * (greatest - 1)
        belief = max(BELIEF, (greatest - 1) / 2)
        weight = belief**2 / (belief**2 + upper_error**2 + lower_error**2)
        if not is_beyond and self._growth == 1.0 and greatest < 1 / WIDENING**2:
            weight *= DAMPING
        found = upper.limit * self._growth if has_room else upper.limit / min(max(ratio, 1.0), greatest)
        self._growth = min(self._growth * FASTER, FASTEST) if has_room else 1.0
        self._share = max(self._share * WIDENING, SEARCHING) if is_beyond else FOUND
        self._is_resting = has_room
        self.estimate = min(max(self.estimate ** (1 - weight) * found**weight, 1.0), float(self._ceiling))

    def _lower(self, upper: int) -> int:
        return max(1, min(int(self.estimate * self._share), upper - 1))

    def _next_upper(self) -> Phase:
        limit = min(max(round(self.estimate * UPPER), int(self.estimate) + 1), self._ceiling)
        lower, times = self._lower(limit), UPPER_TIMES
        if self._share == FOUND:
            times += COST_TIMES * max(0.0, 1 - lower / self.estimate)
        if self._is_resting and limit == self._ceiling:
            times = RESTING_TIMES
        return self._sized(limit, max(limit / lower, 1 / FOUND), times)

    def _sized(self, limit: int, greatest: float, times: float) -> Phase:
        """A phase of as many calls as show the difference that `greatest` stands for."""
        wanted = (6 * self._jitter / (greatest - 1)) ** 2
        return Phase(limit, int(min(max(wanted, FEWEST_CALLS), MOST_CALLS) * times))
