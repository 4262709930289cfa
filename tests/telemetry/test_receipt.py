"""What became of a batch, read from what collectors say."""

import pytest

from weir.telemetry.receipt import LEAST_PAUSE_SECONDS, asked_to_wait, failed, rejected, retry_after, taken


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 86400 ", 86400.0),
        ("Thu, 01 Jan 1970 00:01:10 GMT", 60.0),
        ("Thu, 01 Jan 1970 00:00:05 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("²", None),
        pytest.param("9" * 5000, None, id="5000 digits"),
        ("Thu, 99 Jan 1970 00:01:10 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    """A date in the past means at once; anything else means nothing."""
    assert seconds == retry_after(value, lambda: 10.0)


@pytest.mark.parametrize(("said", "lost"), [(3, 3), (4, 4), (2**62, 4), (0, 0), (-1, 0)])
def test_a_collector_rejects_at_most_what_it_was_sent(said: int, lost: int) -> None:
    """Its number is foreign."""
    assert (lost, "rejected" if lost else "") == (rejected(4, said, "no").lost, rejected(4, said, "no").reason)


def test_a_pause_loses_nothing_and_is_never_none() -> None:
    """Else a collector that asks to be asked at once is asked in a loop."""
    assert (0, LEAST_PAUSE_SECONDS) == (asked_to_wait(0.0, "").lost, asked_to_wait(0.0, "").again_after_seconds)
    assert 86400.0 == asked_to_wait(86400.0, "").again_after_seconds
    assert asked_to_wait(float("inf"), "x").again_after_seconds is not None


def test_what_a_collector_says_is_redacted() -> None:
    """Its text goes to the log."""
    assert "hunter2" not in failed(1, "password: hunter2").text
    assert (0, "") == (taken().lost, taken().text)
