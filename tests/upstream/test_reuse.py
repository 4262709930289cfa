"""How long unused connections are reused, as the server's ends teach it."""

import math

from weir.upstream.reuse import FORGET_SECONDS, SHORTEST_SECONDS, Reuse


def test_a_connection_is_reused_for_half_as_long_as_one_was_unused_when_it_ended() -> None:
    """The shortest such time counts."""
    reuse = Reuse()
    assert reuse.allows(3600.0, 0.0)
    reuse.ended_early(2.0, 10.0)
    reuse.ended_early(3.0, 11.0)
    assert (1.0, True, False, False) == (
        reuse.limit_seconds,
        reuse.allows(0.9, 12.0),
        reuse.allows(1.0, 12.0),
        reuse.is_off(12.0),
    )


def test_a_server_that_ends_connections_at_once_has_none_reused() -> None:
    """The next request would cross the end."""
    reuse = Reuse()
    reuse.ended_early(2 * SHORTEST_SECONDS - 0.01, 10.0)
    assert (0.0, True) == (reuse.limit_seconds, reuse.is_off(10.0))


def test_a_connection_that_outlives_weirs_own_limit_shows_that_all_is_well() -> None:
    """So does a minute without an early end, for instance after a restart."""
    reuse = Reuse()
    reuse.ended_early(0.0, 10.0)
    reuse.outlived()
    assert (math.inf, False) == (reuse.limit_seconds, reuse.is_off(10.0))
    reuse.ended_early(0.0, 10.0)
    assert (True, False) == (reuse.is_off(9.9 + FORGET_SECONDS), reuse.is_off(10.0 + FORGET_SECONDS))
