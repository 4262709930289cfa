"""weir between a crowd and servers on pipes that fail, stall, die, flood and lie, and are started again."""

import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import troubled_child
from support.crowd import SHARED, Dialect, Legacy, Modern
from support.enduring import SHARED_KINDS, SHARING, Stand, endure, standing

pytestmark = pytest.mark.anyio

CALLS = int(os.environ.get("WEIR_CHAOS_CALLS", "1000"))
"""Calls of each scenario; 10000 for the full number."""
SESSIONS = 6
"""Legacy sessions, and as many processes: some connections share one."""

ABSENT_SECONDS = 3.0


@dataclass
class Children:
    """The upstream: processes that weir starts, and the ledger that they keep."""

    directory: Path
    trouble: str
    errors: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.directory / "trouble").touch()

    @property
    def upstream(self) -> dict[str, Any]:
        """The upstream in weir's configuration."""
        program = str(Path(troubled_child.__file__))
        return {"command": [sys.executable, "-S", "-E", program, str(self.directory), self.trouble]}

    def calm(self) -> None:
        """The trouble is over."""
        (self.directory / "trouble").unlink()

    @property
    def seen(self) -> Counter[tuple[str, int]]:
        """The arrivals of each call."""
        return Counter(row for row in self._ledger() if row[0] != SHARED)

    def arrivals(self) -> int:
        """All that came."""
        return len(self._ledger())

    def _ledger(self) -> list[tuple[str, int]]:
        ledger = self.directory / "ledger"
        rows = (line.split() for line in ledger.read_text().splitlines() if ledger.exists())
        return [(kind, int(number)) for kind, number in rows]

    def repeats(self) -> int:
        """Arrivals beyond the first of each call."""
        seen = self.seen
        return sum(seen.values()) - len(seen)


class Speakers:
    """The dialect of each client: one each of 2026-07-28, or sessions that several share."""

    def __init__(self, era: str) -> None:
        self._era = era
        self.stand: Stand | None = None

    @cached_property
    def _sessions(self) -> list[Legacy]:
        assert self.stand is not None
        return [Legacy(self.stand.weir.port) for _ in range(SESSIONS)]

    def __call__(self, client: int) -> Dialect:
        return Modern() if self._era == "modern" else self._sessions[client % SESSIONS]

    @property
    def most_children(self) -> int:
        """Processes that may run at once."""
        return 1 if self._era == "modern" else SESSIONS


@asynccontextmanager
async def before(
    directory: Path, children: Children, speakers: Speakers, policies: dict[str, Any] | None = None, **crowd: Any
) -> AsyncIterator[Stand]:
    """weir before such servers; afterwards as few processes run as should, and none when weir has ended."""
    async with standing(directory, children, policies, speak=speakers, **crowd) as stand:
        speakers.stand = stand
        yield stand
        left = [one for one in stand.weir.children() if one.status() != psutil.STATUS_ZOMBIE]
        print(f"{await stand.metric('weir_child_starts_total'):.0f} processes started, {len(left)} at the end")
        assert len(left) <= speakers.most_children
        stand.weir.stop()
        assert [] == [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("trouble", [each for each in troubled_child.TROUBLES if each != "absent"])
async def test_what_holds_always_holds_before_a_server_on_a_pipe_that(trouble: str, era: str, tmp_path: Path) -> None:
    """The invariants of an HTTP upstream; and no process is left over, nor more of them than sessions."""
    async with before(tmp_path, Children(tmp_path, trouble), Speakers(era)) as stand:
        await endure(stand, f"{trouble}, {era} stdio", stand.crowd.call(CALLS))


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_what_holds_always_holds_before_a_server_that_does_not_start(era: str, tmp_path: Path) -> None:
    """The same when each process ends as soon as it has begun, for seconds."""
    async with before(tmp_path, Children(tmp_path, "absent"), Speakers(era)) as stand:
        await endure(stand, f"absent, {era} stdio", stand.crowd.call_for(ABSENT_SECONDS, clients=16))


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("trouble", ["stalls", "dies"])
async def test_shared_and_doubled_calls_of_servers_on_pipes(trouble: str, era: str, tmp_path: Path) -> None:
    """Coalescing and hedging on: the same holds, and there are no more arrivals than calls and budget allow."""
    children = Children(tmp_path, trouble)
    async with before(tmp_path, children, Speakers(era), SHARING, kinds=SHARED_KINDS) as stand:
        await endure(stand, f"shared, {trouble}, {era} stdio", stand.crowd.call(CALLS))
        joined, alone, hedged, won = [await stand.decided(action) for action in ("joined", "alone", "hedged", "won")]
        arrivals, calls = children.arrivals(), len(stand.crowd.endings) + len(stand.crowd.vanished)
        print(
            f"{joined:.0f} joined, {alone:.0f} alone after all; {hedged:.0f} hedged, {won:.0f} won; {arrivals} arrivals"
        )
        assert 0 < joined
        assert arrivals <= calls - joined + alone + stand.budget()
        if trouble == "stalls":
            assert 0 < won <= hedged
