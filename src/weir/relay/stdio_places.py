"""How many processes one stdio server may have for sessions, and how many of them one client may hold."""

import asyncio
from collections.abc import Callable, Collection

from weir.core.call import Call
from weir.core.origin import network_of
from weir.core.outcome import Blame, RefusalKind, Refused
from weir.relay.stdio_session import Session

SHARE = 4
"""One client holds a quarter of the places at most once more than half of all are taken."""


class Places:
    """The places of one server. A process takes its place until nothing of it is left, also while it ends.

    `sessions` returns every session whose process was started and is not gone yet.
    """

    def __init__(self, limit: int, sessions: Callable[[], Collection[Session]]) -> None:
        self._limit = limit
        self._sessions = sessions
        self._gone = asyncio.Event()
        self._waiting = 0

    @property
    def is_crowded(self) -> bool:
        """More than half of the places are taken: those who do not use theirs lose it first."""
        return _is_crowded(self._taken(), self._limit)

    def freed(self) -> None:
        """A process is gone."""
        self._gone.set()
        self._gone.clear()

    async def find(self, call: Call, seconds: float) -> Refused | None:
        """Wait up to `seconds` for a place that an ending process leaves; returns why there is none."""
        client = network_of(call.peer.address)
        refused = self._refusal(client)
        if refused is None or not self._is_worth_waiting(client):
            return refused
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                while refused is not None:
                    await self._gone.wait()
                    refused = self._refusal(client)
        except TimeoutError:
            return refused
        finally:
            self._waiting -= 1
        return refused

    def _refusal(self, client: str) -> Refused | None:
        return _refusal(self._taken(), client, self._limit)

    def _is_worth_waiting(self, client: str) -> bool:
        """There will be a place once all have gone that are ending, and fewer wait for one than are."""
        taken = self._taken()
        living = [each for each in taken if not each.is_over]
        return self._waiting < len(taken) - len(living) and _refusal(living, client, self._limit) is None

    def _taken(self) -> list[Session]:
        return [each for each in self._sessions() if each.client is not None]


def _refusal(taken: Collection[Session], client: str, limit: int) -> Refused | None:
    own = sum(each.client == client for each in taken)
    if _is_crowded(taken, limit) and own >= max(1, limit // SHARE):
        text = "This client has its share of this server's sessions; end some of them with DELETE."
        return Refused(RefusalKind.SESSIONS_FULL, text, scope="client", caused_by=Blame.DOWNSTREAM)
    if len(taken) >= limit:
        return Refused(RefusalKind.SESSIONS_FULL, "All sessions of this server are in use.")
    return None


def _is_crowded(taken: Collection[Session], limit: int) -> bool:
    return 2 * len(taken) > limit
