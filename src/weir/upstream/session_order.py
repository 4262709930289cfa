"""A session's GET stream that came first is not overtaken by the request behind it while it is being connected.

A stream needs a connection of its own, and the request behind it often finds one that stands ready. The server would
then answer before there is a stream for what it says besides.
"""

import asyncio
from typing import Any, Final

HEAD_SECONDS: Final = 0.25
"""How long the request behind waits for the head of the stream, once that was asked for.

On a new connection a server may read the request later than what was written after it. It answers at once, with a
stream or without; some write the head with the first event only.
"""


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

    def sent(self, session: str, arrived: "asyncio.Future[None]") -> None:
        """The stream was asked for; `arrived` is done when its head is there, or it has failed."""
        if session not in self.opening:
            return
        timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self.end, session)

        def has_arrived(_: Any) -> None:
            timer.cancel()
            self.end(session)

        arrived.add_done_callback(has_arrived)

    def end(self, session: str) -> None:
        """Nothing waits for the session's stream any more."""
        opening = self.opening.pop(session, None)
        if opening is not None:
            opening.set_result(None)

    async def behind(self, session: str) -> None:
        """Wait for the session's stream. Its connect limit bounds the wait."""
        opening = self.opening.get(session)
        if opening is not None:
            # not awaited itself: a request that is cancelled would cancel it for all
            await asyncio.wait((opening,))
