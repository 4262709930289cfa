"""Places for exchanges with one server: how many there are, how many one client may have, and who is next.

Requests and long-lived streams have places of their own, so that streams never take those of requests.
"""

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weir.upstream.connection import Connection

Waiter = asyncio.Future["Connection | None"]
"""Is given a free connection, or None for the right to open one."""


class Places:
    """`limit` places of one kind; `name` is what a reached limit is called. `share`: at most so many for one client.

    `client` is any object that stands for a client; None is nobody's, and has no share.
    """

    __slots__ = ("_opening", "_waiting", "limit", "name", "share", "taken")

    def __init__(self, name: str, limit: int, share: int) -> None:
        self.name = name
        self.limit = limit
        self.share = share
        self.taken = 0
        """In an exchange, being opened, or promised to a waiter."""
        self._opening: dict[object, int] = {}
        # the clients that wait take turns; each client's requests go in their order
        self._waiting: OrderedDict[object, OrderedDict[Waiter, None]] = OrderedDict()

    @property
    def has_waiters(self) -> bool:
        """Whether a request waits for a place."""
        return bool(self._waiting)

    def admits(self, client: object, connections: "set[Connection]") -> bool:
        """Whether the client may take a place now; `connections` are all that are open."""
        if self.taken < self.share:
            return True
        return self.taken < self.limit and (client is None or not self.is_at_share(client, connections))

    def is_at_share(self, client: object, connections: "set[Connection]") -> bool:
        """Whether the client has all the places that one client may have. Counted only when places are short."""
        held = sum(each.places is self and each.client is client for each in connections)
        return held + self._opening.get(client, 0) >= self.share

    def reserve(self, client: object) -> None:
        """Take a place for a connection that is yet to be opened."""
        self.taken += 1
        self._opening[client] = self._opening.get(client, 0) + 1

    def opened(self, client: object) -> None:
        """The connection stands, or never will: the place is no longer reserved. The caller says what becomes of it."""
        self.taken -= 1
        left = self._opening[client] - 1
        if left:
            self._opening[client] = left
        else:
            del self._opening[client]

    def take(self, connection: "Connection", client: object) -> None:
        """The connection is the client's for one exchange."""
        self.taken += 1
        connection.places, connection.client = self, client

    def free(self, connection: "Connection") -> None:
        """The exchange is over."""
        self.taken -= 1
        connection.places = connection.client = None

    def wait(self, client: object, waiter: Waiter) -> None:
        """Join the end of the client's own queue."""
        self._waiting.setdefault(client, OrderedDict())[waiter] = None

    def forget(self, client: object, waiter: Waiter) -> None:
        """The waiter was cancelled."""
        queue = self._waiting.get(client)
        if queue is not None:
            queue.pop(waiter, None)
            if not queue:
                del self._waiting[client]

    def next(self, connections: "set[Connection]") -> tuple[object, Waiter] | None:
        """The waiter whose turn it is, if there is a place for it; it waits no more."""
        if not self._waiting or self.taken >= self.limit:
            return None
        for client in list(self._waiting):
            if not self.admits(client, connections):
                continue
            waiter = self._first(client)
            if waiter is not None:
                return client, waiter
        return None

    def _first(self, client: object) -> Waiter | None:
        queue = self._waiting.pop(client)
        while queue:
            waiter, _ = queue.popitem(last=False)
            if not waiter.done():
                if queue:
                    # behind all other clients
                    self._waiting[client] = queue
                return waiter
        return None

    def close(self, why: Exception) -> None:
        """Nobody gets a place any more."""
        for queue in self._waiting.values():
            for waiter in queue:
                if not waiter.done():
                    waiter.set_exception(why)
        self._waiting.clear()


def requests_share(limit: int) -> int:
    """Of the places of requests one client leaves an eighth, at least one, to the others."""
    return max(1, limit - max(1, limit // 8))


def streams_share(limit: int) -> int:
    """Of the places of streams, which may last for ever, one client has at most half."""
    return max(1, limit // 2)
