"""When a server that ends as soon as it is started may be started again."""

from weir.relay.stdio_restarts import Restarts, RestartSettings

SETTINGS = RestartSettings(healthy_seconds=5, initial_seconds=0.5, max_seconds=30)


def test_a_first_start_need_not_wait() -> None:
    """Nothing has gone wrong yet."""
    assert 0 == Restarts(SETTINGS).wait_seconds(0)


def test_each_start_that_led_to_nothing_doubles_the_pause_up_to_a_limit() -> None:
    """0.5 s, 1 s, 2 s … 30 s; it passes with time."""
    restarts = Restarts(SETTINGS)
    pauses = []
    for _ in range(2000):
        restarts.ended(100, 1, has_answered=False)
        pauses.append(restarts.wait_seconds(100))
    assert [0.5, 1, 2, 4, 8, 16, 30, 30] == pauses[:8]
    assert 30 == pauses[-1]
    assert 10 == restarts.wait_seconds(120)
    assert 0 == restarts.wait_seconds(130)


def test_a_server_that_was_of_use_may_be_started_at_once() -> None:
    """It answered something, or lived for a while."""
    for lived, answered in ((1, True), (5, False)):
        restarts = Restarts(SETTINGS)
        restarts.ended(100, 1, has_answered=False)
        restarts.ended(100, lived, has_answered=answered)
        assert 0 == restarts.wait_seconds(100)
