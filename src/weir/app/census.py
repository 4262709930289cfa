"""What is there now: sessions, server processes, and how often a limit was reached. A fold over events."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from weir.core.events import ChildExited, ChildStarted, LimitReached, SessionClosed, SessionOpened

MAX_KEYS = 1000
"""Upstreams are configured and limits are words of a closed list; this holds if one ever is not."""


class Census:
    """Counts of what lives in this process."""

    def __init__(self) -> None:
        self._sessions: Counter[tuple[str, str]] = Counter()
        self._children: dict[str, set[int]] = {}
        self._limits: Counter[tuple[str, str]] = Counter()

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        """What this fold listens to."""
        return {
            SessionOpened: self._session_opened,
            SessionClosed: self._session_closed,
            ChildStarted: self._child_started,
            ChildExited: self._child_exited,
            LimitReached: self._limit_reached,
        }

    def sessions(self, upstream: str) -> dict[str, int]:
        """Open sessions by side: `client` towards clients, `server` towards the upstream."""
        return {side: self._sessions[(upstream, side)] for side in ("client", "server")}

    def children(self, upstream: str) -> list[int]:
        """Process ids of the upstream's servers that run."""
        return sorted(self._children.get(upstream, ()))

    def limits(self) -> dict[str, dict[str, int]]:
        """How often each limit was reached since the start, by upstream; "" is weir's own port."""
        result: dict[str, dict[str, int]] = {}
        for (upstream, limit), count in self._limits.items():
            result.setdefault(upstream, {})[limit] = count
        return result

    def _session_opened(self, event: SessionOpened) -> None:
        if len(self._sessions) < MAX_KEYS:
            self._sessions[(event.upstream, event.side)] += 1

    def _session_closed(self, event: SessionClosed) -> None:
        self._sessions[(event.upstream, event.side)] -= 1

    def _child_started(self, event: ChildStarted) -> None:
        self._children.setdefault(event.upstream, set()).add(event.pid)

    def _child_exited(self, event: ChildExited) -> None:
        self._children.get(event.upstream, set()).discard(event.pid)

    def _limit_reached(self, event: LimitReached) -> None:
        key = (event.upstream, event.limit)
        if key in self._limits or len(self._limits) < MAX_KEYS:
            self._limits[key] += 1
