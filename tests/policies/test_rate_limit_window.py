"""Windows of rate limits: the exact one against a plain list of instants, the counted one against its stated bound."""

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from weir.policies.rate_limit_window import (
    EXACT_LIMIT,
    SLICES,
    CountedWindow,
    ExactWindow,
    SpilledWindow,
    Window,
    window_for,
)

LIMIT, SECONDS = 7, 16.0
PAUSES = st.one_of(st.integers(0, 12), st.integers(0, 200)).map(lambda quarters: quarters / 4)


@dataclass
class Plain:
    """The instants of all calls, and nothing clever."""

    limit: int
    seconds: float
    stamps: list[float] = field(default_factory=list)

    def live(self, now: float) -> list[float]:
        return sorted(stamp for stamp in self.stamps if stamp + self.seconds > now)

    def wait(self, now: float, count: int) -> float:
        """The first instant at which they fit, looked for among all at which anything leaves."""
        if count > self.limit:
            return math.inf
        instants = [now, *(stamp + self.seconds for stamp in self.live(now))]
        return next(at - now for at in sorted(instants) if len(self.live(at)) + count <= self.limit)


class ExactMachine(RuleBasedStateMachine):
    """Calls alone and in batches, refused, given back, at instants that floats hold exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.plain = Plain(LIMIT, SECONDS)
        self.window = ExactWindow(LIMIT, SECONDS)

    @rule(pause=PAUSES)
    def time_passes(self, pause: float) -> None:
        self.now += pause

    @rule(count=st.integers(1, LIMIT + 1))
    def calls_come(self, count: int) -> None:
        seconds = self.window.wait(self.now, count)
        assert self.plain.wait(self.now, count) == seconds
        if not seconds:
            grown = self.window.counts_bytes + self.window.growth_bytes(self.now, count)
            self.window.take(self.now, count)
            self.plain.stamps += [self.now] * count
            assert grown == self.window.counts_bytes

    @precondition(lambda self: self.plain.stamps)
    @rule(data=st.data(), count=st.integers(1, LIMIT))
    def calls_are_given_back(self, data: st.DataObject, count: int) -> None:
        stamp = data.draw(st.sampled_from(self.plain.stamps))
        self.window.give_back(stamp, count)
        for _ in range(min(count, self.plain.stamps.count(stamp))):
            self.plain.stamps.remove(stamp)

    @rule(stamp=st.sampled_from([1.0, 1e9]))
    def what_was_never_taken_is_given_back(self, stamp: float) -> None:
        self.window.give_back(stamp)

    @invariant()
    def it_holds_what_is_in_the_window(self) -> None:
        live = self.plain.live(self.now)
        assert len(live) == self.window.used(self.now)
        if live:
            assert live[-1] + SECONDS == self.window.empty_at
        else:
            assert self.window.empty_at <= self.now

    @invariant()
    def it_is_never_larger_than_the_limit_needs(self) -> None:
        assert self.window.counts_bytes <= LIMIT * 8


ExactMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50)
TestExact = ExactMachine.TestCase


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60), st.integers(1, 8), st.floats(0.1, 20.0))
def test_exact_no_window_ever_holds_more_than_the_limit(pauses: list[float], limit: int, seconds: float) -> None:
    """Wherever it is laid; and who waits as long as was said passes, give or take a float's last digit."""
    window, now, passed = ExactWindow(limit, seconds), 1000.0, []
    for pause in pauses:
        now += pause
        wait = window.wait(now)
        if wait:
            now += wait * (1 + 1e-9) + 1e-9
            assert 0.0 == window.wait(now)
        window.take(now)
        passed.append(now)
        assert sum(stamp + seconds > now for stamp in passed) <= limit


