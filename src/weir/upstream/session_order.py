"""A session's GET stream that came first is not overtaken by the request behind it while it is being connected.

A stream needs a connection of its own, and the request behind it often finds one that stands ready. The server would
then answer before there is a stream for what it says besides.
"""

import asyncio


class SessionOrder:
    """The streams of one server's sessions that are being connected; seldom any."""

    __slots__ = ("opening",)

    def __init__(self) -> None:
        self.opening: dict[str, asyncio.Future[None]] = {}
        """By session. Bounded by the places for streams."""

    def begin(self, session: str) -> None:
        """A connection for the session's stream is being opened."""
        if session not in self.opening:
            self.opening[session] = asyncio.get_running_loop().create_future()

    def end(self, session: str) -> None:
        """The stream has been asked for, or there is no connection for it."""
        opening = self.opening.pop(session, None)
        if opening is not None:
            opening.set_result(None)

    async def behind(self, session: str) -> None:
        """Wait until the session's stream has been asked for. Its connect limit bounds the wait."""
        opening = self.opening.get(session)
        if opening is not None:
            # not awaited itself: a request that is cancelled would cancel it for all
            await asyncio.wait((opening,))
