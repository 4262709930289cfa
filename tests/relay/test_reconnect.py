"""When and whether a stream is asked for again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.core.outcome import Failed, FailureKind, Outcome, RefusalKind, Refused, Replied
from weir.relay.reconnect import FLOOR_SECONDS, ReconnectSettings, Streak, is_passing, is_stream, wait_seconds

SETTINGS = ReconnectSettings(initial_seconds=1.0, max_seconds=30.0, retry_max_seconds=3600.0)
DRAWS = st.floats(0, 1, exclude_max=True)


@given(st.floats(0, 1e12), DRAWS)
def test_a_server_that_answers_gets_the_time_it_asks_for(asked: float, draw: float) -> None:
    """Within bounds: nobody spins, and nobody waits for ever."""
    waited = wait_seconds(SETTINGS, asked, 0, draw)
    assert max(FLOOR_SECONDS, min(asked, 3600.0)) == waited


@given(st.none() | st.floats(0, 1e12), st.integers(1, 10_000), DRAWS)
def test_a_server_that_fails_is_asked_less_and_less(asked: float | None, failures: int, draw: float) -> None:
    """At least half the back-off, never less than what it asks for, never beyond the bounds."""
    waited = wait_seconds(SETTINGS, asked, failures, draw)
    ceiling = min(30.0, 2.0 ** min(failures - 1, 16))
    assert waited >= ceiling / 2
    assert waited <= max(ceiling, min(asked or 0.0, 3600.0))
    assert asked is None or waited >= min(asked, 3600.0)


@given(st.integers(1, 20))
def test_the_jitter_is_half_of_the_wait(failures: int) -> None:
    """A thousand clients whose server restarts must not come back together."""
    assert wait_seconds(SETTINGS, None, failures, 0.0) * 2 == pytest.approx(
        wait_seconds(SETTINGS, None, failures, 0.999999), rel=1e-3
    )


EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]


@pytest.mark.parametrize(
    ("outcome", "stream", "passing"),
    [
        (Replied(200, EVENTS, None), True, False),
        (Replied(200, [], b""), False, False),
        (Replied(405, [], b""), False, False),
        (Replied(404, [], b""), False, False),
        (Replied(409, [], b""), False, True),
        (Replied(429, [], b""), False, True),
        (Replied(502, EVENTS, b""), False, True),
        (Failed(FailureKind.RESET, ""), False, True),
        (Failed(FailureKind.TIMEOUT, ""), False, True),
        (Failed(FailureKind.EXITED, ""), False, False),
        (Failed(FailureKind.INTERNAL, ""), False, False),
        (Refused(RefusalKind.OVERLOADED, ""), False, True),
        (Refused(RefusalKind.UNKNOWN_SESSION, ""), False, False),
    ],
)
def test_what_may_pass_and_what_will_not(outcome: Outcome, stream: bool, passing: bool) -> None:
    """A server that says no is believed; one that is away is waited for."""
    assert (stream, passing) == (is_stream(outcome), is_passing(outcome))


EMPTY = Replied(200, EVENTS, None)
DOWN = Failed(FailureKind.CONNECT, "is down")


@given(st.sampled_from([0.0, 0.05, 0.5]), DRAWS)
def test_empty_streams_in_a_row_are_asked_for_less_and_less(asked: float, draw: float) -> None:
    """The first wait is the server's own; from the second on it is 1 s, doubled up to a ceiling."""
    streak, waits = Streak(), []
    for _ in range(6):
        streak.note(EMPTY, 0)
        waits.append(streak.wait_seconds(SETTINGS, asked, draw))
    assert [max(asked, FLOOR_SECONDS), 1.0, 2.0, 4.0, 5.0, 5.0] == waits


def test_a_message_ends_a_row_of_empty_streams() -> None:
    """A server that is polled and answers is not slowed down."""
    streak = Streak()
    for messages in (0, 0, 0, 1, 0):
        streak.note(EMPTY, messages)
    assert 0.5 == streak.wait_seconds(SETTINGS, 0.5, 0.0)


def test_a_failure_between_empty_streams_does_not_hide_them() -> None:
    """A server that alternates is asked less and less, too."""
    streak = Streak()
    for outcome in (EMPTY, DOWN, EMPTY, DOWN, EMPTY):
        streak.note(outcome, 0)
    assert (True, 2.0) == (streak.is_spinning, streak.wait_seconds(SETTINGS, 0.0, 0.0))


def test_a_longer_time_that_the_server_asks_for_is_kept() -> None:
    """The ceiling bounds the back-off, not the server's patience."""
    streak = Streak()
    for _ in range(9):
        streak.note(EMPTY, 0)
    assert 60.0 == streak.wait_seconds(SETTINGS, 60.0, 0.5)
