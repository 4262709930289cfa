"""Children that write what nobody wants."""

from weir.upstream.flood import BURST_BYTES, END_SECONDS, EXCUSE_BYTES, RATE_BYTES, Flood


def test_a_burst_passes_and_what_goes_on_is_paced() -> None:
    """In the long run a fixed rate is read."""
    flood = Flood(0.0)
    flood.waste(BURST_BYTES, 0.0)
    assert 0.0 == flood.pause_seconds()
    flood.waste(RATE_BYTES, 0.0)
    assert 1.0 == flood.pause_seconds()
    assert not flood.is_endless(END_SECONDS - 1)
    flood.waste(2 * RATE_BYTES, 2.0)
    assert flood.is_endless(END_SECONDS)


def test_a_child_that_has_been_quiet_begins_anew() -> None:
    """Its burst is full again."""
    flood = Flood(0.0)
    flood.waste(BURST_BYTES, 0.0)
    flood.waste(1, 1000.0)
    assert not flood.is_endless(1000.0)


def test_answers_excuse_what_else_is_said() -> None:
    """A caller cannot have a talkative server ended."""
    flood = Flood(0.0)
    flood.waste(BURST_BYTES + EXCUSE_BYTES, 0.0)
    flood.excuse()
    assert 0.0 == flood.pause_seconds()