def test_a_ring_grows_as_it_needs_to() -> None:
    """Doubled; a key that is called once takes four places."""
    window, sizes = ExactWindow(1000, 60.0), []
    for number in range(1000):
        window.take(float(number) / 100)
        sizes.append(window.counts_bytes // 8)
    assert [4, 8, 16, 32, 64, 128, 256, 512, 1000] == sorted(set(sizes))
    assert 1000 == window.used(10.0)
    assert pytest.approx(50.0) == window.wait(10.0)


def test_a_ring_does_not_grow_for_what_has_left() -> None:
    """One call a window for ever takes four places."""
    window = ExactWindow(1000, 1.0)
    for number in range(5000):
        window.take(float(number))
    assert (32, 1) == (window.counts_bytes, window.used(4999.5))


def test_room_made_beforehand_is_enough() -> None:
    """`growth_bytes` says it, `grow` does it, `take` needs no more."""
    window = ExactWindow(100, 60.0)
    assert 64 * 8 == window.growth_bytes(0.0, 50)
    window.grow(0.0, 50)
    assert (512, 0) == (window.counts_bytes, window.growth_bytes(0.0, 50))
    window.take(0.0, 50)
    assert 512 == window.counts_bytes


def test_who_holds_nothing_is_known_by_its_instant() -> None:
    """Never used, and given back."""
    for window in (ExactWindow(5, 10.0), CountedWindow(5, 10.0)):
        assert -math.inf == window.empty_at
        window.take(100.0)
        assert 110.0 <= window.empty_at <= 111.0
        window.give_back(100.0)
        assert (-math.inf, 0) == (window.empty_at, window.used(100.0))


@pytest.mark.parametrize("kind", [ExactWindow, CountedWindow])
def test_one_call_is_meant_where_no_number_is_said(kind: type[ExactWindow] | type[CountedWindow]) -> None:
    """By every method."""
    window = kind(8, 10.0)
    window.take(100.0, 7)
    assert 0.0 == window.wait(100.0)
    window.take(100.0)
    assert (8, True) == (window.used(100.0), window.wait(100.0) > 0.0)
    window.give_back(100.0)
    assert 7 == window.used(100.0)


def test_a_ring_of_four_is_full_with_four() -> None:
    """Not with three."""
    window = ExactWindow(8, 10.0)
    window.take(100.0, 3)
    assert 0 == window.growth_bytes(100.0, 1)
    window.grow(100.0, 1)
    assert 32 == window.counts_bytes
    window.take(100.0)
    assert 32 == window.growth_bytes(100.0, 1)


# the counted window


def test_the_limit_decides_which_window_it_is() -> None:
    """1,000 is still exact."""
    assert isinstance(window_for(EXACT_LIMIT, 1.0), ExactWindow)
    assert isinstance(window_for(EXACT_LIMIT + 1, 1.0), CountedWindow)


BURSTS = st.lists(st.tuples(st.floats(0.0, 4.0), st.integers(1, 400)), min_size=1, max_size=60)


@given(BURSTS)
def test_the_estimate_is_within_the_stated_bound(bursts: list[tuple[float, int]]) -> None:
    """-n f <= estimate - true <= n (1 - f), n the calls of the slice at the edge, f the share of it that has left."""
    seconds, now = 10.0, 1000.0
    width, passed = seconds / SLICES, list[tuple[float, int]]()
    window = CountedWindow(1500, seconds)
    for pause, count in bursts:
        now += pause
        if not window.wait(now, count):
            window.take(now, count)
            passed.append((now, count))
        at = int(now / width)
        n = sum(count for stamp, count in passed if int(stamp / width) == at - SLICES)
        f = now / width - at
        true = sum(count for stamp, count in passed if stamp > now - seconds)
        assert -n * f - 1e-6 <= window.used(now) - true <= n * (1 - f) + 1e-6


@given(BURSTS)
def test_no_window_holds_more_than_the_limit_and_one_slices_share(bursts: list[tuple[float, int]]) -> None:
    """L + n f, as derived."""
    limit, seconds, now = 1500, 10.0, 1000.0
    width, passed = seconds / SLICES, list[tuple[float, int]]()
    window = CountedWindow(limit, seconds)
    for pause, count in bursts:
        now += pause
        if window.wait(now, count):
            continue
        window.take(now, count)
        passed.append((now, count))
        at = int(now / width)
        n = sum(count for stamp, count in passed if int(stamp / width) == at - SLICES)
        true = sum(count for stamp, count in passed if stamp > now - seconds)
        assert true <= limit + n * (now / width - at) + 1e-6


@given(BURSTS, st.integers(1, 1500))
def test_counted_the_wait_is_just_long_enough(bursts: list[tuple[float, int]], wanted: int) -> None:
    """A little earlier they do not fit, a little later they do."""
    now, window = 1000.0, CountedWindow(1500, 20.0)
    for pause, count in bursts:
        now += pause
        if not window.wait(now, count):
            window.take(now, count)
    seconds = window.wait(now, wanted)
    assert 0.0 <= seconds <= 22.0
    if seconds > 0.001:
        assert window.used(now + seconds * 0.999) + wanted > 1500
    assert 0.0 == window.wait(now + seconds + 0.001, wanted)


def test_even_calls_are_counted_as_they_are() -> None:
    """To within the one that is just leaving."""
    window = CountedWindow(2001, 10.0)
    for number in range(20_000):
        now = 1000.0 + number * 0.005
        assert 0.0 == window.wait(now), number
        window.take(now)
        true = min(number + 1, 2000)
        assert abs(window.used(now) - true) <= 1.0 + 1e-6


def test_counted_given_back_is_as_never_taken() -> None:
    """In its own slice, the one at the edge too; what has left is left alone."""
    window = CountedWindow(1500, 20.0)
    window.take(1020.0, 300)
    window.take(1027.0, 100)
    window.give_back(1020.0, 300)
    assert 100 == window.used(1041.9)
    window.give_back(900.0, 5)
    assert 100 == window.used(1041.9)
    window.take(1041.9, 50)
    assert 75 == window.used(1047.5)
    window.give_back(1027.0, 100)
    assert 50 == window.used(1047.5)
    assert 50 == window.used(1048.0)
    window.give_back(1027.0, 7)
    assert 50 == window.used(1048.0)


@pytest.mark.parametrize("window", [ExactWindow(5, 10.0), CountedWindow(5, 10.0)])
def test_more_than_the_limit_never_fits(window: Window) -> None:
    """However long one waits."""
    assert math.inf == window.wait(0.0, 6)
    assert 0.0 == window.wait(0.0, 5)


def test_counted_full_is_full() -> None:
    """Not one more."""
    window = CountedWindow(1500, 10.0)
    window.take(1000.25, 1499)
    assert 0.0 == window.wait(1000.75)
    window.take(1000.75)
    assert window.wait(1000.75) > 9.0


def test_a_counted_window_never_grows() -> None:
    """88 bytes for any limit."""
    window = CountedWindow(10**9, 10.0)
    window.take(0.0, 10**8)
    window.grow(0.0, 10**8)
    assert (88, 0) == (window.counts_bytes, window.growth_bytes(0.0, 10**8))


# two windows that count as one


def test_spilled_both_together_stay_within_the_limit() -> None:
    """New calls go to the shared one; what waits, waits for whichever lets go first or for both."""
    own, shared = ExactWindow(4, 10.0), ExactWindow(4, 10.0)
    own.take(100.0, 2)
    spilled = SpilledWindow(own, shared, 4)
    assert 0.0 == spilled.wait(101.0, 2)
    spilled.take(101.0, 2)
    assert (2, 2, 4) == (own.used(101.0), shared.used(101.0), spilled.used(101.0))
    assert 0.0 < spilled.wait(101.0, 1) <= 10.0
    assert 0.0 == spilled.wait(101.0 + spilled.wait(101.0, 1), 1)
    spilled.give_back(101.0, 2)
    assert (0.0, 0) == (spilled.wait(101.0, 2), shared.used(101.0))


def test_spilled_a_full_shared_window_is_waited_for() -> None:
    """Others have filled it."""
    own, shared = ExactWindow(4, 10.0), ExactWindow(4, 10.0)
    own.take(100.0)
    shared.take(95.0, 4)
    assert 5.0 == SpilledWindow(own, shared, 4).wait(100.0, 1)


@pytest.mark.parametrize(("own_at", "shared_at"), [(100.0, 101.0), (101.0, 100.0)])
def test_spilled_so_many_wait_for_the_later_of_both(own_at: float, shared_at: float) -> None:
    """Neither has room for them all."""
    own, shared = ExactWindow(4, 10.0), ExactWindow(4, 10.0)
    own.take(own_at, 2)
    shared.take(shared_at, 2)
    assert 9.0 == SpilledWindow(own, shared, 4).wait(102.0, 3)


def test_spilled_it_is_no_longer_than_until_both_are_empty() -> None:
    """Each alone has room."""
    own, shared = ExactWindow(4, 10.0), ExactWindow(4, 10.0)
    own.take(101.0, 2)
    shared.take(101.0, 2)
    assert 0.5 == SpilledWindow(own, shared, 4).wait(110.5, 1)


def test_what_is_absorbed_counts_as_its_own() -> None:
    """Instant by instant, until it leaves; of more than the limit the newest."""
    own, shared = ExactWindow(4, 10.0), ExactWindow(4, 10.0)
    for at in (85.0, 95.0, 97.0):
        shared.take(at)
    own.take(96.0)
    own.absorb(shared, 100.0)
    assert (3, 107.0, 32) == (own.used(100.0), own.empty_at, own.counts_bytes)
    own.take(100.0)
    assert 5.0 == own.wait(100.0)
    own.absorb(shared, 100.0)
    assert (4, 6.0) == (own.used(100.0), own.wait(100.0))
    fresh = ExactWindow(4, 10.0)
    fresh.absorb(ExactWindow(4, 10.0), 100.0)
    assert (0, -math.inf) == (fresh.used(100.0), fresh.empty_at)


def test_counted_what_is_absorbed_counts_as_its_own() -> None:
    """Slice by slice."""
    own, shared = CountedWindow(1500, 10.0), CountedWindow(1500, 10.0)
    shared.take(992.5, 100)
    shared.take(995.5, 200)
    own.take(990.5, 10)
    own.absorb(shared, 1000.0)
    assert 310 == own.used(1000.0)
    assert (1006.0, 88) == (own.empty_at, own.most_bytes)
    assert (300, 200, 0) == (own.used(1002.0), own.used(1003.0), own.used(1006.0))
