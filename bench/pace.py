"""How long to measure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Rounds, seconds a round, and the sizes of the memory table."""

    times: int
    seconds: float
    peers: bool
    streams: int
    flat_calls: tuple[int, int]


FULL = Pace(times=5, seconds=2.0, peers=True, streams=1000, flat_calls=(10_000, 100_000))
QUICK = Pace(times=2, seconds=0.5, peers=False, streams=200, flat_calls=(2_000, 10_000))
